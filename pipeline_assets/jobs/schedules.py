"""Dagster's own schedules, for people without Airflow. They are off unless PIPELINE_DAGSTER__SCHEDULES
says otherwise; `pipeline-assets up` turns them on when Airflow does not schedule.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from dagster import (
    DagsterRunStatus,
    DefaultScheduleStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from pipeline_assets.jobs.housekeeping import housekeeping
from pipeline_assets.market.interval import Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.lake_state import sealed_days
from pipeline_assets.resources.object_store import ObjectStore

_CRON = {
    Interval.ONE_MINUTE: "* * * * *",
    Interval.FIFTEEN_MINUTES: "*/15 * * * *",
    Interval.ONE_HOUR: "0 * * * *",
}


def tick_schedule(interval: Interval, status: DefaultScheduleStatus) -> ScheduleDefinition:
    """The schedule of an interval's ticks; its partition is the day of the newest closed candle."""
    job = f"tick_{interval}"

    @schedule(
        name=job,
        job_name=job,
        cron_schedule=_CRON[interval],
        execution_timezone="UTC",
        default_status=status,
        description=f"A tick of {interval}. Skipped while an earlier one waits: each does all that is due.",
    )
    def tick(
        context: ScheduleEvaluationContext, exchange: ResourceParam[Exchange]
    ) -> Iterator[RunRequest | SkipReason]:
        waiting = context.instance.get_runs_count(
            RunsFilter(
                job_name=job, statuses=[DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED]
            )
        )
        if waiting:
            yield SkipReason(
                f"{waiting} earlier ticks of {interval} wait; each does all that is due."
            )
            return
        yield RunRequest(
            run_key=context.scheduled_execution_time.isoformat(),
            partition_key=_newest_day(exchange, interval),
        )

    return tick


def _newest_day(exchange: Exchange, interval: Interval) -> str:
    """The day of the newest candle that is closed once the run fetches, as a partition key.

    A tick on the minute waits until the candle has settled. By the candle before it, the first tick
    after midnight would have yesterday as its partition, which has then ended: it would seal it.
    """
    settled = exchange.server_time() + exchange.settle
    return newest_closed(interval, settled, exchange.settle).date().isoformat()


def seal_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """The daily sealing of yesterday, after the last ticks of the day have gone through."""

    @schedule(
        name="seal",
        job_name="seal",
        cron_schedule="5 0 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Seals yesterday in all intervals, and days whose sealing failed before.",
    )
    def seal(
        context: ScheduleEvaluationContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
    ) -> Iterator[RunRequest]:
        today = exchange.server_time().date()
        for day in _days_to_seal(store, today):
            yield RunRequest(
                run_key=f"{context.scheduled_execution_time.isoformat()} {day}",
                partition_key=day.isoformat(),
            )

    return seal


def _days_to_seal(store: ObjectStore, today: date) -> list[date]:
    """Yesterday, and of the two days before it those that an earlier sealing failed to seal.

    Days before the first sealed one were never collected, and are a backfill's.
    """
    days = [today - timedelta(days=1)]
    for ago in (2, 3):
        day = today - timedelta(days=ago)
        sealed = [sealed_days(store, interval) for interval in Interval]
        if any(held and held[0] < day and day not in held for held in sealed):
            days.append(day)
    return days


def schedules(*, running: bool) -> list[ScheduleDefinition]:
    """All schedules, running or stopped until a person turns them on in the UI."""
    status = DefaultScheduleStatus.RUNNING if running else DefaultScheduleStatus.STOPPED
    return [
        *(tick_schedule(interval, status) for interval in Interval),
        seal_schedule(status),
        ScheduleDefinition(
            name="housekeeping",
            job=housekeeping,
            cron_schedule="30 0 * * *",
            execution_timezone="UTC",
            default_status=status,
        ),
    ]
