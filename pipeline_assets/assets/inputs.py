"""The step of a run in Dagster, and the configuration of a fetch and of a load. Which outputs a step reads is
in collection/step_inputs.py.
"""

from dagster import AssetCheckExecutionContext, AssetExecutionContext, Config
from pydantic import Field

from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore


class FetchConfig(Config):
    """Which symbols a run fetches."""

    symbols: list[str] | None = Field(
        None, description="Fetch only these symbols; all of PIPELINE_SYMBOLS when left out."
    )
    refresh: bool = Field(
        False, description="Fetch days again that are stored and complete; else they are left out."
    )


class LoadConfig(Config):
    """Which objects a run loads into a table."""

    reload: bool = Field(
        False, description="Load objects again that were loaded, as after the table was dropped."
    )


def step_of(
    context: AssetExecutionContext | AssetCheckExecutionContext,
    store: ObjectStore,
    interval: Interval,
    name: str,
) -> Step:
    """Return the step that is executed now; raises PartitionError if a partition key is no day."""
    keys = context.op_execution_context.partition_keys
    run = context.run.run_id
    return Step.of(store, interval, keys, context.run.root_run_id or run, name, run)
