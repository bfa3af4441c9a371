"""The trader under the inference service: it decides nothing, uses decisions in time, and survives kills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.step_tables import from_minute, to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.decisions import Decision, MinuteDecisions, decided
from pipeline_assets.trading.gateway import GatewayStoppedError
from pipeline_assets.trading.model_decider import AUTHOR
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.trader_store import LakeTraderStore
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE
from pipeline_assets_tests.trading.paper_world import Deaths, KilledError, World
from pipeline_assets_tests.trading.test_trader import (
    CALM,
    DAY_OF_ALL,
    FALLEN,
    RISEN,
    SYMBOLS,
    _candidate,
    _run,
    _started,
)

pytestmark = pytest.mark.xdist_group("compiled")

AWAITED_MS = 45_000
BARS = dict.fromkeys(SYMBOLS, CALM)


async def _awaiting() -> World:
    return await _started(World(DAY_OF_ALL, awaited_ms=AWAITED_MS))


def _decide(world: World, candidate: Candidate, reason: str = "") -> Decision:
    """Fix a decision as the inference service does."""
    minute = to_minute(candidate.open_time)
    found = decided([candidate], reason, AUTHOR, candidate.open_time + timedelta(seconds=75))
    for key, held in (("", ()), (candidate.id, tuple(found))):
        body = MinuteDecisions(decisions=held).model_dump_json()
        world.store.fixed.setdefault((minute, key), body)
    return found[0]


def _intents(world: World) -> list[tuple[str, str, str]]:
    return sorted(
        (intent.decision_id, intent.outcome, intent.reason)
        for each in world.store.intents.values()
        for intent in each.intents
    )


def _in_world(test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        world = await _awaiting()
        await test(world)
        await world.stop()

    _run(run)


def test_accepted_decision_becomes_an_order() -> None:
    """The order follows from the other program's decision; the trader fixes and publishes none."""

    async def test(world: World) -> None:
        accepted = _decide(world, _candidate("BTCUSDT", "long", FIRST_MINUTE))
        declined = _decide(world, _candidate("ETHUSDT", "long", FIRST_MINUTE), "low_value")
        world.signal(accepted.candidate, declined.candidate)
        before = dict(world.store.fixed)
        await world.minute(FIRST_MINUTE, BARS)
        assert [each.decision_id for each in world.sent] == [accepted.id]
        assert _intents(world) == [(accepted.id, "sent", "")]
        assert world.store.fixed == before
        assert not world.published

    _in_world(test)


def test_position_rules_skip_accepted_decisions() -> None:
    """The reason of the rules stands in the intent, since the decision stands as accepted."""

    async def test(world: World) -> None:
        found = [
            _decide(world, _candidate("BTCUSDT", "long", FIRST_MINUTE + number))
            for number in range(3)
        ]
        world.signal(*(each.candidate for each in found))
        for number in range(3):
            await world.minute(FIRST_MINUTE + number, BARS)
        skipped = [(each.id, "skipped", "same_side") for each in found[1:]]
        assert _intents(world) == sorted([(found[0].id, "sent", ""), *skipped])

    _in_world(test)


def test_candidate_without_candle_is_skipped() -> None:
    async def test(world: World) -> None:
        made = _decide(world, _candidate("BTCUSDT", "long", FIRST_MINUTE))
        world.signal(made.candidate)
        await world.minute(FIRST_MINUTE, {"ETHUSDT": CALM})
        assert _intents(world) == [(made.id, "skipped", "no_candle")]

    _in_world(test)


def test_trader_waits_within_the_minute() -> None:
    """It waits for a missing decision until its time, and for nothing once all are there."""

    async def test(world: World) -> None:
        known, open_one = (_candidate(each, "long", FIRST_MINUTE) for each in SYMBOLS)
        world.signal(known, open_one)
        _decide(world, known)
        world.clock.minute = FIRST_MINUTE
        assert world.trader.awaits(FIRST_MINUTE)
        now = (FIRST_MINUTE + 1) * MINUTE + AWAITED_MS
        world.trader.clock = lambda: now
        assert not world.trader.awaits(FIRST_MINUTE)
        world.trader.clock = lambda: now - 1
        assert world.trader.awaits(FIRST_MINUTE)
        _decide(world, open_one)
        assert not world.trader.awaits(FIRST_MINUTE)

    _in_world(test)


def test_late_acceptance_is_skipped_as_stale() -> None:
    """A decision that comes after its minute was traded sends nothing, and still has its intent."""

    async def test(world: World) -> None:
        candidate = _candidate("BTCUSDT", "long", FIRST_MINUTE)
        world.signal(candidate)
        await world.minute(FIRST_MINUTE, BARS)
        made = _decide(world, candidate)
        assert world.trader.offsets == {0: 0}
        await world.minute(FIRST_MINUTE + 1, BARS)
        assert _intents(world) == [(made.id, "skipped", "stale")]
        assert world.trader.offsets == {0: 1}
        assert not world.sent

    _in_world(test)


