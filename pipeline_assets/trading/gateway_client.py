"""The interface by which the trader reaches the order gateway, and the client within one process. The client
over gRPC is services/trader_gateway.py.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from pipeline_assets.trading import messages
from pipeline_assets.trading.gateway import Gateway
from pipeline_assets.trading.journal_places import has_record
from pipeline_assets.trading.messages import Refusal
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.records import Record


class GatewayClient(Protocol):
    """One account's gateway. Every call may be repeated with the same result.

    Each may raise an OutsideSystemError: the gateway does not answer, and whether it acted is unknown.
    """

    async def place(self, order: Order) -> Refusal | None:
        """Have an order sent; returns once the gateway will send it at most once, or why it will not."""

    async def cancel(self, client_id: str) -> Refusal | None:
        """Have an order cancelled."""

    async def close(self, symbol: str, close_id: str, reason: str) -> Refusal | None:
        """Have a symbol's orders cancelled and its position closed."""

    async def status(self, client_id: str) -> Status | None:
        """Return the state of an order, or None if the gateway does not know the id."""

    async def open_orders(self) -> set[str]:
        """Return the client ids of the orders that are not at an end."""

    async def positions(self) -> dict[str, int]:
        """Return the ledger's positions by symbol, in 1e-8, negative for a short."""

    async def last_record(self) -> int:
        """Return the number of the journal's newest record."""

    async def has_record(self, number: int, at: int) -> bool:
        """Return whether the journal has a record of this number and time; no time is compared with 0."""

    def follow(self, after: int) -> AsyncGenerator[tuple[int, Record], None]:
        """Yield the journal's records above a number, then new ones. The generator may be closed early.

        A record that no trade needs may have its time only.
        """


class LocalGateway:
    """A gateway in the same event loop."""

    def __init__(self, gateway: Gateway) -> None:
        """Use a running gateway."""
        self._gateway = gateway

    async def place(self, order: Order) -> Refusal | None:
        """Have an order sent."""
        return (await self._gateway.ask(messages.Place(order))).refusal

    async def cancel(self, client_id: str) -> Refusal | None:
        """Have an order cancelled."""
        return (await self._gateway.ask(messages.Cancel(client_id))).refusal

    async def close(self, symbol: str, close_id: str, reason: str) -> Refusal | None:
        """Have a position closed."""
        return (await self._gateway.ask(messages.Close(symbol, close_id, reason))).refusal

    async def status(self, client_id: str) -> Status | None:
        """Return the state of an order."""
        held = self._gateway.state.orders.get(client_id)
        return None if held is None else held.status

    async def open_orders(self) -> set[str]:
        """Return the client ids of the orders that are not at an end."""
        return set(self._gateway.state.live)

    async def positions(self) -> dict[str, int]:
        """Return the ledger's positions."""
        return dict(self._gateway.state.ledger.positions)

    async def last_record(self) -> int:
        """Return the number of the journal's newest record."""
        return self._gateway.last

    async def has_record(self, number: int, at: int) -> bool:
        """Return whether the journal has a record of this number and time."""
        return await has_record(self._gateway.page, number, at)

    def follow(self, after: int) -> AsyncGenerator[tuple[int, Record], None]:
        """Yield the journal's records."""
        return self._gateway.follow(after)
