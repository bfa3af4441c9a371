"""Limit orders of the paper venue, and properties of its matching over random orders and candles."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.order_types import Fill, Order
from pipeline_assets.trading.paper_book import MINUTE, PaperBook
from pipeline_assets.trading.paper_matching import Matching
from pipeline_assets.trading.paper_records import PaperAccepted
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE, FORMULAS, PaperBench, bar, order
from pipeline_assets_tests.trading.test_paper_venue import FLAT, TARGET, _long, _run

pytestmark = pytest.mark.xdist_group("compiled")

_PRICES = st.integers(90, 110)


@st.composite
def _bars(draw: st.DrawFn) -> Bar:
    prices = sorted(draw(st.lists(_PRICES, min_size=4, max_size=4)))
    first, last = draw(st.permutations(prices[1:3]))
    return bar(first, prices[3], prices[0], last)


@st.composite
def _orders(draw: st.DrawFn) -> Order:
    kind = draw(st.sampled_from(["market", "limit", "limit", "stop"]))
    return order(
        f"order-{draw(st.uuids())}", draw(st.sampled_from(["buy", "sell"])), kind,
        quantity=draw(st.integers(1, 3)) * UNIT,
        price=0 if kind == "market" else draw(_PRICES) * UNIT,
        reduce_only=kind == "stop" or draw(st.booleans()),
        leverage=draw(st.sampled_from([0, 20])),
    )  # fmt: skip


_MINUTES = st.lists(st.tuples(st.lists(_orders(), max_size=4), _bars()), min_size=2, max_size=6)


@given(_MINUTES)
def test_fills_respect_limits_and_positions(minutes: list[tuple[list[Order], Bar]]) -> None:
    """No limit order is filled worse than its limit or outside its candle; no position has two exits in one
    range; what only reduces never opens.
    """
    book, position, filled = PaperBook(), 0, 0
    for place, (sent, candle) in enumerate(minutes):
        minute = FIRST_MINUTE + place
        matching, bars = Matching(book, FORMULAS, (minute + 1) * MINUTE), {"BTCUSDT": candle}
        list(matching.open(minute, bars))
        position += sum(fill.signed for _, fill in book.fills[filled:])
        filled = len(book.fills)
        list(matching.range(minute, bars))
        book.matched = minute
        reduced = False
        for _, fill in book.fills[filled:]:
            if position * fill.signed < 0:
                assert not reduced, book.fills
            _check(book, fill, candle, position)
            before, position = position, position + fill.signed
            same = before * position > 0
            reduced = same and (reduced or abs(position) < abs(before))
        filled = len(book.fills)
        assert position == book.positions.get("BTCUSDT", 0)
        for each in sent:
            at = (minute + 1) * MINUTE - 1
            book.apply(PaperAccepted(at=at, order=each, venue_id=each.client_id, after=minute))


def _check(book: PaperBook, fill: Fill, candle: Bar, position: int) -> None:
    held = book.orders.get(fill.client_id)
    if held is None:
        assert fill.quantity == abs(position)
        return
    if held.order.reduce_only:
        assert position * fill.signed < 0
        assert fill.quantity <= abs(position)
    if held.order.kind == "limit":
        side = 1 if fill.side == "buy" else -1
        assert side * fill.price <= side * held.order.price
        assert candle.low * UNIT <= fill.price <= candle.high * UNIT


@pytest.mark.parametrize(
    ("side", "price", "candle", "filled"),
    [
        ("buy", 49_000, (50_000, 50_000, 49_010, 49_500), None),
        ("buy", 49_000, (50_000, 50_000, 49_000, 49_500), 4_900_000),
        ("buy", 49_000, (48_000, 50_000, 47_000, 49_500), 4_800_000),
        ("buy", 51_000, (50_000, 50_000, 50_000, 50_000), 5_000_000),
        ("sell", 51_000, (50_000, 50_990, 50_000, 50_000), None),
        ("sell", 51_000, (50_000, 51_000, 50_000, 50_000), 5_100_000),
        ("sell", 51_000, (52_000, 52_000, 50_000, 50_000), 5_200_000),
    ],
)
def test_limit_order_opens_at_its_price(
    tmp_path: Path, side: str, price: int, candle: tuple[float, ...], filled: int | None
) -> None:
    """Without a position, at the limit or at a better open, with the maker fee."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        await bench.send(order("entry", side, "limit", price=price * UNIT))
        await bench.candle(1, FLAT)
        await bench.candle(2, {"BTCUSDT": bar(*candle)})
        fee = 2 * (filled or 0) * 1_000_000 // 10_000
        assert bench.fills == ([("entry", 2, filled, fee)] if filled else [])

    _run(test)


def test_limit_entry_leaves_target_alone(tmp_path: Path) -> None:
    """An order that adds to a position is no exit of it, and is matched by its own price."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        await bench.send(TARGET)
        await bench.send(order("more", kind="limit", price=49_500 * UNIT))
        await bench.venue.settle()
        await bench.candle(3, {"BTCUSDT": bar(50_000, 51_000, 49_900, 50_900)})
        assert [each[:3] for each in bench.fills[1:]] == [("target", 3, 5_050_000)]
        assert list(bench.venue.book.open) == ["more"]

    _run(test)


def test_limit_entry_meets_no_past_candle(tmp_path: Path) -> None:
    """A sender who has seen a candle cannot be filled in it."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        await bench.candle(1, {"BTCUSDT": bar(50_000, 50_000, 45_000, 50_000)}, settled=False)
        await bench.send(order("entry", kind="limit", price=46_000 * UNIT))
        await bench.venue.settle()
        await bench.candle(2, {"BTCUSDT": bar(50_000, 50_000, 45_000, 50_000)})
        assert not bench.fills

    _run(test)


@pytest.mark.parametrize("stop", [None, 48_000])
def test_limit_entry_meets_rest_of_candle(tmp_path: Path, stop: int | None) -> None:
    """A fall through the limit goes on to the stop or to the liquidation; a target waits."""

    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await bench.candle(0, FLAT)
        await bench.send(order("entry", kind="limit", price=49_000 * UNIT, leverage=20))
        await bench.send(order("target", "sell", "limit", price=49_400 * UNIT, reduce_only=True))
        if stop:
            await bench.send(order("stop", "sell", "stop", price=stop * UNIT, reduce_only=True))
        await bench.candle(1, FLAT)
        await bench.candle(2, {"BTCUSDT": bar(50_000, 50_000, 45_000, 49_500)})
        ended = "stop" if stop else "autoclose-2"
        assert [each[:2] for each in bench.fills] == [("entry", 2), (ended, 2)]

    _run(test)


def test_limit_order_turns_a_position(tmp_path: Path) -> None:
    async def test() -> None:
        bench = PaperBench(tmp_path / "paper")
        await _long(bench)
        turning = order("turn", "sell", "limit", price=50_200 * UNIT, quantity=3 * UNIT)
        await bench.send(turning)
        await bench.send(TARGET)
        await bench.venue.settle()
        await bench.candle(3, FLAT)
        for number in (4, 5):
            await bench.candle(number, {"BTCUSDT": bar(50_000, 50_600, 50_000, 50_000)})
        assert [each[0] for each in bench.fills] == ["entry", "turn"]
        assert bench.venue.book.positions == {"BTCUSDT": -2 * UNIT}

    _run(test)
