"""The gRPC door over a real channel: calls, refusals, deadlines, and the stream."""

import socket
import threading
from contextlib import suppress
from itertools import islice
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.services.gateway.client import GatewayCallError, GatewayClient
from pipeline_assets.services.gateway.grpc_calls import CALLS, STREAM
from pipeline_assets.services.gateway.grpc_door import OPEN_CALLS, SERVICE
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import RiskSettings
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.fixtures.gateway import TOKEN, GatewayServer, order
from pipeline_assets_tests.fixtures.s3 import eventually

ALL_CALLS = [each.name for each in pb.DESCRIPTOR.services_by_name["GatewayService"].methods]
AUTHORIZED = (("authorization", f"Bearer {TOKEN}"),)


def place(client: GatewayClient, sent: pb.Order, seconds: float = 30) -> pb.OrderState:
    request = pb.PlaceOrderRequest(order=sent)
    return client.call(request, pb.PlaceOrderResponse, seconds).order


def refused(client: GatewayClient, sent: pb.Order, seconds: float = 30) -> GatewayCallError:
    with pytest.raises(GatewayCallError) as caught:
        place(client, sent, seconds)
    return caught.value


def test_order_becomes_position(gateway_server: GatewayServer) -> None:
    with gateway_server.client() as client:
        placed = place(client, order())
        assert placed.order == order()
        assert place(client, order()).order == order(), "the same order again is the same order"
        for event in client.events(0):
            if event.WhichOneof("event") == "fill_booked":
                break
        assert event.fill_booked.fill.quantity == "0.1"
        (position,) = client.call(pb.ListPositionsRequest(), pb.ListPositionsResponse).positions
        assert (position.symbol, position.quantity, position.price) == ("BTCUSDT", "0.1", "100")
        assert (position.entry_price, position.open_profit) == ("100", "0")
        (fill,) = client.call(pb.ListFillsRequest(symbol="BTCUSDT"), pb.ListFillsResponse).fills
        assert (fill.side, fill.price) == (pb.SIDE_BUY, "100")
        close = pb.ClosePositionRequest(symbol="BTCUSDT", close_id="c-1", reason="test")
        assert client.call(close, pb.ClosePositionResponse).close_id == "c-1"
    assert gateway_server.venue.posts["a-1"] == 1


@pytest.mark.parametrize(
    ("changes", "status", "code", "said"),
    [
        ({"quantity": "0.1005"}, "INVALID_ARGUMENT", "filter", "multiple of the step"),
        ({"quantity": "1e3"}, "INVALID_ARGUMENT", "malformed", "quantity: "),
        ({"quantity": "abc"}, "INVALID_ARGUMENT", "malformed", 'decimal text such as "0.001"'),
        ({"quantity": "99999999999"}, "INVALID_ARGUMENT", "malformed", "quantity: "),
        ({"client_id": "ü"}, "INVALID_ARGUMENT", "malformed", "client_id: "),
        ({"client_id": ".."}, "INVALID_ARGUMENT", "malformed", "client_id: "),
        ({"strategy": "\u202e"}, "INVALID_ARGUMENT", "malformed", "strategy: must be printable"),
        ({"side": 7}, "INVALID_ARGUMENT", "malformed", "side: "),
        ({"symbol": "DOGEUSDT"}, "NOT_FOUND", "unknown_symbol", "`pipeline-assets status`"),
        ({"quantity": "20"}, "FAILED_PRECONDITION", "order_notional", "PIPELINE_RISK__ORDER_NOTIONAL"),
        (
            {"kind": "KIND_LIMIT", "price": "150"},
            "FAILED_PRECONDITION",
            "price_collar",
            "the price 150 is 50 % away from the newest close 100; the limit is 2 %",
        ),
    ],
)  # fmt: skip
def test_refusal_names_rule(
    gateway_server: GatewayServer, changes: dict[str, object], status: str, code: str, said: str
) -> None:
    with gateway_server.client() as client:
        refusal = refused(client, order(**changes))
    assert (refusal.status, refusal.code) == (status, code)
    assert said in str(refusal)
    assert not gateway_server.venue.posts


def test_other_payload_names_difference(gateway_server: GatewayServer) -> None:
    with gateway_server.client() as client:
        place(client, order())
        refusal = refused(client, order(quantity="0.2", strategy="t"))
    assert refusal.status == "ALREADY_EXISTS"
    assert "quantity is 0.1, not 0.2; strategy is s, not t" in str(refusal)


def test_close_of_unknown_symbol_is_refused(gateway_server: GatewayServer) -> None:
    """A typing error must not look like a close; a known symbol without a position is closed already."""
    close = pb.ClosePositionRequest(symbol="FOO", close_id="c-1", reason="test")
    with gateway_server.client() as client:
        with pytest.raises(GatewayCallError) as caught:
            client.call(close, pb.ClosePositionResponse)
        assert (caught.value.status, caught.value.code) == ("NOT_FOUND", "unknown_symbol")
        close.symbol = "BTCUSDT"
        assert client.call(close, pb.ClosePositionResponse).close_id == "c-1"


