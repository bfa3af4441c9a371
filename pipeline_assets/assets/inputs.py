"""A run in Dagster as assets read it: its days, root run and step, and how a fetch and a load are configured.
Which outputs a step reads is in collection/step_inputs.py.
"""

from datetime import date

from dagster import AssetCheckExecutionContext, AssetExecutionContext, Config
from pydantic import Field

from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import partition_days
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


Context = AssetExecutionContext | AssetCheckExecutionContext


def days_of(context: Context) -> list[date]:
    """Return the UTC days of the run's partitions, ascending.

    A future day passes: only the exchange's clock could refuse it, and these callers do not ask the exchange.

    Raises:
        PartitionError: a partition key is no day; Dagster's `launchRun` does not validate keys.
    """
    return partition_days(context.op_execution_context.partition_keys, date.max)


def root_run_of(context: Context) -> str:
    """Return the id of the run that this run repeats, or its own: it names what the run writes."""
    return context.run.root_run_id or context.run.run_id


def step_of(
    context: Context,
    store: ObjectStore,
    interval: Interval,
    name: str,
) -> Step:
    """Return the step that is executed now; raises PartitionError if a partition key is no day."""
    keys = context.op_execution_context.partition_keys
    return Step.of(store, interval, keys, root_run_of(context), name, context.run.run_id)
