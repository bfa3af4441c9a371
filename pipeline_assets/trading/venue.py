"""The interface of a venue: where orders go. The paper venue fills them from candles; others come later.

A venue decides what an answer means: `send` returns `Refused` only where the venue certainly has no such
order, and `Unanswered` for everything that is not sure.
"""

from collections.abc import Callable
from typing import Protocol

from pipeline_assets.trading.messages import (
    Accepted,
    CancelAnswered,
    Event,
    OrderMissing,
    OrderSeen,
    PositionsRead,
    Refused,
    Send,
    TradesRead,
    Unanswered,
)


class Venue(Protocol):
    """One account at one place. Every method may raise; the gateway takes that for no answer."""

    async def start(self, hear: Callable[[Event], None]) -> None:
        """Begin to report fills, orders and funding as they happen."""

    async def stop(self) -> None:
        """Stop reporting, and give back what is held."""

    async def send(self, effect: Send) -> Accepted | Refused | Unanswered:
        """Send an order, once. The method must not repeat the request by itself."""

    async def cancel(self, client_id: str, symbol: str) -> CancelAnswered:
        """Cancel an order."""

    async def ask_order(self, client_id: str, symbol: str) -> OrderSeen | OrderMissing:
        """Query an order."""

    async def ask_trades(self, symbol: str, since: int) -> TradesRead:
        """Read the trades of a symbol from a time on."""

    async def ask_positions(self) -> PositionsRead:
        """Read all positions."""
