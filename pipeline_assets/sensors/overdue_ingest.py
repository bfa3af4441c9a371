"""Dagster's side of the ingest runs after a time in which nothing ran. When one is requested is decided in
collection/overdue_ingest.py; regular ingest runs are the scheduler's.
"""

from collections.abc import Mapping
from dataclasses import replace

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from pipeline_assets.collection.overdue_ingest import Return, overdue_candle
from pipeline_assets.dagster_instance.private import (
    NOT_FINISHED_STATUSES,
    UnresolvedAssetJobDefinition,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.tick_state import read_tick_state
from pipeline_assets.settings import Settings

NAME = "overdue_ingest"


def overdue_ingest_sensor(
    jobs: Mapping[Interval, UnresolvedAssetJobDefinition],
) -> SensorDefinition:
    """The sensor that ingests every interval once the platform is back.

    Args:
        jobs: by interval, the job of its ingest run.
    """

    @sensor(
        name=NAME,
        jobs=list(jobs.values()),
        minimum_interval_seconds=30,
        # Whoever schedules: both schedulers let 15m and 1h wait for their next quarter and hour.
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
        state = Return.from_text(context.cursor).seen(now)
        pending = dict(state.pending)
        requests: list[RunRequest] = []
        for interval, request in state.pending.items():
            stored = read_tick_state(store, interval, (), now).newest
            newest, every = max(stored.values(), default=None), settings.ingest.upload_minutes
            if overdue_candle(interval, newest, now, every) is None:
                del pending[interval]
                continue
            job = jobs[interval].name
            unfinished = RunsFilter(job_name=job, statuses=NOT_FINISHED_STATUSES)
            if context.instance.get_runs_count(unfinished) or not request.due(now):
                continue
            day = newest_closed(interval, now + exchange.settle, exchange.settle).date()
            requests.append(
                RunRequest(
                    # The same after a crash of this look, and another at the next.
                    run_key=f"{job} {now:%Y-%m-%dT%H:%M} {request.count}",
                    job_name=job,
                    partition_key=day.isoformat(),
                )
            )
            pending[interval] = request.repeated(now)
        return SensorResult(
            run_requests=requests,
            cursor=replace(state, pending=pending).to_text(),
            skip_reason=None if requests else _waiting(pending),
        )

    return overdue_ingest


def _waiting(pending: Mapping[Interval, object]) -> str:
    if not pending:
        return "Every interval has been up to date since the start."
    return f"Ingest runs of {', '.join(pending)} are under way, or are requested again later."
