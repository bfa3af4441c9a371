"""The trader follows the decisions of the inference service, and makes none itself. It reads these from the
lake, applies the position rules to the accepted ones, and first of all fixes which it uses.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.trading.decider import PassThroughDecider, strategy_name
from pipeline_assets.trading.decisions import (
    STALE,
    Decision,
    Intent,
    MinuteDecisions,
    MinuteIntents,
    decision_id,
)
from pipeline_assets.trading.minute_outcome import Bars, MinuteOutcome
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.trader_store import TraderStore
from pipeline_assets.wording import counted

# An accepted decision is fixed within two minutes of its candle's open; the rest is for a slow store.
_REMEMBERED_MINUTES = 5


@dataclass
class AwaitedDecisions:
    """Follows the decisions of another program.

    Attributes:
        decider: its position rules apply; it decides nothing here.
        store: where decisions stand, and where the used ones are fixed.
        clock: the exchange's time in milliseconds.
        warn: takes what a person should know.
    """

    decider: PassThroughDecider
    store: TraderStore
    clock: Callable[[], int]
    warn: Callable[[str], object]
    _known: dict[str, Decision] = field(init=False, default_factory=dict)

    def is_complete(self, candidates: Sequence[Candidate]) -> bool:
        """Return whether each candidate has a decision."""
        return len(self._find(candidates)) == len(candidates)

    def settle(self, minute: int, late: Sequence[Candidate]) -> frozenset[str]:
        """Skip the candidates of minutes that are over, and forget those that stay without a decision.

        A forgotten candidate is skipped, too: should a decision still accept it, its intent stands.
        """
        found = self._find(late)
        decided = {each.candidate.id for each in found}
        forgotten = [
            each
            for each in late
            if each.id not in decided and to_minute(each.open_time) + _REMEMBERED_MINUTES < minute
        ]
        accepted = [each.candidate for each in found if each.verdict == "accept"]
        self._skip_late([*accepted, *forgotten])
        given_up = [each.id for each in forgotten]
        if given_up:
            self.warn(
                f"Without a decision after {_REMEMBERED_MINUTES} minutes: "
                f"{counted(len(given_up), 'candidate')}, skipped as stale. "
                "Check that `pipeline-assets inference` runs."
            )
        self._forget([*decided, *given_up])
        return frozenset((*decided, *given_up))

    def decide(self, minute: int, bars: Bars, due: Sequence[Candidate]) -> MinuteOutcome:
        """Fix which decisions are used, and apply the position rules to these.

        After a crash the fixed ones are used again: a decision that came meanwhile is stale.
        """
        found = self._find(due)
        accepted = [each for each in found if each.verdict == "accept"]
        used = self._used(minute, accepted, any_due=bool(due))
        used_ids = {each.id for each in used}
        self._skip_late([each.candidate for each in accepted if each.id not in used_ids])
        refusals = {each.id: self.decider.refusal(each.candidate, bars) for each in used}
        judged = [each.candidate for each in used if not refusals[each.id]]
        outcomes = self.decider.advance(minute, bars, judged)
        for each in used:
            key = strategy_name(each.candidate), each.symbol
            refusals[each.id] = refusals[each.id] or outcomes.get(key, "")
        decided = [each.candidate.id for each in found]
        self._forget(decided)
        return MinuteOutcome(
            accepted=[each for each in used if not refusals[each.id]],
            settled=frozenset(decided),
            skipped=[
                _skipped(each.candidate, refusals[each.id]) for each in used if refusals[each.id]
            ],
        )

    def _used(
        self, minute: int, accepted: Sequence[Decision], *, any_due: bool
    ) -> tuple[Decision, ...]:
        """Return the decisions that a minute uses: those fixed before a crash, or the accepted ones."""
        if not any_due:
            standing = self.store.used(minute)
            return () if standing is None else standing.decisions
        stale = self.clock() >= (minute + 2) * MINUTE
        usable = () if stale else sorted(accepted, key=lambda each: each.candidate.id)
        return self.store.fix_used(minute, MinuteDecisions(decisions=tuple(usable))).decisions

    def _find(self, candidates: Sequence[Candidate]) -> list[Decision]:
        """Return the decisions of candidates that have one."""
        unknown = [each for each in candidates if each.id not in self._known]
        if unknown:
            found = self.store.decisions_of(unknown)
            self._known |= {each.candidate.id: each for each in found}
        return [self._known[each.id] for each in candidates if each.id in self._known]

    def _skip_late(self, candidates: Sequence[Candidate]) -> None:
        """Note that no order follows from candidates any more, unless these were used before a crash."""
        used: dict[int, MinuteDecisions] = {}
        for each in candidates:
            minute = to_minute(each.open_time)
            if minute not in used:
                used[minute] = self.store.fix_used(minute, MinuteDecisions(decisions=()))
            if used[minute].of(each.id) is None:
                skipped = MinuteIntents(intents=(_skipped(each, STALE),))
                self.store.note_intents(minute, skipped, each.id)

    def _forget(self, candidate_ids: Iterable[str]) -> None:
        for each in candidate_ids:
            self._known.pop(each, None)


def _skipped(candidate: Candidate, reason: str) -> Intent:
    return Intent(
        decision_id=decision_id(candidate.id), action="open", outcome="skipped", reason=reason
    )
