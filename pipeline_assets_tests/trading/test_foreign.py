"""Orders of others, the venue's own orders, and trouble of the whole venue."""

import msgspec
import pytest

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading import messages
from pipeline_assets.trading.messages import AskOpenOrders, AskPositions, OpenOrder, Trouble
from pipeline_assets.trading.order_types import Fill, Mode, Status
from pipeline_assets_tests.trading.test_core import ORDER, Desk, alarms, fill_of

_OTHER = OpenOrder("BTCUSDT", "web-1", "77", "limit", "buy", UNIT, 90 * UNIT)


def _code(desk: Desk, **changes: object) -> str:
    refusal = desk.place(**changes)
    return refusal.code if refusal else ""


def test_foreign_order_halts_its_symbol() -> None:
    """Alerted once, kept over a restart, ended by a person; only entries of the symbol are refused."""
    desk = Desk()
    (alarm,) = alarms(desk.tell(messages.OpenOrdersRead(desk.now, (_OTHER,))))
    assert "BTCUSDT limit buy 1 at 90 (client id 'web-1', venue id 77)" in alarm
    assert not alarms(desk.tell(messages.OpenOrdersRead(desk.now, (_OTHER,))))
    assert _code(desk) == "symbol_halted"
    assert _code(desk, client_id="r-1", reduce_only=True) == ""
    desk.restart()
    desk.price(100)
    assert _code(desk) == "symbol_halted"
    assert desk.core.state.mode is Mode.ACTIVE
    desk.tell(messages.ResumeSymbol("BTCUSDT", "mine", "me", request=1))
    assert _code(desk) == ""


@pytest.mark.parametrize(
    "name", ["web-2", "autoclose-1", "adl_autoclose", "settlement_autoclose-1"]
)
def test_event_of_foreign_order_halts(name: str) -> None:
    desk = Desk()
    (alarm,) = alarms(desk.tell(messages.OrderSeen(name, "78", Status.OPEN, 0, "BTCUSDT")))
    assert name in alarm
    assert desk.core.state.halts.keys() == {"BTCUSDT"}


def test_reported_foreign_order_is_shown() -> None:
    """At once, and not with the next list of open orders; no longer once it is at its end."""
    desk = Desk()
    seen = messages.OrderSeen("web-1", "77", Status.OPEN, 0, "BTCUSDT", resting=_OTHER)
    assert desk.tell(seen).state.foreign_open == {"77": _OTHER}
    gone = messages.OrderSeen("web-1", "77", Status.CANCELED, 0, "BTCUSDT")
    assert desk.tell(gone).state.foreign_open == {}


def test_older_list_contradicts_no_event() -> None:
    """A list that was asked for before an order was placed, or before it was cancelled, changes neither."""
    desk = Desk()
    asked = desk.now
    seen = messages.OrderSeen("web-1", "77", Status.OPEN, 0, "BTCUSDT", resting=_OTHER)
    desk.tell(seen, after=1)
    assert desk.tell(messages.OpenOrdersRead(asked)).state.foreign_open == {"77": _OTHER}
    asked = desk.now
    gone = messages.OrderSeen("web-1", "77", Status.CANCELED, 0, "BTCUSDT")
    desk.tell(gone, after=1)
    assert desk.tell(messages.OpenOrdersRead(asked, (_OTHER,))).state.foreign_open == {}


def test_later_list_replaces_events() -> None:
    """An end that no event reported: the next list removes the order, which that list alone could do."""
    desk = Desk()
    seen = messages.OrderSeen("web-1", "77", Status.OPEN, 0, "BTCUSDT", resting=_OTHER)
    desk.tell(seen)
    work = desk.tell(messages.OpenOrdersRead(desk.now + 1), after=2)
    assert work.state.foreign_open == {}
    assert work.core.foreign_events == {}


def test_orders_of_others_alert_once_until_resumed() -> None:
    """A person who trades by hand places many orders: the first alerts, and the first after a resume."""
    desk = Desk()

    def alerts(number: int) -> int:
        name = f"web-{number}"
        seen = messages.OrderSeen(name, f"f-{number}", Status.OPEN, 0, "BTCUSDT", resting=_OTHER)
        return len(alarms(desk.tell(seen, after=1)))

    assert [alerts(1), alerts(2), alerts(3)] == [1, 0, 0]
    desk.tell(messages.ResumeSymbol("BTCUSDT", "known", "person"))
    assert [alerts(4), alerts(5)] == [1, 0]