def test_halt_survives_restart(tmp_path: Path) -> None:
    with GatewayServer(tmp_path) as server, server.client() as client:
        state = client.call(pb.HaltRequest(reason="fire", by="me"), pb.HaltResponse).state
        assert state.mode == pb.MODE_HALTED
    with GatewayServer(tmp_path) as server, server.client() as client:
        refusal = refused(client, order())
        assert (refusal.status, refusal.code) == ("FAILED_PRECONDITION", "mode")
        assert "fire" in str(refusal)
        client.call(pb.ResumeRequest(reason="out", by="me"), pb.ResumeResponse)
        place(client, order())
        flatten = pb.FlattenRequest(close_id="f-1", reason="enough", by="me")
        assert client.call(flatten, pb.FlattenResponse).state.mode == pb.MODE_HALTED
        flatten = pb.FlattenRequest(close_id="f-2", reason="still burning", by="me")
        assert client.call(flatten, pb.FlattenResponse).state.reason == "still burning"


# Who may call


def test_every_change_needs_token(gateway_server: GatewayServer) -> None:
    """Each call without the token, and with another: only reading calls get through admission."""
    channel = grpc.insecure_channel(f"127.0.0.1:{gateway_server.settings.grpc_port}")
    with channel:
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),)):
            statuses = {name: _status(channel, name, b"", metadata) for name in CALLS}
            refusals = {name for name, each in statuses.items() if each == "UNAUTHENTICATED"}
            assert refusals == set(ALL_CALLS) - OPEN_CALLS
    assert OPEN_CALLS < set(ALL_CALLS) == {*CALLS, STREAM}
    assert gateway_server.service.state().mode == "ACTIVE"


@pytest.mark.parametrize(
    "header", [("origin", "http://127.0.0.1"), ("sec-fetch-site", "none"), ("cookie", "a=b")]
)
def test_browser_headers_are_refused(
    gateway_server: GatewayServer, header: tuple[str, str]
) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{gateway_server.settings.grpc_port}")
    with channel:
        for name in ("GetState", "PlaceOrder"):
            assert _status(channel, name, b"", (header, *AUTHORIZED)) == "PERMISSION_DENIED"


@pytest.mark.parametrize("name", ["host", "x-forwarded-host"])
def test_foreign_host_is_refused(gateway_server: GatewayServer, name: str) -> None:
    """A proxy passes on the name by which a page calls after DNS rebinding."""
    channel = grpc.insecure_channel(f"127.0.0.1:{gateway_server.settings.grpc_port}")
    with channel:
        for host, expected in (("rebound.example.com", "PERMISSION_DENIED"), ("localhost:1", "OK")):
            assert _status(channel, "GetState", b"", ((name, host), *AUTHORIZED)) == expected


def test_browsers_protocol_gets_no_answer(gateway_server: GatewayServer) -> None:
    """A page's request over HTTP/1.1, with HTTP/2 and a valid call in its body: the connection ends."""
    address = ("127.0.0.1", gateway_server.settings.grpc_port)
    body = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    head = f"POST /{SERVICE}/Halt HTTP/1.1\r\nHost: rebound.example.com\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(address, timeout=30) as connection, suppress(ConnectionError):
        length = f"Content-Type: application/grpc\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + length).encode() + body)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert b"grpc-status" not in answer
        assert not answer.startswith(b"HTTP/1.1 200")
    assert gateway_server.service.state().mode == "ACTIVE"


def _status(
    channel: grpc.Channel, name: str, body: bytes, metadata: tuple[tuple[str, str], ...]
) -> str:
    ask = channel.unary_unary(f"/{SERVICE}/{name}")
    try:
        ask(body, metadata=metadata, timeout=30)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_health_and_reflection_answer(gateway_server: GatewayServer) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{gateway_server.settings.grpc_port}")
    with channel:
        health = health_pb2_grpc.HealthStub(channel)
        reply = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert SERVICE in ProtoReflectionDescriptorDatabase(channel).get_services()


# Bad input


