"""Other people's clients on the replay exchange: python-binance over REST and its private stream, and the raw
private stream with its faults.
"""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
from binance import AsyncClient, BinanceSocketManager

from pipeline_assets.local.exchange.accounts.desk import DEFAULT_KEY, DEFAULT_SECRET
from pipeline_assets_tests.fixtures.signed import SignedClient

NOON = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
WAIT = 60
CHINESE = "币安人生USDT"
ORDER, ACCOUNT, ALGO = "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ALGO_UPDATE"
MARKET = {"symbol": "BTCUSDT", "type": "MARKET", "quantity": "0.010", "newOrderRespType": "RESULT"}
STOP = {"symbol": "BTCUSDT", "type": "STOP_MARKET", "quantity": "0.010", "side": "SELL"} | {
    "triggerPrice": "80000.0",
    "reduceOnly": "true",
}


@pytest.fixture
def client(exchange):
    return SignedClient(exchange)


def listen_key(client):
    return client.send("POST", "v1/listenKey").document["listenKey"]


def binance_client(exchange):
    """Return python-binance's client with the exchange's time."""
    client = AsyncClient(DEFAULT_KEY, DEFAULT_SECRET)
    client.FUTURES_URL = exchange.url
    client.timestamp_offset = exchange.state()["now_ms"] - time.time() * 1000
    client.REQUEST_RECVWINDOW = 60_000
    return client


class Stream:
    """A raw private stream."""

    def __init__(self, socket):
        self._socket = socket

    async def next(self):
        """Return the next event."""
        return json.loads(await self._socket.receive_str(timeout=WAIT))

    async def names(self, count):
        """Return the types of the next events; an order's event with its status."""
        events = [await self.next() for _ in range(count)]
        return [(event["e"], event.get("o", {}).get("X")) for event in events]

    async def is_over(self):
        """Return whether the exchange has closed the connection."""
        message = await self._socket.receive(timeout=WAIT)
        return message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


@asynccontextmanager
async def opened(exchange, path):
    """Open a private stream; it is registered once the exchange counts it."""
    root = exchange.url.removesuffix("/fapi").replace("http", "ws")
    before = exchange.trading()["connections"]
    async with aiohttp.ClientSession() as session, session.ws_connect(root + path) as socket:
        while exchange.trading()["connections"] == before:
            await asyncio.sleep(0)
        yield Stream(socket)


def streamed(exchange, path, use):
    """Return what `use` gets from a private stream."""

    async def run():
        async with opened(exchange, path) as stream:
            return await use(stream)

    return asyncio.run(run())


def test_python_binance_trades(exchange):
    """python-binance opens, protects and closes a position, and hears of it by its user socket."""

    async def run():
        client = binance_client(exchange)
        manager = BinanceSocketManager(client)
        manager.FSTREAM_URL = exchange.url.replace("http", "ws").removesuffix("fapi")
        heard = []
        try:
            user_socket = manager.futures_user_socket()
            # Its end waits for the next message, by default for ten seconds.
            user_socket.TIMEOUT = 1
            async with user_socket as socket:
                while not exchange.trading()["connections"]:
                    await asyncio.sleep(0)
                bought = await client.futures_create_order(**MARKET, side="BUY")
                stop = await client.futures_create_order(**STOP)
                [position] = await client.futures_position_information(symbol="BTCUSDT")
                [waiting] = await client.futures_get_open_algo_orders()
                await client.futures_cancel_algo_order(algoId=stop["algoId"])
                sold = await client.futures_create_order(**MARKET, side="SELL", reduceOnly="true")
                trades = await client.futures_account_trades(symbol="BTCUSDT")
                account = await client.futures_account()
                heard = [await asyncio.wait_for(socket.recv(), WAIT) for _ in range(8)]
        finally:
            await client.close_connection()
        return bought, waiting, position, sold, trades, account, heard

    bought, waiting, position, sold, trades, account, heard = asyncio.run(run())
    assert (bought["status"], sold["status"]) == ("FILLED", "FILLED")
    assert (waiting["triggerPrice"], position["positionAmt"]) == ("80000.00", "0.010")
    assert [trade["orderId"] for trade in trades] == [bought["orderId"], sold["orderId"]]
    assert float(account["totalWalletBalance"]) < 100_000
    names = [event["e"] for event in heard]
    assert names == [ORDER, ACCOUNT, ORDER, ALGO, ALGO, ORDER, ACCOUNT, ORDER]
    assert [event["o"]["X"] for event in heard if event["e"] == ALGO] == ["NEW", "CANCELED"]


@pytest.mark.parametrize(
    "path",
    ["/private/ws?listenKey={}", "/ws/{}", "/private/ws/{}", "/private/ws?listenKey={}&events="],
)
def test_streams_have_all_events(client, exchange, path):
    """Every address of the private stream brings order and account events in their order."""

    async def use(stream):
        client.order("BUY", "0.010")
        return await stream.names(3)

    expected = [(ORDER, "NEW"), (ACCOUNT, None), (ORDER, "FILLED")]
    assert streamed(exchange, path.format(listen_key(client)), use) == expected


def test_python_binance_signs_other_scripts(exchange):
    """A symbol in Chinese characters is signed and traded like any other."""

    async def run():
        client = binance_client(exchange)
        try:
            await client.futures_create_order(
                **MARKET | {"symbol": CHINESE, "quantity": "100"}, side="BUY"
            )
            return await client.futures_position_information(symbol=CHINESE)
        finally:
            await client.close_connection()

    assert [row["positionAmt"] for row in asyncio.run(run())] == ["100"]


