"""The metrics of the product by name, with their meaning. Alert rules and dashboards refer to these names;
services/metrics.py collects the values.
"""

PART_ANSWERS = "pipeline_part_answers"
CANDLES_FRESH = "pipeline_candles_fresh"
CANDLES_STALE_SYMBOLS = "pipeline_candles_stale_symbols"
CANDLES_NEWEST = "pipeline_candles_newest_open_timestamp_seconds"
WORKERS = "pipeline_workers"
WEIGHT_USED = "pipeline_exchange_weight_used"
WEIGHT_CAPACITY = "pipeline_exchange_weight_capacity"
BLOCKED_SECONDS = "pipeline_exchange_blocked_seconds"
DAEMON_HEALTHY = "pipeline_dagster_daemon_healthy"
RUNS = "pipeline_dagster_runs"
GATEWAY_MODE = "pipeline_gateway_mode"
GATEWAY_RESULT = "pipeline_gateway_day_result"
GATEWAY_EXPOSURE = "pipeline_gateway_gross_exposure"
GATEWAY_POSITIONS = "pipeline_gateway_open_positions"
GATEWAY_UNKNOWN = "pipeline_gateway_unknown_orders"

DESCRIPTIONS = {
    PART_ANSWERS: "Whether a part answered at this scrape (s3, redis, dagster, gateway).",
    CANDLES_FRESH: "Whether every collected symbol's newest stored candle is the one that is due; absent "
    "before the first ingest run.",
    CANDLES_STALE_SYMBOLS: "Symbols whose newest stored candle is older than it should be.",
    CANDLES_NEWEST: "Open time of the newest stored candle of any symbol.",
    WORKERS: "Living workers that serve a queue.",
    WEIGHT_USED: "Request weight used in this minute of the exchange's clock, by this egress address.",
    WEIGHT_CAPACITY: "Request weight that may be used in a minute.",
    BLOCKED_SECONDS: "Seconds until requests to the exchange are allowed again after 429 or 418; 0: allowed.",
    DAEMON_HEALTHY: "Whether a required part of Dagster's daemon has reported recently.",
    RUNS: "Dagster's runs that have not ended, by status.",
    GATEWAY_MODE: "1 for the gateway's mode (ACTIVE, REDUCING, HALTED), 0 for the others.",
    GATEWAY_RESULT: "Result since 00:00 UTC in the quote asset, open positions and costs included.",
    GATEWAY_EXPOSURE: "Value of all positions with their open orders, in the quote asset.",
    GATEWAY_POSITIONS: "Symbols with a position, or an order that may open one.",
    GATEWAY_UNKNOWN: "Orders whose outcome is not known yet.",
}
