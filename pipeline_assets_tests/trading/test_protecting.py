"""Stops that entries carry: placed by the gateway, confirmed in time, never without a position."""

import msgspec
import pytest

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading import entries, messages
from pipeline_assets.trading.messages import AskPositions, OpenOrder, SendCancel
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.work import Work
from pipeline_assets_tests.trading.test_core import ORDER, Desk, alarms, fill_of, sends

_GUARDED = msgspec.structs.replace(ORDER, stop_part=UNIT // 50)
_STOP_ID = child_id("a-1", "stop", 0)


def _entered() -> tuple[Desk, Order]:
    """Return a desk whose entry at 100 was filled, and the stop that the gateway sent."""
    desk = Desk()
    assert desk.place(_GUARDED) is None
    desk.tell(messages.Accepted("a-1", "v-1"))
    fill = msgspec.structs.replace(fill_of(_GUARDED, 1, 100, desk.now), venue_id="v-1")
    (stop,) = sends(desk.tell(messages.FillSeen(fill)))
    return desk, stop


def _begins_close(work: Work) -> bool:
    return any(AskPositions() == each for each in work.effects) and any(
        "no stop was confirmed within 10 s" in each for each in alarms(work)
    )


def test_fill_places_stop() -> None:
    """The stop is 2 % below the fill, for the whole entry, and belongs to the entry."""
    _, stop = _entered()
    assert (stop.client_id, stop.kind, stop.side, stop.parent) == (_STOP_ID, "stop", "sell", "a-1")
    assert (stop.price, stop.quantity, stop.reduce_only) == (98 * UNIT, ORDER.quantity, True)


def test_confirmed_stop_keeps_position() -> None:
    desk, _ = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    assert not desk.tell(messages.Timer(), after=600_000).state.closes


def test_missing_stop_closes_position() -> None:
    """Refused, unknown and unanswered stops all lead to a close and one alert, ten seconds after the fill."""
    answers = (messages.Refused(_STOP_ID, "-2021"), messages.Unanswered(_STOP_ID, "-1007"), None)
    for answer in answers:
        desk, _ = _entered()
        if answer:
            desk.tell(answer)
        assert not _begins_close(desk.tell(messages.Timer(), after=9_999))
        assert _begins_close(desk.tell(messages.Timer(), after=1)), answer
        assert not alarms(desk.tell(messages.Timer(), after=1_000))


def test_frozen_process_reads_confirmation_first() -> None:
    """A process that was frozen for a minute does not close a position whose stop the venue has confirmed."""
    desk, _ = _entered()
    desk.tell(messages.Paused(), after=60_000)
    assert not desk.tell(messages.Timer()).state.closes
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    assert not desk.tell(messages.Timer(), after=600_000).state.closes


def test_pauses_put_a_close_off_once() -> None:
    """A process that is frozen again and again closes a position without a stop all the same."""
    desk, _ = _entered()
    desk.tell(messages.Refused(_STOP_ID, "-2021"))
    desk.tell(messages.Paused(), after=60_000)
    assert not _begins_close(desk.tell(messages.Timer(), after=4_999))
    assert _begins_close(desk.tell(messages.Paused(), after=60_000))


def test_alarm_names_entry_without_stop() -> None:
    """The first entry has its stop; the second's was refused. The whole position is closed."""
    desk, _ = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    desk.filled(msgspec.structs.replace(_GUARDED, client_id="a-2"), trade_id=2)
    desk.tell(messages.Refused(child_id("a-2", "stop", 0), "-4014"))
    (alarm,) = alarms(desk.tell(messages.Timer(), after=10_000))
    assert alarm.endswith("the stops of: a-2.")


def test_cancelled_stop_closes_position() -> None:
    """A person cancels the stop in the app: the list of open orders has the gateway ask for it."""
    desk, _ = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    work = desk.tell(messages.OpenOrdersRead(desk.now + 1), after=1_000)
    assert messages.AskOrder(_STOP_ID, "BTCUSDT", conditional=True) in work.effects
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.CANCELED, 0))
    assert _begins_close(desk.tell(messages.Timer(), after=10_000))