@pytest.mark.parametrize("fill_first", [False, True])
def test_liquidation_alerts_once(fill_first: bool) -> None:
    """The stream reports the venue's order, and its trades in parts; a reading finds one of these."""
    desk = Desk()
    desk.filled()
    taken = msgspec.structs.replace(
        fill_of(ORDER, 2, 90, desk.now), client_id="autoclose-7", venue_id="v-7", side="sell",
        quantity=ORDER.quantity // 2,
    )  # fmt: skip
    rest = msgspec.structs.replace(taken, trade_id=3)
    events: list[messages.Event] = [
        messages.OrderSeen("autoclose-7", "v-7", Status.OPEN, 0, "BTCUSDT"),
        messages.FillSeen(taken),
        messages.TradesRead("BTCUSDT", 0, desk.now, (taken, rest)),
        messages.OrderSeen("autoclose-7", "v-7", Status.FILLED, ORDER.quantity, "BTCUSDT"),
    ]
    heard = [alarms(desk.tell(each)) for each in events[fill_first:]]
    assert [len(each) for each in heard if each] == [1]
    assert desk.core.state.halts.keys() == {"BTCUSDT"}
    assert desk.core.state.ledger.positions == {}


def test_foreign_trade_holds_entries() -> None:
    """A trade of an unknown order may turn out to be ours: entries wait, and halt after some minutes."""
    desk = Desk()
    fill = msgspec.structs.replace(fill_of(ORDER, 5, 100, desk.now), client_id="", venue_id="f-9")
    desk.tell(messages.TradesRead("BTCUSDT", 0, desk.now, (fill,)))
    assert _code(desk) == "foreign_trade"
    assert not desk.tell(messages.Timer(), after=119_999).state.halts
    work = desk.tell(messages.Timer(), after=1)
    assert any("f-9" in each for each in alarms(work))
    assert _code(desk, client_id="a-2") == "symbol_halted"


@pytest.mark.parametrize("resumed", [False, True])
def test_known_foreign_trade_alerts_once(resumed: bool) -> None:
    """A person's order and its trade: one alert, and no second halt after the symbol was resumed."""
    desk = Desk()
    desk.tell(messages.OrderSeen("web-1", "f-9", Status.OPEN, 0, "BTCUSDT"))
    fill = msgspec.structs.replace(
        fill_of(ORDER, 5, 100, desk.now), client_id="web-1", venue_id="f-9"
    )
    desk.tell(messages.FillSeen(fill))
    if resumed:
        desk.tell(messages.ResumeSymbol("BTCUSDT", "mine", "me", request=1))
    later = desk.tell(messages.Timer(), after=120_000)
    assert not alarms(later)
    assert bool(later.state.halts) is not resumed


def test_trade_after_resume_halts() -> None:
    """A known order of others that goes on trading after a person resumed halts its symbol again."""
    desk = Desk()
    desk.tell(messages.OpenOrdersRead(desk.now, (_OTHER,)))
    desk.tell(messages.ResumeSymbol("BTCUSDT", "mine", "me", request=1))
    fill = msgspec.structs.replace(fill_of(ORDER, 5, 90, desk.now), client_id="", venue_id="77")
    desk.tell(messages.FillSeen(fill))
    assert desk.tell(messages.Timer(), after=120_000).state.halts


def test_resume_needs_halted_symbol() -> None:
    desk = Desk()
    work = desk.tell(messages.ResumeSymbol("BTCUSDT", "why", "me", request=1))
    (reply,) = [each for each in work.effects if isinstance(each, messages.Reply)]
    assert reply.refusal is not None
    assert reply.refusal.code == "not_found"


def test_ban_ends_by_itself() -> None:
    """Alerted once and at its end; orders that reduce are tried."""
    desk = Desk()
    ban = messages.VenueTrouble(Trouble.BAN, desk.now + 60_000, "banned (418).")
    assert len(alarms(desk.tell(ban)) + alarms(desk.tell(ban))) == 1
    assert _code(desk) == "venue_ban"
    assert _code(desk, client_id="r-1", reduce_only=True) == ""
    assert not alarms(desk.tell(messages.Timer(), after=59_999))
    assert len(alarms(desk.tell(messages.Timer(), after=1))) == 1
    assert _code(desk) == ""


def test_maintenance_ends_with_an_answer() -> None:
    desk = Desk()
    desk.tell(messages.VenueTrouble(Trouble.MAINTENANCE, 0, "maintenance."))
    desk.tell(messages.PositionsRead(desk.now))
    assert _code(desk) == "venue_maintenance"
    desk.tell(messages.PositionsRead(desk.now + 1), after=2)
    assert _code(desk) == ""


def test_revoked_key_halts_the_gateway() -> None:
    """A person resumes; a restart alone does not."""
    desk = Desk()
    desk.tell(messages.VenueTrouble(Trouble.KEY, 0, "the key was revoked (-2015)."))
    desk.restart()
    desk.price(100)
    assert (_code(desk), desk.core.state.mode) == ("mode", Mode.HALTED)
    desk.tell(messages.SetMode(Mode.ACTIVE, "new key", "me"))
    assert _code(desk) == ""


