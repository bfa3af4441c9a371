"""The daily removal of data that can be made again: ingest runs of finalized days, their logs, staged files,
landing tables of dead runs. Stored candles are never removed here; damaged objects are moved.
"""

from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial

from dagster import (
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
from pipeline_assets.collection.run_names import HOUSEKEEPING_JOB, PARTITION_TAG, ingest_job
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
    for interval in Interval:
        finalized = {day.isoformat() for day in finalized_days(store, interval)}
        for statuses, kept_days in (
            (_SUCCEEDED, days.tick_run_days),
            (_FAILED, days.failed_run_days),
        ):
            before = now - timedelta(days=kept_days)
            deleted += _delete_runs(context.instance, interval, finalized, statuses, before)
    yield Output(deleted, metadata={"runs deleted": deleted})


def _delete_runs(
    instance: DagsterInstance,
    interval: Interval,
    finalized: Container[str],
    statuses: list[DagsterRunStatus],
    before: datetime,
) -> int:
    """Delete an interval's ingest runs with this final status that are not needed, with their logs."""
    chosen = RunsFilter(
        job_name=ingest_job(interval),
        statuses=statuses,
        tags={KIND_TAG: RunKind.INGEST.value},
        created_before=before,
    )
    last_runs = cache(partial(_last_runs, instance, interval))
    deleted = 0
    for run in instance.get_runs(chosen):
        if deletable(run.run_id, run.tags.get(PARTITION_TAG, ""), finalized, last_runs):
            instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            instance.delete_run(run.run_id)
            deleted += 1
    return deleted


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
        named = [f"{each.key}: {each.why} (kept as {each.kept})" for each in report.damaged]
        raise Failure(
            f"{len(named)} objects of the lake were damaged and moved below damaged/, the first: "
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
    """The job of all removals; each is independent of the others but the one of leftovers."""
    delete_event_leftovers(delete_tick_runs())
    delete_staged_objects()
    verify_lake()
    drop_landing_tables()
