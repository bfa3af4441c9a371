"""How much of each symbol's days is stored, from the gaps that are known. How that is drawn, and where
the gaps come from, is not here.
"""

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.market.gap_causes import NOT_DUE, Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import polars as pl


def split_by_day(gaps: "pl.DataFrame", interval: Interval) -> "pl.DataFrame":
    """Return the gaps of one interval, cut at each midnight (UTC).

    Args:
        gaps: as `gap_causes` gives them, of this interval.
        interval: of the candles.

    Returns:
        The same columns with `day` Date before them, in the same order, days ascending within a gap.
    """
    import polars as pl

    midnight = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    span = pl.lit(interval.span, dtype=pl.Duration("us"))
    cut = (
        gaps.with_columns(
            day=pl.date_ranges(pl.col("first").dt.date(), pl.col("last").dt.date()),
        )
        .explode("day")
        .with_columns(
            pl.max_horizontal("first", midnight).alias("first"),
            pl.min_horizontal(pl.col("last"), midnight + DAY - span).alias("last"),
        )
    )
    count = (pl.col("last") - pl.col("first")).dt.total_milliseconds() // interval.milliseconds + 1
    return cut.with_columns(count=count).select("day", *gaps.columns)


def completeness(
    gaps: "pl.DataFrame",
    symbols: Collection[str],
    interval: Interval,
    window: Window,
    looked_at: Collection[date],
) -> "pl.DataFrame":
    """Count the candles that should exist and those that are missing, by symbol and day.

    Args:
        gaps: the result of `gap_causes`, with all gaps of the days in `looked_at`, also those with the
            causes not listed and still open. Rows of other intervals, symbols and days are ignored.
        symbols: the symbols to report.
        interval: the interval of the candles.
        window: the days to report; a day that is partly in the window counts as a whole.
        looked_at: the UTC days whose gaps are known.

    Returns:
        A row for each symbol (sorted) and day: `symbol` String, `day` Date; `expected` Int64, the
        candles that should exist, and `missing` Int64 of them, both null if the day's gaps are not
        known; `listed` Boolean, whether the symbol traded on that day at all.
    """
    import polars as pl

    last = (window.end - interval.span).date()
    days = pl.date_range(window.start.date(), last, eager=True).alias("day").to_frame()
    known = days.filter(pl.col("day").is_in(sorted(looked_at))).with_columns(looked=pl.lit(True))
    own = gaps.filter(interval=interval.value)
    count, cause = pl.col("count"), pl.col("cause")
    counted = (
        split_by_day(own, interval)
        .group_by("symbol", "day")
        .agg(
            count.filter(cause.is_in(NOT_DUE)).sum().alias("not_due"),
            count.filter(cause == Cause.NOT_LISTED).sum().alias("unlisted"),
            count.filter(~cause.is_in(NOT_DUE)).sum().alias("missing"),
        )
    )

    def known_only(value: "pl.Expr") -> "pl.Expr":
        return pl.when("looked").then(value).cast(pl.Int64)

    return (
        pl.DataFrame({"symbol": sorted(symbols)}, schema={"symbol": pl.String})
        .join(days.join(known, on="day", how="left"), how="cross")
        .join(counted, on=("symbol", "day"), how="left")
        .sort("symbol", "day")
        .select(
            "symbol",
            "day",
            expected=known_only(interval.per_day - pl.col("not_due").fill_null(0)),
            missing=known_only(pl.col("missing").fill_null(0)),
            listed=pl.col("unlisted").fill_null(0) < interval.per_day,
        )
    )
