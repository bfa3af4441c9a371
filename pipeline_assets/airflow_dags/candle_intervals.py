"""The DAGs' intervals and Dagster's names: generated from the code by `make generate`."""

from datetime import timedelta

LOCATION, REPOSITORY = "pipeline_assets", "__repository__"
FINALIZE_JOB, HOUSEKEEPING_JOB = "seal", "housekeeping"
FUNDING_JOB, FUNDING_CRON = "funding", "5 * * * *"
# The asset that each task of a DAG run of funding rates watches.
FUNDING_TASKS = {"fetch": "funding_rates", "insert": "funding_table"}
# Likewise for trading records.
TRADING_TABLES_JOB, TRADING_TABLES_CRON = "trading_tables", "*/15 * * * *"
TRADING_TABLES_TASKS = {
    "candidates": "candidate_table",
    "decisions": "decision_table",
    "intents": "intent_table",
    "orders": "order_table",
    "fills": "fill_table",
    "views": "analysis_views",
}
OUTCOMES_JOB, OUTCOMES_CRON = "outcomes", "10 4 * * *"
# So many days before yesterday are computed once more.
OUTCOMES_AGAIN = 1
RECONCILIATION_JOB, RECONCILIATION_CRON = "reconciliation", "20 4 * * *"
DAY_REPORT_JOB, DAY_REPORT_CRON = "report_day", "40 4 * * *"
WEEK_REPORT_JOB, WEEK_REPORT_CRON = "report_week", "0 5 * * 1"
MONTH_REPORT_JOB, MONTH_REPORT_CRON = "report_month", "20 5 1 * *"
FINALIZE_CRON, HOUSEKEEPING_CRON = "5 1 * * *", "30 1 * * *"
MODEL_JOB, MODEL_CRON = "models", "0 3 * * 0"
DRIFT_JOB, DRIFT_CRON = "model_drift", "30 2 * * *"
# The strategies that can be trained.
STRATEGIES = (
    "bollinger_breakout",
    "ema_trend",
    "macd_cross",
    "rsi_reversal",
)
PARTITION_TAG = "dagster/partition"
# The tags of a run over several days: the first one and the last one.
FIRST_DAY_TAG = "dagster/asset_partition_range_start"
LAST_DAY_TAG = "dagster/asset_partition_range_end"
# With this kind a run leaves out days that are stored complete, and no more than two run at once.
LATE_TAGS = {"pipeline/kind": "backfill"}
SPANS = {
    "1m": timedelta(minutes=1),
    "15m": timedelta(minutes=15),
    "1h": timedelta(minutes=60),
}
CRONS = {
    "1m": "* * * * *",
    "15m": "*/15 * * * *",
    "1h": "0 * * * *",
}
INGEST_JOBS = {
    "1m": "tick_1m",
    "15m": "tick_15m",
    "1h": "tick_1h",
}
# By interval the asset that each task of a DAG run watches, in the order of the data.
TASKS = {
    "1m": {
        "fetch": "raw_candles_1m",
        "format": "candles_1m",
        "upload": "candle_objects_1m",
        "insert": "candle_slots_1m",
    },
    "15m": {
        "fetch": "raw_candles_15m",
        "format": "candles_15m",
        "upload": "candle_objects_15m",
        "insert": "candle_table_15m",
    },
    "1h": {
        "fetch": "raw_candles_1h",
        "format": "candles_1h",
        "upload": "candle_objects_1h",
        "insert": "candle_table_1h",
    },
}
# By interval the asset that follows the tasks' assets in a backfill.
FEATURES = {
    "15m": "features_15m",
    "1h": "features_1h",
}
