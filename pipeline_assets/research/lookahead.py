"""Checks that a strategy reads no candle of the future, and that more warm-up changes no signal. Both compare
the signals of one history with those of parts of it. The command is in cli/lookahead.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pipeline_assets.errors import DataError
from pipeline_assets.market.indicators import IndicatorSet
from pipeline_assets.market.strategies import indicators_of
from pipeline_assets.market.strategy import Strategy

if TYPE_CHECKING:
    import polars as pl

Check = Literal["look-ahead", "warm-up"]


class ShortHistoryError(DataError):
    """Too few candles to judge a strategy. The message says how many there are and how to get more."""


@dataclass(frozen=True)
class Finding:
    """Signals that a part of the history changes.

    Attributes:
        check: `look-ahead`: the history ended earlier; `warm-up`: it began later.
        strategy: name and version.
        symbol: the symbol.
        minute: open time of the first candle whose signal differs.
        whole: its signal on the whole history.
        part: its signal on the part.
        boundary: open time of the part's last candle (look-ahead) or first candle (warm-up).
        signals: how many candles have another signal on some part.
    """

    check: Check
    strategy: str
    symbol: str
    minute: datetime
    whole: str | None
    part: str | None
    boundary: datetime
    signals: int

    def text(self) -> str:
        """Return the finding as a sentence."""
        where = f"{self.strategy} on {self.symbol} at {self.minute:%Y-%m-%d %H:%M} UTC"
        signal = f"the signal is {self.whole or 'none'} on the whole history"
        also = f"; {self.signals:,} candles differ" if self.signals > 1 else ""
        if self.check == "look-ahead":
            return (
                f"{where} looks ahead: {signal} and {self.part or 'none'} on the one that ends with the "
                f"candle of {self.boundary:%Y-%m-%d %H:%M}{also}."
            )
        return (
            f"{where} depends on its warm-up: {signal} and {self.part or 'none'} on the one that begins at "
            f"{self.boundary:%Y-%m-%d %H:%M}{also}."
        )


@dataclass
class LookaheadReport:
    """The result of all comparisons.

    Attributes:
        findings: signals that a part of the history changes.
        failures: by strategy and symbol, the error that a strategy raised.
        truncations: how many shortened histories were compared.
        signals: how many candles had a signal, over all strategies and symbols.
        tied: how many differences rounding explains: a condition was within 1e-9 of its threshold.
    """

    findings: list[Finding] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    truncations: int = 0
    signals: int = 0
    tied: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        return {
            "findings": [
                vars(each)
                | {"minute": each.minute.isoformat(), "boundary": each.boundary.isoformat()}
                for each in self.findings
            ],
            "failures": self.failures,
            "truncations": self.truncations,
            "signals": self.signals,
            "decided_by_rounding": self.tied,
        }


def candles_needed(strategies: Sequence[Strategy], minutes: int, future: int = 0) -> int:
    """Return how many candles a check needs: twice the longest warm-up, the judged ones and those after."""
    return 2 * max((each.warm_up for each in strategies), default=0) + minutes + future


def check_strategies(
    strategies: Sequence[Strategy],
    candles: "Mapping[str, pl.DataFrame]",
    minutes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    future: int = 0,
) -> LookaheadReport:
    """Compare the signals of `minutes` candles on the whole history with those on parts of it.

    A part ends with each of these candles in turn; another part begins one warm-up before them, which
    must be enough. A strategy that raises is reported and does not stop the others.

    Args:
        strategies: the strategies.
        candles: by symbol, a frame of 1m candles in the order of time, without repetition.
        minutes: how many candles to judge.
        progress: is called with how many of how many comparisons are done.
        future: how many candles follow the judged ones. A strategy that reads further ahead is not found.

    Raises:
        ShortHistoryError: a symbol has fewer candles than `candles_needed`.
    """
    report = LookaheadReport()
    _require(strategies, candles, minutes, future)
    total, done = len(strategies) * len(candles) * minutes, 0
    for symbol, history in candles.items():
        for strategy in strategies:
            try:
                _check(strategy, symbol, history, (minutes, future), report)
            # A strategy may raise any error: the others are judged, and the error is reported.
            except Exception as error:  # noqa: BLE001
                name = f"{strategy.name} {strategy.version} on {symbol}"
                report.failures[name] = f"{type(error).__name__}: {error}"
            done += minutes
            progress(done, total)
    return report


def _require(
    strategies: Sequence[Strategy],
    candles: "Mapping[str, pl.DataFrame]",
    minutes: int,
    future: int,
) -> None:
    needed = candles_needed(strategies, minutes, future)
    short = {symbol: len(each) for symbol, each in candles.items() if len(each) < needed}
    if short:
        found = ", ".join(f"{symbol} has {count:,}" for symbol, count in sorted(short.items()))
        raise ShortHistoryError(
            f"{needed:,} candles are needed, twice the warm-up, {minutes:,} minutes to judge and {future:,} "
            f"after them; {found}. "
            "Fetch earlier days by `pipeline-assets backfill --interval 1m`, name other symbols or another "
            "--day, or judge fewer --minutes."
        )


@dataclass(frozen=True)
class _Signals:
    """The signals along a history, and whether rounding may have decided them."""

    side: "pl.Series"
    tie: "pl.Series"

    def last(self, count: int) -> "_Signals":
        return _Signals(self.side.tail(count), self.tie.tail(count))

    def first(self, count: int) -> "_Signals":
        return _Signals(self.side.head(count), self.tie.head(count))


@dataclass(frozen=True)
class _Differing:
    """The candles, by place among the judged ones, with another signal on a part that has this boundary."""

    boundary: datetime
    places: list[int]
    signals: list[str | None]


def _check(
    strategy: Strategy,
    symbol: str,
    history: "pl.DataFrame",
    lengths: tuple[int, int],
    report: LookaheadReport,
) -> None:
    minutes, future = lengths
    history = history.tail(candles_needed([strategy], minutes, future))
    indicators = indicators_of([strategy])
    # Without the longer warm-up: the truncated histories are half as long.
    usual = history.tail(strategy.warm_up + minutes + future)
    whole = _signals(strategy, indicators, usual)
    judged = whole.last(minutes + future).first(minutes)
    report.signals += judged.side.count()
    ahead = []
    for count in range(minutes if future else minutes - 1, 0, -1):
        part = usual.head(len(usual) - future - minutes + count)
        found = _signals(strategy, indicators, part).last(count)
        ahead.append(_compared(judged.first(count), found, part["open_time"][-1], report))
    longer = _signals(strategy, indicators, history).last(minutes + future).first(minutes)
    warm = [_compared(longer, judged, usual["open_time"][0], report)]
    name, times = f"{strategy.name} {strategy.version}", history["open_time"].tail(minutes + future)
    found_of: tuple[tuple[Check, _Signals, list[_Differing]], ...] = (
        ("look-ahead", judged, ahead),
        ("warm-up", longer, warm),
    )
    for check, signals, parts in found_of:
        places = {place for each in parts for place in each.places}
        if not places:
            continue
        first = min(places)
        part_first = next(each for each in reversed(parts) if first in each.places)
        report.findings.append(
            Finding(
                check,
                name,
                symbol,
                times[first],
                signals.side[first],
                part_first.signals[part_first.places.index(first)],
                part_first.boundary,
                len(places),
            )
        )


def _signals(strategy: Strategy, indicators: IndicatorSet, history: "pl.DataFrame") -> _Signals:
    tie = strategy.tie().fill_null(value=False)
    frame = indicators.history(history).select(strategy.side().alias("side"), tie.alias("tie"))
    return _Signals(frame["side"], frame["tie"])


def _compared(
    whole: _Signals, part: _Signals, boundary: datetime, report: LookaheadReport
) -> _Differing:
    """Compare the signals of the same candles; a difference that rounding explains is only counted."""
    report.truncations += 1
    places = whole.side.ne_missing(part.side).arg_true().to_list()
    tied = [place for place in places if whole.tie[place] or part.tie[place]]
    report.tied += len(tied)
    left = [place for place in places if place not in tied]
    return _Differing(boundary, left, [part.side[place] for place in left])
