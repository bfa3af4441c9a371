"""The candles and marks of the report's price charts: minutes made coarser until a browser shows them at
ease. Tables and figures are in report_view.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.market.candles import KEY_COLUMNS, PRICE_COLUMNS
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_request import month_windows
from pipeline_assets.research.backtest_types import BacktestResult, CandleReader
from pipeline_assets.research.readers import LakeCandles
from pipeline_assets.research.report_text import end_of, start_of
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl

# Candles of one chart, and of all: some 60 bytes each in the page.
_MOST_OF_ONE, _MOST_OF_ALL = 6000, 60_000
_MOST_CHARTS = 30
_MOST_MARKS = 2000
_MINUTES = (1, 3, 5, 15, 30, 60, 120, 240, 360, 720, 1440)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Charts:
    """The charts' candles.

    Attributes:
        candles: by symbol: `open_time`, `open`, `high`, `low`, `close`, in the order of time.
        minutes: how many minutes a candle has.
        left_out: symbols without a chart: the page would be too large.
    """

    candles: "dict[str, pl.DataFrame]"
    minutes: int
    left_out: Sequence[str] = ()


class ChartedCandles(LakeCandles):
    """A reader of the lake that keeps the charts' candles of what a backtest reads: these are read once."""

    def __init__(self, store: ObjectStore, span: Window, *, skip_damaged: bool = False) -> None:
        """Make a reader for a backtest.

        Args:
            store: the bucket.
            span: of the backtest.
            skip_damaged: see `LakeCandles`.
        """
        super().__init__(store, skip_damaged=skip_damaged)
        self._span, self._end = span, span.start
        self._parts: list[pl.DataFrame] = []

    def candles(
        self, symbols: Sequence[str], window: Window, columns: Sequence[str]
    ) -> "pl.DataFrame":
        """See `LakeCandles`."""
        frame = super().candles(symbols, window, columns)
        # The backtest reads its span in order; the warm-up, and times of delistings, are no part of a chart.
        follows = window.start == self._end and set(PRICE_COLUMNS) <= set(columns)
        if follows and len(symbols) <= _MOST_CHARTS:
            self._parts.append(_coarser(frame, _minutes(self._span, len(symbols))))
            self._end = window.end
        return frame

    def kept(self) -> "list[pl.DataFrame] | None":
        """Return the charts' candles, or None if the backtest has not read its whole span of few symbols."""
        return self._parts if self._end == self._span.end else None


def read_charts(result: BacktestResult, candles: CandleReader) -> Charts:
    """Read the candles of the charts, a month at once, unless the reader kept these.

    Symbols with trades come first where there are more symbols than charts.
    """
    import polars as pl

    trades = result.trades["symbol"].to_pylist()
    count = dict.fromkeys(result.request["symbols"], 0)
    for symbol in trades:
        count[symbol] += 1
    ordered = sorted(count, key=lambda symbol: (-count[symbol], symbol))
    chosen = sorted(ordered[:_MOST_CHARTS])
    window = Window(start_of(result), end_of(result))
    minutes = _minutes(window, len(chosen))
    parts = candles.kept() if isinstance(candles, ChartedCandles) else None
    if parts is None:
        columns = (*KEY_COLUMNS, *PRICE_COLUMNS)
        parts = [
            _coarser(candles.candles(chosen, month, columns), minutes)
            for month in month_windows(window)
        ]
    by_symbol = pl.concat(parts).partition_by("symbol", as_dict=True, include_key=False)
    return Charts(
        {str(symbol): frame.sort("open_time") for (symbol,), frame in sorted(by_symbol.items())},
        minutes,
        sorted(ordered[_MOST_CHARTS:]),
    )


def chart_data(result: BacktestResult, charts: Charts) -> dict[str, Any]:
    """Return the charts as JSON-serialisable values, by symbol."""
    marks = _marks(result, charts.minutes)
    found = {}
    for symbol, frame in charts.candles.items():
        own = marks.get(symbol, [])
        shown = own[-_MOST_MARKS:]
        note = f"A candle is {_span(charts.minutes)}."
        if len(shown) < len(own):
            note += f" The newest {len(shown):,} of {len(own):,} fills are marked."
        found[symbol] = {
            "candles": _columns(frame, charts.minutes),
            "decimals": _decimals(frame),
            "marks": shown,
            "note": note,
        }
    return found


def strategy_labels(result: BacktestResult) -> list[str]:
    """Return name and version of each strategy, in the order of the request."""
    return [f"{each['name']} {each['version']}" for each in result.request["strategies"]]


def _minutes(window: Window, symbols: int) -> int:
    most = min(_MOST_OF_ONE, _MOST_OF_ALL // max(symbols, 1))
    length = (window.end - window.start) // _MINUTE
    return next((each for each in _MINUTES if length / each <= most), _MINUTES[-1])


def _coarser(frame: "pl.DataFrame", minutes: int) -> "pl.DataFrame":
    """Return candles of so many minutes. A month begins with one, so that its parts may be made apart."""
    import polars as pl

    bucket = pl.col("open_time").dt.truncate(f"{minutes}m").alias("open_time")
    return frame.group_by("symbol", bucket, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
    )


def _span(minutes: int) -> str:
    if minutes < 60:
        return "one minute" if minutes == 1 else f"{minutes} minutes"
    return "one day" if minutes == 1440 else f"{minutes // 60} h"


def _columns(frame: "pl.DataFrame", minutes: int) -> list[list[float | int | None]]:
    """Return times (seconds) and prices; a gap is one empty place, so that the chart shows a break."""
    columns: list[list[float | int | None]] = [[], [], [], [], []]
    before: int | None = None
    for time, *prices in frame.rows():
        at = int(time.timestamp())
        if before is not None and at - before > minutes * 60:
            columns[0].append(before + minutes * 60)
            for column in columns[1:]:
                column.append(None)
        before = at
        for column, value in zip(columns, (at, *prices), strict=True):
            column.append(value)
    return columns


def _decimals(frame: "pl.DataFrame") -> int:
    """Return the decimals that the prices have, at most ten."""
    texts = [f"{value:.10f}".rstrip("0") for value in frame["close"].tail(500)]
    return max((len(text.partition(".")[2]) for text in texts), default=2)


def _marks(result: BacktestResult, minutes: int) -> dict[str, list[list[Any]]]:
    """Return, by symbol, the fills as [time, kind, text, place of the strategy] in the order of time."""

    def at(time: datetime) -> int:
        seconds = int(time.timestamp())
        return seconds - seconds % (minutes * 60)

    found: dict[str, list[list[Any]]] = {}
    names = strategy_labels(result)
    chosen = ("symbol", "side", "entry_time", "exit_time", "exit_reason", "strategy", "version")
    for row in result.trades.select(list(chosen)).to_pylist():
        own = found.setdefault(row["symbol"], [])
        side, place = row["side"], names.index(f"{row['strategy']} {row['version']}")
        # The number tells strategies apart without colours.
        number = str(place + 1) if len(names) > 1 else ""
        own.append([at(row["entry_time"]), side, ("L" if side == "long" else "S") + number, place])
        if row["exit_time"] is not None:
            # Most exits follow a signal: a word at each would hide the candles.
            reason = row["exit_reason"].replace("_", " ").removeprefix("signal")
            words = f"{number} {reason}".strip()
            own.append([at(row["exit_time"]), f"exit {side}", words, place])
    return {symbol: sorted(own, key=lambda mark: mark[0]) for symbol, own in found.items()}
