"""The DAGs of the reports of a day, a week and a month, and of the comparison of an account with the
exchange. Dagster does the work; the operators watch it. Candles are in candle_dags.py.
"""

from datetime import timedelta

from airflow.sdk import DAG
from candle_intervals import (
    DAY_REPORT_CRON,
    DAY_REPORT_JOB,
    MONTH_REPORT_CRON,
    MONTH_REPORT_JOB,
    RECONCILIATION_CRON,
    RECONCILIATION_JOB,
    WEEK_REPORT_CRON,
    WEEK_REPORT_JOB,
)
from dag_defaults import FIRST_DAY, daily
from dagster_operators import DagsterStepOperator

_DOC = """
### Report of a {span}

The job `{job}` makes the report of the {span} that ended, from the warehouse and the lake: a page, a PDF and
the figures under `reports/`. Its summary goes to the webhook once. The DAG catches up, as finalizing does. A
run may be repeated: the same figures change nothing. To make a report again, clear its DAG run.
"""
_RECONCILIATION_DOC = """
### Reconciliation

The job `reconciliation` compares the gateway's ledger of the day that ended with the exchange's trade and
income history. A difference is no failure of the run: the check `matches_exchange` in Dagster is red and
names each, and an alert is sent. The run fails where the exchange does not answer, and Airflow repeats it. On
paper nothing is compared. The DAG catches up. To compare a day again, clear its DAG run.
"""


def report_dag(span: str, job: str, cron: str) -> DAG:
    """Build the DAG of a report; the start of its data interval is the Dagster run's partition."""
    with DAG(
        f"{span}_report",
        description=f"Make the report of the {span} that ended, and send its summary.",
        doc_md=_DOC.format(span=span, job=job),
        tags=["dagster", "reports"],
        **daily(cron, FIRST_DAY, poll_seconds=2.0, retry_delay=timedelta(minutes=5)),
    ) as dag:
        DagsterStepOperator(task_id=job, job=job, doc_md="Watches the whole Dagster run.")
    return dag


def reconciliation_dag() -> DAG:
    """Build the DAG that compares a day's ledger with the exchange's history."""
    with DAG(
        "reconciliation",
        description="Compare the ledger of the day that ended with the exchange.",
        doc_md=_RECONCILIATION_DOC,
        tags=["dagster", "trading"],
        **daily(RECONCILIATION_CRON, FIRST_DAY, poll_seconds=2.0, retry_delay=timedelta(minutes=5)),
    ) as dag:
        DagsterStepOperator(
            task_id="compare", job=RECONCILIATION_JOB, doc_md="Watches the whole Dagster run."
        )
    return dag


reconciliation_dag()
report_dag("day", DAY_REPORT_JOB, DAY_REPORT_CRON)
report_dag("week", WEEK_REPORT_JOB, WEEK_REPORT_CRON)
report_dag("month", MONTH_REPORT_JOB, MONTH_REPORT_CRON)
