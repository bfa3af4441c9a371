"""Stops that the venue does not have: after a restart, after a lost request, and after filters changed."""

import msgspec
import pytest

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading import messages
from pipeline_assets.trading.messages import AskFilters, OpenOrder, SendCancel
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.work import Work
from pipeline_assets_tests.trading.test_core import ORDER, Desk, fill_of, sends

_GUARDED = msgspec.structs.replace(ORDER, stop_part=UNIT // 50)
_STOP_ID = child_id("a-1", "stop", 0)
_ANEW_ID = child_id("a-1", "stop anew", 0)
_HELD = {"BTCUSDT": ORDER.quantity}


def _entered() -> Desk:
    """Return a desk whose entry at 100 was filled just now, and whose stop was sent."""
    desk = Desk()
    assert desk.place(_GUARDED) is None
    desk.tell(messages.Accepted("a-1", "v-1"))
    fill = msgspec.structs.replace(fill_of(_GUARDED, 1, 100, desk.now), venue_id="v-1")
    (stop,) = sends(desk.tell(messages.FillSeen(fill)))
    assert stop.client_id == _STOP_ID
    return desk


def _killed(desk: Desk, down: int) -> None:
    """End the process, and begin another one from the journal after a time."""
    desk.restarted(desk.now + down)


def _reads(desk: Desk, *client_ids: str, after: int = 300) -> Work:
    """Read the open orders; the question was asked when the time before the answer began."""
    listed = tuple(
        OpenOrder("BTCUSDT", each, f"s-{each}", "stop", "sell", ORDER.quantity, 98 * UNIT,
                  conditional=True, reduce_only=True)
        for each in client_ids
    )  # fmt: skip
    return desk.tell(messages.OpenOrdersRead(desk.now, listed), after=after)


def _stops(work: Work) -> list[str]:
    return [each.client_id for each in sends(work) if each.conditional]


def test_listed_stop_is_confirmed() -> None:
    """The process died before the answer to its stop came; the first list has the stop."""
    desk = _entered()
    _killed(desk, 22_000)
    assert not _stops(_reads(desk, _STOP_ID))
    assert desk.core.state.orders[_STOP_ID].status is Status.OPEN
    assert not desk.tell(messages.Timer(), after=600_000).state.closes


def test_stop_that_never_left_is_placed_at_once() -> None:
    """The stop is missing in the first list after a kill: the same trigger under another id, and no close."""
    desk = _entered()
    _killed(desk, 22_000)
    (again,) = sends(_reads(desk))
    assert (again.client_id, again.price, again.parent) == (_ANEW_ID, 98 * UNIT, "a-1")
    desk.tell(messages.Accepted(_ANEW_ID, "s-2"))
    assert not desk.tell(messages.Timer(), after=600_000).state.closes


def test_clock_goes_on_over_a_restart() -> None:
    """22 s without a stop, and none confirmed in the grace of 5 s after the first list: closed."""
    desk = _entered()
    _killed(desk, 22_000)
    _reads(desk)
    assert not desk.tell(messages.Timer(), after=4_999).state.closes
    assert desk.tell(messages.Timer(), after=1).state.closes


def test_quick_restart_keeps_what_is_left_of_the_clock() -> None:
    """Two seconds down: the position is closed ten seconds after its fill, as without a restart."""
    desk = _entered()
    filled_at = desk.now
    _killed(desk, 2_000)
    _reads(desk)
    desk.now = filled_at
    assert not desk.tell(messages.Timer(), after=9_999).state.closes
    assert desk.tell(messages.Timer(), after=1).state.closes


def test_unanswered_list_delays_no_close() -> None:
    """A venue that does not say which stops exist has as long as a stop after a fill has."""
    desk = _entered()
    _killed(desk, 22_000)
    work = desk.tell(messages.Timer(), after=5_000)
    assert messages.AskOpenOrders() in work.effects
    assert not _stops(work)
    assert not desk.tell(messages.Timer(), after=4_999).state.closes
    assert desk.tell(messages.Timer(), after=1).state.closes


def test_stop_under_way_is_waited_for() -> None:
    """A request of the dead process may still arrive within its receive window: no second stop before."""
    desk = _entered()
    sent_at = desk.now
    _killed(desk, 1_000)
    assert not _stops(_reads(desk))
    desk.now = sent_at + 4_999
    assert not _stops(desk.tell(messages.OrderMissing(_STOP_ID, desk.now), after=1))
    questions = desk.tell(messages.Timer()).effects
    assert messages.AskOrder(_STOP_ID, "BTCUSDT", conditional=True) in questions
    assert _stops(desk.tell(messages.OrderMissing(_STOP_ID, desk.now))) == [_ANEW_ID]


def test_lost_stop_is_placed_once_more() -> None:
    """Without a restart: the request was lost, and the venue has no such stop after the receive window."""
    desk = _entered()
    desk.tell(messages.Unanswered(_STOP_ID, "timed out"))
    desk.now += 5_000
    assert _stops(desk.tell(messages.OrderMissing(_STOP_ID, desk.now))) == [_ANEW_ID]
    desk.tell(messages.Unanswered(_ANEW_ID, "timed out"))
    desk.now += 5_000
    work = desk.tell(messages.OrderMissing(_ANEW_ID, desk.now))
    assert not _stops(work)
    assert work.state.closes


def test_refused_stop_is_tried_after_a_restart() -> None:
    desk = _entered()
    desk.tell(messages.Refused(_STOP_ID, "-1008: throttled"))
    assert not _stops(desk.tell(messages.Timer(), after=1_000))
    _killed(desk, 22_000)
    assert _stops(_reads(desk)) == [_ANEW_ID]
    desk.tell(messages.Refused(_ANEW_ID, "-1008: throttled"))
    assert not _stops(desk.tell(messages.Timer(), after=1_000))


def test_stop_that_came_too_late_is_placed_once_more() -> None:
    """The process was paused for seconds before it sent the stop: a second after the refusal, and once."""
    desk = _entered()
    assert not _stops(desk.tell(messages.Refused(_STOP_ID, "-1021: too late"), after=6_000))
    assert not _stops(desk.tell(messages.Timer(), after=999))
    assert _stops(desk.tell(messages.Timer(), after=1)) == [_ANEW_ID]
    desk.tell(messages.Refused(_ANEW_ID, "-1021: too late"))
    assert not _stops(desk.tell(messages.Timer(), after=1_000))
    assert desk.tell(messages.Timer(), after=2_000).state.closes


def test_cancelled_stop_is_not_placed_again() -> None:
    """A person cancelled the stop in the app: the position is closed as ever."""
    desk = _entered()
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.CANCELED, 0))
    _killed(desk, 22_000)
    assert not _stops(_reads(desk))
    assert desk.tell(messages.Timer(), after=5_000).state.closes


