"""An exchange that misbehaves as bug reports say: orders accepted behind an error, shown late or not for
minutes, filled in parts, fills with an expired or after a cancelled order, liquidations, orders of others,
bans, a reduce-only order that a resting one blocks, stream events lost, repeated and out of order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.messages import (
    Accepted,
    CancelAnswered,
    Event,
    FillSeen,
    FiltersRead,
    OpenOrder,
    OpenOrdersRead,
    OrderMissing,
    OrderSeen,
    PositionsRead,
    Refused,
    TradesRead,
    Trouble,
    Unanswered,
    VenueTrouble,
)
from pipeline_assets.trading.order_ids import LIQUIDATION
from pipeline_assets.trading.order_types import Fill, Order, Status
from pipeline_assets_tests.trading.virtual_world import VirtualWorld

# A query may not find an order for this long after the venue took it.
BLIND = 60_000
# A hidden order is in no answer and no event before the gateway has taken it for absent.
HIDDEN = (BLIND + 30_000, 4 * BLIND)
_FEE = 50_000


@dataclass
class VenueOrder:
    """An order as the venue has it."""

    order: Order
    venue_id: str
    visible_at: int
    hidden: bool = False
    status: Status = Status.OPEN
    executed: int = 0
    triggered_id: str = ""


@dataclass
class SimulatedVenue:
    """One account. `listen` gets stream events; it is None while the gateway is down.

    Attributes:
        foreign: open orders of others.
        outside: symbols in which others, or the venue itself, acted.
        banned_until: no request is served before.
        largest: market orders above this quantity are refused.
        misfit: symbols whose price filter is not the one that the gateway read last.
    """

    world: VirtualWorld
    prices: dict[str, int]
    posts: Counter[str] = field(default_factory=Counter)
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    all_orders: list[VenueOrder] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    trades: list[Fill] = field(default_factory=list)
    foreign: list[OpenOrder] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    banned_until: int = 0
    largest: int = 15 * UNIT
    misfit: set[str] = field(default_factory=set)
    listen: Callable[[Event], None] | None = None

    # --- requests ---

    def post(
        self, order: Order, timestamp: int, window: int, answer: Callable[[Event], None]
    ) -> None:
        """Take an order after a random way, and answer after another; either may be lost."""
        self.posts[order.client_id] += 1
        world, client_id = self.world, order.client_id
        if self._is_banned():
            self._answer(answer, Refused(client_id, "-1003: banned"))
            return
        if world.chance(0.05):  # lost on its way
            world.after(10_000, lambda: answer(Unanswered(client_id, "timed out")))
            return
        delay = world.between(5, 300) if not world.chance(0.05) else world.between(300, 6_000)
        world.after(delay, lambda: self._arrive(order, timestamp + window, answer))

    def _arrive(self, order: Order, deadline: int, answer: Callable[[Event], None]) -> None:
        world, client_id = self.world, order.client_id
        refusal = self._refusal(order, deadline)
        if refusal:
            self._answer(answer, Refused(client_id, refusal))
            return
        held = self.orders.get(client_id)
        # An error that really means no, and one that says that the order rests.
        if world.chance(0.04) or (held and held.status is Status.OPEN):
            self._answer(answer, Unanswered(client_id, "-4116" if held else "-1007"))
            return
        blind = world.between(1, BLIND) if world.chance(0.15) else 0
        hidden = not order.reduce_only and world.chance(0.02)
        if hidden:
            blind = world.between(*HIDDEN)
        taken = VenueOrder(order, f"v{len(self.all_orders)}", world.now + blind, hidden)
        self.orders[client_id] = taken
        self.all_orders.append(taken)
        if hidden:
            world.after(blind, lambda: self._fill_unheard(taken, order.quantity))
            return
        self._event(self._seen(taken))
        lost = world.chance(0.12)
        reply: Event = Accepted(client_id, taken.venue_id)
        self._answer(answer, Unanswered(client_id, "503") if lost else reply)
        self._match(taken)

    def _refusal(self, order: Order, deadline: int) -> str:
        """Return why an order is refused, or an empty text."""
        position = self.positions[order.symbol]
        if order.conditional and self.world.chance(0.05):
            self.misfit.add(order.symbol)
        refusals = {
            "-1021": self.world.now > deadline,
            "-1008": self.world.chance(0.04),
            "-4005: above MARKET_LOT_SIZE": order.kind == "market"
            and order.quantity > self.largest,
            "-4014: tick": order.conditional and order.symbol in self.misfit,
            "-2022: reduce-only": order.reduce_only and position * order.signed >= 0,
            "-4118: reduce-only": order.reduce_only and self._is_covered(order),
        }
        return next((each for each, wrong in refusals.items() if wrong), "")

    def _answer(self, answer: Callable[[Event], None], event: Event) -> None:
        if self.world.chance(0.04):  # the reply is torn on its way back
            event = Unanswered(event.client_id, "torn") if hasattr(event, "client_id") else event
        self.world.after(self.world.between(5, 200), lambda: answer(event))

    def cancel(self, client_id: str, answer: Callable[[Event], None]) -> None:
        """Cancel an open order."""
        if self._is_lost():
            return

        def arrive() -> None:
            held = self.orders.get(client_id)
            gone = held is None or held.hidden or held.status is not Status.OPEN
            if held and not gone:
                held.status = Status.CANCELED
                self._event(self._seen(held))
                if self.world.chance(0.2):
                    rest = held.order.quantity - held.executed
                    self._fill_unheard(held, rest // 2 // UNIT * UNIT)
            self._answer(answer, CancelAnswered(client_id, gone))

        self.world.after(self.world.between(5, 300), arrive)

    def query(self, client_id: str, answer: Callable[[Event], None]) -> None:
        """Report an order, or that there is none."""
        if self._is_lost():
            return
        asked_at = self.world.now

        def arrive() -> None:
            held = self.orders.get(client_id)
            if held and held.visible_at <= asked_at:
                self._answer_read(answer, self._seen(held))
            else:
                self._answer_read(answer, OrderMissing(client_id, asked_at))

        self.world.after(self.world.between(5, 300), arrive)

    def read_trades(self, symbol: str, since: int, answer: Callable[[Event], None]) -> None:
        """Report the trades of a symbol, which name an order by the venue's id only."""
        if self._is_lost():
            return
        asked_at = self.world.now
        found = tuple(
            fill if fill.client_id.startswith(LIQUIDATION) else msgspec.structs.replace(fill, client_id="")
            for fill in self.trades
            if fill.symbol == symbol and fill.time >= since and self._shown(fill, asked_at)
        )  # fmt: skip
        self._answer_read(answer, TradesRead(symbol, since, asked_at, found))

    def read_positions(self, answer: Callable[[Event], None]) -> None:
        """Report all positions."""
        if self._is_lost():
            return
        found = {symbol: quantity for symbol, quantity in self.positions.items() if quantity}
        self._answer_read(answer, PositionsRead(self.world.now, found))

    def read_open_orders(self, answer: Callable[[Event], None]) -> None:
        """Report all open orders that are shown, and those of others."""
        if self._is_lost():
            return
        now = self.world.now
        own = [
            OpenOrder(
                each.order.symbol, each.order.client_id, each.venue_id, each.order.kind, each.order.side,
                each.order.quantity, each.order.price, each.order.conditional, each.order.reduce_only,
            )
            for each in self.orders.values()
            if each.status is Status.OPEN and each.visible_at <= now
        ]  # fmt: skip
        self._answer_read(answer, OpenOrdersRead(now, (*own, *self.foreign)))

    def read_filters(self, answer: Callable[[Event], None]) -> None:
        """Report the filters, which the orders from then on fit."""
        if self._is_lost():
            return
        self.misfit.clear()
        self._answer_read(answer, FiltersRead(dict.fromkeys(self.prices, self.largest)))

    def _is_lost(self) -> bool:
        """Return whether a request gets no answer."""
        return self._is_banned() or self.world.chance(0.1)

    def _is_banned(self) -> bool:
        if self.world.now >= self.banned_until:
            return False
        if self.listen:
            self.listen(VenueTrouble(Trouble.BAN, self.banned_until, "banned."))
        return True

    def _is_covered(self, order: Order) -> bool:
        """Return whether resting reduce-only orders reduce the whole position already."""
        resting = sum(
            each.order.quantity - each.executed
            for each in self.orders.values()
            if each.status is Status.OPEN
            and (each.order.symbol, each.order.side, each.order.kind)
            == (order.symbol, order.side, "limit")
            and each.order.reduce_only
        )
        covers = resting > 0 and order.kind == "market"
        return covers and resting + order.quantity > abs(self.positions[order.symbol])

    def place_foreign(self, symbol: str) -> None:
        """Let another program place an order, which the stream may report."""
        name = f"web-{len(self.foreign)}"
        self.foreign.append(OpenOrder(symbol, name, f"f-{name}", "limit", "buy", UNIT, 50 * UNIT))
        self.outside.add(symbol)
        self._event(OrderSeen(name, f"f-{name}", Status.OPEN, 0, symbol))

    def trigger(self, symbol: str) -> None:
        """Fill the stops whose trigger the price has reached, under another id of the venue."""
        for held in list(self.orders.values()):
            order, price = held.order, self.prices[symbol]
            if order.symbol == symbol and order.conditional and held.status is Status.OPEN:
                reached = price <= order.price if order.side == "sell" else price >= order.price
                if reached:
                    held.triggered_id = f"t{held.venue_id[1:]}"
                    self._fill(held, order.quantity)

    def _answer_read(self, answer: Callable[[Event], None], event: Event) -> None:
        self.world.after(self.world.between(5, 400), lambda: answer(event))

    def _shown(self, fill: Fill, asked_at: int) -> bool:
        if fill.client_id.startswith(LIQUIDATION):
            return True
        return self.all_orders[int(fill.venue_id[1:])].visible_at <= asked_at

    # --- matching ---

    def _match(self, held: VenueOrder) -> None:
        if held.order.conditional:
            return
        if held.order.kind == "limit" and self.world.random.random() < 0.6:
            self.world.after(self.world.between(100, 60_000), lambda: self._later(held))
            return
        parts = 1 if not self.world.chance(0.3) else self.world.between(2, 4)
        for place in range(parts):
            last = place == parts - 1
            part = held.order.quantity if last else held.order.quantity // parts // UNIT * UNIT
            self.world.after(1 + place * 50, lambda part=part: self._fill(held, part))

    def _later(self, held: VenueOrder) -> None:
        """Fill a resting order, wholly or in part, or let it expire with what it has."""
        if held.status is not Status.OPEN:
            return
        if self.world.random.random() < 0.5:
            self._fill(held, held.order.quantity)
            return
        self._fill(held, held.order.quantity // 2 // UNIT * UNIT)
        if held.status is Status.OPEN:
            held.status = Status.EXPIRED
            self._event(self._seen(held))

    def _fill(self, held: VenueOrder, quantity: int) -> None:
        order, symbol = held.order, held.order.symbol
        quantity = min(quantity, order.quantity - held.executed)
        if order.reduce_only:
            quantity = min(quantity, abs(self.positions[symbol]))
            if self.positions[symbol] * order.signed >= 0:
                quantity = 0
        if held.status is not Status.OPEN:
            return
        if quantity <= 0:
            if order.reduce_only:
                held.status = Status.EXPIRED
                self._event(self._seen(held))
            return
        fill = self._trade(order, quantity, held.triggered_id or held.venue_id)
        held.executed += quantity
        if held.executed == order.quantity:
            held.status = Status.FILLED
        elif held.triggered_id:
            held.status = Status.EXPIRED
        self._event(FillSeen(fill))
        self._event(self._seen(held))

    def _fill_unheard(self, held: VenueOrder, quantity: int) -> None:
        """Fill an entry without any event, also one that was reported as cancelled before."""
        if quantity and not held.order.reduce_only:
            self._trade(held.order, quantity, held.venue_id)
            held.executed += quantity
            if held.status is Status.OPEN:
                held.status = Status.FILLED

    def liquidate(self, symbol: str) -> None:
        """Take a position over, by an order of the venue's own; half of these are in no event."""
        position, name = self.positions[symbol], f"{LIQUIDATION}{len(self.trades) + 1}"
        if not position:
            return
        self.outside.add(symbol)
        order = Order(
            client_id=name, symbol=symbol, side="sell" if position > 0 else "buy", kind="market",
            quantity=abs(position),
        )  # fmt: skip
        fill = self._trade(order, order.quantity, f"v-{name}")
        if not self.world.chance(0.5):
            self._event(FillSeen(fill))

    def _trade(self, order: Order, quantity: int, venue_id: str) -> Fill:
        price = self.prices[order.symbol]
        fill = Fill(
            symbol=order.symbol, trade_id=len(self.trades) + 1, venue_id=venue_id,
            client_id=order.client_id, side=order.side, quantity=quantity, price=price,
            fee=quantity * price // UNIT * _FEE // UNIT, time=self.world.now,
        )  # fmt: skip
        self.trades.append(fill)
        self.positions[order.symbol] += fill.signed
        return fill

    def _seen(self, held: VenueOrder) -> OrderSeen:
        return OrderSeen(
            held.order.client_id,
            held.venue_id,
            held.status,
            held.executed,
            held.order.symbol,
            held.triggered_id,
        )

    def _event(self, event: Event) -> None:
        """Send a stream event: late, twice, out of order, or never."""
        if self.world.chance(0.1):
            return
        times = 2 if self.world.chance(0.15) else 1
        for _ in range(times):
            delay = self.world.between(1, 50) if not self.world.chance(0.1) else 5_000
            self.world.after(delay, lambda: self.listen(event) if self.listen else None)
