"""The DAGs: when candles, funding rates and trading records are stored and loaded, and where failures are
reported. Dagster does the work; the operators watch it. Trainings are in model_dags.py.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain
from candle_intervals import (
    CRONS,
    FEATURES,
    FINALIZE_CRON,
    FINALIZE_JOB,
    FUNDING_CRON,
    FUNDING_JOB,
    FUNDING_TASKS,
    HOUSEKEEPING_CRON,
    HOUSEKEEPING_JOB,
    INGEST_JOBS,
    OUTCOMES_AGAIN,
    OUTCOMES_CRON,
    OUTCOMES_JOB,
    SPANS,
    TASKS,
    TRADING_TABLES_CRON,
    TRADING_TABLES_JOB,
    TRADING_TABLES_TASKS,
)
from dag_defaults import FIRST_DAY, daily, scheduled, task_defaults
from dag_docs import (
    BACKFILL_DOC,
    CLEANING_DOC,
    FINALIZE_DOC,
    HOUSEKEEPING_DOC,
    INGEST_DOC,
    OUTCOMES_DOC,
)
from dagster_operators import DagsterBackfillOperator, DagsterStepOperator
from database_cleaning import AirflowCleaningOperator
from failure_alerts import report_failure

TAGS = ["candles", "dagster"]
# By what a person backfills the assets, in the order of the data.
_BACKFILLS = {
    **{
        each: [*tasks.values(), *filter(None, [FEATURES.get(each)])]
        for each, tasks in TASKS.items()
    },
    "funding": [*FUNDING_TASKS.values(), *FEATURES.values()],
}


def ingest_dag(interval: str) -> DAG:
    """Build the DAG of an interval's ingest runs."""
    return job_dag(
        *(f"candles_{interval}", f"{interval} candles", INGEST_JOBS[interval], CRONS[interval]),
        *(SPANS[interval], TASKS[interval], [*TAGS, interval]),
    )


def funding_dag() -> DAG:
    """Build the DAG of funding rates: hourly, since some symbols settle every hour."""
    job, cron, tags = FUNDING_JOB, FUNDING_CRON, ["dagster", "funding"]
    hour = timedelta(hours=1)
    return job_dag("funding_rates", "funding rates", job, cron, hour, FUNDING_TASKS, tags)


def job_dag(
    dag_id: str,
    what: str,
    job: str,
    cron: str,
    span: timedelta,
    tasks: Mapping[str, str],
    tags: list[str],
) -> DAG:
    """Build the DAG of the ingest runs of one job: tasks that each watch an asset of the run."""
    minute = span == timedelta(minutes=1)
    watched = "\n".join(f"| {task} | `{asset}` |" for task, asset in tasks.items())
    defaults = task_defaults(
        retries=3,
        retry_delay=timedelta(seconds=3 if minute else 20),
        max_retry_delay=timedelta(seconds=15 if minute else 120),
        # After an outage the first ingest run fetches all that was missed, and takes its minutes for it.
        execution_timeout=timedelta(minutes=10 if minute else 20),
        patience=timedelta(seconds=45 if minute else 180),
        poll_seconds=0.5 if minute else 1.0,
        fresh_again=span,
    )
    with DAG(
        dag_id,
        description=f"{', '.join(tasks).capitalize()}: the {what} that are due.",
        doc_md=INGEST_DOC.format(what=what, job=job, tasks=watched),
        schedule=CronDataIntervalTimetable(cron, timezone="UTC"),
        start_date=datetime(2026, 11, 1, tzinfo=UTC),
        # An ingest run does what is due now, so those that were missed have nothing left to do.
        catchup=False,
        # No dagrun_timeout: it counts the time in which Airflow was off, so that DAG runs in flight at a
        # stop failed at the restart. Dagster ends a run that hangs, after 15 and 45 minutes.
        max_active_runs=1,
        default_args=defaults,
        on_failure_callback=report_failure,
        tags=tags,
    ) as dag:
        chain(
            *(
                DagsterStepOperator(
                    task_id=task,
                    job=job,
                    step=asset,
                    span=span,
                    doc_md=f"Watches `{asset}` of the DAG run's Dagster run.",
                )
                for task, asset in tasks.items()
            )
        )
    return dag


def trading_tables_dag() -> DAG:
    """Build the DAG of the tables of trading records, which load with those of candles."""
    job, cron, tags = TRADING_TABLES_JOB, TRADING_TABLES_CRON, ["dagster", "trading"]
    tasks = TRADING_TABLES_TASKS
    return job_dag(
        *("trading_tables", "trading records", job, cron, timedelta(minutes=15), tasks, tags)
    )


