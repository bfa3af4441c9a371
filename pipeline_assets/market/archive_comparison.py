"""Compares Binance's archive with the exchange: days that must not be taken over, and candles that differ.
Reading the archive's files is in archive.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline_assets.market.aggregation import differences
from pipeline_assets.market.candles import KEY_COLUMNS, PRICE_COLUMNS, VOLUME_COLUMNS
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import Window, day_window

if TYPE_CHECKING:
    import polars as pl

HOLE = "hole"
FALSE_ZERO_VOLUME = "false zero volume"
DIFFERENT = "different"
NOT_SERVED = "not served by the exchange"


def distrusted_days(
    archived: "pl.DataFrame",
    hours: "pl.DataFrame",
    interval: Interval,
    windows: Mapping[str, Window],
) -> "pl.DataFrame":
    """Return the symbol-days of the archive that must not be taken for the exchange's own.

    A day is borne out when every candle of its window is there, and they add up to the exchange's
    own candle of every hour: prices and trades exactly, volumes to 1e-9. A hole, a false run
    without volume and a partial candle all change an hour. A change within an hour that leaves its
    prices and all its sums the same would pass.

    Args:
        archived: a candle frame, what `cleaning.clean` left of the archive's rows.
        hours: a candle frame of 1h, from the exchange, that covers the windows.
        interval: of the archived rows; 1h at most.
        windows: by symbol the part of whole days that was looked for in the archive.

    Returns:
        `symbol` String, `day` Date, `reason` String; sorted, one row for each such symbol-day.
    """
    import polars as pl

    expected = _expected_days(interval, windows)
    day = pl.col("open_time").dt.date().alias("day")
    counted = archived.group_by("symbol", day).agg(rows=pl.len().cast(pl.Int64))
    held = pl.col("rows").fill_null(0)
    incomplete = (
        expected.join(counted, on=("symbol", "day"), how="left")
        .filter(held != pl.col("expected"))
        .select("symbol", "day", reason=pl.format("{} of {} candles", held, "expected"))
    )
    summed = _hourly(archived)
    own = hours.join(expected.select("symbol").unique(), on="symbol", how="semi")
    wrong = pl.concat(
        [
            differences(own, summed).select(*KEY_COLUMNS),
            own.join(summed, on=KEY_COLUMNS, how="anti").select(*KEY_COLUMNS),
            summed.join(own, on=KEY_COLUMNS, how="anti").select(*KEY_COLUMNS),
        ]
    ).unique()
    contradicted = (
        wrong.group_by("symbol", day)
        .agg(first=pl.col("open_time").min())
        .join(expected, on=("symbol", "day"), how="semi")
        .select(
            "symbol",
            "day",
            reason=pl.format(
                "its candles do not add up to the exchange's of {}",
                pl.col("first").dt.strftime("%H:%M"),
            ),
        )
    )
    return (
        pl.concat([incomplete, contradicted])
        .unique(("symbol", "day"), keep="first", maintain_order=True)
        .sort("symbol", "day")
    )


def disagreements(
    archived: "pl.DataFrame", served: "pl.DataFrame", interval: Interval
) -> "pl.DataFrame":
    """Return where the archive says otherwise than the exchange, as runs of neighbouring candles.

    Args:
        archived: raw rows of the archive.
        served: raw rows of the exchange, of the same symbols and days.
        interval: of both.

    Returns:
        One row a run, sorted: `symbol` String, `kind` String (HOLE, FALSE_ZERO_VOLUME, DIFFERENT
        or NOT_SERVED), `first` and `last` open time Datetime(us, UTC), `count` Int64.
    """
    import polars as pl

    theirs, own = _typed(archived), _typed(served)
    differing = differences(own.unique(KEY_COLUMNS), theirs.unique(KEY_COLUMNS, keep="last"))
    frozen = differing.filter(pl.col("column") == "volume", pl.col("aggregated") == 0)

    def kind(frame: "pl.DataFrame", name: str) -> "pl.DataFrame":
        return frame.select(*KEY_COLUMNS).unique().with_columns(kind=pl.lit(name))

    found = pl.concat(
        [
            kind(own.join(theirs, on=KEY_COLUMNS, how="anti"), HOLE),
            kind(theirs.join(own, on=KEY_COLUMNS, how="anti"), NOT_SERVED),
            kind(frozen, FALSE_ZERO_VOLUME),
            kind(differing.join(frozen, on=KEY_COLUMNS, how="anti"), DIFFERENT),
        ]
    ).sort("symbol", "kind", "open_time")
    # A run ends with its day: records are kept by the day.
    times = pl.col("open_time")
    new_run = ((times.diff() != interval.span) | (times == times.dt.truncate("1d"))).fill_null(True)
    return (
        found.with_columns(run=new_run.over("symbol", "kind").cum_sum())
        .group_by("symbol", "kind", "run")
        .agg(
            first=pl.col("open_time").min(),
            last=pl.col("open_time").max(),
            count=pl.len().cast(pl.Int64),
        )
        .drop("run")
        .sort("symbol", "first", "kind")
    )


def _expected_days(interval: Interval, windows: Mapping[str, Window]) -> "pl.DataFrame":
    import polars as pl

    rows = []
    for symbol, window in windows.items():
        day = window.start.date()
        while (whole := day_window(day)).start < window.end:
            part = Window(max(whole.start, window.start), min(whole.end, window.end))
            rows.append((symbol, day, part.candles(interval)))
            day += DAY
    schema = {"symbol": pl.String, "day": pl.Date, "expected": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _typed(raw: "pl.DataFrame") -> "pl.DataFrame":
    """Return raw rows with the dtypes of candles; null where a string is no number."""
    import polars as pl

    return raw.select(
        "symbol",
        pl.col("open_time").mul(1000).cast(pl.Datetime("us", "UTC")),
        pl.col(*PRICE_COLUMNS, *VOLUME_COLUMNS).cast(pl.Float64, strict=False),
        "trades",
    )


def _hourly(candles: "pl.DataFrame") -> "pl.DataFrame":
    """Return the candle that those of each hour make up, whether the hour is whole or not."""
    import polars as pl

    return candles.group_by(
        "symbol", pl.col("open_time").dt.truncate("1h"), maintain_order=True
    ).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col(*VOLUME_COLUMNS, "trades").sum(),
    )
