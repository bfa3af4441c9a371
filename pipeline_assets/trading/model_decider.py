"""The decider of the inference service: candidates in, one fixed decision for each out. It knows neither
Kafka nor models nor features; services/inference/ has these, and runs it.

Every call may be repeated after a crash, in any order and by any number of processes: the decision that was
fixed first is returned by all of them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.trading import decisions as reasons
from pipeline_assets.trading.decider import strategy_name
from pipeline_assets.trading.decision_store import DecisionStore
from pipeline_assets.trading.decisions import (
    Decision,
    DecisionReason,
    MinuteDecisions,
    decision_id,
)
from pipeline_assets.trading.paper_book import MINUTE

AUTHOR = "inference/model"
# The minutes whose documents are remembered: repeats of a message come soon or after a restart.
_REMEMBERED = 120
# The clocks of two machines differ, in milliseconds.
_CLOCK_DIFFERENCE = 5_000


@dataclass(frozen=True)
class JudgedCandidate:
    """A judge's answer about one candidate.

    Attributes:
        refusal: why the candidate cannot be judged, one of INFERENCE_REASONS; empty if it was judged.
        model: the id of the model that judged; empty if there was none.
        probability: of a winning trade.
        expected_value: of a trade after costs, as a part of its value.
        reasons: the strongest first.
    """

    refusal: str = ""
    model: str = ""
    probability: float = 0.0
    expected_value: float = 0.0
    reasons: tuple[DecisionReason, ...] = ()


class Judge(Protocol):
    """Says what candidates are worth."""

    def judge(self, candidates: Sequence[Candidate]) -> Mapping[str, JudgedCandidate]:
        """Return an answer for each candidate, by its id."""


@dataclass
class ModelDecider:
    """Decides about candidates by a judge.

    Attributes:
        judge: says what candidates are worth.
        store: where decisions are fixed.
        strategies: names with versions, as position rules know them; others are declined.
        minimum_value: a candidate is accepted if its expected value exceeds this.
        clock: the exchange's time in milliseconds.
    """

    judge: Judge
    store: DecisionStore
    strategies: Collection[str]
    minimum_value: float
    clock: Callable[[], int]
    _closed: dict[int, MinuteDecisions] = field(init=False, default_factory=dict)
    _closing: ThreadPoolExecutor = field(init=False, default_factory=lambda: ThreadPoolExecutor(1))

    def decide(self, candidates: Iterable[Candidate]) -> list[Decision]:
        """Return the decision that stands for each candidate, fixed now or before; a repeat counts once.

        Raises:
            ObjectStoreError: S3 failed; repeat the call.
            TraderStateError: a document of decisions cannot be read.
        """
        unique = {each.id: each for each in candidates}
        # The judge works while S3 answers.
        closing = self._closing.submit(self._standing, list(unique.values()))
        judged = self._judged(list(unique.values()))
        standing = closing.result()
        fresh = [each for each in judged if each.candidate.id not in standing]
        for decision in self.store.fix_each(fresh):
            standing[decision.candidate.id] = decision
        return [standing[each] for each in unique]

    def _standing(self, candidates: Sequence[Candidate]) -> dict[str, Decision]:
        """Close the candidates' minutes; return the decisions that stand in their documents, by candidate."""
        held = {each.id: self._close(to_minute(each.open_time)) for each in candidates}
        found = {id_: minute.of(id_) for id_, minute in held.items()}
        return {id_: decision for id_, decision in found.items() if decision is not None}

    def _close(self, minute: int) -> MinuteDecisions:
        """Return the minute's document, an empty one if there was none.

        From then on no other program can decide about the minute as a whole.
        """
        if minute not in self._closed:
            if len(self._closed) >= _REMEMBERED:
                self._closed.pop(min(self._closed))
            self._closed[minute] = self.store.fix(minute, MinuteDecisions(decisions=()))
        return self._closed[minute]

    def _judged(self, candidates: Sequence[Candidate]) -> list[Decision]:
        now = self.clock()
        refused = {each.id: self._refusal(each, now) for each in candidates}
        judgeable = [each for each in candidates if not refused[each.id]]
        judged = dict(self.judge.judge(judgeable)) if judgeable else {}
        judged |= {id_: JudgedCandidate(reason) for id_, reason in refused.items() if reason}
        return [self._decision(each, judged[each.id], now) for each in candidates]

    def _refusal(self, candidate: Candidate, now: int) -> str:
        """Return why a candidate needs no judge; empty if it needs one."""
        if candidate.interval is not Interval.ONE_MINUTE:
            return reasons.OTHER_INTERVAL
        if strategy_name(candidate) not in self.strategies:
            return reasons.UNKNOWN_STRATEGY
        close = (to_minute(candidate.open_time) + 1) * MINUTE
        if now + _CLOCK_DIFFERENCE < close:
            # Judged by the features of now, it would be accepted before its candle exists.
            return reasons.NOT_CLOSED
        # The trader can send no order for it any more.
        return reasons.STALE if now >= close + MINUTE else ""

    def _decision(self, candidate: Candidate, judgement: JudgedCandidate, now: int) -> Decision:
        reason = judgement.refusal
        judged = not reason
        if judged and not judgement.expected_value > self.minimum_value:
            reason = reasons.LOW_VALUE
        return Decision(
            id=decision_id(candidate.id),
            candidate=candidate,
            verdict="decline" if reason else "accept",
            reason=reason,
            author=AUTHOR,
            decided_at=from_milliseconds(now),
            model=judgement.model or None,
            probability=judgement.probability if judged else None,
            expected_value=judgement.expected_value if judged else None,
            reasons=judgement.reasons if judged else None,
        )