def finalize_dag() -> DAG:
    """Return the DAG that finalizes the day before, once a day."""
    # A day has ended once the first candle of the next one is closed, of 1h too.
    return _day_dag(
        "candles_seal",
        "Note which symbols are listed, and finalize yesterday in all intervals.",
        *(FINALIZE_DOC, FINALIZE_CRON, FINALIZE_JOB, [*TAGS, "seal"]),
    )


def outcomes_dag() -> DAG:
    """Return the DAG that computes what became of the candidates of the last two days."""
    return _day_dag(
        "candidate_outcomes",
        "Compute what became of the candidates of yesterday and the day before.",
        *(OUTCOMES_DOC, OUTCOMES_CRON, OUTCOMES_JOB, ["dagster", "trading"]),
        days_before=OUTCOMES_AGAIN,
    )


def _day_dag(
    dag_id: str,
    description: str,
    doc: str,
    cron: str,
    job: str,
    tags: list[str],
    days_before: int = 0,
) -> DAG:
    """Build a DAG that runs a job once for each day; days in which Airflow was down are caught up."""
    with DAG(
        dag_id,
        description=description,
        doc_md=doc,
        tags=tags,
        **daily(cron, FIRST_DAY),
    ) as dag:
        DagsterStepOperator(
            task_id=job,
            job=job,
            days_before=days_before,
            doc_md="Watches the whole Dagster run.",
        )
    return dag


def backfill_dag() -> DAG:
    """Build the DAG by which a person backfills."""
    with DAG(
        "candles_backfill",
        description="Fetch and store whole days again, as a Dagster backfill.",
        doc_md=BACKFILL_DOC,
        schedule=None,
        start_date=datetime(2026, 11, 1, tzinfo=UTC),
        max_active_runs=1,
        params={
            "intervals": Param(
                list(SPANS),
                type="array",
                minItems=1,
                items={"type": "string", "enum": list(_BACKFILLS)},
                examples=list(_BACKFILLS),
                description="Intervals of candles to backfill, and `funding` for funding rates.",
            ),
            "symbols": Param(
                None,
                type=["null", "array"],
                items={"type": "string"},
                description="Only these symbols, one a line; none: all of Dagster's settings.",
            ),
            "first_day": Param(type="string", format="date", description="First UTC day."),
            "last_day": Param(type="string", format="date", description="Last UTC day, included."),
        },
        default_args=task_defaults(
            retries=2,
            retry_delay=timedelta(minutes=1),
            execution_timeout=timedelta(hours=12),
            poll_seconds=5.0,
        ),
        on_failure_callback=report_failure,
        tags=[*TAGS, "backfill"],
    ) as dag:
        chain(
            *(
                DagsterBackfillOperator(
                    task_id=f"backfill_{interval}",
                    interval=interval,
                    assets=assets,
                    # An interval that was not asked for is skipped; those after it are not.
                    trigger_rule="none_failed",
                    doc_md=f"Follows the Dagster backfill of {interval}.",
                )
                for interval, assets in _BACKFILLS.items()
            )
        )
    return dag


def housekeeping_dag() -> DAG:
    """Build the DAG of the daily removal."""
    with DAG(
        "candles_housekeeping",
        description="Remove what may be made again.",
        doc_md=HOUSEKEEPING_DOC,
        tags=[*TAGS, "housekeeping"],
        **scheduled(
            HOUSEKEEPING_CRON,
            retries=2,
            retry_delay=timedelta(minutes=5),
            execution_timeout=timedelta(hours=2),
        ),
    ) as dag:
        DagsterStepOperator(task_id="housekeeping", job=HOUSEKEEPING_JOB, partitioned=False)
    return dag


def cleaning_dag() -> DAG:
    """Build the DAG by which Airflow keeps itself small."""
    with DAG(
        "airflow_cleaning",
        description="Remove Airflow's own old records and logs.",
        doc_md=CLEANING_DOC,
        schedule=CronDataIntervalTimetable("45 1 * * *", timezone="UTC"),
        start_date=datetime(2026, 11, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params={
            "keep_days": Param(
                # With none, Airflow would take every DAG for one that is not parsed any more.
                3,
                type="integer",
                minimum=1,
                description="Older records and logs are removed.",
            )
        },
        default_args=task_defaults(
            retries=2, retry_delay=timedelta(minutes=5), execution_timeout=timedelta(hours=1)
        ),
        on_failure_callback=report_failure,
        tags=["airflow"],
    ) as dag:
        AirflowCleaningOperator(task_id="clean")
    return dag


for _interval in SPANS:
    ingest_dag(_interval)
funding_dag()
trading_tables_dag()
finalize_dag()
outcomes_dag()
backfill_dag()
housekeeping_dag()
cleaning_dag()
