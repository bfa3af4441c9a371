"""Incidents of the venue `demo` with a position open: one gateway over real sockets, in stepped time. Short
faults of single requests are in test_binance_venue.py, seeded mixtures in test_fault_histories.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.trading_rules import units
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Mode, Status
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.binance_bench import new_order, settings_at
from pipeline_assets_tests.trading.fault_history import FaultHistory
from pipeline_assets_tests.trading.fault_promises import positions_of
from pipeline_assets_tests.trading.fault_world import FaultWorld
from pipeline_assets_tests.trading.killed_gateway import ENTRY, LATE

Scene = Callable[[FaultWorld, FaultHistory], Awaitable[None]]


@pytest.fixture
def play(
    stepped_exchange: ExchangeHandle, own_redis_server: RedisServer, tmp_path: Path
) -> Callable[[Scene], None]:
    """Play a scene that begins with a position and its stop; everything must be right in the end."""

    async def run(scene: Scene) -> None:
        settings = settings_at(stepped_exchange, own_redis_server.url)
        async with FaultWorld(stepped_exchange, settings, tmp_path, 1) as world:
            await world.begin_anew()
            history = FaultHistory(world)
            world.start()
            history.decide(ENTRY)
            for _ in range(3):
                await history.step()
            assert stops_of(await world.truth()) == [("BTCUSDT", "NEW")]
            await scene(world, history)
            assert not (await history.finish()).broken

    own_redis_server.client().flushall()
    return lambda scene: asyncio.run(run(scene))


def stops_of(truth) -> list[tuple[str, str]]:
    """Return symbol and status of the exchange's conditional orders."""
    return [(each["symbol"], each["algoStatus"]) for each in truth["algo_orders"]]


async def refusal(world: FaultWorld, client_id: str) -> str:
    """Return why an entry is refused."""
    reply = await world.ask(messages.Place(new_order(client_id)))
    assert reply
    return reply.refusal.code if reply.refusal else ""


@pytest.mark.parametrize(("down", "minutes"), [("reset", 10), ("http_503", 60)])
def test_outage_keeps_stop_and_refuses_entries(play, down: str, minutes: int) -> None:
    """The network is cut for ten minutes; the exchange is down for an hour."""

    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        await world.control("faults", {"down": down})
        for _ in range(minutes):
            await history.step(60_000)
        assert await refusal(world, "while-down") in ("venue_silent", "venue_maintenance")
        assert stops_of(await world.truth()) == [("BTCUSDT", "NEW")]
        await world.control("faults", {})
        for _ in range(3):
            await history.step(10_000)
        assert world.state.mode is Mode.ACTIVE
        history.decide(LATE)
        for _ in range(4):
            await history.step()
        assert positions_of(await world.truth()) == {"BTCUSDT": units("0.03")}

    play(scene)


def test_cut_replies_do_not_end_upkeep(play) -> None:
    """The clock is measured again after a time of cut replies; a step of the clock is noticed then."""

    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        await world.control("faults", {"cut_json": 1})
        for _ in range(40):
            await history.step()
        await world.control("faults", {})
        await world.control("clock", {"advance_ms": 10_000})
        for _ in range(5):
            await history.step(10_000)
        history.decide(LATE)
        for _ in range(4):
            await history.step()
        assert positions_of(await world.truth()) == {"BTCUSDT": units("0.03")}

    play(scene)


def test_delisting_settles_position(play) -> None:
    """The exchange settles the position; the ledger follows, and entries of the symbol are halted."""

    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        at = from_milliseconds(world.now + 1_000).strftime("%Y-%m-%dT%H:%M:%SZ")
        await world.control("trading/contract", {"symbol": "BTCUSDT", "delivery": at})
        await world.step(2_000)
        for _ in range(10):
            await world.step(10_000)
        assert not world.state.ledger.positions
        assert await refusal(world, "after-the-end") == "symbol_halted"

    play(scene)


def test_revoked_key_halts_and_recovers(play) -> None:
    """One alert, no order is sent twice, and a close works once a person has given the rights back."""

    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        heard = len(world.alarms)
        await world.control("trading/account", {"revoked": True})
        for _ in range(40):
            await history.step(2_000)
        (alarm,) = world.alarms[heard:]
        assert "does not accept the key" in alarm
        assert world.state.mode is Mode.HALTED
        assert stops_of(await world.truth()) == [("BTCUSDT", "NEW")]
        await world.control("trading/account", {"revoked": False})
        await world.ask(messages.SetMode(Mode.ACTIVE, "rights are back", "person"))
        await history.close()
        for _ in range(10):
            await history.step()
        assert not positions_of(await world.truth())

    play(scene)


def test_changed_tick_keeps_position(play) -> None:
    """The exchange refuses the stop of a new entry; the next one is rounded to the new grid and rests."""

    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        await world.control("trading/contract", {"symbol": "BTCUSDT", "tick_size": "5.0"})
        history.decide(LATE)
        for _ in range(4):
            await history.step()
        refused = [each for each in world.state.orders.values() if each.status is Status.REJECTED]
        assert [(each.order.parent, each.reason[:5]) for each in refused] == [("entry-2", "-4014")]
        assert stops_of(await world.truth()) == 2 * [("BTCUSDT", "NEW")]
        assert positions_of(await world.truth()) == {"BTCUSDT": units("0.03")}
        assert not world.state.closes

    play(scene)


def test_missing_margin_refuses_once(play) -> None:
    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        await world.ask(messages.Place(new_order("too-large", quantity=units("3"))))
        for _ in range(3):
            await history.step()
        held = world.state.orders["too-large"]
        assert (held.status, held.reason[:5]) == (Status.REJECTED, "-2019")
        assert (await world.truth())["posts"]["too-large"] == 1

    play(scene)


@pytest.mark.parametrize("lost", [False, True])
def test_liquidation_is_booked_and_halts(play, lost: bool) -> None:
    """One alert, whether the stream reports it or a reading finds it."""

    async def scene(world: FaultWorld, history: FaultHistory) -> None:
        heard = len(world.alarms)
        await world.control("faults", {"trading": {"event_lost": 1 if lost else 0}})
        await world.control("trading/close", {"symbol": "BTCUSDT", "by": "liquidation"})
        for _ in range(20):
            await world.step(10_000)
        assert not world.state.ledger.positions
        assert len(world.alarms) == heard + 1
        assert await refusal(world, "after-liquidation") == "symbol_halted"
        await world.control("faults", {})

    play(scene)
