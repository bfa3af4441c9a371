"""Orders on the replay exchange: fills from its own candles, times in force, filters, client ids, queries."""

from datetime import UTC, datetime

import pytest

from pipeline_assets.local.exchange.market import synthetic_market
from pipeline_assets_tests.fixtures.exchange import SYMBOLS
from pipeline_assets_tests.fixtures.signed import SignedClient

MINUTE = 60_000
NOON = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
TRUTH = synthetic_market(SYMBOLS.split(","))


@pytest.fixture
def client(exchange):
    return SignedClient(exchange)


def minutes_after_noon(count):
    """Return open, high, low, close of the minutes from 12:01 on, the first whole ones after the start."""
    rows = TRUTH.rows("BTCUSDT", "1m", NOON + MINUTE, NOON + (count + 1) * MINUTE)
    return [tuple(float(value) for value in row[1:5]) for row in rows]


def test_market_order_fills_at_price(client):
    """A market order is filled at the price that klines show, and is booked with its fee."""
    price = client.price()
    placed = client.order("BUY", "0.010", newClientOrderId="first").document
    assert (placed["status"], float(placed["avgPrice"])) == ("FILLED", price)
    [trade] = client.call("GET", "v1/userTrades", symbol="BTCUSDT").document
    assert (float(trade["price"]), trade["qty"], trade["maker"]) == (price, "0.010", False)
    assert float(trade["commission"]) == pytest.approx(price * 0.01 * 0.0005)
    assert client.position() == 0.01
    income = client.call("GET", "v1/income", incomeType="COMMISSION").document
    assert [row["tradeId"] for row in income] == [str(trade["id"])]


def test_acknowledgement_has_no_fill(client):
    """An ACK shows the order as new, whatever happened to it; a query shows the fill."""
    placed = client.order("BUY", "0.010", newOrderRespType="ACK", newClientOrderId="a").document
    assert (placed["status"], placed["executedQty"], placed["avgPrice"]) == ("NEW", "0.000", "0.00")
    asked = client.call("GET", "v1/order", symbol="BTCUSDT", origClientOrderId="a").document
    assert (asked["status"], asked["orderId"]) == ("FILLED", placed["orderId"])


def test_limit_fills_when_candle_reaches(client, exchange):
    """A resting order is filled in the minute whose low reaches its price, at its price, as maker."""
    lows = [row[2] for row in minutes_after_noon(30)]
    price = min(lows)
    minute = lows.index(price)
    placed = client.limit("BUY", "0.010", price).document
    assert placed["status"] == "NEW"
    exchange.set_clock(NOON + (minute + 1) * MINUTE - 1)
    assert len(client.call("GET", "v1/openOrders").document) == 1
    exchange.set_clock(NOON + (minute + 2) * MINUTE)
    assert client.call("GET", "v1/openOrders").document == []
    [trade] = client.call("GET", "v1/userTrades", symbol="BTCUSDT").document
    assert (float(trade["price"]), trade["maker"]) == (price, True)
    assert NOON + (minute + 1) * MINUTE <= trade["time"] < NOON + (minute + 2) * MINUTE


@pytest.mark.parametrize(
    ("force", "away", "status", "code"),
    [
        ("IOC", 0.99, "EXPIRED", 0),
        ("IOC", 1.01, "FILLED", 0),
        ("FOK", 0.99, None, -5021),
        ("FOK", 1.01, "FILLED", 0),
        ("GTX", 1.01, None, -5022),
        ("GTX", 0.99, "NEW", 0),
    ],
)
def test_time_in_force_is_kept(client, force, away, status, code):
    """IOC, FOK and GTX do what they do on the real exchange, below and above the price."""
    placed = client.limit("BUY", "0.010", client.price() * away, timeInForce=force)
    assert (placed.document.get("status"), placed.code) == (status, code)
    assert len(client.truth["orders"]) == (status is not None)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"quantity": "0.0101"}, -1111),
        ({"quantity": "0"}, -4003),
        ({"quantity": "130000"}, -4005),
        ({"quantity": "1e-05"}, -1111),
        ({"quantity": "x"}, -1102),
        ({"side": "HOLD"}, -1117),
        ({"type": "STOP_MARKET"}, -4120),
        ({"type": "MAGIC"}, -1116),
        ({"symbol": "NOPEUSDT"}, -1121),
        ({"symbol": "AGIXUSDT"}, -4141),
        ({"newClientOrderId": "ä"}, -4015),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"positionSide": "LONG"}, -4061),
        ({"price": "80000.0"}, -1106),
        ({"reduceOnly": "true"}, -2022),
        ({"quantity": "2000"}, -2027),
        ({"quantity": "25"}, -2019),
    ],
)
def test_market_orders_are_refused(client, parameters, code):
    """A market order that the real exchange refuses gets its code, and leaves no trace."""
    sent = {"side": "BUY", "quantity": "0.010"} | parameters
    refused = client.order(sent.pop("side"), sent.pop("quantity"), **sent)
    assert (refused.status, refused.code) == (400, code)
    assert client.truth["orders"] == []


