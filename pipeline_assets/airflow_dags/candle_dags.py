"""The DAGs: when candles and funding rates are fetched and inserted, and where failures are reported.
Dagster does the work; the operators watch it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, Variable, chain
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
    SPANS,
    TASKS,
)
from dagster_operators import DagsterBackfillOperator, DagsterStepOperator
from database_cleaning import AirflowCleaningOperator
from failure_alerts import report_failure

OWNER = "market-data"
TAGS = ["candles", "dagster"]
# By what a person backfills the assets, in the order of the data.
_BACKFILLS = {
    **{
        each: [*tasks.values(), *filter(None, [FEATURES.get(each)])]
        for each, tasks in TASKS.items()
    },
    "funding": [*FUNDING_TASKS.values(), *FEATURES.values()],
}

# A first day before all collecting costs a fetch of each day since then; set the variable.
FIRST_DAY = Variable.get("candles_first_day", default="2026-11-01")

_INGEST_DOC = """
### An ingest run of {what}

One Dagster run of the job `{job}` does the work; each task watches one asset of it.

| task | asset |
|---|---|
{tasks}

An ingest run stores what is due **now** by the exchange's clock. A late, cleared or missed run
ends in the same data, so a failed one needs no attention if the next is green. Retries re-execute from the
failed step and stop once the next run is due. Clear a run to make a new Dagster run. The button *Dagster run*
opens it.
"""
_FINALIZE_DOC = """
### Finalizing

Once a day, the job `seal` reads which symbols the exchange lists (asset `universe`: listed and delisted since
the last time), fetches the day that ended again, in all intervals, checks it against itself, and stores it as
one object per symbol. It catches up: days in which Airflow was down are finalized when it is back; days that
the sensor gap_repair has filled by then are left out. A day whose retries have all failed stays red: clear
its run once the cause is gone.
`airflow backfill create --dag-id candles_seal --from-date 2026-11-01 --to-date 2026-11-03` finalizes 1 and
2 November (the last date is excluded). Variable `candles_first_day` says from which day on (its default:
2026-11-01).
"""
_BACKFILL_DOC = """
### Backfill

Trigger with parameters: intervals (`funding` for funding rates), symbols (none: all that Dagster's settings
name), first and last UTC day, both included. Each interval becomes one Dagster backfill, 1m first, since 15m
and 1h are compared with it. A retry backfills what failed. May be repeated: nothing is duplicated or lost.
"""
_HOUSEKEEPING_DOC = """
### Housekeeping

Once a day, the job `housekeeping` removes from Dagster and the lake what can be made again: ingest runs of
finalized days, their logs, staged files. Stored candles are never touched.
"""

_CLEANING_DOC = """
### Airflow's own cleaning

Once a day, `airflow db clean` removes records older than `keep_days`, and log files of that age go too:
a minute's ingest run leaves one DAG run, four task instances and four log files, 5,760 a day. It touches the
records of **every** DAG, so it is skipped unless the connection `airflow_database` holds the database's
address in its password.
"""


def _defaults(**more: Any) -> dict[str, Any]:
    return {"owner": OWNER, "depends_on_past": False, "retry_exponential_backoff": True} | more


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
    defaults = _defaults(
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
        doc_md=_INGEST_DOC.format(what=what, job=job, tasks=watched),
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


def finalize_dag() -> DAG:
    """Return the DAG that finalizes the day before, once a day."""
    with DAG(
        "candles_seal",
        description="Note which symbols are listed, and finalize yesterday in all intervals.",
        doc_md=_FINALIZE_DOC,
        # A day has ended once the first candle of the next one is closed, of 1h too.
        schedule=CronDataIntervalTimetable(FINALIZE_CRON, timezone="UTC"),
        start_date=datetime.fromisoformat(FIRST_DAY).replace(tzinfo=UTC),
        catchup=True,
        # No dagrun_timeout, as above; Dagster ends a run that hangs after three hours.
        max_active_runs=1,
        default_args=_defaults(
            retries=4,
            retry_delay=timedelta(minutes=1),
            max_retry_delay=timedelta(minutes=15),
            execution_timeout=timedelta(hours=1),
        ),
        on_failure_callback=report_failure,
        tags=[*TAGS, "seal"],
    ) as dag:
        DagsterStepOperator(
            task_id="seal", job=FINALIZE_JOB, doc_md="Watches the whole Dagster run."
        )
    return dag


def backfill_dag() -> DAG:
    """Build the DAG by which a person backfills."""
    with DAG(
        "candles_backfill",
        description="Fetch and store whole days again, as a Dagster backfill.",
        doc_md=_BACKFILL_DOC,
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
        default_args=_defaults(
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
        doc_md=_HOUSEKEEPING_DOC,
        schedule=CronDataIntervalTimetable(HOUSEKEEPING_CRON, timezone="UTC"),
        start_date=datetime(2026, 11, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args=_defaults(
            retries=2, retry_delay=timedelta(minutes=5), execution_timeout=timedelta(hours=2)
        ),
        on_failure_callback=report_failure,
        tags=[*TAGS, "housekeeping"],
    ) as dag:
        DagsterStepOperator(task_id="housekeeping", job=HOUSEKEEPING_JOB, partitioned=False)
    return dag


def cleaning_dag() -> DAG:
    """Build the DAG by which Airflow keeps itself small."""
    with DAG(
        "airflow_cleaning",
        description="Remove Airflow's own old records and logs.",
        doc_md=_CLEANING_DOC,
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
        default_args=_defaults(
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
finalize_dag()
backfill_dag()
housekeeping_dag()
cleaning_dag()
