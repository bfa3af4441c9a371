"""The names of Dagster's jobs and tags, and of the place where both are found. Commands, probes and messages
use them without loading Dagster; Airflow's DAG folder gets them from cli/generated_files.py. The kind of a
run is in fetch_plan.py.
"""

from collections.abc import Mapping
from datetime import date

from pipeline_assets.market.intervals import Interval

LOCATION, REPOSITORY = "pipeline_assets", "__repository__"
FINALIZE_JOB, LEDGER_JOB, HOUSEKEEPING_JOB = "seal", "gap_ledger", "housekeeping"
FUNDING_JOB, FUNDING_BACKFILL_JOB = "funding", "funding_backfill"
# Not `drift`: no job of a repository may have the name of an asset.
DRIFT_JOB = "model_drift"
RECONCILIATION_JOB = "reconciliation"
DAY_REPORT_JOB, WEEK_REPORT_JOB = "report_day", "report_week"
MONTH_REPORT_JOB = "report_month"
BACKTEST_JOB, MODEL_JOB = "backtest_reports", "models"
TRADING_TABLES_JOB, OUTCOMES_JOB = "trading_tables", "outcomes"
RECONCILER = "gap_repair"
PARTITION_TAG = "dagster/partition"
FIRST_DAY_TAG, LAST_DAY_TAG = (
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


def ingest_job(interval: Interval) -> str:
    """Return the name of the job of an interval's ingest run."""
    return f"tick_{interval}"


def backfill_job(interval: Interval) -> str:
    """Return the name of the job by which the command line backfills an interval."""
    return f"backfill_{interval}"


def repair_job(interval: Interval) -> str:
    """Return the name of the job that fetches an interval's gaps and judges the days again."""
    return f"repair_{interval}"


def range_tags(first: date | str, last: date | str) -> dict[str, str]:
    """Return the tags of a run over the days from first to last; a run of one partition has none of these."""
    return {} if first == last else {FIRST_DAY_TAG: str(first), LAST_DAY_TAG: str(last)}


def tagged_days(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """Return the first and last day of a run by its tags, or None if its partition is no day."""
    partition = tags.get(PARTITION_TAG, "")
    first, last = (tags.get(name, partition) for name in (FIRST_DAY_TAG, LAST_DAY_TAG))
    try:
        return date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        return None
