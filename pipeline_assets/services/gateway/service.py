"""The gateway's calls, as both doors offer them. This module knows neither gRPC nor HTTP; deciding is in
trading/.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Protocol

from pipeline_assets.errors import InputError
from pipeline_assets.resources.journals import beside
from pipeline_assets.services.gateway import requests
from pipeline_assets.services.gateway.views import (
    EventView,
    FillView,
    OrderStateView,
    PositionView,
    StateView,
    event_view,
    fill_view,
    order_state_view,
    position_view,
    text,
)
from pipeline_assets.settings import RiskSettings, TradingSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.foreign import shown
from pipeline_assets.trading.gateway import Gateway, GatewayStoppedError, Wish
from pipeline_assets.trading.journal_places import BeyondJournalError, require_record
from pipeline_assets.trading.order_types import Mode, Status
from pipeline_assets.trading.venue_identity import VenueIdentity


class Kind(StrEnum):
    """The kinds of refusals, which each door expresses in its own way."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    EXISTS = "already_exists"
    NOT_NOW = "failed_precondition"
    BEYOND = "out_of_range"
    UNPERMITTED = "unauthenticated"
    FOREIGN = "permission_denied"


# The code of a call that is not formed as its interface declares.
MALFORMED = "malformed"
# Orders leave only in the step that answers their callers, and the next start sends nothing of before.
_NOT_ACCEPTED = (
    "The order was not accepted: it was not sent and will not be. Once the gateway runs again, hand it in "
    "with the same client id: it is placed then, or its state is shown if the journal has it. An order that "
    "shows `unknown` becomes `not_placed` after some minutes, and may be placed with another id."
)
_KINDS = {
    "already_exists": Kind.EXISTS,
    "client_id": Kind.INVALID,
    "filter": Kind.INVALID,
    "not_found": Kind.NOT_FOUND,
    "unknown_symbol": Kind.NOT_FOUND,
}


