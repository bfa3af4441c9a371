"""The gateway's core and single events."""

import dataclasses
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest

from pipeline_assets.market.trading_rules import UNIT, TradingRules
from pipeline_assets.settings import RiskSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.messages import Close, Place, PriceSeen, Send, SetMode
from pipeline_assets.trading.order_types import Fill, Mode, Order, Status
from pipeline_assets.trading.records import AnyRecord
from pipeline_assets.trading.work import Timing, Work
from pipeline_assets_tests.trading.virtual_world import BEGIN

_RULES = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(100), Decimal(5))
_DAY = 86_400_000
_TIMING = Timing(recv_window=5_000, settling=60_000)
LIMITS = RiskLimits.from_settings(RiskSettings())
ORDER = Order(
    client_id="a-1", symbol="BTCUSDT", side="buy", kind="market", quantity=UNIT // 10, strategy="s"
)


class Desk:
    """A core with a price of 100, and a clock that the test moves."""

    def __init__(self, begin: int = BEGIN, **limits: int) -> None:
        self.rules = {"BTCUSDT": _RULES}
        self.limits, self.journal = dataclasses.replace(LIMITS, **limits), list[AnyRecord]()
        self.now = begin
        self._start()
        self.price(100)

    def _start(self) -> None:
        self.core = GatewayCore(self.limits, self.rules, _TIMING, self.journal)

    def restarted(self, now: int) -> "Desk":
        """Begin again from the journal at a time, with no price yet."""
        self.now = now
        self._start()
        self.tell(messages.Restarted())
        return self

    def price(self, price: int) -> Work:
        return self.tell(PriceSeen("BTCUSDT", price * UNIT, self.now))

    def tell(self, event: messages.Event, after: int = 0) -> Work:
        self.now += after
        work = self.core.handle(event, self.now)
        self.journal += work.recorded
        return work

    def restart(self) -> Work:
        self._start()
        return self.tell(messages.Restarted())

    def place(self, order: Order = ORDER, **changes: object) -> messages.Refusal | None:
        work = self.tell(Place(msgspec.structs.replace(order, **changes), request=1))
        (reply,) = [each for each in work.effects if isinstance(each, messages.Reply)]
        return reply.refusal

    def filled(self, order: Order = ORDER, trade_id: int = 1, price: int = 100) -> None:
        assert self.place(order) is None
        fill = fill_of(order, trade_id, price, self.now)
        self.tell(messages.Accepted(order.client_id, fill.venue_id))
        self.tell(messages.FillSeen(fill))


def fill_of(order: Order, trade_id: int, price: int, time: int) -> Fill:
    return Fill(
        symbol=order.symbol, trade_id=trade_id, venue_id=f"v-{order.client_id}", client_id="",
        side=order.side, quantity=order.quantity, price=price * UNIT, fee=0, time=time,
    )  # fmt: skip


def sends(work: Work) -> list[Order]:
    return [each.order for each in work.effects if isinstance(each, Send)]


def alarms(work: Work) -> list[str]:
    return [each.message for each in work.effects if isinstance(each, messages.Alarm)]


def test_journals_order_before_sending() -> None:
    desk = Desk()
    work = desk.tell(Place(ORDER, 1))
    assert [type(each).__name__ for each in work.recorded] == ["OrderSending"]
    assert sends(work) == [ORDER]


def test_same_order_is_sent_once() -> None:
    desk = Desk()
    desk.tell(Place(ORDER, 1))
    again = desk.tell(Place(ORDER, 2))
    assert sends(again) == []
    assert again.effects == [messages.Reply(2, "a-1", None)]


