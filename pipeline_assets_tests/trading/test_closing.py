"""Closes that meet refusals and ids in use."""

from itertools import pairwise

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading import messages
from pipeline_assets.trading.messages import Close
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.work import Work
from pipeline_assets_tests.trading.test_core import Desk, alarms, fill_of, sends

_HELD = {"BTCUSDT": UNIT // 10}


def _closing() -> Desk:
    desk = Desk()
    desk.filled()
    desk.tell(Close("BTCUSDT", "c-1", "stop"))
    return desk


def _second(desk: Desk) -> list[Order]:
    """Let a second pass, and read the position."""
    desk.now += 1_000
    return sends(desk.tell(messages.PositionsRead(desk.now, _HELD)))


def _refuse(desk: Desk, order: Order) -> Work:
    return desk.tell(messages.Refused(order.client_id, "-1021"))


def test_close_passes_over_used_id() -> None:
    """A caller may have given an order of its own the id that the close would use."""
    desk, used = Desk(), [child_id("c-1", "close", number) for number in (0, 1, 3)]
    desk.filled()
    for each in used:
        desk.place(client_id=each)
    desk.tell(Close("BTCUSDT", "c-1", "stop"))
    sent = []
    for _ in range(2):
        (order,) = _second(desk)
        sent.append(order.client_id)
        _refuse(desk, order)
    assert sent == [child_id("c-1", "close", number) for number in (2, 4)]


def test_refused_close_waits_longer() -> None:
    """1, 2, 4, … 60 seconds after each refusal."""
    desk, sent_at = _closing(), list[int]()
    for second in range(300):
        for order in _second(desk):
            sent_at.append(second)
            _refuse(desk, order)
    waits = [later - sent for sent, later in pairwise(sent_at)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_refused_close_alerts() -> None:
    """A first refusal can be a position that was closed meanwhile; from the third on a person is alerted."""
    desk, reported = _closing(), list[list[str]]()
    while len(reported) < 4:
        for order in _second(desk):
            reported.append(alarms(_refuse(desk, order)))
    assert reported[:2] == [[], []]
    assert reported[2] == reported[3]
    assert reported[2] == [
        "The venue refuses to close BTCUSDT (close c-1): -1021. "
        "The close goes on, with waits of up to a minute."
    ]


def test_accepted_close_begins_waits_anew() -> None:
    desk = _closing()
    for _ in range(5):
        for order in _second(desk):
            _refuse(desk, order)
    desk.now += 60_000
    (order,) = _second(desk)
    desk.tell(messages.Accepted(order.client_id, "v-7"))
    desk.tell(messages.OrderSeen(order.client_id, "v-7", Status.EXPIRED, 0))
    (order,) = _second(desk)
    _refuse(desk, order)
    assert _second(desk)


def test_waits_survive_restart() -> None:
    desk = _closing()
    refusals = 0
    while refusals < 7:
        for order in _second(desk):
            _refuse(desk, order)
            refusals += 1
    desk.restart()
    assert not any(_second(desk) for _ in range(59))
    assert _second(desk)


def test_symbol_without_rules_is_closed() -> None:
    """The lake has no rules of the symbol, and the venue's filters are not read: nothing limits the order."""
    desk = _closing()
    desk.rules.clear()
    (order,) = _second(desk)
    assert order.quantity == _HELD["BTCUSDT"]


def test_large_position_is_closed_in_parts() -> None:
    """The venue's largest market order is smaller than the lake says: each reading closes one part."""
    desk = _closing()
    (order,) = _second(desk)
    assert order.quantity == UNIT // 10
    work = desk.tell(
        messages.Refused(order.client_id, "-4005: Quantity greater than max quantity.")
    )
    assert messages.AskFilters() in work.effects
    desk.tell(messages.FiltersRead({"BTCUSDT": UNIT // 25, "ETHUSDT": UNIT}))
    held, parts, ids = UNIT // 10, list[int](), {order.client_id}
    while held:
        desk.now += 1_000
        (order,) = sends(desk.tell(messages.PositionsRead(desk.now, {"BTCUSDT": held})))
        fill = fill_of(order, 2 + len(parts), 100, desk.now)
        desk.tell(messages.Accepted(order.client_id, fill.venue_id))
        desk.tell(messages.FillSeen(fill))
        held -= order.quantity
        parts.append(order.quantity)
        ids.add(order.client_id)
    assert parts == [UNIT // 25, UNIT // 25, UNIT // 50]
    assert len(ids) == 4
    desk.now += 1_000
    assert not desk.tell(messages.PositionsRead(desk.now, {})).state.closes


def test_other_refusals_of_closes_read_no_filters() -> None:
    desk = _closing()
    (order,) = _second(desk)
    assert messages.AskFilters() not in _refuse(desk, order).effects
