"""The DAGs of the reports of a day, a week and a month. Dagster makes the reports; the operators watch it.
Candles are in candle_dags.py.
"""

from datetime import timedelta

from airflow.sdk import DAG
from candle_intervals import (
    DAY_REPORT_CRON,
    DAY_REPORT_JOB,
    MONTH_REPORT_CRON,
    MONTH_REPORT_JOB,
    WEEK_REPORT_CRON,
    WEEK_REPORT_JOB,
)
from dag_defaults import FIRST_DAY, daily
from dagster_operators import DagsterStepOperator

# Span, job and cron of each report.
REPORTS = (
    ("day", DAY_REPORT_JOB, DAY_REPORT_CRON),
    ("week", WEEK_REPORT_JOB, WEEK_REPORT_CRON),
    ("month", MONTH_REPORT_JOB, MONTH_REPORT_CRON),
)
_DOC = """
### Report of a {span}

The job `{job}` makes the report of the {span} that ended, from the warehouse and the lake: a page, a PDF and
the figures under `reports/`. Its summary goes to the webhook once. The DAG catches up, as finalizing does. A
run may be repeated: the same figures change nothing. To make a report again, clear its DAG run.
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


for _report in REPORTS:
    report_dag(*_report)
