"""The gateway's shell over a real journal file: what is durable when, and how the gateway stops."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.resources.journal import JournalError, SqliteJournal
from pipeline_assets.trading import messages
from pipeline_assets.trading.gateway import GatewayStoppedError
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_types import Mode, Status
from pipeline_assets.trading.records import (
    GATEWAY_RECORDS,
    FillBooked,
    ModeSet,
    OrderChanged,
    OrderSending,
)
from pipeline_assets_tests.trading.gateway_bench import GatewayBench
from pipeline_assets_tests.trading.scripted_venue import ScriptedVenue
from pipeline_assets_tests.trading.test_core import ORDER
from pipeline_assets_tests.trading.virtual_world import BEGIN


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_acknowledged_order_is_in_the_file(tmp_path: Path) -> None:
    """Another connection reads the record at the moment of the acknowledgement."""

    async def test() -> None:
        venue = ScriptedVenue()
        bench = GatewayBench(tmp_path / "journal", venue)
        reply = await bench.gateway.ask(messages.Place(ORDER))
        assert reply.refusal is None
        reader = SqliteJournal(tmp_path / "journal")
        kinds = [type(GATEWAY_RECORDS.decode(seq, body)) for seq, body in reader.read()]
        reader.close()
        assert OrderSending in kinds
        again = await bench.gateway.ask(messages.Place(ORDER))
        assert again.refusal is None
        await bench.stop()
        assert venue.posts == {"a-1": 1}

    _run(test)


def test_restart_sends_nothing_again(tmp_path: Path) -> None:
    """A gateway that ends between journal and answer asks for its order, and adopts what the venue has."""

    async def test() -> None:
        venue = ScriptedVenue()
        venue.answer = lambda effect: [venue.fill(effect), messages.Unanswered("", "torn")][1]
        first = GatewayBench(tmp_path / "journal", venue)
        await first.gateway.ask(messages.Place(ORDER))
        await venue.sent.wait()
        await first.stop()
        second = GatewayBench(tmp_path / "journal", venue)
        async for _, record in second.gateway.follow(0):
            if isinstance(record, FillBooked):
                break
        await second.stop()
        assert second.core.state.orders["a-1"].status in (Status.OPEN, Status.FILLED)
        assert second.core.state.ledger.positions == {"BTCUSDT": ORDER.quantity}
        assert venue.posts == {"a-1": 1}

    _run(test)


def test_lost_lease_sends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        venue = ScriptedVenue()
        bench = GatewayBench(tmp_path / "journal", venue)
        bench.lease.held = False
        with pytest.raises(GatewayStoppedError, match="lease"):
            await bench.gateway.ask(messages.Place(ORDER))
        with pytest.raises(GatewayStoppedError, match="another gateway"):
            await bench.task
        assert not venue.posts
        with pytest.raises(GatewayStoppedError):
            await bench.gateway.ask(messages.Place(ORDER))

    _run(test)


def test_ended_part_stops_the_gateway(tmp_path: Path) -> None:
    """A gateway whose venue lost a part in the background does not go on as if nothing had happened."""

    async def test() -> None:
        bench = GatewayBench(tmp_path / "journal", ScriptedVenue())
        await bench.gateway.ask(messages.Place(ORDER))
        bench.gateway.hear(messages.PartEnded("KeyError: 'filters'"))
        with pytest.raises(GatewayStoppedError, match="KeyError: 'filters'"):
            await bench.task

    _run(test)


def test_frozen_process_keeps_protected_position(tmp_path: Path) -> None:
    """On waking, the answer that confirms the stop lies behind another event: neither closes the position."""
    clock, monotonic = [BEGIN], [0.0]

    async def test() -> None:
        venue = ScriptedVenue()
        bench = GatewayBench(
            tmp_path / "journal", venue, clock=lambda: clock[0], monotonic=lambda: monotonic[0]
        )
        confirmed = asyncio.Event()

        async def send(effect: messages.Send) -> messages.Event:
            if not effect.order.conditional:
                return venue.fill(effect)
            await confirmed.wait()
            return messages.Accepted(effect.order.client_id, "s-1")

        venue.send = send  # type: ignore[method-assign]
        entry = msgspec.structs.replace(ORDER, stop_part=UNIT // 50)
        bench.gateway.hear(messages.OpenOrdersRead(BEGIN))
        await bench.gateway.ask(messages.Place(entry))
        stop_id = child_id(entry.client_id, "stop", 0)
        await _recorded(bench, OrderSending, stop_id)
        clock[0], monotonic[0] = BEGIN + 60_000, 60.0
        bench.gateway.hear(messages.PriceSeen("BTCUSDT", 100 * UNIT, clock[0]))
        confirmed.set()
        await _recorded(bench, OrderChanged, stop_id)
        await bench.stop()
        assert not bench.core.state.closes_seen
        assert bench.core.state.orders[stop_id].status is Status.OPEN

    _run(test)


async def _recorded(bench: GatewayBench, kind: type, client_id: str) -> None:
    """Wait until the journal has a record of a kind about an order."""
    async for _, record in bench.gateway.follow(0):
        if isinstance(record, kind) and client_id in (
            getattr(record, "client_id", ""),
            getattr(getattr(record, "order", None), "client_id", ""),
        ):
            return


def _fill_disk(journal: SqliteJournal) -> None:
    """Fill the file up to SQLite's own limit of pages, which stands for the disk's end."""
    journal._connection.execute("PRAGMA max_page_count = 1")
    for size in (1_000, 100, 1):
        with suppress(JournalError):
            while True:
                journal.append([b"x" * size])


def _lock(journal: SqliteJournal) -> None:
    """Hold the file as another process does; its connection lives as long as the journal."""
    journal.other = sqlite3.connect(journal.name, isolation_level=None)  # type: ignore[attr-defined]
    journal.other.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("harm", "said"), [(_fill_disk, "disk is full"), (_lock, "is locked")])
def test_refusing_journal_acknowledges_nothing(
    tmp_path: Path,
    harm: Callable[[SqliteJournal], None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is full, or another process holds the file."""
    monkeypatch.setattr("pipeline_assets.resources.journal._BUSY_SECONDS", 0.01)

    async def test() -> None:
        venue, journal = ScriptedVenue(), SqliteJournal(tmp_path / "journal")
        bench = GatewayBench(tmp_path / "journal", venue, journal)
        await bench.gateway.ask(messages.SetMode(Mode.ACTIVE, "test", "me"))
        harm(journal)
        with pytest.raises(GatewayStoppedError, match=said):
            await bench.gateway.ask(messages.Place(ORDER))
        with pytest.raises(JournalError):
            await bench.task
        assert not venue.posts

    _run(test)


