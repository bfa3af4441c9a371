"""The daily removal of what may be made again: tick runs of sealed days, their logs, staged files,
landing tables of dead runs. Stored candles are never touched here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    OpExecutionContext,
    Out,
    Output,
    ResourceParam,
    RunsFilter,
    job,
    op,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.fetch_plan import KIND_TAG, RunKind
from pipeline_assets.market.interval import Interval
from pipeline_assets.resources.lake_state import sealed_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_STAGED = ("raw/", "staging/")


@op(
    out=Out(int),
    description="Delete successful tick runs of sealed days; sealing keeps them green.",
)
def delete_tick_runs(
    context: OpExecutionContext,
    store: ResourceParam[ObjectStore],
    settings: ResourceParam[Settings],
) -> Iterator[Output[int]]:
    """Delete runs whose partitions hold a later materialization; may be repeated at any point."""
    before = datetime.now(UTC) - timedelta(days=settings.housekeeping.tick_run_days)
    deleted = 0
    for interval in Interval:
        for day in sealed_days(store, interval):
            deleted += _delete_runs(context.instance, interval, day.isoformat(), before)
    yield Output(deleted, metadata={"runs deleted": deleted})


def _delete_runs(
    instance: DagsterInstance, interval: Interval, partition: str, before: datetime
) -> int:
    """Delete the successful tick runs of one interval and day, with their logs.

    A run that materialized the partition last is kept, or the partition would turn grey: that is
    the late tick of a day that no other run sealed.
    """
    chosen = RunsFilter(
        job_name=f"tick_{interval}",
        statuses=[DagsterRunStatus.SUCCESS],
        tags={KIND_TAG: RunKind.TICK.value, "dagster/partition": partition},
        created_before=before,
    )
    # A day has 1,440 minutes, so these are few enough to hold.
    runs = instance.get_runs(chosen)
    kept = _last_runs(instance, interval, partition) if runs else set()
    old = [run.run_id for run in runs if run.run_id not in kept]
    for run_id in old:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
    return len(old)


def _last_runs(instance: DagsterInstance, interval: Interval, partition: str) -> set[str]:
    """The runs whose materializations show the partition of each asset as it is."""
    found: set[str] = set()
    for name in layer.layers(interval):
        asset = AssetRecordsFilter(
            asset_key=layer.key(name, interval), asset_partitions=[partition]
        )
        records = instance.fetch_materializations(asset, limit=1).records
        found.update(record.run_id for record in records)
    return found


@op(out=Out(int), description="Remove what passed between steps longer ago than its retention.")
def delete_staged_objects(
    store: ResourceParam[ObjectStore], settings: ResourceParam[Settings]
) -> Iterator[Output[int]]:
    """Remove `raw/` and `staging/` objects beyond their retention; may be repeated at any point."""
    before = datetime.now(UTC) - timedelta(days=settings.housekeeping.staging_days)
    old = [
        each.key for prefix in _STAGED for each in store.objects(prefix) if each.modified < before
    ]
    store.delete(old)
    yield Output(len(old), metadata={"objects removed": len(old)})


@op(out=Out(int), description="Drop landing tables that a dead run left in the warehouse.")
def drop_landing_tables(
    warehouse: ResourceParam[Warehouse], settings: ResourceParam[Settings]
) -> Iterator[Output[int]]:
    """Drop landing tables older than the retention of runs; may be repeated at any point."""
    before = datetime.now(UTC) - timedelta(days=settings.housekeeping.tick_run_days)
    dropped = warehouse.drop_landing_tables(before)
    yield Output(len(dropped), metadata={"tables dropped": len(dropped)})


@job(description="Removes daily what may be made again. Stored candles are never touched.")
def housekeeping() -> None:
    """The job of all three removals; each is independent of the others."""
    delete_tick_runs()
    delete_staged_objects()
    drop_landing_tables()
