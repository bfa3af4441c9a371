"""The trader decides by itself: the pass-through decider's decisions are fixed by the minute, and published.
Decisions of the inference service are in awaited_decisions.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.step_tables import from_minute, to_minute
from pipeline_assets.trading import decisions as reasons
from pipeline_assets.trading.decider import AUTHOR, PassThroughDecider, strategy_name
from pipeline_assets.trading.decision_store import DecisionStore
from pipeline_assets.trading.decisions import Decision, MinuteDecisions, decided
from pipeline_assets.trading.minute_outcome import Bars, MinuteOutcome
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.trader_store import SecondTraderError


@dataclass
class OwnDecisions:
    """Decides by the position rules alone.

    Attributes:
        decider: judges candidates; its keeper has the positions by the rules.
        store: where decisions are fixed.
        publish: sends decisions to the topic; returns once these are acknowledged.
        clock: the exchange's time in milliseconds.
        warn: takes what a person should know.
    """

    decider: PassThroughDecider
    store: DecisionStore
    publish: Callable[[Sequence[Decision]], object]
    clock: Callable[[], int]
    warn: Callable[[str], object]

    def is_complete(self, candidates: Sequence[Candidate]) -> bool:
        """Return True: this process decides at once."""
        del candidates
        return True

    def settle(self, minute: int, late: Sequence[Candidate]) -> frozenset[str]:
        """Decline the candidates of minutes that are over, unless these are decided about."""
        del minute
        for each in late:
            of = to_minute(each.open_time)
            # An empty document closes the minute: no trader can fix decisions of all its candidates any more.
            standing = self.store.fix(of, MinuteDecisions(decisions=()))
            if standing.of(each.id) is None:
                now = from_milliseconds(self.clock())
                (declined,) = decided([each], reasons.STALE, AUTHOR, now)
                only = self.store.fix(of, MinuteDecisions(decisions=(declined,)), each.id)
                self.publish(only.decisions)
        return frozenset(each.id for each in late)

    def decide(self, minute: int, bars: Bars, due: Sequence[Candidate]) -> MinuteOutcome:
        """Decide about the candidates of a minute, unless that was done before a crash.

        Raises:
            SecondTraderError: another trader decided about this minute meanwhile.
        """
        fixed = self._decided(minute, bars, due)
        known = {each.candidate.id for each in fixed}
        # After a crash a candidate may have come that the fixed decisions do not know.
        self.settle(minute, [each for each in due if each.id not in known])
        return MinuteOutcome(
            accepted=[each for each in fixed if each.verdict == "accept"],
            settled=frozenset(each.id for each in due),
            unpublished=fixed,
        )

    def _decided(
        self,
        minute: int,
        bars: Bars,
        candidates: Iterable[Candidate],
    ) -> tuple[Decision, ...]:
        """Return the decisions of a minute: those fixed before a crash, or new ones, fixed now."""
        standing = self.store.decisions(minute)
        if standing is not None:
            self._follow(minute, bars, standing)
            return standing.decisions
        now = from_milliseconds(self.clock())
        stale = self.clock() >= (minute + 2) * MINUTE
        found = self.decider.decide(minute, bars, candidates, now, stale=stale)
        if not found:
            return ()
        fixed = self.store.fix(minute, MinuteDecisions(decisions=tuple(found)))
        if fixed.decisions != tuple(found):
            raise SecondTraderError(
                f"Another trader, or the inference service, decided about the minute {from_minute(minute)}: "
                "stop one of the two."
            )
        return fixed.decisions

    def _follow(
        self,
        minute: int,
        bars: Bars,
        standing: MinuteDecisions,
    ) -> None:
        """Move the positions on by decisions that stand; a difference is said, since these stay."""
        judged = [
            each
            for each in standing.decisions
            if each.reason != reasons.STALE and not self.decider.refusal(each.candidate, bars)
        ]
        outcomes = self.decider.advance(minute, bars, [each.candidate for each in judged])
        for each in judged:
            outcome = outcomes.get((strategy_name(each.candidate), each.symbol), "")
            if outcome != each.reason:
                self.warn(
                    f"Decision {each.id} stands as {each.verdict} {each.reason}; by the candles of now "
                    f"the rules say {outcome or 'accepted'!r}."
                )
