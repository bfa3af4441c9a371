"""A venue whose answers a test decides, and which counts what it was sent."""

import asyncio
from collections import Counter
from collections.abc import Callable

from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Fill, Order, Status


class ScriptedVenue:
    """Fills every order at once; a test may replace `answer`."""

    def __init__(self) -> None:
        self.posts: Counter[str] = Counter()
        self.orders: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self.positions: dict[str, int] = {}
        self.hear: Callable[[messages.Event], None] = lambda _: None
        self.sent = asyncio.Event()
        self.answer: Callable[[messages.Send], messages.Event] = self.fill

    async def start(self, hear: Callable[[messages.Event], None]) -> None:
        self.hear = hear

    async def stop(self) -> None:
        self.hear = lambda _: None

    async def send(self, effect: messages.Send) -> messages.Event:
        self.posts[effect.order.client_id] += 1
        self.sent.set()
        return self.answer(effect)

    def fill(self, effect: messages.Send) -> messages.Event:
        order = effect.order
        self.orders[order.client_id] = order
        venue_id = f"v-{order.client_id}"
        fill = Fill(
            symbol=order.symbol, trade_id=len(self.fills) + 1, venue_id=venue_id,
            client_id=order.client_id, side=order.side, quantity=order.quantity, price=10**10, fee=0,
            time=effect.timestamp,
        )  # fmt: skip
        self.fills.append(fill)
        self.positions[order.symbol] = self.positions.get(order.symbol, 0) + fill.signed
        self.hear(messages.FillSeen(fill))
        return messages.Accepted(order.client_id, venue_id)

    async def cancel(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> messages.CancelAnswered:
        return messages.CancelAnswered(client_id, gone=True)

    async def ask_order(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> messages.Event:
        if client_id not in self.orders:
            return messages.OrderMissing(client_id, 0)
        quantity = self.orders[client_id].quantity
        return messages.OrderSeen(client_id, f"v-{client_id}", Status.FILLED, quantity)

    async def ask_trades(self, symbol: str, since: int) -> messages.TradesRead:
        found = tuple(fill for fill in self.fills if fill.symbol == symbol and fill.time >= since)
        return messages.TradesRead(symbol, since, 0, found)

    async def ask_positions(self) -> messages.PositionsRead:
        return messages.PositionsRead(0, dict(self.positions))

    async def ask_open_orders(self) -> messages.OpenOrdersRead:
        return messages.OpenOrdersRead(0)

    async def ask_filters(self) -> messages.FiltersRead:
        return messages.FiltersRead()
