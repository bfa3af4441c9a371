"""The gRPC door: gateway.proto's calls over service.py, with health and reflection. Only translation belongs
here: messages to requests, views to messages, refusals to status codes.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from pipeline_assets.errors import DataError, OutsideSystemError
from pipeline_assets.services.gateway.access import Access, DoorError, refuse_browsers
from pipeline_assets.services.gateway.client import OWN_ANSWER
from pipeline_assets.services.gateway.grpc_calls import CALLS, STREAM, Call, stream_events
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.services.gateway.requests import problems_of
from pipeline_assets.services.gateway.service import (
    MALFORMED,
    CallRefusedError,
    GatewayService,
    Kind,
)
from pipeline_assets.web_guard import WebGuard

SERVICE = pb.DESCRIPTOR.services_by_name["GatewayService"].full_name
# Calls that change nothing. A call that is not named here needs the token.
OPEN_CALLS = frozenset(
    {"GetOrder", "ListOrders", "ListPositions", "ListFills", "GetState", "StreamEvents"}
)
_OPEN_SERVICES = ("/grpc.health.", "/grpc.reflection.")
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
# The stubs have type parameters that the class itself does not have.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
# An order is some hundred bytes.
_LARGEST_MESSAGE = 64 * 1024
_STATUS = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.NOT_NOW: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.BEYOND: grpc.StatusCode.OUT_OF_RANGE,
    Kind.UNPERMITTED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.FOREIGN: grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass(frozen=True)
class GrpcDoor:
    """The server and its health, which says NOT_SERVING once the gateway stops."""

    server: grpc.aio.Server
    health: health.aio.HealthServicer
    port: int

    async def close(self) -> None:
        """Report that nothing is served, and end the calls under way."""
        await self.health.set(SERVICE, HealthCheckResponse.NOT_SERVING)
        await self.server.stop(grace=1.0)


async def open_grpc_door(
    service: GatewayService, access: Access, guard: WebGuard, host: str, port: int
) -> GrpcDoor:
    """Serve gRPC at an address; port 0 takes a free one.

    The library hides the call's `:authority`, so `guard` checks the host that a proxy passes on.

    Raises:
        DoorError: the address is taken.
    """
    server = grpc.aio.server(
        interceptors=(_Admission(access, guard, port),),
        options=(
            # A second server at the same port would take half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ),
    )
    server.add_generic_rpc_handlers((_handlers(service),))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise DoorError(
            f"The gateway cannot listen at {host}:{port}: another program does. Stop it, or set "
            "PIPELINE_GATEWAY__GRPC_PORT to another port."
        ) from error
    await server.start()
    await servicer.set(SERVICE, HealthCheckResponse.SERVING)
    return GrpcDoor(server, servicer, bound)


class _Admission(grpc.aio.ServerInterceptor):
    """Refuses a call before its message is read: a page's, or a change without the token."""

    def __init__(self, access: Access, guard: WebGuard, port: int) -> None:
        self._access, self._guard, self._port = access, guard, port

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        try:
            refuse_browsers(metadata, self._guard, self._port)
            if not _is_open(method):
                self._access.require(_text(dict(metadata).get("authorization")))
        except CallRefusedError as refusal:
            return _refusing(refusal)
        return await continuation(handler_call_details)


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _is_open(method: str) -> bool:
    service, _, call = method.rpartition("/")
    return method.startswith(_OPEN_SERVICES) or (service == f"/{SERVICE}" and call in OPEN_CALLS)


def _refusing(refusal: CallRefusedError) -> _Handler:
    async def refuse(_: bytes, context: _Context) -> bytes:
        await _abort(context, refusal)
        raise AssertionError

    return grpc.unary_unary_rpc_method_handler(refuse)


def _handlers(service: GatewayService) -> grpc.GenericRpcHandler:
    """Return the handlers of every call that gateway.proto declares."""
    handlers: dict[str, _Handler] = {}
    for method in pb.DESCRIPTOR.services_by_name["GatewayService"].methods:
        kind = GetMessageClass(method.input_type)
        if method.name == STREAM:
            handlers[STREAM] = grpc.unary_stream_rpc_method_handler(
                _streaming(service), None, _encode
            )
        else:
            behaviour = _answering(service, kind, CALLS[method.name])
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(behaviour, None, _encode)
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _encode(message: Message) -> bytes:
    return message.SerializeToString()


def _answering(
    service: GatewayService, kind: type[Message], call: Call
) -> Callable[[bytes, _Context], Awaitable[Message]]:
    async def answer(body: bytes, context: _Context) -> Message:
        async with _reported(context):
            request = kind.FromString(body)
            left = context.time_remaining()
            if left is not None and left <= 0:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Nothing was done.")
            return await call(service, request)

    return answer


def _streaming(
    service: GatewayService,
) -> Callable[[bytes, _Context], AsyncIterator[Message]]:
    async def answer(body: bytes, context: _Context) -> AsyncIterator[Message]:
        async with _reported(context):
            async for message in stream_events(service, pb.StreamEventsRequest.FromString(body)):
                yield message

    return answer


@asynccontextmanager
async def _reported(context: _Context) -> AsyncIterator[None]:
    """Report a foreseen error as the call's status; the library has only INTERNAL for a malformed message."""
    try:
        yield
    except CallRefusedError as refusal:
        await _abort(context, refusal)
    except DecodeError as error:
        message = f"The message is not the one that gateway.proto declares ({error})."
        await _abort(context, CallRefusedError(Kind.INVALID, MALFORMED, message))
    except ValidationError as error:
        await _abort(context, CallRefusedError(Kind.INVALID, MALFORMED, problems_of(error)))
    except OutsideSystemError as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error), ((OWN_ANSWER, "true"),))
    except DataError as error:
        await context.abort(grpc.StatusCode.DATA_LOSS, str(error))


async def _abort(context: _Context, refusal: CallRefusedError) -> None:
    code = (("refusal-code", refusal.code),)
    await context.abort(_STATUS[refusal.kind], str(refusal), code)
