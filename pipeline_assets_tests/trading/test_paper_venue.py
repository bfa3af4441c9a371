"""The paper venue: prices and times of fills, orders that only reduce, repeats, funding, and restarts."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.resources.journal import JournalError
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Status
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE, PaperBench, bar, order

pytestmark = pytest.mark.xdist_group("compiled")

FLAT = {"BTCUSDT": bar(50_000, 50_000, 50_000, 50_000)}
STOP = order("stop", "sell", "stop", price=49_500 * UNIT, reduce_only=True)
TARGET = order("target", "sell", "limit", price=50_500 * UNIT, reduce_only=True)


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def _long(bench: PaperBench) -> None:
    """Open a position of one bitcoin at 50,010, in the second minute."""
    await bench.candle(0, FLAT)
    await bench.send(order("entry"))
    await bench.candle(1, FLAT)
    await bench.candle(2, FLAT, settled=False)


def test_market_order_fills_next_open(tmp_path: Path) -> None:
    """Accepted within the minute of candle 1: filled at the open of candle 2, slipped, with the taker fee."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        assert bench.fills == [("entry", 2, 5_001_000, 50_010 * UNIT // 2_000)]

    _run(test)


@pytest.mark.parametrize(
    ("candle", "filled"),
    [
        ((50_000, 50_400, 49_600, 50_000), None),
        ((50_000, 50_400, 49_500, 50_000), ("stop", 3, 4_949_010)),
        ((50_000, 50_500, 49_600, 50_000), ("target", 3, 5_050_000)),
        ((50_000, 50_500, 49_500, 50_000), ("stop", 3, 4_949_010)),
        ((49_000, 49_600, 49_000, 49_600), ("stop", 3, 4_899_020)),
        ((51_000, 51_000, 49_000, 49_000), ("target", 3, 5_100_000)),
    ],
)
def test_range_fills_stop_before_target(
    tmp_path: Path, candle: tuple[float, ...], filled: tuple[str, int, int] | None
) -> None:
    """By the candle's range, or at its open where that lies beyond; the other order stays unfilled."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        await bench.send(STOP)
        await bench.send(TARGET)
        await bench.venue.settle()
        await bench.candle(3, {"BTCUSDT": bar(*candle)})
        await bench.candle(4, {"BTCUSDT": bar(50_000, 60_000, 40_000, 50_000)})
        exits = [each[:3] for each in bench.fills[1:] if each[1] == 3]
        assert exits == ([filled] if filled else [])
        assert len(bench.fills) == 2
        assert not bench.venue.book.positions

    _run(test)


def test_stop_covers_the_entry_candle(tmp_path: Path) -> None:
    """A stop that follows the fill at the open is matched with the range of the same candle."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        await bench.send(order("entry"))
        await bench.candle(1, FLAT)
        falling = {"BTCUSDT": bar(50_000, 50_000, 49_000, 49_000)}
        await bench.candle(2, falling, settled=False)
        await bench.send(STOP)
        await bench.venue.settle()
        assert [each[:2] for each in bench.fills] == [("entry", 2), ("stop", 2)]

    _run(test)


