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

from pipeline_assets.collection.fetch_plan import KIND_TAG, RunKind
from pipeline_assets.dagster_instance.private import NOT_FINISHED_STATUSES
from pipeline_assets.jobs.housekeeping import housekeeping
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import sealed_days
from pipeline_assets.resources.gap_objects import judged_days
from pipeline_assets.resources.object_store import ObjectStore

# A platform that was down for longer is a person's, who says by a backfill how far back it is to go.
_LOOK_BACK = timedelta(days=31)


def tick_schedule(interval: Interval, status: DefaultScheduleStatus) -> ScheduleDefinition:
    """The schedule of an interval's ticks; its partition is the day of the newest closed candle."""
    job = f"tick_{interval}"

    @schedule(
        name=job,
        job_name=job,
        cron_schedule=interval.definition.cron,
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
    """The daily sealing of yesterday, once it has ended in every interval: a day is open until the first
    candle of the next one is closed, which of 1h is at one o'clock.
    """

    @schedule(
        name="seal",
        job_name="seal",
        cron_schedule="5 1 * * *",
        execution_timezone="UTC",
        default_status=status,
        description=(
            "Seals yesterday in all intervals, and of the month before it the days whose sealing failed "
            "after they were judged. Days that ended while nothing ran are the sensor gap_repair's."
        ),
    )
    def seal(
        context: ScheduleEvaluationContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
    ) -> Iterator[RunRequest | SkipReason]:
        yesterday = exchange.server_time().date() - timedelta(days=1)
        # After days off Dagster fires for several days that it missed, and each asks for the same. An
        # older run may have died unnoticed, and must not hold its day up for ever.
        recent = RunsFilter(
            job_name="seal",
            statuses=NOT_FINISHED_STATUSES,
            created_after=context.scheduled_execution_time - timedelta(hours=12),
        )
        under_way = {run.tags.get("dagster/partition") for run in context.instance.get_runs(recent)}
        asked = [
            day
            for day in (yesterday, *_days_left(store, yesterday))
            if day.isoformat() not in under_way
        ]
        for day in asked:
            yield RunRequest(
                run_key=f"{context.scheduled_execution_time.isoformat()} {day}",
                partition_key=day.isoformat(),
                # With the tag of backfills, of which two run at a time: what is complete is left out,
                # and a month of days holds up neither ticks nor yesterday's sealing.
                tags={} if day == yesterday else {KIND_TAG: RunKind.BACKFILL.value},
            )
        if not asked:
            yield SkipReason(f"The sealing of {yesterday}, and of days left before, is under way.")

    return seal


def _days_left(store: ObjectStore, yesterday: date) -> list[date]:
    """The judged days of the month before that are not sealed in every interval; ascending.

    Of a day without a ledger, such as one on which nothing ran, the sensor gap_repair requests what is
    missing, newest first. Requested here too, each such day would be fetched twice.
    """
    judged = set(judged_days(store))
    sealed = [set(sealed_days(store, interval)) for interval in Interval]
    return [
        day
        for ago in range(_LOOK_BACK.days, 0, -1)
        if (day := yesterday - timedelta(days=ago)) in judged
        and any(held and min(held) < day not in held for held in sealed)
    ]


def schedules(*, running: bool) -> list[ScheduleDefinition]:
    """All schedules, running or stopped until a person turns them on in the UI."""
    status = DefaultScheduleStatus.RUNNING if running else DefaultScheduleStatus.STOPPED
    return [
        *(tick_schedule(interval, status) for interval in Interval),
        seal_schedule(status),
        ScheduleDefinition(
            name="housekeeping",
            job=housekeeping,
            cron_schedule="30 1 * * *",
            execution_timezone="UTC",
            default_status=status,
        ),
    ]
