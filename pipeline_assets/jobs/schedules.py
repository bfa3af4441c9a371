"""Dagster's own schedules, for people without Airflow. They are off unless PIPELINE_DAGSTER__SCHEDULES
says otherwise; `pipeline-assets up` turns them on when Airflow does not schedule.
"""

from collections.abc import Callable, Iterator
from typing import Any

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
from pipeline_assets.collection.run_names import (
    DAY_REPORT_JOB,
    DRIFT_JOB,
    FINALIZE_JOB,
    FUNDING_JOB,
    MODEL_JOB,
    MONTH_REPORT_JOB,
    OUTCOMES_JOB,
    PARTITION_TAG,
    RECONCILIATION_JOB,
    TRADING_TABLES_JOB,
    WEEK_REPORT_JOB,
    ingest_job,
)
from pipeline_assets.collection.scheduled_days import (
    DAY_REPORT_CRON,
    DRIFT_CRON,
    FINALIZE_CRON,
    FUNDING_CRON,
    HOUSEKEEPING_CRON,
    LONGEST_RUN,
    MODEL_CRON,
    MONTH_REPORT_CRON,
    OUTCOMES_CRON,
    RECONCILIATION_CRON,
    TRADING_TABLES_CRON,
    WEEK_REPORT_CRON,
    Span,
    days_of_outcomes,
    days_to_finalize,
    first_day,
    open_day,
)
from pipeline_assets.dagster_instance.unfinished_runs import unfinished_days
from pipeline_assets.jobs.housekeeping import housekeeping
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.resources.candidate_objects import finalized_candidate_days
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import finalized_days
from pipeline_assets.resources.gap_objects import judged_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.outcome_objects import days_with_outcomes
from pipeline_assets.settings import Settings
from pipeline_assets.wording import counted


def _utc_schedule(
    job: str, cron: str, status: DefaultScheduleStatus, description: str
) -> Callable[[Callable[..., Any]], ScheduleDefinition]:
    """Return the decorator that makes a schedule in UTC, named after its job, of a function."""
    return schedule(
        name=job,
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description=description,
    )