@pytest.mark.parametrize(
    ("side", "candle", "price", "fee", "restarted"),
    [
        ("buy", (50_000, 50_000, 48_728, 49_000), None, 0, False),
        ("buy", (50_000, 50_000, 48_727, 49_000), 4_872_770, 60_909_625_000, False),
        ("buy", (48_000, 48_000, 48_000, 48_000), 4_800_000, 49_050_000_000, True),
        ("buy", (40_000, 40_000, 40_000, 40_000), 4_750_950, 0, False),
        ("sell", (50_000, 51_300, 50_000, 50_000), 5_120_920, 64_011_500_000, True),
        ("sell", (60_000, 60_000, 60_000, 60_000), 5_248_950, 0, False),
    ],
)
def test_liquidation_costs_the_margin_at_most(
    tmp_path: Path,
    side: str,
    candle: tuple[float, ...],
    price: int | None,
    fee: int,
    restarted: bool,
) -> None:
    """Leverage 20, a maintenance margin of 2.5 %, and entries at 50,010 and 49,990."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        await bench.send(order("entry", side, leverage=20))
        await bench.candle(1, FLAT)
        await bench.candle(2, FLAT)
        if restarted:
            bench = await bench.again()
        heard: list[messages.Event] = []
        await bench.venue.start(heard.append)
        await bench.candle(3, {"BTCUSDT": bar(*candle)})
        found = bench.fills[1:]
        assert found == ([] if price is None else [("autoclose-2", 3, price, fee)])
        assert [type(each) for each in heard] == [messages.FillSeen] * len(found)
        assert bool(bench.venue.book.positions) == (price is None)
        assert bench.venue.book.stakes.keys() == bench.venue.book.positions.keys()

    _run(test)


def test_margin_follows_the_position(tmp_path: Path) -> None:
    """An addition brings its own leverage; a part that is closed takes its part of the margin away."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        book, margins = bench.venue.book, []
        changes = [("buy", 1, 10), ("buy", 1, 0), ("sell", 1, 0), ("sell", 2, 5)]
        await bench.candle(0, FLAT)
        for number, (side, size, leverage) in enumerate(changes):
            await bench.send(order(str(number), side, quantity=size * UNIT, leverage=leverage))
            await bench.candle(2 * number + 1, FLAT)
            await bench.candle(2 * number + 2, FLAT)
            margins.append((book.positions["BTCUSDT"] // UNIT, book.stakes["BTCUSDT"].margin))
        assert [(held, margin / UNIT) for held, margin in margins] == [
            (1, 5_001),
            (2, 5_001 + 50_010),
            (1, (5_001 + 50_010) / 2),
            (-1, 9_998),
        ]

    _run(test)


def test_gap_ends_entry_not_exit(tmp_path: Path) -> None:
    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        await bench.send(order("more"))
        await bench.send(order("exit", "sell", reduce_only=True))
        await bench.candle(3, {})
        await bench.candle(4, {})
        await bench.candle(5, FLAT)
        assert bench.venue.book.orders["more"].status is Status.EXPIRED
        assert [each[:2] for each in bench.fills] == [("entry", 2), ("exit", 5)]

    _run(test)


def test_reduce_only_never_opens(tmp_path: Path) -> None:
    """Neither without a position nor with a larger quantity than the position."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        await bench.send(order("exit", "sell", quantity=3 * UNIT, reduce_only=True))
        await bench.send(order("again", "sell", reduce_only=True))
        await bench.candle(3, FLAT)
        await bench.candle(4, FLAT)
        book = bench.venue.book
        assert not book.positions
        assert (book.orders["exit"].executed, book.orders["exit"].status) == (UNIT, Status.EXPIRED)
        assert book.orders["again"].status is Status.EXPIRED

    _run(test)


def test_known_client_id_fills_once(tmp_path: Path) -> None:
    """The exchange's answer -4116 is no refusal: the first order may stand. Also after a restart."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        await bench.send(order("entry"))
        answers = [await bench.send(order("entry"))]
        bench = await bench.again()
        answers.append(await bench.send(order("entry")))
        await bench.candle(1, FLAT)
        await bench.candle(2, FLAT)
        answers.append(await bench.send(order("entry")))
        await bench.candle(3, FLAT)
        assert all(isinstance(each, messages.Unanswered) for each in answers)
        assert len(bench.fills) == 1

    _run(test)


def test_late_order_is_refused(tmp_path: Path) -> None:
    """An order whose recvWindow is over, and one of a symbol without rules, certainly do not stand."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        late = messages.Send(order("entry"), bench.clock() - 5_001, 5_000)
        foreign = messages.Send(order("other", symbol="XRPUSDT"), bench.clock(), 5_000)
        answers = [await bench.venue.send(each) for each in (late, foreign)]
        assert all(isinstance(each, messages.Refused) for each in answers)
        assert not bench.venue.book.orders

    _run(test)


def test_funding_is_charged_once(tmp_path: Path) -> None:
    """On the position before the rate's minute, and reported again by the next start."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=FIRST_MINUTE + 3)
        rate = FundingRate(moment, Decimal("0.0001"), Decimal(50_000))
        early = FundingRate(moment - timedelta(minutes=1), Decimal("0.0001"), Decimal(50_000))
        for each in (rate, rate, early, FundingRate(moment + timedelta(hours=8), None)):
            await bench.venue.on_funding({"BTCUSDT": each})
        bench = await bench.again()
        await bench.venue.start(bench.heard.append)
        time = (FIRST_MINUTE + 3) * 60_000
        assert bench.heard == [messages.FundingPaid("BTCUSDT", time, -5 * UNIT)]

    _run(test)


async def _session(bench: PaperBench, killed: int) -> PaperBench:
    """Trade for some minutes; the venue is killed before one step, and its candles come again."""
    minutes = [
        FLAT,
        FLAT,
        FLAT,
        {"BTCUSDT": bar(50_000, 50_500, 49_900, 50_000)},
        FLAT,
        {"BTCUSDT": bar(50_000, 50_000, 49_000, 49_000)},
    ]
    orders = {0: [order("entry")], 2: [STOP, TARGET], 3: [order("second")]}
    again = msgspec.structs.replace(STOP, client_id="stop-2", price=49_600 * UNIT)
    step = 0
    for number, bars in enumerate(minutes):
        for part in range(2):
            if step == killed:
                bench = await bench.again()
                for earlier in range(number):
                    await bench.candle(earlier, minutes[earlier])
            await bench.candle(number, bars, settled=False)
            if part == 0:
                for each in orders.get(number, []) if number != 5 else [again]:
                    await bench.send(each)
            else:
                await bench.venue.settle()
            step += 1
    return bench


def test_restart_at_each_step(tmp_path: Path) -> None:
    """Candles that come again after a restart fill nothing twice and nothing otherwise."""

    async def test() -> None:
        expected = (await _session(PaperBench(tmp_path / "whole"), -1)).fills
        assert [each[:2] for each in expected] == [
            ("entry", 2), ("target", 3), ("second", 5), ("stop-2", 5),
        ]  # fmt: skip
        for killed in range(12):
            bench = await _session(PaperBench(tmp_path / f"paper-{killed}"), killed)
            assert bench.fills == expected, killed

    _run(test)


def test_restart_does_not_match_the_past(tmp_path: Path) -> None:
    """A candle before an entry does not reach the entry's position when it comes again."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        falling = {"BTCUSDT": bar(50_000, 50_000, 49_000, 50_000)}
        await bench.candle(0, FLAT)
        await bench.send(STOP)
        await bench.send(order("entry"))
        await bench.candle(1, falling)
        await bench.candle(2, FLAT, settled=False)
        bench = await bench.again()
        await bench.candle(1, falling)
        await bench.candle(2, FLAT)
        assert [each[:2] for each in bench.fills] == [("entry", 2)]

    _run(test)


def test_full_disk_ends_every_answer(tmp_path: Path) -> None:
    """A venue that could not store an order says nothing from then on; the next start does not have it."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        append = bench.journal.append

        def full(_: Any) -> int:
            raise JournalError("The journal could not be written: database or disk is full.")

        bench.journal.append = full  # type: ignore[method-assign]
        with pytest.raises(JournalError):
            await bench.send(order("entry"))
        bench.journal.append = append  # type: ignore[method-assign]
        with pytest.raises(JournalError):
            await bench.venue.ask_order("entry", "BTCUSDT")
        bench = await bench.again()
        assert isinstance(await bench.venue.ask_order("entry", "BTCUSDT"), messages.OrderMissing)

    _run(test)
