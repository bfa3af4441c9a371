"""The trader's client over gRPC: orders and records keep every value."""

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from pipeline_assets.services.gateway.grpc_calls import message_fields
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.services.gateway.views import event_view, order_view
from pipeline_assets.services.trader_gateway import GrpcGateway, to_message, to_record
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Fill, Order, Status
from pipeline_assets.trading.records import (
    AnyRecord,
    CancelSending,
    FillBooked,
    FundingBooked,
    OrderChanged,
    OrderSending,
    Record,
)
from pipeline_assets_tests.fixtures.gateway import GatewayServer
from pipeline_assets_tests.trading.scripted_venue import ScriptedVenue

ORDER = Order(
    client_id="a-1", symbol="BTCUSDT", side="sell", kind="stop", quantity=123_456_789, price=50_000_10000000,
    reduce_only=True, strategy="macd 1", decision_id="d", parent="e", leverage=3,
)  # fmt: skip
MARKET = Order(client_id="a-2", symbol="ETHUSDT", side="buy", kind="market", quantity=1)
FILL = Fill(
    symbol="BTCUSDT", trade_id=7, venue_id="v", client_id="a-1", side="buy", quantity=5, price=10**12,
    fee=-3, time=1_764_000_000_001,
)  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        OrderSending(at=5, order=ORDER, recv_window=5_000),
        OrderSending(at=5, order=MARKET, recv_window=5_000),
        OrderChanged(at=6, client_id="a-1", status=Status.NOT_PLACED, reason="none", reported=9),
        FillBooked(at=7, fill=FILL),
        FundingBooked(at=8, symbol="BTCUSDT", time=1_764_000_000_000, amount=-7),
    ],
)
def test_event_becomes_the_record_again(record: AnyRecord) -> None:
    view = event_view(4, record)
    fields = {view.type: message_fields(view.body)}
    event = pb.StreamEventsResponse(sequence=4, at_ms=view.at_ms, **fields)
    assert to_record(event) == record


def test_other_events_have_their_time() -> None:
    view = event_view(4, CancelSending(at=5, client_id="a"))
    fields = {view.type: message_fields(view.body)}
    assert to_record(pb.StreamEventsResponse(sequence=4, at_ms=5, **fields)) == Record(at=5)


def test_place_in_the_journal_is_found(gateway_server: GatewayServer) -> None:
    """Over gRPC: the newest number, whether a number has a time, and a stream that is closed early."""

    async def test(gateway: GrpcGateway) -> None:
        await gateway.place(msgspec.structs.replace(MARKET, symbol="BTCUSDT", quantity=10**7))
        last = await gateway.last_record()
        async with aclosing(gateway.follow(0)) as records:
            at = [(await anext(records))[1].at for _ in range(last)][-1]
        assert await gateway.has_record(last, at)
        assert await gateway.has_record(last, 0)
        assert not await gateway.has_record(last, at + 1)
        assert not await gateway.has_record(last + 1_000, 0)

    with gateway_server.client() as client:
        asyncio.run(test(GrpcGateway(client)))


@pytest.mark.parametrize("order", [ORDER, MARKET])
def test_order_has_the_gateways_form(order: Order) -> None:
    assert to_message(order) == pb.Order(**message_fields(order_view(order)))


def test_short_has_a_negative_position(gateway_server: GatewayServer) -> None:
    """A trade of which the account has nothing ends, so the sign decides."""
    short = Order(
        client_id="a-3", symbol="BTCUSDT", side="sell", kind="market", quantity=10_000_000
    )
    with gateway_server.client() as client:
        gateway = GrpcGateway(client)
        assert asyncio.run(gateway.positions()) == {}
        assert asyncio.run(gateway.place(short)) is None
        assert any(isinstance(to_record(each), FillBooked) for each in client.events(0))
        assert asyncio.run(gateway.positions()) == {"BTCUSDT": -10_000_000}


def test_open_orders_are_those_not_at_an_end(gateway_server: GatewayServer) -> None:
    """The venue fills one order and accepts another one, which it does not fill."""
    venue = gateway_server.venue
    assert isinstance(venue, ScriptedVenue)
    filled = msgspec.structs.replace(MARKET, symbol="BTCUSDT", quantity=10**7)
    resting = msgspec.structs.replace(filled, client_id="a-3")

    async def test(gateway: GrpcGateway) -> None:
        assert await gateway.place(filled) is None
        async with aclosing(gateway.follow(0)) as records:
            async for _, record in records:
                if isinstance(record, FillBooked):
                    break
        venue.answer = lambda effect: messages.Accepted(effect.order.client_id, "v")
        assert await gateway.place(resting) is None
        assert await gateway.open_orders() == {"a-3"}

    with gateway_server.client() as client:
        asyncio.run(test(GrpcGateway(client)))