def ingest_schedule(interval: Interval, status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Build an interval's ingest schedule; its partition is the day of the newest closed candle."""
    cron = interval.definition.cron
    return _ingest_schedule(ingest_job(interval), f"{interval} candles", interval, cron, status)


def funding_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Build the schedule of funding rates; its partition is the day of the hour that ended."""
    return _ingest_schedule(FUNDING_JOB, "funding rates", Interval.ONE_HOUR, FUNDING_CRON, status)


def trading_tables_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Build the schedule of the tables of trading records; its partition is the open day."""
    quarter, cron = Interval.FIFTEEN_MINUTES, TRADING_TABLES_CRON
    return _ingest_schedule(TRADING_TABLES_JOB, "trading records", quarter, cron, status)


def _ingest_schedule(
    job: str, what: str, interval: Interval, cron: str, status: DefaultScheduleStatus
) -> ScheduleDefinition:
    @_utc_schedule(
        job,
        cron,
        status,
        description=(
            f"Ingests {what}. Skipped while an earlier run waits: each ingests all that is due."
        ),
    )
    def ingest(
        context: ScheduleEvaluationContext, exchange: ResourceParam[Exchange]
    ) -> Iterator[RunRequest | SkipReason]:
        waiting = context.instance.get_runs_count(
            RunsFilter(
                job_name=job, statuses=[DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED]
            )
        )
        if waiting:
            yield SkipReason(
                f"{counted(waiting, 'earlier ingest run')} of {what} queued; "
                "the next one stores all that is due."
            )
            return
        yield RunRequest(
            run_key=context.scheduled_execution_time.isoformat(),
            partition_key=open_day(interval, exchange.server_time(), exchange.settle).isoformat(),
        )

    return ingest


def finalize_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Return the schedule that finalizes yesterday once the day has ended in every interval.

    A day is open until the first candle of the next day is closed: for 1h, until one o'clock.
    """

    @_utc_schedule(
        FINALIZE_JOB,
        FINALIZE_CRON,
        status,
        description=(
            "Finalizes yesterday in all intervals, and those days of the month before it that failed to "
            "finalize after they were judged. Days that ended while nothing ran are the sensor gap_repair's."
        ),
    )
    def finalize(
        context: ScheduleEvaluationContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
    ) -> Iterator[RunRequest | SkipReason]:
        yesterday = exchange.server_time().date() - DAY
        # After days off Dagster fires for several days that it missed, and each requests the same.
        recent = context.scheduled_execution_time - LONGEST_RUN
        under_way = unfinished_days(context.instance, FINALIZE_JOB, PARTITION_TAG, recent)
        finalized = [finalized_days(store, interval) for interval in Interval]
        requested = days_to_finalize(yesterday, judged_days(store), finalized, under_way)
        for day in requested:
            yield RunRequest(
                run_key=f"{context.scheduled_execution_time.isoformat()} {day}",
                partition_key=day.isoformat(),
                # With the tag of backfills, of which two run at a time: what is complete is left out,
                # and a month of days holds up neither ingest runs nor yesterday's finalize run.
                tags={} if day == yesterday else {KIND_TAG: RunKind.BACKFILL.value},
            )
        if not requested:
            yield SkipReason(f"{yesterday}, and days left before, are already being finalized.")

    return finalize


def outcomes_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Return the schedule of yesterday's outcomes, once the longest horizon of the day is over."""

    @_utc_schedule(
        OUTCOMES_JOB,
        OUTCOMES_CRON,
        status,
        description=(
            "Computes what became of the candidates of yesterday and the day before, and of a day in the "
            "month before that has no outcomes."
        ),
    )
    def outcomes(
        context: ScheduleEvaluationContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
    ) -> Iterator[RunRequest]:
        yesterday = exchange.server_time().date() - DAY
        with_candidates = finalized_candidate_days(store)
        for day in days_of_outcomes(yesterday, with_candidates, days_with_outcomes(store)):
            yield RunRequest(
                run_key=f"{context.scheduled_execution_time.isoformat()} {day}",
                partition_key=day.isoformat(),
            )

    return outcomes


def model_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Return the weekly schedule of the models; a configured strategy's name is a run's partition."""

    @_utc_schedule(
        MODEL_JOB,
        MODEL_CRON,
        status,
        description="Trains a model for each strategy of the settings; the check promotes it.",
    )
    def train(
        context: ScheduleEvaluationContext, settings: ResourceParam[Settings]
    ) -> Iterator[RunRequest]:
        for name in dict.fromkeys(each.name for each in settings.strategies):
            yield RunRequest(
                run_key=f"{context.scheduled_execution_time.isoformat()} {name}",
                partition_key=name,
            )

    return train


def drift_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Return the daily schedule of drift; a run's partition is yesterday."""
    return _yesterday_schedule(
        DRIFT_JOB,
        DRIFT_CRON,
        status,
        "Compares yesterday's features, decisions and results with the models' training.",
    )


def reconciliation_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """Return the daily schedule of the comparison with the exchange; a run's partition is yesterday."""
    return _yesterday_schedule(
        RECONCILIATION_JOB,
        RECONCILIATION_CRON,
        status,
        "Compares yesterday's ledger with the exchange's trade and income history.",
    )


def report_schedules(status: DefaultScheduleStatus) -> list[ScheduleDefinition]:
    """Return the schedules of reports; a run's partition is yesterday, or the span that ended with it."""
    spans: tuple[tuple[Span, str, str], ...] = (
        ("day", DAY_REPORT_JOB, DAY_REPORT_CRON),
        ("week", WEEK_REPORT_JOB, WEEK_REPORT_CRON),
        ("month", MONTH_REPORT_JOB, MONTH_REPORT_CRON),
    )
    return [
        _yesterday_schedule(job, cron, status, f"Makes the report of the {kind} that ended.", kind)
        for kind, job, cron in spans
    ]


def _yesterday_schedule(
    job: str,
    cron: str,
    status: DefaultScheduleStatus,
    description: str,
    span: Span = "day",
) -> ScheduleDefinition:
    """Build the schedule of a job whose partition is the span that contains yesterday."""

    @_utc_schedule(
        job,
        cron,
        status,
        description,
    )
    def request(
        context: ScheduleEvaluationContext, exchange: ResourceParam[Exchange]
    ) -> RunRequest:
        yesterday = exchange.server_time().date() - DAY
        return RunRequest(
            run_key=context.scheduled_execution_time.isoformat(),
            partition_key=first_day(span, yesterday).isoformat(),
        )

    return request


def schedules(*, running: bool) -> list[ScheduleDefinition]:
    """Build all schedules, running or stopped until a person turns them on in the UI."""
    status = DefaultScheduleStatus.RUNNING if running else DefaultScheduleStatus.STOPPED
    return [
        *(ingest_schedule(interval, status) for interval in Interval),
        funding_schedule(status),
        trading_tables_schedule(status),
        outcomes_schedule(status),
        finalize_schedule(status),
        model_schedule(status),
        drift_schedule(status),
        reconciliation_schedule(status),
        *report_schedules(status),
        ScheduleDefinition(
            name=housekeeping.name,
            job=housekeeping,
            cron_schedule=HOUSEKEEPING_CRON,
            execution_timezone="UTC",
            default_status=status,
        ),
    ]
