"""The shell around the core in virtual time: a journal on a disk that forgets what was not synced, and a
process that is killed at any point.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline_assets.market.trading_rules import TradingRules
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.order_types import Status
from pipeline_assets.trading.records import GATEWAY_RECORDS, DayBegun
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.work import Timing, Work
from pipeline_assets_tests.trading.simulated_venue import SimulatedVenue
from pipeline_assets_tests.trading.virtual_world import VirtualWorld

SYMBOLS = ("BTCUSDT", "ETHUSDT")
# The wait for the next timer and for the disk, amid faults and in the quiet time.
_LATE = {True: 4_000, False: 12_000}
CoreFactory = Callable[..., GatewayCore]


def needs_stop(state: GatewayState, symbol: str) -> bool:
    """Return whether an entry with a stop made a position what it is."""
    position = state.ledger.positions.get(symbol, 0)
    entries = [state.orders[each] for each in state.guarded.get(symbol, {})]
    return any(each.order.signed * position > 0 for each in entries)


@dataclass
class SimulatedGateway:
    """Runs the production core. Events wait while records are being synced: that is the group commit.

    Attributes:
        synced: whether effects wait for the disk; a planted bug sets it to false.
        disk: what survives a kill.
        replies: the answers to callers.
        broken: promises that a step broke, for the end of the history.
    """

    world: VirtualWorld
    venue: SimulatedVenue
    limits: RiskLimits
    rules: dict[str, TradingRules]
    timing: Timing
    make_core: CoreFactory = GatewayCore
    synced: bool = True
    disk: list[bytes] = field(default_factory=list)
    replies: list[messages.Reply] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    prices: dict[str, messages.PriceSeen] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    starts: int = 0
    core: GatewayCore | None = None
    _waiting: list[messages.Event] = field(default_factory=list)
    _syncing: bool = False
    _priced: set[str] = field(default_factory=set)
    _unprotected: dict[str, int] = field(default_factory=dict)
    _read_at: int = 0

    def start(self) -> None:
        """Start a process that reads the journal."""
        if self.core:
            return
        self.starts += 1
        stored = [GATEWAY_RECORDS.decode(place, each) for place, each in enumerate(self.disk)]
        self.core = self.make_core(self.limits, self.rules, self.timing, stored)
        self._waiting, self._syncing = [], False
        self.venue.listen = self.hear
        # Without an answer of the venue, a process waits no longer.
        self._read_at = self.world.now + self.timing.stop - self.timing.grace
        self.hear(messages.Restarted())
        self._priced.clear()
        self.world.after(self.world.between(0, 20_000), self._read_prices)

    def _read_prices(self) -> None:
        for seen in self.prices.values():
            self.hear(seen)

    def kill(self) -> None:
        """End the process, between any two events; it starts again some seconds later."""
        self.core, self.venue.listen = None, None
        self.starts += 1
        self.world.after(self.world.between(10, 20_000), self.start)

    def hear(self, event: messages.Event) -> None:
        """Take an event; one that arrives while the process is down is lost."""
        if isinstance(event, messages.PriceSeen):
            self.prices[event.symbol] = event
        if self.core is None:
            return
        self._waiting.append(event)
        if not self._syncing:
            self._step()

    def _step(self) -> None:
        """Handle all waiting events, and sync their records in one go."""
        assert self.core is not None
        self._syncing = True
        batch, self._waiting = self._waiting, []
        works = [self._handle(self.core, event) for event in batch]
        encoded = [GATEWAY_RECORDS.encode(record) for work in works for record in work.recorded]
        process = self.starts
        if not self.synced:
            self._act(works)
            if process != self.starts:
                return
        pause = (self.world.between(1, 8) if not self.world.chance(0.02) else 500) if encoded else 0
        self.world.after(pause, lambda: self._synced(process, encoded, works))

    def _handle(self, core: GatewayCore, event: messages.Event) -> Work:
        """Handle an event, and note a day's loss that begins with a price of another process."""
        if isinstance(event, messages.PriceSeen):
            self._priced.add(event.symbol)
        if isinstance(event, messages.OpenOrdersRead):
            self._read_at = min(self._read_at, self.world.now)
        work = core.handle(event, self.world.now)
        unknown = core.state.ledger.positions.keys() - self._priced
        if unknown and any(isinstance(each, DayBegun) for each in work.recorded):
            self.broken.append(f"a day began without a price of {min(unknown)}")
        self._watch(core.state)
        return work

    def _watch(self, state: GatewayState) -> None:
        """Note a position that has an entry with a stop, and for too long neither a stop nor a close.

        The time goes on while the process is down. The next process has what is left of it, or the grace from
        its first reading of open orders on.
        """
        for symbol in SYMBOLS:
            position = state.ledger.positions.get(symbol, 0)
            stop = any(
                each.order.symbol == symbol
                and each.order.conditional
                and each.order.signed * position < 0
                and (each.status is Status.OPEN or each.reported > each.booked)
                for each in state.orders.values()
            )
            if stop or not needs_stop(state, symbol) or symbol in state.closes:
                self._unprotected.pop(symbol, None)
                continue
            since = self._unprotected.setdefault(symbol, self.world.now)
            limit = max(since + self.timing.stop, self._read_at + self.timing.grace)
            if self.world.now > limit + _LATE[self.world.faulty]:
                self.broken.append(f"{symbol} was without a stop for too long")

    def _synced(self, process: int, encoded: list[bytes], works: list[Work]) -> None:
        if process != self.starts:
            return
        self.disk.extend(encoded)
        if self.world.chance(0.005):  # killed after the sync, before anything was done
            self.kill()
            return
        if self.synced:
            self._act(works)
        if process != self.starts:
            return
        self._syncing = False
        if self._waiting:
            self._step()

    def _act(self, works: list[Work]) -> None:
        for work in works:
            for effect in work.effects:
                self._carry_out(effect)
                if self.world.chance(0.002):  # killed in the middle of acting
                    self.kill()
                    return

    def _carry_out(self, effect: messages.Effect) -> None:
        process = self.starts

        def answer(event: messages.Event) -> None:
            if process == self.starts:
                self.hear(event)

        match effect:
            case messages.Send():
                self.venue.post(effect.order, effect.timestamp, effect.recv_window, answer)
            case messages.Reply():
                self.replies.append(effect)
            case messages.Alarm():
                self.alarms.append(effect.message)
            case _:
                self._ask(effect, answer)

    def _ask(self, effect: messages.Effect, answer: Callable[[messages.Event], None]) -> None:
        match effect:
            case messages.SendCancel():
                self.venue.cancel(effect.client_id, answer)
            case messages.AskOrder():
                self.venue.query(effect.client_id, answer)
            case messages.AskTrades():
                self.venue.read_trades(effect.symbol, effect.since, answer)
            case messages.AskPositions():
                self.venue.read_positions(answer)
            case messages.AskOpenOrders():
                self.venue.read_open_orders(answer)
            case messages.AskFilters():
                self.venue.read_filters(answer)
