"""The daily removal of data that can be made again: ingest runs of finalized days, their logs, staged files,
landing tables of dead runs. Stored candles are never removed here; damaged objects are moved.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    Failure,
    In,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    ResourceParam,
    RunsFilter,
    job,
    op,
)

from pipeline_assets.assets import layer
from pipeline_assets.collection.fetch_plan import KIND_TAG, RunKind
from pipeline_assets.collection.lake_sweep import Selection, sweep
from pipeline_assets.collection.old_runs import deletable
from pipeline_assets.collection.run_names import (
    FUNDING_JOB,
    HOUSEKEEPING_JOB,
    PARTITION_TAG,
    TRADING_TABLES_JOB,
    ingest_job,
)
from pipeline_assets.dagster_instance.event_storage import (
    delete_files_of_deleted_runs,
    delete_superseded_check_evaluations,
    delete_superseded_reports,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import finalized_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_STAGED = ("raw/", "staging/")
_SUCCEEDED = [DagsterRunStatus.SUCCESS]
_FAILED = [DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


@op(
    out=Out(int),
    description="Delete old ingest runs of finalized days. The finalizing run keeps the days green.",
)
def delete_tick_runs(
    context: OpExecutionContext,
    store: ResourceParam[ObjectStore],
    settings: ResourceParam[Settings],
) -> Iterator[Output[int]]:
    """Delete runs whose partitions hold a later materialization; may be repeated at any point."""
    now = datetime.now(UTC)
    days = settings.housekeeping
    deleted = 0
    for job_name, assets, ended in _ingest_runs(store, now.date()):
        for statuses, kept_days in (
            (_SUCCEEDED, days.tick_run_days),
            (_FAILED, days.failed_run_days),
        ):
            before = now - timedelta(days=kept_days)
            last_runs = cache(partial(_last_runs, context.instance, assets))
            chosen = _runs(job_name, statuses, before)
            deleted += _delete_runs(context.instance, chosen, ended, last_runs)
    yield Output(deleted, metadata={"runs deleted": deleted})


def _ingest_runs(
    store: ObjectStore, today: date
) -> Iterator[tuple[str, list[AssetKey], Container[str]]]:
    """Yield each job of ingest runs, its assets, and the days that need the runs no more."""
    for interval in Interval:
        assets = [layer.key(name, interval) for name in layer.layers(interval)]
        finalized = {day.isoformat() for day in finalized_days(store, interval)}
        yield ingest_job(interval), assets, finalized
    # These are not finalized: a day that ended is complete, or a later run completes it.
    past = {(today - timedelta(days=ago)).isoformat() for ago in range(1, 366)}
    yield FUNDING_JOB, [layer.FUNDING_RATES, layer.FUNDING_TABLE], past
    yield TRADING_TABLES_JOB, list(layer.TRADING_TABLES), past


def _runs(job_name: str, statuses: list[DagsterRunStatus], before: datetime) -> RunsFilter:
    tags = {KIND_TAG: RunKind.INGEST.value}
    return RunsFilter(job_name=job_name, statuses=statuses, tags=tags, created_before=before)


def _delete_runs(
    instance: DagsterInstance,
    chosen: RunsFilter,
    ended: Container[str],
    last_runs: Callable[[str], Container[str]],
) -> int:
    """Delete the chosen ingest runs that are not needed, with their logs."""
    deleted = 0
    for run in instance.get_runs(chosen):
        if deletable(run.run_id, run.tags.get(PARTITION_TAG, ""), ended, last_runs):
            instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            instance.delete_run(run.run_id)
            deleted += 1
    return deleted


def _last_runs(instance: DagsterInstance, assets: Sequence[AssetKey], partition: str) -> set[str]:
    """Return the runs whose materializations show the partition of each asset as it is."""
    found: set[str] = set()
    for key in assets:
        asset = AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        records = instance.fetch_materializations(asset, limit=1).records
        found.update(record.run_id for record in records)
    return found


@op(
    ins={"after": In(Nothing)},
    out=Out(int),
    description="Delete what Dagster's storage keeps of deleted runs and of superseded checks.",
)
def delete_event_leftovers(
    context: OpExecutionContext, settings: ResourceParam[Settings]
) -> Iterator[Output[int]]:
    """Delete old check evaluations, reports and files; may be repeated at any point."""
    before = datetime.now(UTC) - timedelta(days=settings.housekeeping.tick_run_days)
    evaluations = delete_superseded_check_evaluations(context.instance, before)
    reports = delete_superseded_reports(context.instance, before)
    files = delete_files_of_deleted_runs(context.instance)
    yield Output(
        evaluations + reports + files,
        metadata={
            "check evaluations deleted": evaluations,
            "reports deleted": reports,
            "event files removed": files,
        },
    )


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


@op(out=Out(int), description="Read the lake, and move damaged objects below damaged/.")
def verify_lake(
    context: OpExecutionContext, store: ResourceParam[ObjectStore]
) -> Iterator[Output[int]]:
    """Compare every object with its digest; may be repeated at any point.

    Raises:
        Failure: objects are damaged. Their days are fetched again, and the failed run alerts.
    """
    report = sweep(store, Selection(), quarantine=True)
    metadata = {
        "objects read": report.objects,
        "objects without a digest": report.without_digest,
        "objects damaged": len(report.damaged),
    }
    if report.damaged:
        named = [f"{each.key}: {each.why} ({each.whereabouts})" for each in report.damaged]
        named += report.refused
        raise Failure(
            f"{len(report.damaged)} objects of the lake were damaged and moved below damaged/, the first: "
            f"{named[0]}",
            metadata=metadata | {"damaged": MetadataValue.md("\n".join(named[:1000]))},
            allow_retries=False,
        )
    yield Output(report.objects, metadata=metadata)


@job(
    name=HOUSEKEEPING_JOB,
    description="Removes daily what may be made again, and verifies what is stored.",
)
def housekeeping() -> None:
    """Run every removal; only the removal of event leftovers waits for another."""
    delete_event_leftovers(delete_tick_runs())
    delete_staged_objects()
    verify_lake()
    drop_landing_tables()
