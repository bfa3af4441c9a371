"""The trader's client of the gateway over gRPC. The calls themselves are in services/gateway/client.py."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from decimal import Decimal
from threading import Event, Thread
from typing import TypeVar, cast

from google.protobuf.message import Message

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.trading_rules import decimal, units
from pipeline_assets.services.gateway.client import GatewayCallError
from pipeline_assets.services.gateway.client import GatewayClient as Connection
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.trading.messages import Refusal
from pipeline_assets.trading.order_types import Fill, Kind, Order, OrderSide, Status
from pipeline_assets.trading.records import (
    FillBooked,
    FundingBooked,
    OrderChanged,
    OrderSending,
    Record,
)

M = TypeVar("M", bound=Message)


class GrpcGateway:
    """A running gateway, as trading.gateway_client.GatewayClient describes it."""

    def __init__(self, connection: Connection) -> None:
        """Use a connection; its owner closes it, which ends `follow` too."""
        self._connection = connection

    async def place(self, order: Order) -> Refusal | None:
        """Have an order sent.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        request = pb.PlaceOrderRequest(order=to_message(order))
        return await self._refusal(request, pb.PlaceOrderResponse)

    async def cancel(self, client_id: str) -> Refusal | None:
        """Have an order cancelled.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        request = pb.CancelOrderRequest(client_id=client_id)
        return await self._refusal(request, pb.CancelOrderResponse)

    async def close(self, symbol: str, close_id: str, reason: str) -> Refusal | None:
        """Have a position closed.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        request = pb.ClosePositionRequest(symbol=symbol, close_id=close_id, reason=reason)
        return await self._refusal(request, pb.ClosePositionResponse)

    async def status(self, client_id: str) -> Status | None:
        """Return the state of an order.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        try:
            found = await self._call(pb.GetOrderRequest(client_id=client_id), pb.GetOrderResponse)
        except GatewayCallError as error:
            if error.status == "NOT_FOUND":
                return None
            raise
        return _status(found.order.status)

    async def open_orders(self) -> set[str]:
        """Return the client ids of the orders that are not at an end.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        found = await self._call(pb.ListOrdersRequest(), pb.ListOrdersResponse)
        return {each.order.client_id for each in found.orders}

    async def positions(self) -> dict[str, int]:
        """Return the ledger's positions.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        found = await self._call(pb.ListPositionsRequest(), pb.ListPositionsResponse)
        quantities = {each.symbol: units(Decimal(each.quantity)) for each in found.positions}
        return {symbol: quantity for symbol, quantity in quantities.items() if quantity}

    async def last_record(self) -> int:
        """Return the number of the journal's newest record.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        found = await self._call(pb.GetStateRequest(), pb.GetStateResponse)
        return int(found.state.sequence)

    async def has_record(self, number: int, at: int) -> bool:
        """Return whether the journal has a record of this number and time.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        if number > await self.last_record():
            return False
        event = await asyncio.to_thread(self._connection.event, number)
        return at in (0, event.at_ms)

    async def follow(self, after: int) -> AsyncGenerator[tuple[int, Record], None]:
        """Yield the gateway's events.

        Raises:
            GatewayCallError: the stream broke.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[pb.StreamEventsResponse | OutsideSystemError] = asyncio.Queue()

        ended = Event()

        def read() -> None:
            # The loop is closed where the process ends while the stream is open.
            with suppress(RuntimeError):
                try:
                    for each in self._connection.events(after):
                        if ended.is_set():
                            return
                        loop.call_soon_threadsafe(events.put_nowait, each)
                    error = OutsideSystemError("The gateway ended its stream of events.")
                    loop.call_soon_threadsafe(events.put_nowait, error)
                except OutsideSystemError as error:
                    loop.call_soon_threadsafe(events.put_nowait, error)

        Thread(target=read, name="gateway-events", daemon=True).start()
        try:
            while True:
                event = await events.get()
                if isinstance(event, OutsideSystemError):
                    raise event
                yield event.sequence, to_record(event)
        finally:
            ended.set()

    async def _refusal(self, request: Message, answer: type[M]) -> Refusal | None:
        try:
            await self._call(request, answer)
        except GatewayCallError as error:
            if not error.code:
                raise
            return Refusal(error.code, str(error))
        return None

    async def _call(self, request: Message, answer: type[M]) -> M:
        return await asyncio.to_thread(self._connection.call, request, answer)


def to_message(order: Order) -> pb.Order:
    """Return an order as the gateway's interface has it."""
    return pb.Order(
        client_id=order.client_id,
        symbol=order.symbol,
        side=f"SIDE_{order.side.upper()}",
        kind=f"KIND_{order.kind.upper()}",
        quantity=f"{decimal(order.quantity):f}",
        price=f"{decimal(order.price):f}" if order.price else "",
        reduce_only=order.reduce_only,
        strategy=order.strategy,
        decision_id=order.decision_id,
        parent=order.parent,
        leverage=order.leverage,
        stop_part=f"{decimal(order.stop_part):f}" if order.stop_part else "",
    )


def to_record(event: pb.StreamEventsResponse) -> Record:
    """Return an event as the journal's record; of one that no trade needs, only the time."""
    match event.WhichOneof("event"):
        case "order_sending":
            sending = event.order_sending
            return OrderSending(
                at=event.at_ms, order=_order(sending.order), recv_window=sending.recv_window_ms
            )
        case "order_changed":
            changed = event.order_changed
            return OrderChanged(
                at=event.at_ms,
                client_id=changed.client_id,
                status=_status(changed.status),
                venue_id=changed.venue_id,
                reported=_units(changed.reported),
                reason=changed.reason,
                triggered_id=changed.triggered_id,
            )
        case "fill_booked":
            return FillBooked(at=event.at_ms, fill=_fill(event.fill_booked.fill))
        case "funding_booked":
            booked = event.funding_booked
            return FundingBooked(
                at=event.at_ms,
                symbol=booked.symbol,
                time=booked.time_ms,
                amount=_units(booked.amount),
            )
        case _:
            return Record(at=event.at_ms)


def _order(order: pb.Order) -> Order:
    plain = {name: getattr(order, name) for name in Order.__struct_fields__}
    kind = cast(Kind, pb.Kind.Name(order.kind).removeprefix("KIND_").lower())
    names = ("quantity", "price", "stop_part")
    numbers = {name: _units(getattr(order, name)) for name in names}
    return Order(**plain | numbers | {"side": _side(order.side), "kind": kind})


def _fill(fill: pb.Fill) -> Fill:
    plain = {name: getattr(fill, name) for name in ("symbol", "trade_id", "venue_id", "client_id")}
    quantity, price, fee = (_units(each) for each in (fill.quantity, fill.price, fill.fee))
    return Fill(
        **plain, side=_side(fill.side), quantity=quantity, price=price, fee=fee, time=fill.time_ms
    )


def _side(side: pb.Side) -> OrderSide:
    return cast(OrderSide, pb.Side.Name(side).removeprefix("SIDE_").lower())


def _status(status: pb.Status) -> Status:
    return Status(pb.Status.Name(status).removeprefix("STATUS_").lower())


def _units(text: str) -> int:
    return units(Decimal(text)) if text else 0
