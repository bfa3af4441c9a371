"""Closes that meet refusals and ids in use."""

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading import messages
from pipeline_assets.trading.messages import Close
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_types import Order
from pipeline_assets.trading.work import Work
from pipeline_assets_tests.trading.test_core import Desk, sends

_HELD = {"BTCUSDT": UNIT // 10}


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
