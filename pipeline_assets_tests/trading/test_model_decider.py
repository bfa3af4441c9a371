"""The decider of the inference service over a real S3 server: one decision a candidate, whatever happens."""

from datetime import timedelta

import pytest

from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.decider import AUTHOR as PASS_THROUGH
from pipeline_assets.trading.decision_store import DecisionStore, LakeDecisions, read_decisions
from pipeline_assets.trading.decisions import (
    Decision,
    MinuteDecisions,
    decided,
    decision_id,
)
from pipeline_assets.trading.model_decider import AUTHOR, ModelDecider
from pipeline_assets_tests.fixtures.judge import WHY, FakeJudge, decider
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.trading.paper_world import Deaths, KilledError, MemoryStore

IN_TIME = to_milliseconds(MIDNIGHT + timedelta(seconds=75))
# The candidates of two minutes are closed, and the first is not stale yet.
BOTH_CLOSED = to_milliseconds(MIDNIGHT + timedelta(seconds=119))


def _decider(
    store: DecisionStore, judge: FakeJudge | None = None, now: int = IN_TIME
) -> ModelDecider:
    return decider(store, judge or FakeJudge(), now)


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def test_duplicates_get_one_decision(store: ObjectStore) -> None:
    """Repeats in one call, in a later call, in another order and in another process change nothing."""
    found = candidates(minutes=2, symbols=3)
    judge = FakeJudge()
    first = _decider(LakeDecisions(store), judge, BOTH_CLOSED)
    made = first.decide([*found, *found])
    assert [each.candidate for each in made] == found
    assert first.decide(found[::-1]) == made[::-1]
    other = _decider(LakeDecisions(store), FakeJudge(value=-1), now=BOTH_CLOSED + 30_000)
    assert other.decide(found[3:]) == made[3:]
    assert len(judge.asked) == 2 * len(found)
    assert sorted(read_decisions(store, MIDNIGHT.date()), key=lambda each: each.id) == sorted(
        made, key=lambda each: each.id
    )


def test_acceptance_carries_the_judgement(store: ObjectStore) -> None:
    (made,) = _decider(LakeDecisions(store)).decide(candidates())
    assert (made.verdict, made.reason, made.author) == ("accept", "", AUTHOR)
    assert (made.model, made.probability, made.expected_value) == ("m-1", 0.6, 0.01)
    assert made.reasons == WHY
    assert made.id == decision_id(made.candidate.id)


@pytest.mark.parametrize(("value", "reason"), [(0.005, "low_value"), (0.0051, "")])
def test_value_must_exceed_the_minimum(value: float, reason: str) -> None:
    (made,) = _decider(MemoryStore(Deaths()), FakeJudge(value=value)).decide(candidates())
    assert made.reason == reason
    assert made.expected_value == value


def test_refusals_become_reasons() -> None:
    """A refused candidate has the model's name at most; others beside it are decided as ever."""
    judge = FakeJudge(refusals={"COIN0USDT": "features_old"})
    first, second = _decider(MemoryStore(Deaths()), judge).decide(candidates(symbols=2))
    assert (first.verdict, first.reason, first.probability) == ("decline", "features_old", None)
    assert second.verdict == "accept"


@pytest.mark.parametrize(
    ("change", "now", "reason"),
    [
        ({}, IN_TIME + 45_000, "stale"),
        ({}, IN_TIME - 20_001, "not_closed"),
        ({}, IN_TIME - 600_000, "not_closed"),
        ({"version": "2"}, IN_TIME, "unknown_strategy"),
        ({"interval": Interval.ONE_HOUR}, IN_TIME, "other_interval"),
    ],
)
def test_unfit_candidates_need_no_judge(change: dict[str, object], now: int, reason: str) -> None:
    judge = FakeJudge()
    (held,) = candidates()
    (made,) = _decider(MemoryStore(Deaths()), judge, now).decide([held.model_copy(update=change)])
    assert (made.verdict, made.reason, judge.asked) == ("decline", reason, [])


def test_clocks_may_differ_by_seconds() -> None:
    """A candidate is judged from five seconds before its close on: two clocks are never the same."""
    (made,) = _decider(MemoryStore(Deaths()), now=IN_TIME - 20_000).decide(candidates())
    assert made.verdict == "accept"


def test_decision_of_the_trader_stands(store: ObjectStore) -> None:
    """A minute that the trader decided about is left to it, for the candidates that it knew."""
    known, late = candidates(symbols=2)
    lake = LakeDecisions(store)
    minute = to_minute(MIDNIGHT)
    standing = decided([known], "position_held", PASS_THROUGH, MIDNIGHT + timedelta(seconds=85))
    lake.fix(minute, MinuteDecisions(decisions=tuple(standing)))
    found = _decider(lake).decide([known, late])
    assert found[0] == standing[0]
    assert (found[1].author, found[1].verdict) == (AUTHOR, "accept")
    assert lake.decisions_of([late, known]) == [found[1], found[0]]


def test_undecided_candidates_are_not_found(store: ObjectStore) -> None:
    first, second = candidates(symbols=2)
    lake = LakeDecisions(store)
    assert lake.decisions_of([first]) == []
    (made,) = _decider(lake).decide([first])
    assert lake.decisions_of([second, first]) == [made]


def test_kill_at_each_write_keeps_one_decision() -> None:
    """Before and after every write; the repeat comes later and would decide otherwise."""
    found = candidates(minutes=2, symbols=3)
    whole = MemoryStore(Deaths())
    _decider(whole, now=BOTH_CLOSED).decide(found)
    writes = whole.deaths.count
    assert writes == 2 + len(found)
    for at in range(1, writes + 1):
        for after in (False, True):
            store = MemoryStore(Deaths(at, after=after))
            with pytest.raises(KilledError):
                _decider(store, now=BOTH_CLOSED).decide(found)
            before = dict(store.fixed)
            store.deaths = Deaths()
            again = _decider(store, FakeJudge(value=-1), BOTH_CLOSED).decide([*found, found[0]])
            assert [each.candidate.id for each in again] == [each.id for each in found]
            assert before.items() <= store.fixed.items()
            assert _decider(store, now=BOTH_CLOSED).decide(found) == again
            made: list[Decision] = [d for each in found for d in store.decisions_of([each])]
            assert made == again