def test_streams_choose_events(client, exchange):
    """A stream that names events gets these, and a combined one names itself."""

    async def use(stream):
        client.order("BUY", "0.010")
        return await stream.next()

    key = listen_key(client)
    event = streamed(exchange, f"/private/ws?listenKey={key}&events={ACCOUNT}/{ALGO}", use)
    assert event["e"] == ACCOUNT
    event = streamed(exchange, f"/private/stream?listenKey={key}", use)
    assert (event["stream"], event["data"]["e"]) == (key, ORDER)


def test_trigger_is_heard_without_requests(client, exchange):
    """The clock alone brings the events of a triggered stop, at the time of the trigger."""
    client.order("BUY", "0.010")
    client.conditional("SELL", client.price() - 0.1, clientAlgoId="stop")

    async def use(stream):
        exchange.advance(3600)
        return [await stream.next() for _ in range(6)]

    heard = streamed(exchange, f"/ws/{listen_key(client)}", use)
    statuses = [(event["e"], event.get("o", {}).get("X")) for event in heard]
    assert statuses == [
        (ALGO, "TRIGGERING"),
        (ORDER, "NEW"),
        (ALGO, "TRIGGERED"),
        (ACCOUNT, None),
        (ORDER, "FILLED"),
        (ALGO, "FINISHED"),
    ]
    assert {event["T"] for event in heard} == {client.truth["trades"][-1]["time"]}
    assert heard[-1]["o"]["ai"] == str(client.truth["orders"][-1]["orderId"])


def test_listen_key_lives_an_hour(client, exchange):
    """A listen key is the same while it is valid, is prolonged, ends with an event, and is then unknown."""
    key = listen_key(client)
    exchange.advance(3000)
    assert listen_key(client) == key
    exchange.advance(3000)
    assert client.send("PUT", "v1/listenKey").document == {"listenKey": key}

    async def use(stream):
        exchange.advance(3600)
        event = await stream.next()
        client.order("BUY", "0.010")
        exchange.trading("streams", end="connections")
        return event

    event = streamed(exchange, f"/private/ws?listenKey={key}", use)
    assert (event["e"], event["listenKey"]) == ("listenKeyExpired", key)
    assert client.send("PUT", "v1/listenKey").code == -1125
    assert listen_key(client) != key


def test_person_changes_are_heard(client, exchange):
    """Leverage that a person changes, a liquidation and an auto-deleveraging come by the stream."""
    client.order("BUY", "0.010")

    async def use(stream):
        exchange.trading("account", leverage={"BTCUSDT": 7})
        changed = await stream.next()
        exchange.trading("close", symbol="BTCUSDT", by="liquidation")
        return changed, [await stream.next() for _ in range(3)]

    changed, closed = streamed(exchange, f"/ws/{listen_key(client)}", use)
    assert (changed["e"], changed["ac"]) == ("ACCOUNT_CONFIG_UPDATE", {"s": "BTCUSDT", "l": 7})
    assert (closed[2]["o"]["x"], closed[2]["o"]["X"]) == ("CALCULATED", "FILLED")
    assert closed[2]["o"]["c"].startswith("autoclose-")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "event_duplicated",
            [(ORDER, "NEW")] * 2 + [(ACCOUNT, None)] * 2 + [(ORDER, "FILLED")] * 2,
        ),
        ("event_swapped", [(ACCOUNT, None), (ORDER, "NEW"), (ORDER, "NEW"), (ORDER, "FILLED")]),
    ],
)
def test_events_are_damaged(client, exchange, fault, expected):
    """Events come twice, or after the one that followed them."""
    exchange.faults(trading={fault: 1})

    async def use(stream):
        client.order("BUY", "0.010")
        client.order("SELL", "0.010")
        return await stream.names(len(expected))

    assert streamed(exchange, f"/ws/{listen_key(client)}", use) == expected


def test_last_event_comes_late(client, exchange):
    """A swapped event that nothing follows comes by itself after a while."""
    exchange.faults(trading={"event_swapped": 1})

    async def use(stream):
        client.conditional("SELL", 80_000, reduceOnly="false")
        return await stream.next()

    assert streamed(exchange, f"/ws/{listen_key(client)}", use)["e"] == ALGO


@pytest.mark.parametrize("fault", [{"stream_silent": True}, {"event_lost": 1}])
def test_silent_stream_stays_connected(client, exchange, fault):
    """A silent stream is connected and brings nothing; the next event after the fault comes first."""
    exchange.faults(trading=fault)

    async def use(stream):
        client.order("BUY", "0.010")
        exchange.faults()
        client.conditional("SELL", 80_000)
        return await stream.next()

    assert streamed(exchange, f"/ws/{listen_key(client)}", use)["e"] == ALGO


@pytest.mark.parametrize("end", ["connections", "down"])
def test_connections_end(client, exchange, end):
    """Connections end when a person cuts them and when the exchange goes down."""

    async def use(stream):
        if end == "down":
            exchange.faults(down="reset")
        else:
            exchange.trading("streams", end="connections")
        return await stream.is_over()

    assert streamed(exchange, f"/ws/{listen_key(client)}", use)