def test_broken_promise_halts_next_start(tmp_path: Path) -> None:
    """The next start reads a journal without the broken step, and opens nothing."""

    async def test() -> None:
        venue = ScriptedVenue()
        bench = GatewayBench(tmp_path / "journal", venue)
        await bench.gateway.ask(messages.SetMode(Mode.ACTIVE, "test", "me"))
        bench.core.state.ledger.positions["BTCUSDT"] = UNIT
        await bench.gateway.ask(messages.Place(ORDER))
        with pytest.raises(InvariantError, match="sum of its fills"):
            await bench.task
        assert bench.alarms
        second = GatewayBench(tmp_path / "journal", venue)
        reply = await second.gateway.ask(
            messages.Place(msgspec.structs.replace(ORDER, client_id="a-2"))
        )
        assert reply.refusal
        assert reply.refusal.code == "mode"
        await second.stop()

    _run(test)


def test_follow_resumes_without_loss(tmp_path: Path) -> None:
    """A follower that comes back with its last number gets every later record once."""

    async def test() -> None:
        bench = GatewayBench(tmp_path / "journal", ScriptedVenue())
        seen: list[int] = []
        while len(seen) < 30:
            after = seen[-1] if seen else 0
            order = msgspec.structs.replace(ORDER, client_id=f"a-{after}", quantity=UNIT // 10)
            await bench.gateway.ask(messages.Place(order))
            async for seq, _ in bench.gateway.follow(after):
                seen.append(seq)
                if len(seen) % 3 == 0:
                    break
        await bench.stop()
        assert seen == list(range(1, len(seen) + 1))

    _run(test)


def test_slow_follower_misses_no_record(tmp_path: Path) -> None:
    """A record that is written while a follower handles the one before does not wait for a third."""

    async def test() -> None:
        bench = GatewayBench(tmp_path / "journal", ScriptedVenue())
        await bench.gateway.ask(messages.SetMode(Mode.REDUCING, "test", "me"))
        modes: list[Mode] = []
        async for _, record in bench.gateway.follow(0):
            if isinstance(record, ModeSet):
                modes.append(record.mode)
                if len(modes) == 2:
                    break
                await bench.gateway.ask(messages.SetMode(Mode.HALTED, "test", "me"))
        await bench.stop()
        assert modes == [Mode.REDUCING, Mode.HALTED]

    _run(test)


def test_caller_that_left_places_nothing(tmp_path: Path) -> None:
    """A caller that gives up before its order is decided about has no order; the id remains free."""

    async def test() -> None:
        venue = ScriptedVenue()
        bench = GatewayBench(tmp_path / "journal", venue)
        caller = asyncio.create_task(bench.gateway.ask(messages.Place(ORDER)))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await bench.gateway.ask(messages.SetMode(Mode.ACTIVE, "test", "me"))
        assert not bench.core.state.orders
        assert (await bench.gateway.ask(messages.Place(ORDER))).refusal is None
        await bench.stop()

    _run(test)


def test_settled_state_is_journalled(tmp_path: Path) -> None:
    """While records are on their way to the disk, no reader of the settled state sees what they say."""
    written, writing = threading.Event(), threading.Event()

    class SlowJournal(SqliteJournal):
        def append(self, bodies: Sequence[bytes]) -> int:
            if any(b"order_sending" in body for body in bodies):
                writing.set()
                assert written.wait(60)
            return super().append(bodies)

    async def test() -> None:
        bench = GatewayBench(
            tmp_path / "journal", ScriptedVenue(), SlowJournal(tmp_path / "journal")
        )
        asked = asyncio.create_task(bench.gateway.ask(messages.Place(ORDER)))

        async def seen() -> tuple[set[str], int]:
            async with bench.gateway.settled() as state:
                return set(state.orders), bench.journal.last

        await asyncio.to_thread(writing.wait, 60)
        reader = asyncio.create_task(seen())
        await asyncio.sleep(0)
        assert "a-1" in bench.core.state.orders
        assert not reader.done()
        written.set()
        orders, last = await reader
        assert orders == {"a-1"}
        assert last >= 1
        await asked
        await bench.stop()

    _run(test)
