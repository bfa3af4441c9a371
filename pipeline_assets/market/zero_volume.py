"""Runs of candles without volume that look false, because candles of another interval show trades in the
same span. This module does not decide what a day of zero volume means for a symbol.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import permutations
from typing import TYPE_CHECKING

from pipeline_assets.market.aggregation import VOLUME_TOLERANCE
from pipeline_assets.market.candles import KEY_COLUMNS
from pipeline_assets.market.intervals import Interval

if TYPE_CHECKING:
    import polars as pl

# Fifteen minutes of 1m, or one candle of 15m or 1h. A quiet symbol has shorter runs all the time; the
# false ones seen in Binance's archive were an hour and more (74 minutes of BTCUSDT).
LEAST_RUN = timedelta(minutes=15)


def false_zero_volume(candles: "Mapping[Interval, pl.DataFrame]") -> "pl.DataFrame":
    """Return the runs of candles without volume, of 15 minutes at least, that another interval contradicts.

    A shorter candle is contradicted by the longer candle around it if the longer one has more volume
    than all its shorter ones together and none of these is missing (the difference may have been traded
    in a missing one). A longer candle is contradicted by any volume in the shorter ones inside it.

    If any candle of a run is contradicted, the whole run is reported. A frozen feed does not recover at
    the end of the hour that proves it: a run from 00:30 to 01:29 was once reported up to 00:59 only,
    because in the next hour the longer candle was false or missing too, or a minute was missing. The
    number of candles that are contradicted themselves is in `contradicted`: the symbol may have been
    quiet before.

    If all intervals agree on zero, nothing is reported: a symbol without trades looks the same, and the
    symbol's other days do not prove otherwise.

    Args:
        candles: by interval `symbol`, `open_time` and `volume`, one row per open time, in any
            order, over the spans in question or wider ones; further columns are ignored.

    Returns:
        `symbol` String, `interval` String, `first` and `last` open time Datetime(us, UTC), `count`
        and `contradicted` Int64, `why` String (the contradiction of the first contradicted candle);
        sorted by symbol, first, and interval.
    """
    import polars as pl

    columns = [*KEY_COLUMNS, "volume"]
    frames = {interval: held.select(columns) for interval, held in candles.items()}
    found = [
        _runs(_zeros(frames[interval], interval), interval, contradicted)
        for interval, contradicted in _contradictions(frames)
    ]
    order = pl.col("interval").cast(pl.Enum([each.value for each in Interval]))
    return pl.concat(found).sort("symbol", "first", order)


def _contradictions(
    frames: "Mapping[Interval, pl.DataFrame]",
) -> "Iterator[tuple[Interval, pl.DataFrame]]":
    """Return, by interval, the open times at which zero volume would be false: key columns and `why`."""
    import polars as pl

    found: dict[Interval, list[pl.DataFrame]] = {interval: [] for interval in frames}
    for coarse, fine in permutations(frames, 2):
        # A coarse candle says something of finer ones only where it holds whole ones.
        if coarse.span < fine.span or coarse.span % fine.span:
            continue
        bucket = pl.col("open_time").dt.truncate(coarse.value).alias("open_time")
        summed = (
            frames[fine]
            .group_by("symbol", bucket)
            .agg(pl.col("volume").sum().alias("sum"), pl.len().alias("candles"))
        )
        both = frames[coarse].join(summed, on=KEY_COLUMNS).with_columns(why=_why(coarse, fine))
        whole = pl.col("candles") == coarse.span // fine.span
        more = pl.col("volume") - pl.col("sum") > VOLUME_TOLERANCE * pl.col("volume")
        buckets = both.filter(whole & more).rename({"open_time": "bucket"})
        found[fine].append(
            frames[fine]
            .with_columns(bucket=bucket)
            .join(buckets, on=("symbol", "bucket"))
            .select(*KEY_COLUMNS, "why")
        )
        zero = (pl.col("volume") == 0) & (pl.col("sum") > 0)
        found[coarse].append(both.filter(zero).select(*KEY_COLUMNS, "why"))
    for interval, held in found.items():
        if not held:
            continue
        yield interval, pl.concat(held).unique(KEY_COLUMNS, keep="first", maintain_order=True)


def _why(coarse: Interval, fine: Interval) -> "pl.Expr":
    import polars as pl

    return pl.format(
        f"the {coarse} candle of {{}} has volume {{}}, the {fine} candles in it {{}} together",
        pl.col("open_time").dt.strftime("%Y-%m-%d %H:%M"),
        *(pl.col(name).round_sig_figs(6) for name in ("volume", "sum")),
    )


def _zeros(candles: "pl.DataFrame", interval: Interval) -> "pl.DataFrame":
    """Return the key columns, and the number of the run, of candles without volume in a run long enough."""
    import polars as pl

    zeros = candles.filter(pl.col("volume") == 0).sort(*KEY_COLUMNS)
    return (
        zeros.with_columns(run=_run_number(interval))
        .filter(pl.len().over("symbol", "run") * interval.span >= LEAST_RUN)
        .select(*KEY_COLUMNS, "run")
    )


def _run_number(interval: Interval) -> "pl.Expr":
    """Numbers the runs of neighbouring candles in a frame sorted by the key columns."""
    import polars as pl

    begins = (pl.col("open_time").diff() != interval.span).fill_null(True)
    return begins.over("symbol").cum_sum()


def _runs(
    zeros: "pl.DataFrame", interval: Interval, contradicted: "pl.DataFrame"
) -> "pl.DataFrame":
    import polars as pl

    return (
        zeros.join(contradicted, on=KEY_COLUMNS, how="left")
        .sort(*KEY_COLUMNS)
        .group_by("symbol", "run")
        .agg(
            first=pl.col("open_time").first(),
            last=pl.col("open_time").last(),
            count=pl.len().cast(pl.Int64),
            contradicted=pl.col("why").count().cast(pl.Int64),
            why=pl.col("why").drop_nulls().first(),
        )
        .filter(pl.col("contradicted") > 0)
        .select(
            *("symbol", pl.lit(interval.value).alias("interval"), "first", "last"),
            *("count", "contradicted", "why"),
        )
    )
