"""A client of the running gateway, for commands and the trader: one method for every call of
gateway.proto.
"""

from collections.abc import Generator
from contextlib import closing
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import LOCAL_HOSTS, GatewaySettings

M = TypeVar("M", bound=Message)
# Trailing metadata of UNAVAILABLE where the gateway itself says so, and not the network.
OWN_ANSWER = "gateway-answer"
_SECONDS = 30.0
_SERVICE = pb.DESCRIPTOR.services_by_name["GatewayService"]


class GatewayCallError(OutsideSystemError):
    """The gateway refused a call or did not answer. The message says why.

    Attributes:
        status: gRPC's name of the status, such as ALREADY_EXISTS.
        code: the rule that refused the call, such as `price_collar`; empty without one.
    """

    def __init__(self, status: str, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class GatewayClient:
    """A connection to the gateway of the settings. A context manager; safe to share between threads."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Nothing is connected before the first call."""
        self._address = f"{settings.host}:{settings.grpc_port}"
        token = settings.token
        self._metadata = (("authorization", f"Bearer {token.get_secret_value()}"),) if token else ()
        # A proxy of the environment cannot reach this machine's loopback address.
        options = [("grpc.enable_http_proxy", 0)] if settings.host in LOCAL_HOSTS else []
        self._channel = grpc.insecure_channel(self._address, options)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._channel.close()

    def call(self, request: Message, answer: type[M], seconds: float = _SECONDS) -> M:
        """Send one request and return the answer. A call after which no answer came may have taken effect.

        Args:
            request: such as PlaceOrderRequest; its name says which call is meant.
            answer: the type of the answer.
            seconds: the deadline. An order whose deadline passes is placed whole or not at all.

        Raises:
            GatewayCallError: the gateway refused, or did not answer in time.
        """
        ask = self._channel.unary_unary(
            _path(request), request_serializer=_encode, response_deserializer=answer.FromString
        )
        try:
            return ask(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._failed(error) from None

    def events(self, after: int) -> Generator[pb.StreamEventsResponse, None, None]:
        """Yield every change above a sequence number, old ones first, then new ones.

        Raises:
            GatewayCallError: the stream broke. Call again with the last number that was received.
        """
        request = pb.StreamEventsRequest(after=after)
        stream = self._channel.unary_stream(
            _path(request),
            request_serializer=_encode,
            response_deserializer=pb.StreamEventsResponse.FromString,
        )(request, metadata=self._metadata)
        try:
            yield from stream
        except grpc.RpcError as error:
            raise self._failed(error) from None
        finally:
            stream.cancel()

    def event(self, number: int) -> pb.StreamEventsResponse:
        """Return the change of a sequence number, which the journal has.

        Raises:
            GatewayCallError: the gateway does not answer.
        """
        with closing(self.events(number - 1)) as found:
            return next(found)

    def _failed(self, error: Any) -> GatewayCallError:
        status, said = error.code().name, error.details() or ""
        trailing = dict(error.trailing_metadata() or ())
        code = trailing.get("refusal-code", "")
        if OWN_ANSWER in trailing:
            said = f"The gateway at {self._address} answers: {said}"
        elif status == "UNAVAILABLE":
            said = (
                f"The gateway at {self._address} does not answer ({said[:200]}). `pipeline-assets up` "
                "and `pipeline-assets gateway` start it; under `up`, logs/gateway.log in the data directory "
                "says why it does not run."
            )
        return GatewayCallError(status, code, said or status)


def _path(request: Message) -> str:
    return f"/{_SERVICE.full_name}/{request.DESCRIPTOR.name.removesuffix('Request')}"


def _encode(message: Message) -> bytes:
    return message.SerializeToString()
