"""Dagster's side of the ingest runs after a time in which nothing ran. When one is requested is decided in
collection/overdue_ingest.py; regular ingest runs are the scheduler's.
"""

from collections.abc import Mapping
from uuid import uuid4

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from pipeline_assets.collection.overdue_ingest import Return
from pipeline_assets.collection.scheduled_days import open_day
from pipeline_assets.dagster_instance.private import UnresolvedAssetJobDefinition
from pipeline_assets.dagster_instance.unfinished_runs import unfinished_runs
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.ingest_state import read_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

NAME = "overdue_ingest"
# Another code server, so the platform was started again.
_PROCESS = uuid4().hex


def overdue_ingest_sensor(
    jobs: Mapping[Interval, UnresolvedAssetJobDefinition],
) -> SensorDefinition:
    """Build the sensor that ingests every interval once the platform is back.

    Args:
        jobs: by interval, the job of its ingest run.
    """

    @sensor(
        name=NAME,
        jobs=list(jobs.values()),
        minimum_interval_seconds=30,
        # On under both schedulers, because both let 15m and 1h wait for their next quarter and hour.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "After a start, or a time in which nothing ran, requests one ingest run of each interval whose "
            "newest stored candle is overdue, unless one is queued or running. Regular ingest runs are the "
            "scheduler's."
        ),
    )
    def overdue_ingest(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        now = exchange.server_time()
        state = Return.from_text(context.cursor).seen(now, _PROCESS)
        newest = {
            interval: max(read_ingest_state(store, interval, (), now).newest.values(), default=None)
            for interval in state.pending
        }
        under_way = {
            interval
            for interval in state.pending
            if unfinished_runs(context.instance, jobs[interval].name)
        }
        due, state = state.next_requests(newest, under_way, now, settings.ingest.upload_minutes)
        requests = [
            RunRequest(
                # The same after a crash of this evaluation, and another at the next.
                run_key=f"{jobs[interval].name} {now:%Y-%m-%dT%H:%M} {request.count}",
                job_name=jobs[interval].name,
                partition_key=open_day(interval, now, exchange.settle).isoformat(),
            )
            for interval, request in due.items()
        ]
        return SensorResult(
            run_requests=requests,
            cursor=state.to_text(),
            skip_reason=None if requests else _waiting(state.pending),
        )

    return overdue_ingest


def _waiting(pending: Mapping[Interval, object]) -> str:
    if not pending:
        return "Every interval has been up to date since the start."
    return f"Ingest runs of {', '.join(pending)} are under way, or are requested again later."
