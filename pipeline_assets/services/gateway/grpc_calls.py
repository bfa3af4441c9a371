"""The calls of gateway.proto as functions over service.py: a message becomes a request, a view becomes a
message. Serving, admission and status codes are in grpc_door.py.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

from pipeline_assets.services.gateway import requests
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.services.gateway.service import GatewayService
from pipeline_assets.services.gateway.views import StateView, View

Call = Callable[[GatewayService, Any], Awaitable[Message]]
_ENUMS = ("side", "kind", "status", "mode")
_MAPS = ("limits", "halted_symbols")


def message_fields(shown: View | dict[str, Any]) -> dict[str, Any]:
    """Return a view's fields for a message's constructor: enumeration values by their names in the proto."""
    fields = shown.model_dump() if isinstance(shown, View) else shown
    return {
        name: message_fields(value)
        if isinstance(value, dict) and name not in _MAPS
        else f"{name.upper()}_{value.upper()}"
        if name in _ENUMS
        else value
        for name, value in fields.items()
    }


def word_of(enum: EnumTypeWrapper, number: int) -> str:
    """Return an enumeration's value as the views write it; empty for an unknown or unspecified one."""
    if number not in enum.values() or not number:
        return ""
    return enum.Name(number).partition("_")[2].lower()


def _order_request(order: pb.Order) -> requests.OrderRequest:
    fields = {each.name: getattr(order, each.name) for each in order.DESCRIPTOR.fields}
    fields["side"], fields["kind"] = word_of(pb.Side, order.side), word_of(pb.Kind, order.kind)
    return requests.OrderRequest(**fields)


def _state(view: StateView) -> pb.State:
    return pb.State(**message_fields(view))


async def _place_order(
    service: GatewayService, message: pb.PlaceOrderRequest
) -> pb.PlaceOrderResponse:
    view = await service.place(_order_request(message.order))
    return pb.PlaceOrderResponse(order=message_fields(view))


async def _cancel_order(
    service: GatewayService, message: pb.CancelOrderRequest
) -> pb.CancelOrderResponse:
    return pb.CancelOrderResponse(order=message_fields(await service.cancel(message.client_id)))


async def _get_order(service: GatewayService, message: pb.GetOrderRequest) -> pb.GetOrderResponse:
    return pb.GetOrderResponse(order=message_fields(service.order(message.client_id)))


async def _list_orders(service: GatewayService, _: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
    return pb.ListOrdersResponse(orders=map(message_fields, service.orders()))


async def _list_positions(
    service: GatewayService, _: pb.ListPositionsRequest
) -> pb.ListPositionsResponse:
    return pb.ListPositionsResponse(positions=map(message_fields, service.positions()))


async def _list_fills(
    service: GatewayService, message: pb.ListFillsRequest
) -> pb.ListFillsResponse:
    # proto3 sends 0 for a number that the caller left out.
    limit = {"limit": message.limit} if message.limit else {}
    request = requests.FillsRequest(symbol=message.symbol, **limit)
    return pb.ListFillsResponse(fills=map(message_fields, service.fills(request)))


async def _close_position(
    service: GatewayService, message: pb.ClosePositionRequest
) -> pb.ClosePositionResponse:
    request = requests.CloseRequest(
        symbol=message.symbol, close_id=message.close_id, reason=message.reason
    )
    return pb.ClosePositionResponse(close_id=await service.close(request))


async def _get_state(service: GatewayService, _: pb.GetStateRequest) -> pb.GetStateResponse:
    return pb.GetStateResponse(state=_state(service.state()))


async def _halt(service: GatewayService, message: pb.HaltRequest) -> pb.HaltResponse:
    request = requests.ModeRequest(reason=message.reason, by=message.by)
    return pb.HaltResponse(state=_state(await service.halt(request)))


async def _flatten(service: GatewayService, message: pb.FlattenRequest) -> pb.FlattenResponse:
    request = requests.FlattenRequest(
        close_id=message.close_id, reason=message.reason, by=message.by
    )
    return pb.FlattenResponse(state=_state(await service.flatten(request)))


async def _resume(service: GatewayService, message: pb.ResumeRequest) -> pb.ResumeResponse:
    request = requests.ResumeRequest(reason=message.reason, by=message.by, symbol=message.symbol)
    return pb.ResumeResponse(state=_state(await service.resume(request)))


async def _backup(service: GatewayService, message: pb.BackupRequest) -> pb.BackupResponse:
    await service.backup(message.path)
    return pb.BackupResponse()


async def stream_events(
    service: GatewayService, message: pb.StreamEventsRequest
) -> AsyncIterator[pb.StreamEventsResponse]:
    """Yield every change above a sequence number."""
    async for event in service.events(requests.EventsRequest(after=message.after)):
        yield pb.StreamEventsResponse(
            sequence=event.sequence,
            at_ms=event.at_ms,
            **{event.type: message_fields(event.body)},
        )


# Every call with one answer, by its name in gateway.proto.
CALLS: dict[str, Call] = {
    "PlaceOrder": _place_order,
    "CancelOrder": _cancel_order,
    "GetOrder": _get_order,
    "ListOrders": _list_orders,
    "ListPositions": _list_positions,
    "ListFills": _list_fills,
    "ClosePosition": _close_position,
    "GetState": _get_state,
    "Halt": _halt,
    "Flatten": _flatten,
    "Resume": _resume,
    "Backup": _backup,
}
STREAM = "StreamEvents"
