"""Outcomes of candidates on the lake: Parquet by UTC day of the candidates' open times. Outcomes are computed
in research/outcomes.py, and loaded into the warehouse in warehouse_records.py.
"""

from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from pipeline_assets.resources.day_frames import encode_frame
from pipeline_assets.resources.lake_documents import documented_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.record_tables import OUTCOMES_PREFIX as PREFIX

if TYPE_CHECKING:
    import polars as pl

# Minutes from the entry, by the end of the columns' names.
HORIZONS = {"15m": 15, "1h": 60, "4h": 240}


def outcomes_key(day: date) -> str:
    """Return the key of the object that holds the outcomes of a day's candidates."""
    return f"{PREFIX}{day:%Y%m%d}.parquet"


@cache
def outcome_schema() -> "pl.Schema":
    """Return the columns of outcomes: one row a candidate, `entry_time` the open time of the next minute.

    `return_…` is the return at the end of a horizon from the entry's open, positive if the candidate was
    right; `favourable_…` and `adverse_…` are the extreme moves within the horizon. All are shares of the
    entry price. `missing_…` counts the minutes of the horizon that are not stored. While a horizon is not
    over, its columns are null; if a minute is missing, all but `missing_…` are. `delisted_at` is the end of
    trading, if it came before the end of the longest horizon: no minute exists after that.
    """
    import polars as pl

    time = pl.Datetime("us", "UTC")
    texts = ("candidate_id", "strategy", "version", "symbol", "side")
    columns: dict[str, pl.DataType] = dict.fromkeys(texts, pl.String())
    columns |= {"open_time": time, "entry_time": time, "entry_price": pl.Float64()}
    for name in HORIZONS:
        figures = (f"return_{name}", f"favourable_{name}", f"adverse_{name}")
        columns |= dict.fromkeys(figures, pl.Float64())
        columns[f"missing_{name}"] = pl.Int64()
    columns["delisted_at"] = time
    return pl.Schema(columns)


def write_outcomes(store: ObjectStore, day: date, outcomes: "pl.DataFrame") -> bool:
    """Store the outcomes of a day's candidates in place of what was known; return whether these differ.

    Idempotent: the same rows give the same bytes, and what is stored already is not written again.

    Args:
        store: the bucket.
        day: the UTC day.
        outcomes: a frame of `outcome_schema()` with one row at least.
    """
    ordered = outcomes.select(outcome_schema().names())
    body = encode_frame(ordered.sort("open_time", "strategy", "symbol", "candidate_id"))
    found = store.find(outcomes_key(day))
    if found is not None and found.intact and found.body == body:
        return False
    store.put(outcomes_key(day), body)
    return True


def days_with_outcomes(store: ObjectStore) -> list[date]:
    """Return the days that have an object of outcomes, ascending."""
    return documented_days(store, PREFIX, ".parquet")
