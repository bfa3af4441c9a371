"""Simulated histories keep every promise, and planted bugs of each kind are found within the same budget."""

from collections.abc import Callable

import msgspec
import pytest

from pipeline_assets.trading import closing, core, protecting, reconciling, resolving
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.ledger import Ledger
from pipeline_assets.trading.messages import Event, OpenOrdersRead, Send, TradesRead, Unanswered
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_state import Closing
from pipeline_assets.trading.order_types import Status
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.stop_watch import StopWatch
from pipeline_assets.trading.work import Work
from pipeline_assets_tests.trading.simulation import Simulation

BUDGET = 500
_PARTS = 4


@pytest.mark.parametrize("part", range(_PARTS))
def test_simulated_histories_keep_promises(part: int) -> None:
    """Replay a failing seed by `python -m pipeline_assets_tests.trading.simulation SEED`."""
    assert _first_broken(range(part, BUDGET, _PARTS)) is None


@pytest.mark.matrix
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("part", range(_PARTS))
def test_many_histories_keep_promises(part: int) -> None:
    """More than 100,000 orders."""
    orders = 0
    for seed in range(BUDGET + part, BUDGET + 16_000, _PARTS):
        history = Simulation(seed).run()
        assert not history.broken, (seed, history.broken)
        orders += history.orders
    assert orders > 25_000


def test_same_seed_same_history() -> None:
    first, second = Simulation(7), Simulation(7)
    first.run()
    second.run()
    assert first.gateway.disk == second.gateway.disk
    assert first.gateway.replies == second.gateway.replies


class _Resends(GatewayCore):
    """Sends an order again after an answer that says neither yes nor no."""

    def handle(self, event: Event, now: int) -> Work:
        work = super().handle(event, now)
        if isinstance(event, Unanswered):
            held = self.state.orders[event.client_id]
            work.effect(Send(held.order, now, held.recv_window))
        return work


def test_finds_resending() -> None:
    assert _first_broken(range(BUDGET), make_core=_Resends)


def test_finds_missing_sync() -> None:
    assert _first_broken(range(BUDGET), synced=False)


def test_finds_double_booking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "has", lambda *_: False)
    assert _first_broken(range(BUDGET))


def test_finds_double_booking_of_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trade of the stream and the same trade of a reading count as two."""

    def read(work: Work, event: TradesRead) -> None:
        for fill in event.fills:
            resolving.book(work, msgspec.structs.replace(fill, trade_id=-fill.trade_id))

    monkeypatch.setitem(core._HANDLERS, TradesRead, read)
    assert _first_broken(range(BUDGET))


def test_finds_early_conclusion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that finds nothing right after an error is believed at once."""

    def believe(work: Work, held: resolving.OrderState) -> None:
        if work.core.doubts[held.order.client_id].missing_at:
            work.change(held, Status.NOT_PLACED)

    monkeypatch.setattr(resolving, "horizon", lambda *_: 0)
    monkeypatch.setattr(resolving, "conclude", believe)
    assert _first_broken(range(BUDGET))


def _first_id(_: Work, close: Closing) -> str:
    return child_id(close.close_id, "close", 0)


def test_finds_reused_child_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_free_id", _first_id)
    assert _first_broken(range(BUDGET))


def test_finds_reused_id_at_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bug with the gateway's own check of ids taken out: the venue counts two posts."""
    monkeypatch.setattr(closing, "_free_id", _first_id)
    monkeypatch.setattr(
        "pipeline_assets.trading.invariants.Invariants.before_send", lambda *_: None
    )
    assert _first_broken(range(BUDGET))


def test_finds_day_without_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day's loss begins at a restart with the price of an old fill."""
    monkeypatch.setattr(GatewayState, "unpriced", lambda _: [])
    assert _first_broken(range(BUDGET))


def test_finds_lost_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that was being sent at a kill is taken for refused."""

    def forget(work: Work, _: object) -> None:
        for client_id in list(work.state.live):
            held = work.state.orders[client_id]
            if held.status is Status.SENDING:
                work.change(held, Status.REJECTED)

    monkeypatch.setitem(core._HANDLERS, core.Restarted, forget)
    assert _first_broken(range(BUDGET))


def test_finds_positions_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liquidation, or a fill after a cancel, that no event reports is lost."""
    for name in ("begin", "positions_read"):
        monkeypatch.setattr(reconciling, name, lambda *_: None)
    assert _first_broken(range(BUDGET))


def test_finds_position_without_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A position whose stop was refused or is unknown stays open."""
    monkeypatch.setattr(protecting, "check", lambda _: None)
    assert _first_broken(range(BUDGET))


def test_finds_clock_of_stops_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart forgets for how long a position had no stop."""
    start = StopWatch.start

    def forget(watch: StopWatch, state: GatewayState, now: int) -> None:
        start(watch, state, now)
        watch.since = dict.fromkeys(watch.since, now)

    monkeypatch.setattr(StopWatch, "start", forget)
    assert _first_broken(range(BUDGET))


def test_finds_orphan_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops rest on after their position is closed."""
    monkeypatch.setattr(protecting, "cancel_orphans", lambda _: None)
    assert _first_broken(range(BUDGET))


def test_finds_open_orders_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order of others that no event reports is not noticed."""
    monkeypatch.setitem(core._HANDLERS, OpenOrdersRead, lambda *_: None)
    assert _first_broken(range(BUDGET))


def test_finds_absent_orders_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that the venue shows after minutes stays `not_placed`, and its trades no one's."""
    monkeypatch.setattr(reconciling, "_ask_about_ended", lambda _: None)
    assert _first_broken(range(BUDGET))


def _first_broken(
    seeds: range, make_core: Callable[..., GatewayCore] = GatewayCore, *, synced: bool = True
) -> tuple[int, list[str]] | None:
    for seed in seeds:
        broken = Simulation(seed, make_core, synced).run().broken
        if broken:
            return seed, broken
    return None