class CallRefusedError(InputError):
    """A call was refused. The message names the rule, the value, and what to do.

    Attributes:
        kind: how a door reports it.
        code: a stable word for programs: a limit's name, `mode`, `filter`, ….
    """

    def __init__(self, kind: Kind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.code = kind, code


class Backup(Protocol):
    """The journals as they were at one moment."""

    def write(self, target: Path) -> None:
        """Write the gateway's to a new file, and the venue's beside it."""


@dataclass(frozen=True)
class GatewayService:
    """One account's gateway, as callers see it.

    Attributes:
        gateway: runs in the event loop that makes the calls.
        trading: names the account and the venue.
        risk: the limits, to show.
        begin_backup: holds the journals as they are; called in a thread, while the gateway stores nothing.
    """

    gateway: Gateway
    trading: TradingSettings
    risk: RiskSettings
    begin_backup: Callable[[], Backup]

    async def begin(self, venue: VenueIdentity) -> None:
        """Return once the venue takes orders, and the journal says that it belongs to this venue.

        Raises:
            GatewayStoppedError: the venue or the journal did not begin.
        """
        await self._ask(messages.BindVenue(venue))

    async def place(self, request: requests.OrderRequest) -> OrderStateView:
        """Place an order; returns once the order is durable. The same order again returns its state.

        Raises:
            CallRefusedError: a filter, a limit or the mode refuses it, or the id has another order.
            GatewayStoppedError: the gateway stopped; the order was not sent. The message says what to do.
        """
        try:
            await self._ask(messages.Place(request.order()))
        except GatewayStoppedError as error:
            raise GatewayStoppedError(f"{error} {_NOT_ACCEPTED}") from error
        return self._order(request.client_id)

    async def cancel(self, client_id: str) -> OrderStateView:
        """Ask the venue to cancel an order.

        Raises:
            CallRefusedError: there is no such order.
            GatewayStoppedError: the gateway stopped.
        """
        await self._ask(messages.Cancel(client_id))
        return self._order(client_id)

    def order(self, client_id: str) -> OrderStateView:
        """Return an order's state.

        Raises:
            CallRefusedError: there is no such order.
            GatewayStoppedError: the gateway stopped: what it knew is outdated.
        """
        self.gateway.require_running()
        return self._order(client_id)

    def orders(self) -> list[OrderStateView]:
        """Return the orders that are not at an end, in the order of sending."""
        self.gateway.require_running()
        state = self.gateway.state
        return [order_state_view(state.orders[each]) for each in state.live]

    def positions(self) -> list[PositionView]:
        """Return the symbols with a position, an open order or a close under way."""
        self.gateway.require_running()
        state = self.gateway.state
        symbols = state.ledger.positions.keys() | state.exposure.keys() | state.closes.keys()
        return [position_view(state, symbol) for symbol in sorted(symbols)]

    def fills(self, request: requests.FillsRequest) -> list[FillView]:
        """Return the newest fills, oldest first; the stream of events has all of them."""
        self.gateway.require_running()
        newest = (
            fill
            for fill in reversed(self.gateway.state.ledger.fills.values())
            if request.symbol in ("", fill.symbol)
        )
        return [fill_view(each) for each in islice(newest, request.limit)][::-1]

    async def close(self, request: requests.CloseRequest) -> str:
        """Close a symbol's position; returns the id of the close that is under way.

        Raises:
            CallRefusedError: the symbol is unknown, or the id belongs to the close of another symbol.
            GatewayStoppedError: the gateway stopped.
        """
        wish = messages.Close(request.symbol, request.close_id, request.reason)
        return await self._ask(wish)

    async def halt(self, request: requests.ModeRequest) -> StateView:
        """Open nothing until resumed; cancels and closes pass."""
        await self._ask(messages.SetMode(Mode.HALTED, request.reason, request.by))
        return self.state()

    async def resume(self, request: requests.ResumeRequest) -> StateView:
        """Accept every order again; the day's loss counts anew. With a symbol, accept only its entries again.

        Raises:
            CallRefusedError: the symbol is not halted.
            GatewayStoppedError: the gateway stopped.
        """
        if request.symbol:
            wish: Wish = messages.ResumeSymbol(request.symbol, request.reason, request.by)
        else:
            wish = messages.SetMode(Mode.ACTIVE, request.reason, request.by)
        await self._ask(wish)
        return self.state()

    async def flatten(self, request: requests.FlattenRequest) -> StateView:
        """Halt, cancel the gateway's orders and close every position of the account."""
        await self._ask(messages.Flatten(request.close_id, request.reason, request.by))
        return self.state()

    def state(self) -> StateView:
        """Return mode, results, exposure and limits."""
        self.gateway.require_running()
        state = self.gateway.state
        unknown = sum(state.orders[each].status is Status.UNKNOWN for each in state.live)
        return StateView(
            account=self.trading.account,
            venue=self.trading.venue,
            mode=state.mode.value,
            reason=state.mode_reason,
            result=text(state.result()),
            day_result=text(state.result() - state.day_result),
            fees=text(state.ledger.fees),
            funding=text(state.ledger.funding),
            gross_exposure=text(state.gross_exposure),
            open_orders=len(state.live),
            unknown_orders=unknown,
            open_positions=len(state.ledger.positions),
            sequence=self.gateway.last,
            limits={name: f"{Decimal(value):f}" for name, value in self.risk.model_dump().items()},
            halted_symbols=dict(sorted(state.halts.items())),
            foreign_orders=sorted(map(shown, state.foreign_open.values())),
            troubles=[f"{each.kind}: {each.text}" for each in state.troubles.values()],
        )

    async def backup(self, path: str) -> None:
        """Write copies of the journals, of one moment: the gateway's to a new file, the venue's beside it.

        Raises:
            CallRefusedError: the path is not absolute, or a file exists.
            GatewayStoppedError: the gateway stopped.
            JournalError: a copy cannot be written.
        """
        target = Path(path)
        if not target.is_absolute() or "\0" in path:
            raise CallRefusedError(Kind.INVALID, "path", "path must be absolute.")
        for file in (target, beside(target, "paper")):
            if file.exists():
                message = f"{file} exists: name a new file for the backup."
                raise CallRefusedError(Kind.EXISTS, "path", message)
        async with self.gateway.settled():
            begun = await asyncio.to_thread(self.begin_backup)
        await asyncio.to_thread(begun.write, target)

    def require_event(self, number: int) -> None:
        """Return if the events can be read on from a sequence number.

        Raises:
            CallRefusedError: the journal ends before the number.
            GatewayStoppedError: the gateway stopped.
        """
        self.gateway.require_running()
        try:
            require_record(number, self.gateway.last)
        except BeyondJournalError as error:
            raise CallRefusedError(Kind.BEYOND, "after", str(error)) from error

    async def events(self, request: requests.EventsRequest) -> AsyncIterator[EventView]:
        """Yield every change above a sequence number, old ones first, then new ones as they are durable.

        Raises:
            CallRefusedError: the journal ends before the number.
            GatewayStoppedError: the gateway stopped.
        """
        self.require_event(request.after)
        async for sequence, record in self.gateway.follow(request.after):
            yield event_view(sequence, record)

    async def _ask(self, wish: Wish) -> str:
        reply = await self.gateway.ask(wish)
        if reply.refusal:
            kind = _KINDS.get(reply.refusal.code, Kind.NOT_NOW)
            raise CallRefusedError(kind, reply.refusal.code, reply.refusal.message)
        return reply.subject

    def _order(self, client_id: str) -> OrderStateView:
        held = self.gateway.state.orders.get(client_id)
        if held is None:
            message = f"There is no order {client_id[:60]!r}."
            raise CallRefusedError(Kind.NOT_FOUND, "not_found", message)
        return order_state_view(held)