def test_same_id_names_difference() -> None:
    desk = Desk()
    desk.place()
    refusal = desk.place(quantity=UNIT // 5)
    assert refusal
    assert refusal.code == "already_exists"
    assert "quantity is 0.1, not 0.2" in refusal.message


def test_unknown_order_needs_all_evidence() -> None:
    """Query, trades and positions, each after the horizon; one alone, or too early, is not enough."""
    desk = Desk()
    desk.place()
    desk.tell(messages.Unanswered("a-1", "-1007"))
    late = desk.now + 65_001
    for asked_at in (desk.now + 1, late):
        for answer in (
            messages.OrderMissing("a-1", asked_at),
            messages.TradesRead("BTCUSDT", BEGIN - 60_000, asked_at, ()),
        ):
            desk.tell(answer)
    assert desk.core.state.orders["a-1"].status is Status.UNKNOWN
    desk.tell(messages.PositionsRead(late, {"BTCUSDT": UNIT}))
    assert desk.core.state.orders["a-1"].status is Status.UNKNOWN
    desk.tell(messages.PositionsRead(late, {}))
    assert desk.core.state.orders["a-1"].status is Status.NOT_PLACED


def test_order_whose_fills_are_lost_is_asked_for_soon() -> None:
    """The stream says that the order is new, before its answer comes, and nothing after that."""
    desk = Desk()
    assert desk.place() is None
    desk.tell(messages.OrderSeen("a-1", "v-1", Status.OPEN, 0))
    desk.tell(messages.Accepted("a-1", "v-1"))
    work = desk.tell(messages.Timer(), after=1_000)
    assert messages.AskOrder("a-1", "BTCUSDT", conditional=False) in work.effects


def test_entry_with_stop_is_asked_for_often() -> None:
    """An entry that the venue shows late is found within five seconds; its trades, which cost more, wait."""
    desk = Desk()
    assert desk.place(msgspec.structs.replace(ORDER, stop_part=UNIT // 50)) is None
    desk.tell(messages.Unanswered("a-1", "-1007"))
    asked, read = list[int](), list[int]()
    for second in range(1, 121):
        effects = desk.tell(messages.Timer(), after=1_000).effects
        asked += [second for each in effects if isinstance(each, messages.AskOrder)]
        read += [second for each in effects if isinstance(each, messages.AskTrades)]
    assert max(after - before for before, after in pairwise(asked)) == 5
    assert asked[-1] > 115
    assert len(read) == 8


def test_unknown_orders_share_questions() -> None:
    """Fifty unknown orders of one symbol need one reading of its trades and one of the positions."""
    desk = Desk()
    for number in range(50):
        desk.place(client_id=f"a-{number}", quantity=UNIT // 20)
        desk.tell(messages.Unanswered(f"a-{number}", "timed out"), after=1)
    asked = desk.tell(messages.Timer(), after=60_000).effects
    assert sum(isinstance(each, messages.AskPositions) for each in asked) == 1
    (trades,) = [each for each in asked if isinstance(each, messages.AskTrades)]
    assert trades.since <= BEGIN
    assert sum(isinstance(each, messages.AskOrder) for each in asked) == 50


def test_late_fill_revives_order() -> None:
    desk = Desk()
    test_order = ORDER
    desk.place(test_order)
    desk.tell(messages.Unanswered("a-1", "timed out"))
    late = desk.now + 65_001
    for answer in (
        messages.OrderMissing("a-1", late),
        messages.TradesRead("BTCUSDT", BEGIN - 60_000, late, ()),
        messages.PositionsRead(late, {}),
    ):
        desk.tell(answer)
    fill = msgspec.structs.replace(fill_of(test_order, 9, 100, late), client_id="a-1")
    work = desk.tell(messages.FillSeen(fill), after=100_000)
    assert desk.core.state.orders["a-1"].status is Status.FILLED
    assert desk.core.state.ledger.positions == {"BTCUSDT": UNIT // 10}
    assert any(isinstance(each, messages.Alarm) for each in work.effects)


def test_unattributed_trade_keeps_doubt() -> None:
    """A trade of an order that the journal does not have may be the unknown order's."""
    desk = Desk()
    desk.place()
    desk.tell(messages.Unanswered("a-1", "timed out"))
    late = desk.now + 65_001
    foreign = msgspec.structs.replace(fill_of(ORDER, 9, 100, desk.now + 5), venue_id="v-other")
    desk.tell(messages.TradesRead("BTCUSDT", BEGIN - 60_000, late, (foreign,)))
    desk.tell(messages.OrderMissing("a-1", late))
    desk.tell(messages.PositionsRead(late, {"BTCUSDT": UNIT // 10}))
    assert desk.core.state.orders["a-1"].status is Status.UNKNOWN


def test_liquidation_is_booked_and_alarmed() -> None:
    """The venue's own order takes the position over; no caller may use an id like its."""
    desk = Desk()
    desk.filled()
    taken = msgspec.structs.replace(
        fill_of(ORDER, 2, 90, desk.now), client_id="autoclose-7", venue_id="v-7", side="sell"
    )
    work = desk.tell(messages.FillSeen(taken))
    assert desk.core.state.ledger.positions == {}
    assert not desk.core.state.foreign
    (alarm,) = alarms(work)
    assert alarm.startswith("The venue liquidated a position: sell 0.1 BTCUSDT.")
    assert desk.place(client_id="a-2").code == "symbol_halted"  # type: ignore[union-attr]
    refusal = desk.place(client_id="autoclose-7")
    assert refusal
    assert refusal.code == "client_id"


def test_expired_order_waits_for_fills() -> None:
    """An expired order that the venue filled in part is not settled before its trade is booked."""
    desk = Desk()
    desk.place()
    work = desk.tell(messages.OrderSeen("a-1", "v-a-1", Status.EXPIRED, UNIT // 20))
    assert any(isinstance(each, messages.AskTrades) for each in work.effects)
    assert desk.core.state.orders["a-1"].unsettled
    part = msgspec.structs.replace(fill_of(ORDER, 3, 100, desk.now), quantity=UNIT // 20)
    desk.tell(messages.TradesRead("BTCUSDT", BEGIN, desk.now, (part,)))
    assert not desk.core.state.orders["a-1"].unsettled
    assert desk.core.state.orders["a-1"].status is Status.EXPIRED


def test_close_follows_position_while_unknown() -> None:
    """An unknown close does not keep the position open: the next reading allows one more order."""
    desk = Desk()
    desk.filled()
    desk.tell(Close("BTCUSDT", "c-1", "stop"))
    (first,) = sends(desk.tell(messages.PositionsRead(desk.now, {"BTCUSDT": UNIT // 10})))
    desk.tell(messages.Unanswered(first.client_id, "-1007"))
    later = desk.tell(
        messages.PositionsRead(desk.now + 1_000, {"BTCUSDT": UNIT // 20}), after=1_000
    )
    (second,) = sends(later)
    assert second.client_id != first.client_id
    assert second.reduce_only
    assert second.signed == -UNIT // 20


def test_position_without_rules_stays_closable() -> None:
    """A symbol that is no longer collected has no rules; its position must not be stuck."""
    desk = Desk()
    desk.filled()
    desk.rules["ETHUSDT"] = desk.rules.pop("BTCUSDT")
    for symbol, known in (("BTCUSDT", True), ("FOO", False)):
        work = desk.tell(Close(symbol, f"c-{symbol}", "stop", request=1))
        (reply,) = [each for each in work.effects if isinstance(each, messages.Reply)]
        assert (reply.refusal is None) is known


def test_old_reading_begins_no_close() -> None:
    desk = Desk()
    desk.filled()
    desk.tell(Close("BTCUSDT", "c-1", "stop"))
    asked_before = messages.PositionsRead(desk.now - 1, {"BTCUSDT": UNIT // 10})
    assert sends(desk.tell(asked_before)) == []


def test_close_is_split_at_maximum() -> None:
    desk = Desk()
    desk.tell(Close("BTCUSDT", "c-1", "stop"))
    (order,) = sends(desk.tell(messages.PositionsRead(desk.now, {"BTCUSDT": -150 * UNIT})))
    assert order.signed == 100 * UNIT


def test_halted_closes_and_cancels() -> None:
    desk = Desk()
    desk.filled()
    desk.tell(SetMode(Mode.HALTED, "test", "me"))
    refusal = desk.place(client_id="a-2")
    assert refusal
    assert refusal.code == "mode"
    desk.tell(Close("BTCUSDT", "c-1", "stop"))
    assert sends(desk.tell(messages.PositionsRead(desk.now, {"BTCUSDT": UNIT // 10})))


def test_daily_loss_only_reduces() -> None:
    desk = Desk(daily_loss=UNIT)
    desk.filled()
    desk.price(91)
    assert desk.core.state.mode is Mode.ACTIVE
    desk.now += 60_000
    desk.price(90)
    assert desk.core.state.mode is Mode.REDUCING
    refusal = desk.place(client_id="a-2")
    assert refusal
    assert "resume" in refusal.message
    desk.tell(SetMode(Mode.ACTIVE, "seen", "me"))
    assert desk.place(client_id="a-3") is None


def _carried(desk: Desk, then: int = 150) -> Desk:
    """A position of 0.1 bought at 100, a price after that, and a restart at the start of the next day."""
    desk.filled()
    desk.tell(PriceSeen("BTCUSDT", then * UNIT, desk.now + 1), after=1)
    return desk.restarted(BEGIN + _DAY + 1)


def test_day_begins_with_known_prices() -> None:
    """The gateway was off at 00:00: a gain of the day before hides no loss of this one."""
    desk = _carried(Desk(daily_loss=2 * UNIT))
    assert desk.core.state.day == BEGIN // _DAY
    desk.price(150)
    assert desk.core.state.day == BEGIN // _DAY + 1
    assert desk.core.state.day_result == 5 * UNIT
    desk.now += 60_000
    desk.price(130)
    assert desk.core.state.mode is Mode.REDUCING


def test_loss_waits_for_prices() -> None:
    """A gain that the day began with is no loss before the first price; nothing opens until then."""
    desk = _carried(Desk(daily_loss=2 * UNIT))
    desk.price(150)
    desk = desk.restarted(desk.now + 1_000)
    assert desk.core.state.mode is Mode.ACTIVE
    refusal = desk.place(client_id="a-2", symbol="BTCUSDT")
    assert refusal
    assert refusal.code == "daily_loss"
    assert "BTCUSDT" in refusal.message
    assert desk.place(client_id="a-3", side="sell", reduce_only=True) is None
    desk.price(150)
    assert desk.core.state.mode is Mode.ACTIVE
    assert desk.place(client_id="a-4", quantity=UNIT // 20) is None


def test_resume_before_prices_begins_anew() -> None:
    """A person resumes right after a start, and the gateway restarts once more before the first price."""
    desk = _carried(Desk(daily_loss=2 * UNIT), 70)
    assert desk.core.state.mode is Mode.REDUCING
    desk.tell(SetMode(Mode.ACTIVE, "seen", "me"))
    desk = desk.restarted(desk.now + 1_000)
    desk.price(70)
    assert desk.core.state.mode is Mode.ACTIVE
    assert desk.core.state.day_result == -3 * UNIT
    desk.now += 60_000
    desk.price(40)
    assert desk.core.state.mode is Mode.REDUCING


@pytest.mark.parametrize(
    ("limits", "changes", "code"),
    [
        ({"order_notional": 9 * UNIT}, {}, "order_notional"),
        ({"symbol_notional": 9 * UNIT}, {}, "symbol_notional"),
        ({"gross_notional": 9 * UNIT}, {}, "gross_notional"),
        ({"open_positions": 0}, {}, "open_positions"),
        ({"orders_per_ten_seconds": 0}, {}, "orders_per_ten_seconds"),
        ({"orders_per_minute": 0}, {}, "orders_per_minute"),
        ({}, {"kind": "limit", "price": 97 * UNIT}, "price_collar"),
        ({"price_age": -1}, {}, "price_age_seconds"),
        ({}, {"quantity": UNIT // 10_000}, "filter"),
        ({}, {"symbol": "NOPEUSDT"}, "unknown_symbol"),
        ({}, {"client_id": "a b"}, "client_id"),
    ],
)
def test_refusal_names_limit(limits: dict[str, int], changes: dict[str, object], code: str) -> None:
    desk = Desk(**limits)
    refusal = desk.place(**changes)
    assert refusal
    assert refusal.code == code
    assert "a-1" not in desk.core.state.orders


def test_pending_orders_count_as_exposure() -> None:
    """Two orders of which each alone is allowed are too much together, whether or not they are filled."""
    desk = Desk(symbol_notional=15 * UNIT)
    assert desk.place() is None
    refusal = desk.place(client_id="a-2")
    assert refusal
    assert refusal.code == "symbol_notional"
    desk.tell(messages.Refused("a-1", "-2019"))
    assert desk.place(client_id="a-3") is None


def test_limit_above_market_counts_whole() -> None:
    """An open order to buy at 102 is worth its own price, not the newest one of 100; at the market, the
    newest price counts.
    """
    desk = Desk(symbol_notional=20 * UNIT, order_notional=11 * UNIT)
    assert desk.place(kind="limit", price=102 * UNIT) is None
    assert desk.core.state.exposure == {"BTCUSDT": 102 * UNIT // 10}
    refusal = desk.place(client_id="a-2", quantity=98 * UNIT // 1000 + UNIT // 1000)
    assert refusal
    assert refusal.code == "symbol_notional"
    assert desk.place(client_id="a-3", quantity=98 * UNIT // 1000) is None
    low = {"kind": "limit", "side": "sell", "price": 98 * UNIT, "quantity": 111 * UNIT // 1000}
    refusal = desk.place(client_id="a-4", **low)
    assert refusal
    assert refusal.code == "order_notional"
    desk.tell(messages.Refused("a-1", "-2019"))
    assert desk.core.state.exposure == {"BTCUSDT": 98 * UNIT // 10}


def test_own_count_survives_restart() -> None:
    """Records of the journal, applied in order, give the same state."""
    desk = Desk()
    desk.filled()
    before = desk.core.state
    desk.restart()
    assert desk.core.state.orders == before.orders
    assert desk.core.state.ledger == before.ledger


def test_restarts_after_reduced_stop() -> None:
    """The venue cuts a triggered stop to what is left of its position, and calls the stop filled."""
    desk = Desk()
    desk.filled()
    stop = msgspec.structs.replace(
        ORDER, client_id="s-1", side="sell", kind="stop", price=99 * UNIT, reduce_only=True
    )
    assert desk.place(stop) is None
    left = stop.quantity // 2
    desk.tell(messages.OrderSeen("s-1", "v-s-1", Status.FILLED, left, "BTCUSDT", "v-s-2"))
    trade = fill_of(stop, 2, 99, desk.now)
    desk.tell(messages.FillSeen(msgspec.structs.replace(trade, venue_id="v-s-2", quantity=left)))
    desk.restart()
    assert desk.core.state.ledger.positions == {"BTCUSDT": ORDER.quantity - left}
    assert not desk.core.state.live


def test_entry_filled_in_part_contradicts() -> None:
    """An entry that the journal calls filled has its whole quantity."""
    desk = Desk()
    desk.place()
    desk.tell(messages.OrderSeen("a-1", "v-a-1", Status.FILLED, ORDER.quantity // 2, "BTCUSDT"))
    with pytest.raises(InvariantError, match="without the venue saying so"):
        desk.restart()


def test_broken_promise_halts() -> None:
    desk = Desk()
    desk.filled()
    desk.core.state.ledger.positions["BTCUSDT"] += UNIT
    desk.place(client_id="a-2")
    order = msgspec.structs.replace(ORDER, client_id="a-2")
    desk.tell(messages.Accepted("a-2", "v-a-2"))
    with pytest.raises(InvariantError, match="not the sum of its fills") as broken:
        desk.tell(messages.FillSeen(fill_of(order, 2, 100, desk.now)))
    desk.core.halt(broken.value, desk.now)
    assert desk.core.state.mode is Mode.HALTED


def test_payments_before_beginning_are_ignored() -> None:
    """An account may have a history: a new ledger has only what was paid since it began."""
    desk = Desk()
    desk.filled()
    begun = desk.core.state.begun_at
    desk.tell(messages.FundingPaid("BTCUSDT", begun - 3_600_000, -5))
    assert not desk.core.state.ledger.funding
    desk.tell(messages.FundingPaid("BTCUSDT", begun + 3_600_000, -7))
    assert desk.core.state.ledger.funding == -7
