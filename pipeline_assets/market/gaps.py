"""Which candles should exist, and which of them do not. Why one is missing is not decided here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import polars as pl

_SMALLEST = timedelta(microseconds=1)


@dataclass(frozen=True)
class Expected:
    """The open times that a symbol should have: every one of the grid from `first` to `last`."""

    first: datetime
    last: datetime
    count: int


def expected_open_times(
    interval: Interval,
    window: Window,
    listed_at: datetime | None,
    delisted_at: datetime | None,
    newest: datetime | None,
) -> Expected | None:
    """Return the open times that should exist in a window, or None when there should be none.

    The exchange's first candle is the one that the listing falls into, so `listed_at` is rounded
    down to the grid. Its last is the one that trading ended in: it opens before `delisted_at`.

    Args:
        interval: whose grid.
        window: the span asked about; it need not begin on the grid.
        listed_at: when trading began (`onboardDate`), UTC; None when it is not known.
        delisted_at: when trading ended (`deliveryDate`), UTC; None when it has not.
        newest: the open time of the newest closed candle; None when all of the window is closed.
    """
    starts = [window.start] if listed_at is None else [window.start, interval.floor(listed_at)]
    ends = [window.end] if delisted_at is None else [window.end, delisted_at]
    if newest is not None:
        ends.append(newest + interval.span)
    first = interval.floor(max(starts) - _SMALLEST) + interval.span
    last = interval.floor(min(ends) - _SMALLEST)
    if last < first:
        return None
    return Expected(first, last, (last - first) // interval.span + 1)


def expected_frame(expected: Mapping[str, Expected | None]) -> "pl.DataFrame":
    """Return what `gaps` takes, from the expectation by symbol. Symbols that expect nothing are left out.

    Returns:
        `symbol` String, `first` and `last` Datetime(us, UTC).
    """
    import polars as pl

    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        [(symbol, held.first, held.last) for symbol, held in expected.items() if held],
        schema={"symbol": pl.String, "first": time, "last": time},
        orient="row",
    )


def gaps(
    candles_open_times: "pl.DataFrame", interval: Interval, expected: "pl.DataFrame"
) -> "pl.DataFrame":
    """Return the runs of open times that should exist and do not.

    Args:
        candles_open_times: `symbol` and `open_time` of the existing candles, in any order. Further
            columns, repetitions, other symbols and open times off the grid or outside are ignored.
        interval: the interval, which sets the grid.
        expected: `symbol`, `first`, `last` (both open times included), one row a symbol.

    Returns:
        One row a gap, sorted by symbol and start: `symbol` String, `start` and `end` (excluded)
        Datetime(us, UTC), `missing` Int64 open times. A symbol without any candle is one gap.
    """
    import polars as pl

    span = pl.lit(interval.span, dtype=pl.Duration("us"))
    present = (
        candles_open_times.lazy()
        .select("symbol", "open_time")
        .join(expected.lazy(), on="symbol", how="inner")
        .filter(
            pl.col("open_time").is_between("first", "last"),
            pl.col("open_time").dt.epoch("ms") % interval.milliseconds == 0,
        )
    )
    # An open time just before the first and one just after the last make the gaps at both ends,
    # and the gap that is everything, ordinary distances between neighbours.
    before = expected.lazy().select("symbol", open_time=pl.col("first") - span)
    after = expected.lazy().select("symbol", open_time=pl.col("last") + span)
    start = pl.col("open_time").shift().over("symbol") + span
    return (
        pl.concat([before, present.select("symbol", "open_time"), after])
        .sort("symbol", "open_time")
        .select("symbol", start=start, end="open_time")
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(
            missing=(pl.col("end") - pl.col("start")).dt.total_milliseconds()
            // interval.milliseconds
        )
        .collect()
    )
