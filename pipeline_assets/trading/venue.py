"""The interface of a venue: where orders go. The paper venue fills them from candles; others come later.

A venue decides what an answer means: `send` returns `Refused` only where the venue certainly has no such
order, and `Unanswered` for everything that is not sure. A refusal's reason begins with the venue's code, as
in `-4118: …`.
"""

from collections.abc import Callable
from typing import Protocol

from pipeline_assets.trading.messages import (
    Accepted,
    CancelAnswered,
    Event,
    FiltersRead,
    OpenOrdersRead,
    OrderMissing,
    OrderSeen,
    PartEnded,
    PositionsRead,
    Refused,
    Send,
    TradesRead,
    Unanswered,
)


class Venue(Protocol):
    """One account at one place. Every method may raise; the gateway takes that for no answer."""

    async def start(self, hear: Callable[[Event | PartEnded], None]) -> None:
        """Begin to report fills, orders, funding, connections of the stream, and trouble."""

    async def stop(self) -> None:
        """Stop reporting, and give back what is held."""

    async def send(self, effect: Send) -> Accepted | Refused | Unanswered:
        """Send an order, once. The method must not repeat the request by itself."""

    async def cancel(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> CancelAnswered:
        """Cancel an order; `conditional` is true for a stop."""

    async def ask_order(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> OrderSeen | OrderMissing:
        """Query an order; `conditional` is true for a stop."""

    async def ask_trades(self, symbol: str, since: int) -> TradesRead:
        """Read the trades of a symbol from a time on."""

    async def ask_positions(self) -> PositionsRead:
        """Read all positions."""

    async def ask_open_orders(self) -> OpenOrdersRead:
        """Read all open orders of the account, conditional ones included."""

    async def ask_filters(self) -> FiltersRead:
        """Read the filters anew by which this venue rounds orders, or refuses these before they are sent."""
