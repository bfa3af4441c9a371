"""The reconciler, in Dagster the sensor `gap_repair`: it reads what became of earlier requests and
requests runs. Which history is missing is decided in collection/reconcile.py.
"""

from collections.abc import Mapping
from datetime import date

from dagster import (
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from pipeline_assets.assets import layer
from pipeline_assets.collection.fetch_plan import KIND_TAG, RunKind
from pipeline_assets.collection.history_requests import ATTEMPTS, MOST_RUNS, History
from pipeline_assets.collection.reconcile import Runs, continued, reconcile
from pipeline_assets.collection.reconcile_cursor import Cursor
from pipeline_assets.collection.repairs import FETCHES
from pipeline_assets.collection.run_names import FINALIZE_JOB, PARTITION_TAG, RECONCILER, range_tags
from pipeline_assets.dagster_instance.private import (
    NOT_FINISHED_STATUSES,
    UnresolvedAssetJobDefinition,
)
from pipeline_assets.dagster_instance.unfinished_runs import unfinished_days
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

# The sensor that requested the history of new symbols until `gap_repair` did.
FORMER_NAME = "new_listings"
_SENSOR_TAG, _RUN_KEY = "dagster/sensor_name", "dagster/run_key"
_OWN_RUNS = {_SENSOR_TAG: [RECONCILER, FORMER_NAME]}
# Dagster ends a look after 60 s: the ledgers of so many new days are read in one.
_DAYS_A_LOOK = 400


def reconciler_sensor(
    jobs: Mapping[Interval, UnresolvedAssetJobDefinition], ledger_job: UnresolvedAssetJobDefinition
) -> SensorDefinition:
    """Return the sensor that requests runs for missing history, of old and new symbols alike.

    Args:
        jobs: by interval, the job over days that fetches what is missing and judges it again.
        ledger_job: the job that judges days.
    """

    @sensor(
        name=RECONCILER,
        jobs=[*jobs.values(), ledger_job],
        # After days off the first look requests the ledger and the next one the repairs.
        minimum_interval_seconds=30,
        # On under both schedulers: a gap that can be filled, or a new symbol, must not wait for a person.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            f"Requests runs for missing history, {MOST_RUNS} at once and none while earlier ones are under "
            "way: (1) gaps of finished days that the ledger `candle_gaps` shows as fetchable, newest days "
            "first, from PIPELINE_REPAIR__SINCE on (none: where each symbol's history begins), the same "
            f"gaps {FETCHES} times at most; of finished days without a ledger, such as after days off, or "
            "with one from before a backfill, the ledger first; (2) the history of symbols listed since the "
            "first look, or new in the settings, from listing but not before PIPELINE_REPAIR__SINCE (none: "
            f"the first finalized day), each run until its days are finalized, {ATTEMPTS} times at most. "
            "Gaps of the open day are filled by the next ingest runs, history from before the first look by "
            "a backfill."
        ),
    )
    def gap_repair(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        cursor = _with_former(Cursor.from_text(context.cursor), context.instance, store)
        runs = _runs(context.instance, cursor)
        plan = reconcile(store, settings, cursor, runs, exchange.server_time())
        requests = [
            _request(key, jobs[run.interval].name, run.first, run.last, run)
            for key, run in plan.history.items()
        ]
        if plan.ledger is not None:
            key, first, last = plan.ledger
            requests.insert(0, _request(key, ledger_job.name, first, last))
        return SensorResult(
            run_requests=requests,
            cursor=plan.cursor.to_text(),
            skip_reason=None if requests else plan.message,
        )

    return gap_repair


def _with_former(cursor: Cursor, instance: DagsterInstance, store: ObjectStore) -> Cursor:
    """Return the cursor, at its first evaluation with what the former sensor remembered."""
    # An instance in memory keeps no sensor's state.
    if cursor.known is not None or instance.schedule_storage is None:
        return cursor
    for state in instance.all_instigator_state():
        if state.instigator_name == FORMER_NAME:
            # The field of a schedule's state has no cursor.
            former: str | None = getattr(state.instigator_data, "cursor", None)
            return continued(cursor, former, store, stopped=state.status.value == "STOPPED")
    return cursor


def _runs(instance: DagsterInstance, cursor: Cursor) -> Runs:
    """Return what Dagster knows of ledgers made since, and of the runs that were requested."""
    chosen = AssetRecordsFilter(asset_key=layer.CANDLE_GAPS, after_storage_id=cursor.read)
    found = instance.fetch_materializations(chosen, limit=_DAYS_A_LOOK, ascending=True)
    statuses: dict[str, set[DagsterRunStatus]] = {}
    if cursor.asked:
        keys = [each.run_key for each in cursor.asked]
        for run in instance.get_runs(RunsFilter(tags={**_OWN_RUNS, _RUN_KEY: keys})):
            # A run that Dagster, or a person, starts again from its failure keeps the key.
            statuses.setdefault(run.tags[_RUN_KEY], set()).add(run.status)
    unfinished = RunsFilter(tags=_OWN_RUNS, statuses=NOT_FINISHED_STATUSES)
    backfills = RunsFilter(tags={KIND_TAG: RunKind.BACKFILL.value}, statuses=NOT_FINISHED_STATUSES)
    return Runs(
        judged={
            date.fromisoformat(record.partition_key): record.storage_id
            for record in found.records
            if record.partition_key is not None
        },
        read=found.records[-1].storage_id if found.records else cursor.read,
        more=found.has_more,
        unfinished=instance.get_runs_count(unfinished),
        under_way=frozenset(
            key for key, own in statuses.items() if own.intersection(NOT_FINISHED_STATUSES)
        ),
        succeeded=frozenset(
            key for key, own in statuses.items() if DagsterRunStatus.SUCCESS in own
        ),
        finalizing=unfinished_days(instance, FINALIZE_JOB, PARTITION_TAG, created_after=None),
        backfilling=instance.get_runs_count(backfills) > 0,
    )


def _request(
    run_key: str, job: str, first: date, last: date, history: History | None = None
) -> RunRequest:
    """Return a run over days, of a history's symbols; Dagster launches one run a key."""
    config = {}
    if history is not None:
        raw = layer.name(layer.RAW, history.interval)
        config = {"ops": {raw: {"config": {"symbols": list(history.symbols)}}}}
    return RunRequest(
        run_key=run_key,
        job_name=job,
        partition_key=first.isoformat() if first == last else None,
        run_config=config,
        tags=range_tags(first, last),
    )