def test_decision_after_a_restart_is_not_used() -> None:
    """The minute's used decisions were fixed before the kill; a decision that came later is stale."""

    async def test(world: World) -> None:
        first, second = (_candidate(each, "long", FIRST_MINUTE) for each in SYMBOLS)
        made = _decide(world, first)
        world.signal(first, second)
        # Killed after the first order, before the intents are written.
        world.deaths = world.store.deaths = Deaths(2, after=True)
        world.start_trader()
        with pytest.raises(KilledError):
            await world.minute(FIRST_MINUTE, BARS)
        late = _decide(world, second)
        world.deaths = world.store.deaths = Deaths()
        world.start_trader()
        await world.minute(FIRST_MINUTE, BARS)
        assert [each.decision_id for each in world.sent] == [made.id]
        assert _intents(world) == sorted([(made.id, "sent", ""), (late.id, "skipped", "stale")])

    _in_world(test)


def test_candidates_without_decision_are_given_up() -> None:
    """A service that is down for long does not make the trader read more and more documents.

    A decision that is accepted even later has its intent already, and no later minute can use it.
    """

    async def test(world: World) -> None:
        candidate = _candidate("BTCUSDT", "long", FIRST_MINUTE)
        world.signal(candidate)
        for number in range(6):
            await world.minute(FIRST_MINUTE + number, BARS)
        assert world.trader.offsets == {0: 0}
        await world.minute(FIRST_MINUTE + 6, BARS)
        assert world.trader.offsets == {0: 1}
        assert any("pipeline-assets inference" in each for each in world.warnings)
        made = _decide(world, candidate)
        await world.minute(FIRST_MINUTE + 7, BARS)
        assert _intents(world) == [(made.id, "skipped", "stale")]
        assert world.store.used_by_minute[FIRST_MINUTE].decisions == ()

    _in_world(test)


@pytest.mark.parametrize("awaited_ms", [None, AWAITED_MS])
def test_far_future_candidates_are_left_out(awaited_ms: int | None) -> None:
    """A message of next year does not hold the place in the topic back until then."""

    async def test() -> None:
        world = await _started(World(DAY_OF_ALL, awaited_ms=awaited_ms))
        near, far = (_candidate("BTCUSDT", "long", FIRST_MINUTE + each) for each in (3, 60))
        world.signal(far, near)
        await world.minute(FIRST_MINUTE, BARS)
        assert world.trader.offsets == {0: 1}
        assert any("1 candidate" in each for each in world.warnings)
        await world.stop()

    _run(test)


async def _short_day(world: World) -> int:
    """Live through an entry, a trailed stop, declined, late and skipped decisions; return the deaths."""
    held = {
        0: [_decide(world, _candidate("BTCUSDT", "long", FIRST_MINUTE))],
        1: [_decide(world, _candidate("ETHUSDT", "long", FIRST_MINUTE + 1), "low_value")],
        2: [_decide(world, _candidate("BTCUSDT", "long", FIRST_MINUTE + 2))],
        4: [_decide(world, _candidate("ETHUSDT", "short", FIRST_MINUTE))],
    }
    deaths = 0
    for number, bar in enumerate([CALM, CALM, CALM, RISEN, RISEN, FALLEN, CALM]):
        world.signal(*(each.candidate for each in held.get(number, [])))
        while True:
            try:
                await world.minute(FIRST_MINUTE + number, dict.fromkeys(SYMBOLS, bar))
            except (KilledError, GatewayStoppedError):
                deaths += 1
                world.deaths.at, world.deaths.dead = -1, False
                world.start_trader()
            else:
                break
    return deaths


def test_kill_at_each_write_changes_no_order() -> None:
    """Before and after every write of the trader: the same orders, intents and used decisions."""

    async def test() -> None:
        whole = await _awaiting()
        await _short_day(whole)
        await whole.stop()
        reasons = Counter(reason for _, _, reason in _intents(whole))
        assert reasons == {"": 1, "same_side": 1, "stale": 1}
        assert [each.kind for each in whole.sent][:2] == ["market", "stop"]
        expected = (whole.sent, _intents(whole), whole.store.used_by_minute, [])
        assert whole.deaths.count > 15
        for at, after in product(range(1, whole.deaths.count + 1), (False, True)):
            world = await _awaiting()
            world.deaths = world.store.deaths = Deaths(at, after=after)
            world.start_trader()
            assert await _short_day(world) == 1
            await world.stop()
            found = (world.sent, _intents(world), world.store.used_by_minute, world.published)
            assert found == expected, (at, after)

    _run(test)


def test_used_decisions_are_fixed_once(s3_bucket: S3Bucket) -> None:
    """On a real S3 server: later writers get the first document."""
    store = LakeTraderStore(ObjectStore(s3_bucket.settings()), "paper")
    candidate = _candidate("BTCUSDT", "long", FIRST_MINUTE)
    held = decided([candidate], "", AUTHOR, from_minute(FIRST_MINUTE + 1))
    first = MinuteDecisions(decisions=tuple(held))
    assert store.used(FIRST_MINUTE) is None
    assert store.fix_used(FIRST_MINUTE, first) == first
    assert store.fix_used(FIRST_MINUTE, MinuteDecisions(decisions=())) == first
    assert store.used(FIRST_MINUTE) == first