def test_revoked_key_alerts_at_each_end() -> None:
    """Every question is refused for minutes, the first of these before the trouble is known."""
    desk, heard = Desk(), list[str]()
    desk.restart()
    for second in range(120):
        for name in ("positions", f"order {second}"):
            heard += alarms(desk.tell(messages.QuestionFailed(f"{name}: -2015")))
            heard += alarms(desk.tell(messages.VenueTrouble(Trouble.KEY, 0, "revoked (-2015).")))
        heard += alarms(desk.tell(messages.Timer(), after=1_000))
    (begun,) = heard
    assert "revoked" in begun
    desk.tell(messages.QuestionFailed("positions: -2015"))
    (ended,) = alarms(desk.tell(messages.SetMode(Mode.ACTIVE, "new key", "me")))
    assert "me resumed" in ended
    desk.tell(messages.QuestionFailed("order 119: -2015"), after=1_000)
    desk.tell(messages.PositionsRead(desk.now))
    assert not alarms(desk.tell(messages.Timer(), after=60_000))


def test_ban_explains_silence() -> None:
    """Readings are unanswered during a ban: no alert of a silence, not even right after the ban."""
    desk = Desk()
    desk.restart()
    ban = messages.VenueTrouble(Trouble.BAN, desk.now + 60_000, "banned (418).")
    heard = alarms(desk.tell(ban))
    for _ in range(89):
        heard += alarms(desk.tell(messages.Timer(), after=1_000))
    assert len(heard) == 2
    (silent,) = alarms(desk.tell(messages.Timer(), after=1_000))
    assert "not answered for 30 s" in silent


def test_silence_explains_earlier_failure() -> None:
    """The first question that the cut network fails is no position's: one alert, which names the silence."""
    desk = Desk()
    desk.tell(messages.QuestionFailed("order 1: no whole answer"))
    assert AskPositions() in desk.tell(messages.Timer(), after=6_000).effects
    heard = [each for _ in range(60) for each in alarms(desk.tell(messages.Timer(), after=1_000))]
    assert len(heard) == 1
    assert "not answered for 30 s" in heard[0]


def test_single_failed_question_alerts() -> None:
    """The venue answers other questions: after half a minute no trouble explains the failure."""
    desk = Desk()
    assert not alarms(desk.tell(messages.QuestionFailed("the trades: no list")))
    desk.tell(messages.QuestionFailed("the trades of ETHUSDT: no list"), after=1_000)
    assert not alarms(desk.tell(messages.Timer(), after=33_999))
    assert not alarms(desk.tell(messages.PositionsRead(desk.now)))
    (alarm,) = alarms(desk.tell(messages.Timer(), after=1))
    assert alarm.endswith("the trades: no list")
    assert not alarms(desk.tell(messages.Timer(), after=1_000))


def test_connection_reads_everything() -> None:
    """Events before a connection may be lost."""
    desk = Desk()
    desk.filled()
    effects = desk.tell(messages.StreamConnected()).effects
    assert AskPositions() in effects
    assert AskOpenOrders() in effects
    assert any(isinstance(each, messages.AskTrades) for each in effects)


def test_open_order_revives_ended_one() -> None:
    """An order that was taken for refused and rests at the venue is asked for."""
    desk = Desk()
    desk.place()
    desk.tell(messages.Refused("a-1", "-1008"))
    listed = OpenOrder("BTCUSDT", "a-1", "v-1", "market", "buy", ORDER.quantity)
    work = desk.tell(messages.OpenOrdersRead(desk.now, (listed,)))
    assert messages.AskOrder("a-1", "BTCUSDT") in work.effects
    assert not desk.core.state.halts


def test_named_foreign_trade_is_no_doubt() -> None:
    """A lost order beside a person's trade was unknown for good, and its symbol refused entries."""
    desk = Desk()
    assert desk.place() is None
    desk.tell(messages.Unanswered(ORDER.client_id, "cut"))
    fill = msgspec.structs.replace(fill_of(ORDER, 5, 100, desk.now), client_id="", venue_id="f-9")
    desk.tell(messages.TradesRead("BTCUSDT", desk.now - 10_000, desk.now, (fill,)))
    _find_nothing(desk, fill)
    assert desk.core.state.orders[ORDER.client_id].status is Status.UNKNOWN
    desk.tell(messages.FillSeen(msgspec.structs.replace(fill, client_id="web-1")))
    _find_nothing(desk, fill)
    assert desk.core.state.orders[ORDER.client_id].status is Status.NOT_PLACED


def _find_nothing(desk: Desk, fill: Fill) -> None:
    """Let every question about the order be answered: the venue has only this trade, of another order."""
    since, asked_at = desk.now - 100_000, desk.now + 70_000
    desk.tell(messages.OrderMissing(ORDER.client_id, asked_at), after=70_000)
    desk.tell(messages.TradesRead("BTCUSDT", since, asked_at, (fill,)))
    desk.tell(messages.PositionsRead(asked_at, {"BTCUSDT": fill.quantity}))