def test_stop_that_shows_late_is_cancelled() -> None:
    """Both stops rest: the newer one stays, since the older one was taken for missing."""
    desk = _entered()
    _killed(desk, 22_000)
    _reads(desk)
    desk.tell(messages.Accepted(_ANEW_ID, "s-2"))
    desk.tell(messages.OrderSeen(_STOP_ID, "s-1", Status.OPEN, 0))
    cancels = [each for each in desk.tell(messages.Timer()).effects if isinstance(each, SendCancel)]
    assert cancels == [SendCancel(_STOP_ID, "BTCUSDT", conditional=True)]


def test_stop_cut_to_the_position_is_filled() -> None:
    """Two stops of an entry are triggered at once: the second one has less to fill, and is FILLED too."""
    desk = _entered()
    _killed(desk, 22_000)
    (anew,) = sends(_reads(desk))
    for number, stop in enumerate((desk.core.state.orders[_STOP_ID].order, anew)):
        part = ORDER.quantity // 2
        fill = msgspec.structs.replace(fill_of(stop, 2 + number, 98, desk.now), quantity=part)
        desk.tell(messages.OrderSeen(stop.client_id, fill.venue_id, Status.FILLED, part))
        desk.tell(messages.FillSeen(fill))
    desk.restart()
    state = desk.core.state
    assert (state.ledger.positions, dict(state.live)) == ({}, {})


def test_fill_read_late_has_its_grace() -> None:
    """A fill of a minute ago is read: its stop has the grace, not the ten seconds of a fill that is seen."""
    desk = Desk()
    assert desk.place(_GUARDED) is None
    desk.tell(messages.Accepted("a-1", "v-1"))
    fill = msgspec.structs.replace(fill_of(_GUARDED, 1, 100, desk.now), venue_id="v-1")
    desk.now += 60_000
    assert _stops(desk.tell(messages.TradesRead("BTCUSDT", 0, desk.now, (fill,)))) == [_STOP_ID]
    assert not desk.tell(messages.Timer(), after=4_999).state.closes
    assert desk.tell(messages.Timer(), after=1).state.closes