def test_no_bytes_are_internal(gateway_server: GatewayServer) -> None:
    """No body makes the gateway fail: random bytes, and well-formed messages with odd values."""
    channel = grpc.insecure_channel(f"127.0.0.1:{gateway_server.settings.grpc_port}")
    texts = st.text(max_size=50)
    orders = st.builds(
        pb.Order,
        client_id=texts, symbol=texts | st.just("BTCUSDT"), quantity=texts | st.just("0.1"),
        price=texts, strategy=texts, reduce_only=st.booleans(),
        side=st.integers(-1, 3), kind=st.integers(-1, 4),
    ).map(lambda each: pb.PlaceOrderRequest(order=each).SerializeToString())  # fmt: skip
    fills = st.builds(pb.ListFillsRequest, symbol=texts, limit=st.integers(-(2**31), 2**31 - 1))
    bodies = orders | fills.map(lambda each: each.SerializeToString()) | st.binary(max_size=60)
    foreseen = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"}

    @settings(max_examples=examples(80))
    @given(st.sampled_from(sorted(set(CALLS) - {"Backup"})), bodies)
    def check(name: str, body: bytes) -> None:
        assert _status(channel, name, body, AUTHORIZED) in foreseen

    with channel:
        check()
        assert _status(
            channel, "Backup", pb.BackupRequest(path="a\0b").SerializeToString(), AUTHORIZED
        )
        assert _status(channel, "PlaceOrder", b"\0" * 100_000, AUTHORIZED) == "RESOURCE_EXHAUSTED"
    assert gateway_server.service.state().mode


# Deadlines


class _SlowJournal(SqliteJournal):
    """Waits in `append` while `gate` is closed."""

    gate = threading.Event()

    def append(self, bodies: list[bytes]) -> int:  # type: ignore[override]
        assert self.gate.wait(60)
        return super().append(bodies)


def test_expired_deadline_places_nothing(tmp_path: Path) -> None:
    """An order that waits behind a slow disk when its deadline passes is not placed; its id remains free."""
    _SlowJournal.gate.set()
    with GatewayServer(tmp_path, make_journal=_SlowJournal) as server, server.client() as client:
        state = client.call(pb.GetStateRequest(), pb.GetStateResponse).state
        _SlowJournal.gate.clear()
        first = threading.Thread(target=place, args=(client, order("slow")))
        first.start()
        eventually(lambda: "slow" in server.bench.core.state.orders, "the first order", 60)
        assert refused(client, order("late"), seconds=0.1).status == "DEADLINE_EXCEEDED"
        eventually(lambda: len(server.bench.gateway._callers) == 1, "the caller has left", 60)
        _SlowJournal.gate.set()
        first.join(60)
        with pytest.raises(GatewayCallError) as missing:
            client.call(pb.GetOrderRequest(client_id="late"), pb.GetOrderResponse)
        assert missing.value.status == "NOT_FOUND"
        assert state.open_orders == 0
        place(client, order("late"))
    assert server.venue.posts == {"slow": 1, "late": 1}


# The stream


def test_stream_resumes_without_loss(tmp_path: Path) -> None:
    """A reader that breaks off after every third event has each event once, in order."""
    risk = RiskSettings(open_positions=20)
    with GatewayServer(tmp_path, risk) as server, server.client() as client:
        for number in range(5):
            place(client, order(f"a-{number}"))
        seen: list[int] = []
        while len(seen) < 12:
            seen += [each.sequence for each in islice(client.events(seen[-1] if seen else 0), 3)]
        assert seen == list(range(1, 13))
        with pytest.raises(GatewayCallError, match="after: "):
            next(client.events(-1))


def test_stopped_gateway_is_unavailable(gateway_server: GatewayServer) -> None:
    """A gateway whose lease is lost answers UNAVAILABLE with the reason, and ends its streams."""
    gateway_server.bench.lease.held = False
    with gateway_server.client() as client:
        refusal = refused(client, order())
        assert refusal.status == "UNAVAILABLE"
        assert "lease" in str(refusal)
        assert "The order was not accepted" in str(refusal)
        with pytest.raises(GatewayCallError, match="answers: The lease"):
            list(client.events(0))


def test_backup_opens_as_journal(gateway_server: GatewayServer, tmp_path: Path) -> None:
    with gateway_server.client() as client:
        place(client, order())
        target = str(tmp_path / "copy.sqlite")
        client.call(pb.BackupRequest(path=target), pb.BackupResponse)
        assert SqliteJournal(Path(target)).last > 0
        with pytest.raises(GatewayCallError, match="exists") as caught:
            client.call(pb.BackupRequest(path=target), pb.BackupResponse)
        assert caught.value.status == "ALREADY_EXISTS"


def test_stream_beyond_end_is_refused(gateway_server: GatewayServer) -> None:
    """The reader's journal was restored: OUT_OF_RANGE, with what to do."""
    with gateway_server.client() as client:
        place(client, order())
        newest = client.call(pb.GetStateRequest(), pb.GetStateResponse).state.sequence
        assert client.event(newest).sequence == newest
        with pytest.raises(GatewayCallError, match="read it again from 0") as caught:
            list(client.events(newest + 1_000_000))
        assert caught.value.status == "OUT_OF_RANGE"
