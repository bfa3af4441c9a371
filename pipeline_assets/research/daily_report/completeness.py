"""How complete the stored candles of an edition are, counted by interval and day from the marks of finalized
days and the gap ledger. Causes are judged in collection/coverage.py.
"""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.market.gap_causes import NOT_DUE, Cause
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import finalized_symbols
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl


def finalized_candles(store: ObjectStore, days: Sequence[date]) -> "pl.DataFrame":
    """Return the symbols that are finalized: `width` (the interval), `day`, `symbol`.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    import polars as pl

    asked = [(interval, day) for interval in Interval for day in days]
    found = store.each(lambda each: finalized_symbols(store, *each), asked)
    rows = [
        (interval.value, day, symbol)
        for (interval, day), symbols in zip(asked, found, strict=True)
        for symbol in sorted(symbols)
    ]
    schema = {"width": pl.String, "day": pl.Date, "symbol": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def completeness_of(
    finalized: "pl.DataFrame", gaps: "pl.DataFrame", judged: Sequence[date]
) -> "pl.DataFrame":
    """Count the candles that should exist and those that are missing, by interval and day.

    A symbol counts on a day if it is finalized, or misses a candle that should exist.

    Args:
        finalized: as `finalized_candles` returns it.
        gaps: the gaps of these days: `day`, `symbol`, `width`, `candles`, `cause`.
        judged: the days whose gaps are known; others are left out.

    Returns:
        `width`, `day`, `symbols`, `expected` and `missing`, ordered by interval and day.
    """
    import polars as pl

    keys = ["width", "day", "symbol"]
    is_due = ~pl.col("cause").is_in([each.value for each in NOT_DUE])
    counted = gaps.group_by(keys).agg(
        not_due=pl.col("candles").filter(~is_due).sum(),
        missing=pl.col("candles").filter(is_due).sum(),
    )
    named = pl.concat([finalized.select(keys), counted.filter(pl.col("missing") > 0).select(keys)])
    per_day = {each.value: each.per_day for each in Interval}
    order = {each.value: place for place, each in enumerate(Interval)}
    return (
        named.unique()
        .filter(pl.col("day").is_in(list(judged)))
        .join(counted, on=keys, how="left")
        .with_columns(whole=pl.col("width").replace_strict(per_day, return_dtype=pl.Int64))
        .group_by("width", "day")
        .agg(
            symbols=pl.col("symbol").n_unique(),
            expected=(pl.col("whole") - pl.col("not_due").fill_null(0)).sum(),
            missing=pl.col("missing").fill_null(0).sum(),
        )
        .sort(pl.col("width").replace_strict(order, return_dtype=pl.Int64), "day")
    )


def doubtful_candles(finalized: "pl.DataFrame", gaps: "pl.DataFrame") -> int:
    """Count the candles that the ledger has as not fetched although their symbol's day is finalized.

    A backfill between two runs of the ledger stores candles that the ledger still has as missing.

    Args:
        finalized: as `finalized_candles` returns it.
        gaps: as `completeness_of` takes these.
    """
    import polars as pl

    unfetched = gaps.filter(pl.col("cause") == Cause.NOT_FETCHED.value)
    found = unfetched.join(finalized, on=["width", "day", "symbol"], how="semi")
    return int(found["candles"].sum())