def test_triggered_stop_is_booked() -> None:
    """The trades of a triggered stop name another order of the venue, also where no client id is given."""
    desk, stop = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.FILLED, stop.quantity, "BTCUSDT", "t-1"))
    fill = fill_of(stop, 2, 98, desk.now)
    fill = msgspec.structs.replace(fill, venue_id="t-1", client_id="")
    desk.tell(messages.TradesRead("BTCUSDT", 0, desk.now, (fill,)))
    state = desk.core.state
    assert (state.ledger.positions, state.foreign, dict(state.live)) == ({}, {}, {})
    desk.restart()
    assert desk.core.state.orders[_STOP_ID].booked == stop.quantity


def test_stop_filled_in_part_is_asked_for() -> None:
    """A triggered stop expires after a part of its fills, and the event of its end is lost."""
    desk, stop = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    for _ in range(10):
        desk.tell(messages.Timer(), after=60_000)
    part = fill_of(msgspec.structs.replace(stop, quantity=stop.quantity // 2), 2, 98, desk.now)
    part = msgspec.structs.replace(part, venue_id="t-1", client_id=_STOP_ID)
    desk.tell(messages.FillSeen(part))
    work = desk.tell(messages.Timer(), after=1_000)
    assert messages.AskOrder(_STOP_ID, "BTCUSDT", conditional=True) in work.effects
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.EXPIRED, part.quantity, "BTCUSDT", "t-1"))
    assert _begins_close(desk.tell(messages.Timer(), after=10_000))


def test_adopted_entry_gets_its_stop() -> None:
    """The trade was read before the venue said which order it belongs to."""
    desk = Desk()
    assert desk.place(_GUARDED) is None
    desk.tell(messages.Unanswered("a-1", "-1007"))
    fill = fill_of(_GUARDED, 1, 100, desk.now)
    fill = msgspec.structs.replace(fill, venue_id="v-1", client_id="")
    assert not sends(desk.tell(messages.TradesRead("BTCUSDT", 0, desk.now, (fill,))))
    seen = messages.OrderSeen("a-1", "v-1", Status.FILLED, ORDER.quantity, "BTCUSDT")
    (stop,) = sends(desk.tell(seen))
    assert (stop.client_id, stop.price) == (_STOP_ID, 98 * UNIT)


def test_orphan_stop_is_cancelled() -> None:
    """Without a position a stop is cancelled, and no entry passes before it is gone."""
    desk, _ = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    exit_order = msgspec.structs.replace(ORDER, client_id="x-1", side="sell", reduce_only=True)
    desk.filled(exit_order, trade_id=2)
    refusal = desk.place(client_id="a-2")
    assert refusal is not None
    assert refusal.code == "orphan_stop"
    cancel = SendCancel(_STOP_ID, "BTCUSDT", conditional=True)
    assert cancel in desk.tell(messages.Timer(), after=500).effects
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.CANCELED, 0))
    assert desk.place(client_id="a-3") is None


def test_conditional_orders_are_counted() -> None:
    """Conditional orders of others count, and so does the stop that an entry will need."""
    desk = Desk()
    others = tuple(
        OpenOrder("ETHUSDT", "", str(number), "stop", "sell", UNIT, UNIT, conditional=True)
        for number in range(entries.CONDITIONAL_ORDERS - 1)
    )
    desk.tell(messages.OpenOrdersRead(desk.now, others))
    assert desk.place(_GUARDED) is None
    refusal = desk.place(client_id="a-2")
    assert refusal is not None
    assert refusal.code == "conditional_orders"


def _blocked() -> Desk:
    """Return a desk whose exit x-1 the venue refused (-4118), since the target t-1 rests."""
    desk, _ = _entered()
    desk.tell(messages.Accepted(_STOP_ID, "s-1"))
    _rest_target(desk, "t-1")
    leave = msgspec.structs.replace(ORDER, client_id="x-1", side="sell", reduce_only=True)
    assert desk.place(leave) is None
    work = desk.tell(messages.Refused("x-1", "-4118: open orders"))
    assert SendCancel("t-1", "BTCUSDT") in work.effects
    return desk


