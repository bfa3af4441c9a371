"""The intervals of the DAGs: generated from the registry by `make generate`."""

from datetime import timedelta

SPANS = {"1m": timedelta(minutes=1), "15m": timedelta(minutes=15), "1h": timedelta(minutes=60)}
CRONS = {"1m": "* * * * *", "15m": "*/15 * * * *", "1h": "0 * * * *"}
# By interval the assets that a DAG run's tasks watch after fetch, format and upload.
SINKS = {
    "1m": {"insert": "candle_slots_1m"},
    "15m": {"insert": "candle_table_15m"},
    "1h": {"insert": "candle_table_1h"},
}