def test_stop_waits_for_rules() -> None:
    """A start without the lake knows no tick: the stop is placed as soon as the rules are read."""
    desk = Desk()
    assert desk.place(_GUARDED) is None
    desk.tell(messages.Accepted("a-1", "v-1"))
    fill = msgspec.structs.replace(fill_of(_GUARDED, 1, 100, desk.now), venue_id="v-1")
    rules = desk.rules.pop("BTCUSDT")
    assert not _stops(desk.tell(messages.FillSeen(fill)))
    desk.rules["BTCUSDT"] = rules
    (stop,) = sends(desk.tell(messages.Timer(), after=500))
    assert (stop.client_id, stop.price) == (_STOP_ID, 98 * UNIT)


def _refuse(desk: Desk, client_id: str, reason: str) -> Work:
    return desk.tell(messages.Refused(client_id, reason), after=100)


def _refitted(desk: Desk) -> list[Order]:
    return sends(desk.tell(messages.FiltersRead(), after=300))


def test_changed_tick_refits_the_stop() -> None:
    """Refused by a filter: the filters are read, and the stop is sent once more, with another id."""
    for reason in (
        "-1111: Precision",
        "-4014: Price not increased",
        "filter: not within PRICE_FILTER",
    ):
        desk = _entered()
        assert AskFilters() in _refuse(desk, _STOP_ID, reason).effects
        assert not _stops(desk.tell(messages.Timer(), after=500))
        (stop,) = _refitted(desk)
        assert (stop.client_id, stop.price, stop.quantity) == (_ANEW_ID, 98 * UNIT, ORDER.quantity)
        assert not _refitted(desk)
        desk.tell(messages.Accepted(_ANEW_ID, "s-2"))
        assert not desk.tell(messages.Timer(), after=600_000).state.closes


def test_second_misfit_is_final() -> None:
    """The new filters do not help: the clock of the fill closes the position."""
    desk = _entered()
    filled_at = desk.now
    _refuse(desk, _STOP_ID, "-4014: tick")
    _refitted(desk)
    assert AskFilters() not in _refuse(desk, _ANEW_ID, "-4014: tick").effects
    assert not _refitted(desk)
    desk.now = filled_at
    assert desk.tell(messages.Timer(), after=10_000).state.closes


def test_unanswered_filters_are_asked_for_again() -> None:
    desk = _entered()
    _refuse(desk, _STOP_ID, "-1111: Precision")
    assert AskFilters() not in desk.tell(messages.Timer(), after=4_900).effects
    assert AskFilters() in desk.tell(messages.Timer(), after=100).effects
    assert [each.client_id for each in _refitted(desk)] == [_ANEW_ID]


def test_other_refusals_read_no_filters() -> None:
    """-2021: the trigger is reached already; another stop would be refused as well."""
    desk = _entered()
    assert AskFilters() not in _refuse(desk, _STOP_ID, "-2021: would trigger").effects
    assert not _refitted(desk)


def test_refitted_stop_opens_nothing_after_a_close() -> None:
    """A close began meanwhile: no stop is sent."""
    desk = _entered()
    _refuse(desk, _STOP_ID, "-4014: tick")
    desk.tell(messages.Close("BTCUSDT", "c-1", "enough"))
    assert not _refitted(desk)


@pytest.mark.parametrize("by", ["liquidation", "stop"])
def test_late_end_of_a_position_leaves_the_next_entry_its_stop(by: str) -> None:
    """An entry seems to close a short position, which had been closed before: it needs its stop."""
    desk = Desk()
    short = msgspec.structs.replace(_GUARDED, client_id="s-1", side="sell")
    for order, venue_id, trade_id in ((short, "v-1", 1), (_GUARDED, "v-2", 3)):
        assert desk.place(order) is None
        desk.tell(messages.Accepted(order.client_id, venue_id))
        filled = fill_of(order, trade_id, 100, desk.now)
        desk.tell(
            messages.FillSeen(msgspec.structs.replace(filled, venue_id=venue_id)), after=2_000
        )
    assert not desk.core.state.ledger.positions
    name = "autoclose-1795176036000" if by == "liquidation" else child_id("s-1", "stop", 0)
    ended = fill_of(_GUARDED, 2, 100, desk.now - 3_000)
    ended = msgspec.structs.replace(ended, venue_id="v-9", client_id=name)
    stops = _stops(desk.tell(messages.FillSeen(ended)))
    assert desk.core.state.ledger.positions == _HELD
    assert stops or _stops(desk.tell(messages.Timer(), after=1_000)) == [_STOP_ID]
