"""Why candles are missing: each gap cut to pieces that have one cause. Which candles are missing is in
gaps.py; where the evidence is kept, and what to do about a gap, is not decided here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline_assets.market.gaps import expected_frame, expected_open_times
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import polars as pl

# One symbol without a candle says nothing of the exchange.
_WITNESSES = 2


class Cause(StrEnum):
    """Why a candle is not stored, in the order of judgement: the first that holds.

    NOT_LISTED: it would open before the listing, after the end of trading, or between that and a
        listing anew.
    STILL_OPEN: it has not closed yet.
    INVALID: the exchange gives the same row for it whenever it is asked, which cannot be a candle.
    SET_ASIDE: a row came for it that cannot be a candle.
    EXCHANGE_OUTAGE: the exchange said that it has none; or all symbols lack it, of which at least
        two were fetched.
    ARCHIVE_HOLE: the archive lacks it, and the exchange could not be asked for it then.
    NOT_FETCHED: nobody asked for it yet; or a reply lacked what other symbols have, and the exchange
        was not asked again.
    """

    NOT_LISTED = "not_listed"
    STILL_OPEN = "still_open"
    INVALID = "invalid"
    SET_ASIDE = "set_aside"
    EXCHANGE_OUTAGE = "exchange_outage"
    ARCHIVE_HOLE = "archive_hole"
    NOT_FETCHED = "not_fetched"


# Nobody can have these candles yet, or ever: they are not missing.
NOT_DUE = (Cause.NOT_LISTED, Cause.STILL_OPEN)


@dataclass(frozen=True)
class Evidence:
    """What is known beside what is stored: span frames, as `spans` and `span_frame` give them.

    Attributes:
        fetched: what was asked for and answered, from whatever source.
        confirmed_empty: where the exchange itself was asked and said that there is nothing.
        archive_holes: where the archive lacked candles while the exchange could not be asked.
        set_aside: the candles in whose place came a row that is none.
        between_listings: where a symbol that was listed anew had ended and not yet begun again.
        invalid: the candles in whose place the same row that is none came repeatedly.
    """

    fetched: "pl.DataFrame"
    confirmed_empty: "pl.DataFrame"
    archive_holes: "pl.DataFrame"
    set_aside: "pl.DataFrame"
    between_listings: "pl.DataFrame"
    invalid: "pl.DataFrame | None" = None


def span_frame(windows: Mapping[str, Iterable[Window]]) -> "pl.DataFrame":
    """A span frame of windows: `symbol` String, `start`, `end` (excluded) Datetime(us, UTC)."""
    import polars as pl

    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        [(symbol, each.start, each.end) for symbol, held in windows.items() for each in held],
        schema={"symbol": pl.String, "start": time, "end": time},
        orient="row",
    )


def spans(open_times: "pl.DataFrame", interval: Interval) -> "pl.DataFrame":
    """A span frame of candles: neighbours of a symbol are one span.

    Args:
        open_times: `symbol` and `open_time` Datetime(us, UTC), in any order; repetitions do no harm,
            and a time off the grid stands for the candle that it falls into.
        interval: of the candles.
    """
    import polars as pl

    return _joined(
        open_times.select("symbol", start=pl.col("open_time").dt.truncate(interval.value))
        .unique()
        .with_columns(end=pl.col("start") + interval.span)
    )


def gap_causes(
    missing: "pl.DataFrame",
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    newest: datetime,
    evidence: Evidence,
) -> "pl.DataFrame":
    """Return every candle of a window that is not stored, with its cause, as runs of one cause each.

    The work grows with the number of gaps and spans, not with that of candles.

    Args:
        missing: `symbol`, `start`, `end` as `gaps.gaps` gives them, where every symbol of
            `lifetimes` is expected to have all of the window.
        interval: of the candles.
        window: on the interval's grid.
        lifetimes: when each symbol's trading began and, if it has, ended; UTC. Of one that was
            listed anew its first beginning and last end. All symbols that are collected: what they
            all lack is an outage.
        newest: the open time of the newest closed candle.
        evidence: see there. Spans outside the window and other symbols do no harm.

    Returns:
        `symbol` String, `interval` String, `first` and `last` open time Datetime(us, UTC), `count`
        Int64, `cause` String; sorted by symbol and first.
    """
    import polars as pl

    symbols = pl.DataFrame({"symbol": list(lifetimes)}, schema={"symbol": pl.String})
    open_from = max(window.start, newest + interval.span)
    unclosed = (Window(open_from, window.end),) if open_from < window.end else ()
    segments = _segments(
        {
            "missing": missing.select("symbol", "start", "end"),
            "traded": _traded(interval, window, lifetimes),
            "between_listings": evidence.between_listings,
            "unclosed": span_frame(dict.fromkeys(lifetimes, unclosed)),
            "invalid": span_frame({}) if evidence.invalid is None else evidence.invalid,
            "set_aside": evidence.set_aside,
            "confirmed_empty": evidence.confirmed_empty,
            "archive_hole": evidence.archive_holes,
            "nobody": symbols.join(_nobody_has(missing, symbols, evidence.fetched), how="cross"),
        }
    )

    pieces = segments.filter(pl.col("missing") > 0).select("symbol", "start", "end", cause=_cause())
    return (
        _joined(pieces.join(symbols, on="symbol", how="semi"), "cause")
        .select(
            "symbol",
            pl.lit(interval.value).alias("interval"),
            pl.col("start").alias("first"),
            (pl.col("end") - interval.span).alias("last"),
            (
                (pl.col("end") - pl.col("start")).dt.total_milliseconds() // interval.milliseconds
            ).alias("count"),
            "cause",
        )
        .sort("symbol", "first")
    )


def _traded(
    interval: Interval, window: Window, lifetimes: Mapping[str, tuple[datetime, datetime | None]]
) -> "pl.DataFrame":
    """Return a span frame of the parts of a window in which each symbol traded."""
    import polars as pl

    expected = {
        symbol: expected_open_times(interval, window, since, until, None)
        for symbol, (since, until) in lifetimes.items()
    }
    return expected_frame(expected).select(
        "symbol", start="first", end=pl.col("last") + interval.span
    )


def _cause() -> "pl.Expr":
    """Return the cause of a segment by the layers that cover it: see `Cause` for the order."""
    import polars as pl

    def holds(layer: str) -> "pl.Expr":
        return pl.col(layer) > 0

    return (
        pl.when(~holds("traded") | holds("between_listings"))
        .then(pl.lit(Cause.NOT_LISTED))
        .when(holds("unclosed"))
        .then(pl.lit(Cause.STILL_OPEN))
        .when(holds("invalid"))
        .then(pl.lit(Cause.INVALID))
        .when(holds("set_aside"))
        .then(pl.lit(Cause.SET_ASIDE))
        .when(holds("confirmed_empty"))
        .then(pl.lit(Cause.EXCHANGE_OUTAGE))
        .when(holds("archive_hole"))
        .then(pl.lit(Cause.ARCHIVE_HOLE))
        .when(holds("nobody"))
        .then(pl.lit(Cause.EXCHANGE_OUTAGE))
        .otherwise(pl.lit(Cause.NOT_FETCHED))
    )


def _nobody_has(
    missing: "pl.DataFrame", symbols: "pl.DataFrame", fetched: "pl.DataFrame"
) -> "pl.DataFrame":
    """The spans that all symbols lack, though at least two of them were fetched: `start`, `end`."""
    import polars as pl

    one = pl.lit("").alias("symbol")
    known = fetched.join(symbols, on="symbol", how="semi")
    # A symbol fetched twice is one witness: its spans are joined before they are counted.
    segments = _segments(
        {
            "lacking": missing.join(symbols, on="symbol", how="semi").select(one, "start", "end"),
            "witnesses": _united(known).select(one, "start", "end"),
        }
    )
    return segments.filter(
        pl.col("lacking") == symbols.height, pl.col("witnesses") >= _WITNESSES
    ).select("start", "end")


def _segments(layers: "Mapping[str, pl.DataFrame]") -> "pl.DataFrame":
    """The time of each symbol cut wherever a span of any layer begins or ends.

    Returns:
        `symbol`, `start`, `end`, and by layer how many of its spans cover the segment.
    """
    import polars as pl

    edges = [
        spans.select("symbol", pl.col(edge).alias("start"), pl.lit(change).alias(layer))
        for layer, spans in layers.items()
        for edge, change in (("start", 1), ("end", -1))
    ]
    return (
        pl.concat(edges, how="diagonal")
        .group_by("symbol", "start")
        .agg(pl.col(layer).sum() for layer in layers)
        .sort("symbol", "start")
        .with_columns(
            pl.col("start").shift(-1).over("symbol").alias("end"),
            *(pl.col(layer).cum_sum().over("symbol") for layer in layers),
        )
        .drop_nulls("end")
        .select("symbol", "start", "end", *layers)
    )


def _united(spans: "pl.DataFrame") -> "pl.DataFrame":
    """The time that any of a symbol's spans covers, none twice."""
    import polars as pl

    covered = _segments({"covered": spans}).filter(pl.col("covered") > 0)
    return covered.select("symbol", "start", "end")


def _joined(spans: "pl.DataFrame", *alike: str) -> "pl.DataFrame":
    """Spans that do not overlap, neighbours of a symbol as one where the columns `alike` agree."""
    import polars as pl

    ordered = spans.sort("symbol", "start")
    begins = pl.any_horizontal(
        pl.col("symbol") != pl.col("symbol").shift(),
        pl.col("start") != pl.col("end").shift(),
        *(pl.col(name) != pl.col(name).shift() for name in alike),
    ).fill_null(True)
    return (
        ordered.with_columns(run=begins.cum_sum())
        .group_by("run", maintain_order=True)
        .agg(pl.col("symbol", "start", *alike).first(), pl.col("end").last())
        .select("symbol", "start", "end", *alike)
    )
