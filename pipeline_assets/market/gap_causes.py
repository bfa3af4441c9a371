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
    """The reason why a candle is not stored. The first that holds, in this order, is the candle's cause.

    NOT_LISTED: the candle would open before the listing, after the end of trading, or between two
        listings of the symbol.
    STILL_OPEN: the candle has not closed yet, or it waits for the next upload.
    INVALID: the exchange repeatedly gives the same row for the candle, and the row cannot be a candle.
    REJECTED: a row came for the candle and was rejected.
    EXCHANGE_OUTAGE: the exchange confirmed that it has no such candle; or the candle is missing for
        all symbols, and at least two of them were fetched.
    ARCHIVE_HOLE: the candle is missing from the archive, and the request to the exchange failed.
    NOT_FETCHED: no run has fetched the candle yet; or the candle was missing from a reply, other
        symbols have theirs, and the exchange was not asked again.
    """

    NOT_LISTED = "not_listed"
    STILL_OPEN = "still_open"
    INVALID = "invalid"
    REJECTED = "set_aside"
    EXCHANGE_OUTAGE = "exchange_outage"
    ARCHIVE_HOLE = "archive_hole"
    NOT_FETCHED = "not_fetched"


# These candles do not exist yet, or never will: they are not missing.
NOT_DUE = (Cause.NOT_LISTED, Cause.STILL_OPEN)


@dataclass(frozen=True)
class Evidence:
    """The facts about candles that are not stored, as span frames made by `spans` and `span_frame`.

    Attributes:
        fetched: spans that were requested and answered, from any source.
        confirmed_empty: spans of which the exchange itself said that it has no candle.
        archive_holes: spans missing from the archive while the exchange could not be asked.
        rejected: candles for which only a rejected row came.
        between_listings: spans between the end of a symbol's trading and its next listing.
        invalid: candles for which the same rejected row came repeatedly.
    """

    fetched: "pl.DataFrame"
    confirmed_empty: "pl.DataFrame"
    archive_holes: "pl.DataFrame"
    rejected: "pl.DataFrame"
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
    """Return a span frame of candles: neighbouring candles of a symbol are one span.

    Args:
        open_times: `symbol` and `open_time` Datetime(us, UTC), in any order; repetitions are ignored,
            and a time off the grid means the candle around it.
        interval: the interval of the candles.
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
    """Return the candles of a window that are not stored, as runs with one cause each.

    The work grows with the number of gaps and spans, not with the number of candles.

    Args:
        missing: `symbol`, `start`, `end` as `gaps.gaps` gives them, where every symbol of
            `lifetimes` is expected to have all of the window.
        interval: of the candles.
        window: on the interval's grid.
        lifetimes: when each symbol's trading began and, if it has, ended; UTC. A symbol that was
            listed again has its first beginning and its last end. The mapping must hold all collected
            symbols, since a candle that is missing for all of them is an outage.
        newest: the open time of the newest candle that should be stored; those after it are STILL_OPEN.
        evidence: the known facts. Spans outside the window and other symbols are ignored.

    Returns:
        `symbol` String, `interval` String, `first` and `last` open time Datetime(us, UTC), `count`
        Int64, `cause` String; sorted by symbol and first.
    """
    import polars as pl

    if missing.is_empty():
        return _nothing_missing()
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
            "set_aside": evidence.rejected,
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


def _nothing_missing() -> "pl.DataFrame":
    """Return the frame of a window without a gap: most days have none, and it took 20 ms to find that."""
    import polars as pl

    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        schema={
            "symbol": pl.String(),
            "interval": pl.String(),
            "first": time,
            "last": time,
            "count": pl.Int64(),
            "cause": pl.String(),
        }
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
        .then(pl.lit(Cause.REJECTED))
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
    """Return the spans missing for all symbols of which at least two were fetched: `start`, `end`."""
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
