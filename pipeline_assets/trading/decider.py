"""The pass-through decider: accepts every candidate that is fresh and that the position rules let through."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.indicators import Atr
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.position_keeper import Bar, Declined, PositionKeeper, Signal
from pipeline_assets.market.step_tables import from_minute
from pipeline_assets.trading import decisions
from pipeline_assets.trading.decisions import Decision, decided

AUTHOR = "trader/pass-through"


def strategy_name(candidate: Candidate) -> str:
    """Return the name by which position rules know a candidate's strategy."""
    return f"{candidate.strategy} {candidate.version}"


@dataclass
class PassThroughDecider:
    """Decides about the candidates of one minute after the other.

    Attributes:
        keeper: the positions; a minute moves them on.
    """

    keeper: PositionKeeper

    def refusal(self, candidate: Candidate, bars: Mapping[str, Bar]) -> str:
        """Return why a candidate cannot be judged by the position rules; empty if it can."""
        if candidate.interval is not Interval.ONE_MINUTE:
            return decisions.OTHER_INTERVAL
        if strategy_name(candidate) not in self.keeper.strategies:
            return decisions.UNKNOWN_STRATEGY
        if candidate.symbol not in self.keeper.symbols:
            return decisions.UNKNOWN_SYMBOL
        return "" if candidate.symbol in bars else decisions.NO_CANDLE

    def decide(
        self,
        minute: int,
        bars: Mapping[str, Bar],
        candidates: Iterable[Candidate],
        now: datetime,
        *,
        stale: bool,
    ) -> list[Decision]:
        """Move the positions on by a minute, and return one decision for each candidate of that minute.

        Args:
            minute: counted from 1970.
            bars: the minute's candles.
            candidates: of this minute.
            now: goes into the decisions.
            stale: the minute is too old for new orders; all candidates are declined.
        """
        found: list[Decision] = []
        judged: list[Candidate] = []
        for each in sorted(candidates, key=lambda each: each.id):
            reason = decisions.STALE if stale else self.refusal(each, bars)
            if reason:
                found += decided([each], reason, AUTHOR, now)
            else:
                judged.append(each)
        outcomes = self.advance(minute, bars, judged)
        for each in judged:
            reason = outcomes.get((strategy_name(each), each.symbol), "")
            found += decided([each], reason, AUTHOR, now)
        return sorted(found, key=lambda each: each.candidate.id)

    def advance(
        self,
        minute: int,
        bars: Mapping[str, Bar],
        judged: Iterable[Candidate],
    ) -> dict[tuple[str, str], str]:
        """Move the positions on; return why signals were declined, by strategy and symbol."""
        signals = [self._signal(each) for each in judged]
        signalled = {(each.strategy, each.symbol) for each in signals}
        events = self.keeper.advance(from_minute(minute), bars, signals)
        # An entry of an earlier signal that meets a gap is reported alike; its symbol has no signal now.
        return {
            (each.strategy, each.symbol): each.reason
            for each in events
            if isinstance(each, Declined) and (each.strategy, each.symbol) in signalled
        }

    def _signal(self, candidate: Candidate) -> Signal:
        name = strategy_name(candidate)
        period = self.keeper.strategies[name].atr_period
        value = candidate.indicators.get(Atr(period).columns[0]) if period else None
        atr = None if value is None else Decimal(str(value))
        return Signal(name, candidate.symbol, candidate.side, atr)