def _rest_target(desk: Desk, client_id: str) -> None:
    target = msgspec.structs.replace(
        ORDER, client_id=client_id, side="sell", kind="limit", price=110 * UNIT, reduce_only=True
    )
    assert desk.place(target) is None
    desk.tell(messages.Accepted(client_id, f"v-{client_id}"))


def _target_ends(desk: Desk) -> None:
    desk.tell(messages.OrderSeen("t-1", "v-t-1", Status.CANCELED, 0))


def test_resting_target_blocks_no_exit() -> None:
    """-4118: the target is cancelled, and the exit is sent again once the target is gone."""
    desk = _blocked()
    assert not sends(desk.tell(messages.Timer(), after=500))
    _target_ends(desk)
    (again,) = sends(desk.tell(messages.Timer(), after=500))
    assert (again.kind, again.quantity, again.reduce_only) == ("market", ORDER.quantity, True)


def test_blocked_exit_waits_for_its_own_targets() -> None:
    """A target that came after the refusal does not hold the exit up."""
    desk = _blocked()
    _rest_target(desk, "t-2")
    _target_ends(desk)
    (again,) = sends(desk.tell(messages.Timer(), after=500))
    assert (again.kind, again.parent) == ("market", "")


def test_blocked_exit_waits_for_fills_of_its_target() -> None:
    """The cancel came too late: the target was filled, and its trades are not read yet."""
    desk = _blocked()
    desk.tell(messages.OrderSeen("t-1", "v-t-1", Status.FILLED, ORDER.quantity))
    assert not sends(desk.tell(messages.Timer(), after=500))
    target = desk.core.state.orders["t-1"].order
    desk.tell(messages.FillSeen(fill_of(target, 2, 110, desk.now)))
    assert not sends(desk.tell(messages.Timer(), after=500))


@pytest.mark.parametrize("at_once", [False, True])
def test_blocked_exit_ends_with_its_position(at_once: bool) -> None:
    """The stop closes the position first: the exit is not sent against the next one of the symbol.

    One reading of trades may book the stop and the next entry at once.
    """
    desk = _blocked()
    stop, entry = (
        desk.core.state.orders[_STOP_ID].order,
        msgspec.structs.replace(ORDER, client_id="a-2"),
    )
    ended = msgspec.structs.replace(fill_of(stop, 2, 98, desk.now), venue_id="s-1")
    entered = fill_of(entry, 3, 98, desk.now)
    if at_once:
        assert desk.place(entry) is None
        desk.tell(messages.Accepted("a-2", entered.venue_id))
        desk.tell(messages.TradesRead("BTCUSDT", 0, desk.now, (ended, entered)))
    else:
        desk.tell(messages.FillSeen(ended))
        assert desk.place(entry) is None
        desk.tell(messages.Accepted("a-2", entered.venue_id))
        desk.tell(messages.FillSeen(entered))
    _target_ends(desk)
    assert desk.core.state.ledger.positions == {"BTCUSDT": ORDER.quantity}
    assert not sends(desk.tell(messages.Timer(), after=500))


def test_blocked_exit_ends_with_a_turned_position() -> None:
    """Orders by hand turn the position, and turn it back: the exit is not sent against the new position."""
    desk = _blocked()
    twice = msgspec.structs.replace(ORDER, quantity=2 * ORDER.quantity)
    desk.filled(msgspec.structs.replace(twice, client_id="h-1", side="sell"), trade_id=2)
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.CANCELED, 0))
    desk.filled(msgspec.structs.replace(twice, client_id="h-2"), trade_id=3)
    _target_ends(desk)
    assert desk.core.state.ledger.positions == {"BTCUSDT": ORDER.quantity}
    assert not sends(desk.tell(messages.Timer(), after=500))
