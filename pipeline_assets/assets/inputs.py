"""The step of a run in Dagster. Which outputs it reads is in collection/step_inputs.py."""

from dagster import AssetCheckExecutionContext, AssetExecutionContext

from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore


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