@pytest.mark.parametrize(
    ("quantity", "price", "code"),
    [
        ("0.010", "80000.15", -4014),
        ("0.010", "80000.123", -1111),
        ("0.010", "1.0", -4013),
        ("0.010", "9000000.0", -4016),
        ("0.010", "100000.0", -4016),
        ("0.001", "1000.0", -4164),
    ],
)
def test_limit_prices_are_filtered(client, quantity, price, code):
    """Prices off the tick, out of range, too far from the mark price or too small get their codes."""
    assert client.limit("BUY", quantity, price).code == code


def test_client_ids_unique_while_open(client):
    """A client id is refused while an order has it that is open, and taken again afterwards."""
    low = client.price() * 0.99
    assert client.limit("BUY", "0.010", low, newClientOrderId="same").code == 0
    assert client.order("BUY", "0.010", newClientOrderId="same").code == -4116
    cancelled = client.call("DELETE", "v1/order", symbol="BTCUSDT", origClientOrderId="same")
    assert cancelled.document["status"] == "CANCELED"
    for _ in range(2):
        assert client.order("BUY", "0.010", newClientOrderId="same").document["status"] == "FILLED"
    assert client.position() == 0.02
    assert client.truth["posts"] == {"same": 4}


def test_unknown_orders_have_codes(client):
    named = {"symbol": "BTCUSDT", "origClientOrderId": "never"}
    assert client.call("GET", "v1/order", **named).code == -2013
    assert client.call("DELETE", "v1/order", **named).code == -2011
    assert client.call("GET", "v1/order", symbol="BTCUSDT").code == -1102


def test_resting_target_blocks_close(client):
    """A reduce-only order beside a resting one of the whole position is refused with -4118."""
    client.order("BUY", "0.010")
    target = client.limit("SELL", "0.010", client.price() * 1.02, reduceOnly="true")
    assert target.document["status"] == "NEW"
    assert client.order("SELL", "0.010", reduceOnly="true").code == -4118
    client.call("DELETE", "v1/allOpenOrders", symbol="BTCUSDT")
    closed = client.order("SELL", "0.020", reduceOnly="true").document
    assert (closed["status"], closed["executedQty"]) == ("FILLED", "0.010")
    assert client.position() == 0


def test_closing_expires_resting_targets(client):
    """A resting reduce-only order ends with the position."""
    client.order("BUY", "0.010")
    client.limit("SELL", "0.010", client.price() * 1.02, reduceOnly="true", newClientOrderId="tp")
    client.order("SELL", "0.010")
    asked = client.call("GET", "v1/order", symbol="BTCUSDT", origClientOrderId="tp").document
    assert asked["status"] == "EXPIRED"


def test_unfilled_orders_are_forgotten(client, exchange):
    """A query forgets a cancelled order without fills after three days, and no other."""
    client.order("BUY", "0.010", newClientOrderId="filled")
    client.limit("BUY", "0.010", client.price() * 0.99, newClientOrderId="cancelled")
    client.call("DELETE", "v1/order", symbol="BTCUSDT", origClientOrderId="cancelled")
    client.order("SELL", "0.010")
    exchange.advance(3 * 86_400)
    codes = [
        client.call("GET", "v1/order", symbol="BTCUSDT", origClientOrderId=name).code
        for name in ("filled", "cancelled")
    ]
    assert codes == [0, -2013]


def test_trades_page_by_id(client):
    """Trades come from an id on, in a span of seven days at most, and not by both."""
    for _ in range(5):
        client.order("BUY", "0.010")
    every = client.call("GET", "v1/userTrades", symbol="BTCUSDT").document
    first = every[0]["id"]
    page = client.call("GET", "v1/userTrades", symbol="BTCUSDT", fromId=first + 1, limit=2).document
    assert page == every[1:3]
    now = NOON + 30_000
    asked = {"symbol": "BTCUSDT", "startTime": now, "endTime": now, "limit": 3}
    assert client.call("GET", "v1/userTrades", **asked).document == every[:3]
    assert client.call("GET", "v1/userTrades", **asked, fromId=1).code == -1128
    asked["endTime"] = now + 8 * 86_400_000
    assert client.call("GET", "v1/userTrades", **asked).code == -4165


def test_order_rate_is_limited(client):
    """The 301st order within ten seconds is refused, although the others were refused too."""
    client.at_ms = NOON + 30_000
    for number in range(300):
        counted = client.order("BUY", "0", newClientOrderId=str(number))
    assert counted.headers["x-mbx-order-count-10s"] == "300"
    refused = client.order("BUY", "0.010")
    assert (refused.status, refused.code) == (429, -1015)
    client.exchange.advance(10)
    client.at_ms = None
    placed = client.order("BUY", "0.010")
    assert (placed.status, placed.headers["x-mbx-order-count-1m"]) == (200, "302")


def test_test_orders_trade_nothing(client):
    sent = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.010"}
    assert client.call("POST", "v1/order/test", **sent).status == 200
    assert client.call("POST", "v1/order/test", **sent | {"quantity": "0"}).code == -4003
    assert client.truth["orders"] == []
