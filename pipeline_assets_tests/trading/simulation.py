"""One simulated history of orders from one seed, and what must be true of it in the end.

    python -m pipeline_assets_tests.trading.simulation SEED [COUNT]

replays a seed, or COUNT seeds from it on.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from pipeline_assets.market.trading_rules import UNIT, TradingRules
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.order_ids import entry_id
from pipeline_assets.trading.order_types import Mode, Order, Status
from pipeline_assets.trading.records import GATEWAY_RECORDS, OrderChanged, SymbolHalted
from pipeline_assets.trading.work import Timing
from pipeline_assets_tests.trading.simulated_gateway import SYMBOLS, SimulatedGateway, needs_stop
from pipeline_assets_tests.trading.simulated_venue import BLIND, SimulatedVenue
from pipeline_assets_tests.trading.virtual_world import VirtualWorld

_RULES = TradingRules(Decimal(1), Decimal(1), Decimal(1), Decimal(40), Decimal(5))
_LIMITS = RiskLimits(
    order_notional=3_000 * UNIT, symbol_notional=6_000 * UNIT, gross_notional=9_000 * UNIT,
    open_positions=5, daily_loss=10_000 * UNIT, orders_per_ten_seconds=20, orders_per_minute=60,
    collar=UNIT // 2, price_age=10**9,
)  # fmt: skip
_BUSY, _QUIET = 240_000, 500_000


@dataclass
class History:
    """The result of one run: the number of orders, and each broken promise."""

    orders: int
    broken: list[str]


class Simulation:
    """A caller, a gateway and a venue under one seed."""

    def __init__(
        self, seed: int, make_core: Callable[..., GatewayCore] = GatewayCore, synced: bool = True
    ) -> None:
        self.world = VirtualWorld(seed)
        # A day begins in the middle of the busy time.
        self.world.now -= _BUSY // 2
        self.venue = SimulatedVenue(self.world, dict.fromkeys(SYMBOLS, 100 * UNIT))
        timing = Timing(settling=BLIND + 10_000)
        self.gateway = SimulatedGateway(
            self.world,
            self.venue,
            _LIMITS,
            dict.fromkeys(SYMBOLS, _RULES),
            timing,
            make_core,
            synced,
        )
        self.wanted: dict[int, Order] = {}
        self.closes: list[tuple[str, str]] = []
        self._requests = 0

    def run(self) -> History:
        """Run a busy time with faults and a quiet one without, then check everything."""
        try:
            self.gateway.start()
            self._price()
            self._tick()
            for _ in range(self.world.between(6, 14)):
                self.world.after(self.world.between(0, _BUSY), self._wish)
            for _ in range(self.world.between(0, 3)):
                self.world.after(self.world.between(0, _BUSY), self.gateway.kill)
            if self.world.chance(0.3):
                symbol = self.world.random.choice(SYMBOLS)
                self.world.after(self.world.between(0, _BUSY), lambda: self.venue.liquidate(symbol))
            if self.world.chance(0.2):
                other = self.world.random.choice(SYMBOLS)
                self.world.after(
                    self.world.between(0, _BUSY), lambda: self.venue.place_foreign(other)
                )
            if self.world.chance(0.2):
                self.world.after(self.world.between(0, _BUSY), self._ban)
            self.world.run_until(self.world.now + _BUSY)
            self.world.faulty = False
            self.world.run_until(self.world.now + _QUIET)
        except InvariantError as error:
            return History(len(self.venue.posts), [f"the gateway halts: {error}"])
        return History(len(self.venue.posts), self._broken())

    # --- what the caller does ---

    def _tick(self) -> None:
        self.gateway.hear(messages.Timer())
        self.world.after(2_000 if self.world.faulty else 10_000, self._tick)

    def _ban(self) -> None:
        self.venue.banned_until = self.world.now + self.world.between(5_000, 60_000)

    def _resume(self, symbol: str) -> None:
        self.gateway.hear(messages.ResumeSymbol(symbol, "test", "sim"))

    def _price(self) -> None:
        for symbol in SYMBOLS:
            self.venue.prices[symbol] = self.world.between(90, 110) * UNIT
            if self.world.faulty:
                self.venue.trigger(symbol)
                self._resume(symbol)
            self.gateway.hear(messages.PriceSeen(symbol, self.venue.prices[symbol], self.world.now))
        self.world.after(60_000, self._price)

    def _wish(self) -> None:
        random = self.world.random
        self._requests += 1
        drawn = random.random()
        if drawn < 0.7:
            self._place()
        elif drawn < 0.78 and self.wanted:
            order = random.choice(list(self.wanted.values()))
            self.gateway.hear(messages.Cancel(order.client_id, self._requests))
        elif drawn < 0.86 and self.wanted:  # the caller does not know whether it has asked before
            order = random.choice(list(self.wanted.values()))
            self.wanted[self._requests] = order
            self.gateway.hear(messages.Place(order, self._requests))
        elif drawn < 0.97:
            symbol, close_id = random.choice(SYMBOLS), f"close-{self._requests}"
            self.closes.append((symbol, close_id))
            self.gateway.hear(messages.Close(symbol, close_id, "test", self._requests))
        else:
            self.gateway.hear(
                messages.Flatten(f"flat-{self._requests}", "test", "sim", self._requests)
            )
            self.world.after(
                30_000, lambda: self.gateway.hear(messages.SetMode(Mode.ACTIVE, "test", "sim"))
            )

    def _place(self) -> None:
        random = self.world.random
        kind = "market" if random.random() < 0.6 else "limit"
        reduces = random.random() < 0.2
        with_stop = not reduces and random.random() < 0.6
        order = Order(
            client_id=entry_id(f"decision-{self._requests}"), symbol=random.choice(SYMBOLS),
            side=random.choice(("buy", "sell")), kind=kind, quantity=random.randint(1, 20) * UNIT,
            price=0 if kind == "market" else random.randint(90, 110) * UNIT, reduce_only=reduces,
            stop_part=random.randint(2, 15) * UNIT // 100 if with_stop else 0,
        )  # fmt: skip
        self.wanted[self._requests] = order
        self.gateway.hear(messages.Place(order, self._requests))

    # --- what must be true ---

    def _broken(self) -> list[str]:
        core = self.gateway.core
        if core is None:
            return ["the gateway did not start again"]
        state, venue = core.state, self.venue
        broken = [f"{each} was sent {n} times" for each, n in venue.posts.items() if n > 1]
        broken += [
            f"{each} was sent and is not in the journal"
            for each in venue.posts.keys() - state.orders.keys()
        ]
        positions = {symbol: quantity for symbol, quantity in venue.positions.items() if quantity}
        if positions != state.ledger.positions:
            broken.append(f"positions are {positions}, the ledger has {state.ledger.positions}")
        if {(each.symbol, each.trade_id) for each in venue.trades} != state.ledger.fills.keys():
            broken.append("the ledger's fills are not the venue's trades")
        for client_id, held in state.orders.items():
            broken += self._order_broken(client_id, held.status)
        broken += self._stops_broken()
        broken += self._journal_broken() + self._replies_broken() + self.gateway.broken
        broken += [f"{symbol} is still being closed" for symbol in state.closes]
        return broken

    def _order_broken(self, client_id: str, status: Status) -> list[str]:
        there = self.venue.orders.get(client_id)
        if status in (Status.SENDING, Status.UNKNOWN):
            return [f"{client_id} is still {status}"]
        if there is None:
            allowed = status in (Status.NOT_PLACED, Status.REJECTED)
            return [] if allowed else [f"{client_id} is {status}, the venue never had it"]
        return [] if there.status is status else [f"{client_id} is {status}, not {there.status}"]

    def _stops_broken(self) -> list[str]:
        """Return positions without the stop that they need at the venue, and stops without a position."""
        assert self.gateway.core is not None
        stops, broken = set[str](), []
        for held in self.venue.orders.values():
            order, position = held.order, self.venue.positions[held.order.symbol]
            if order.conditional and held.status is Status.OPEN:
                stops.add(order.symbol)
                if order.signed * position >= 0:
                    broken.append(f"the stop {order.client_id} rests without a position")
        state = self.gateway.core.state
        needed = {each for each in SYMBOLS if needs_stop(state, each)}
        return broken + [f"{each} has no stop at the venue" for each in needed - stops]

    def _journal_broken(self) -> list[str]:
        """Return orders taken for absent though the venue had these, and symbols halted without a cause."""
        shown = {each for each, held in self.venue.orders.items() if not held.hidden}
        decoded = [GATEWAY_RECORDS.decode(0, each) for each in self.gateway.disk]
        causeless = [
            f"{each.symbol} was halted without a cause"
            for each in decoded
            if isinstance(each, SymbolHalted) and each.symbol not in self.venue.outside
        ]
        halted = {each.symbol for each in decoded if isinstance(each, SymbolHalted)}
        unnoticed = {each.symbol for each in self.venue.foreign} - halted
        causeless += [f"an order of others in {each} was not noticed" for each in unnoticed]
        return causeless + [
            f"{each.client_id} was taken for absent, and is at the venue"
            for each in decoded
            if isinstance(each, OrderChanged)
            and each.status is Status.NOT_PLACED
            and each.client_id in shown
        ]

    def _replies_broken(self) -> list[str]:
        assert self.gateway.core is not None
        journal = self.gateway.core.state.orders
        return [
            f"request {each.request} was acknowledged and forgotten"
            for each in self.gateway.replies
            if each.refusal is None
            and each.request in self.wanted
            and self.wanted[each.request].client_id not in journal
        ]


def main() -> None:
    """Run the seeds that the command line names."""
    first = int(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    orders = failed = 0
    for seed in range(first, first + count):
        history = Simulation(seed).run()
        orders += history.orders
        if history.broken:
            failed += 1
            print(f"seed {seed}: " + "; ".join(history.broken[:3]))
    print(f"{count} seeds, {orders} orders sent, {failed} seeds with a broken promise")


if __name__ == "__main__":
    main()
