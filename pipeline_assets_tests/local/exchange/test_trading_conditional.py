"""Conditional orders on the replay exchange: triggers at the candle's moment, refusals, and how each ends."""

from datetime import UTC, datetime

import pytest

from pipeline_assets.local.exchange.market import synthetic_market
from pipeline_assets_tests.fixtures.exchange import SYMBOLS
from pipeline_assets_tests.fixtures.signed import SignedClient

MINUTE = 60_000
NOON = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_ROWS = synthetic_market(SYMBOLS.split(",")).rows(
    "BTCUSDT", "1m", NOON + MINUTE, NOON + 61 * MINUTE
)
LOWEST = min(float(row[3]) for row in HOUR_ROWS)
HIGHEST = max(float(row[2]) for row in HOUR_ROWS)


@pytest.fixture
def client(exchange):
    return SignedClient(exchange)


@pytest.fixture
def long(client):
    """Provide a client with a long position of 0.010."""
    client.order("BUY", "0.010", newClientOrderId="entry")
    return client


def only_trade(client, skipped=1):
    """Return the one trade after those of the entry."""
    [trade] = client.call("GET", "v1/userTrades", symbol="BTCUSDT").document[skipped:]
    return trade


def test_stop_closes_at_its_trigger(long, exchange):
    """A stop is triggered in the minute whose low reaches it, and closes the position by a market order."""
    minute = next(row for row in HOUR_ROWS if float(row[3]) == LOWEST)
    placed = long.conditional("SELL", LOWEST, clientAlgoId="stop").document
    assert (placed["algoStatus"], placed["actualOrderId"]) == ("NEW", "")
    exchange.set_clock(NOON + 61 * MINUTE)
    asked = long.call("GET", "v1/algoOrder", clientAlgoId="stop").document
    assert (asked["algoStatus"], asked["actualQty"]) == ("FINISHED", "0.010")
    trade = only_trade(long)
    assert minute[0] <= trade["time"] < minute[0] + MINUTE
    assert float(trade["price"]) == pytest.approx(LOWEST, abs=0.2)
    assert long.position() == 0
    sent = long.call("GET", "v1/order", symbol="BTCUSDT", orderId=asked["actualOrderId"]).document
    assert (sent["type"], sent["origType"], sent["status"]) == ("MARKET", "STOP_MARKET", "FILLED")


def test_polling_does_not_change_fills(long, exchange):
    """The same stop is filled at the same moment and price, however often the clock is read."""
    seen = []
    for seconds in (3700, 37):
        exchange.reset()
        long.order("BUY", "0.010")
        long.conditional("SELL", LOWEST)
        for _ in range(3700 // seconds):
            exchange.advance(seconds)
        trade = only_trade(long)
        seen.append((trade["time"], trade["price"]))
    assert seen[0] == seen[1]


def test_target_and_stop_limit(long, exchange):
    """A take-profit is triggered from below; a stop-limit leaves an order that rests at its price."""
    long.conditional("SELL", HIGHEST, type="TAKE_PROFIT_MARKET", clientAlgoId="target")
    long.conditional(
        "BUY",
        HIGHEST,
        type="STOP",
        price=f"{LOWEST * 0.99:.1f}",
        reduceOnly="false",
        clientAlgoId="entry2",
    )
    exchange.set_clock(NOON + 61 * MINUTE)
    assert float(only_trade(long)["price"]) == pytest.approx(HIGHEST, abs=0.2)
    asked = long.call("GET", "v1/algoOrder", clientAlgoId="entry2").document
    assert (asked["algoStatus"], asked["actualType"]) == ("TRIGGERED", "LIMIT")
    [resting] = long.call("GET", "v1/openOrders").document
    assert (resting["status"], resting["clientOrderId"]) == ("NEW", "entry2")


def test_trailing_stop_follows(long, exchange):
    """A trailing stop sells after a fall by its rate from the highest price since it was placed."""
    trailing = {"type": "TRAILING_STOP_MARKET", "callbackRate": "0.3"}
    placed = long.conditional("SELL", 0, **trailing, triggerPrice="")
    assert placed.document["callbackRate"] == "0.3"
    exchange.advance(12 * 3600)
    trade = only_trade(long)
    rows = synthetic_market(SYMBOLS.split(",")).rows(
        "BTCUSDT", "1m", NOON, trade["time"] // MINUTE * MINUTE
    )
    entry = float(long.truth["trades"][0]["price"])
    highest = max(entry, *(float(row[2]) for row in rows))
    assert float(trade["price"]) == pytest.approx(highest * 0.997, rel=2e-4)


def test_orphan_stop_is_rejected(long, exchange):
    """A reduce-only stop outlives its position, and is rejected when triggered."""
    long.conditional("SELL", LOWEST, clientAlgoId="orphan")
    long.order("SELL", "0.010")
    assert len(long.call("GET", "v1/openAlgoOrders").document) == 1
    exchange.set_clock(NOON + 61 * MINUTE)
    asked = long.call("GET", "v1/algoOrder", clientAlgoId="orphan").document
    assert (asked["algoStatus"], asked["actualOrderId"]) == ("REJECTED", "")
    assert long.position() == 0


def test_close_position_takes_all(long, exchange):
    """An order that closes the position has no quantity, and there is one per direction."""
    price = long.price()
    assert long.conditional("SELL", LOWEST, closePosition="true", quantity="1").code == -4137
    assert long.conditional("SELL", LOWEST, closePosition="true").code == 0
    assert long.conditional("SELL", price * 0.9, closePosition="true").code == -4130
    long.order("BUY", "0.020")
    exchange.set_clock(NOON + 61 * MINUTE)
    assert long.position() == 0
    assert long.truth["trades"][-1]["qty"] == "0.030"


@pytest.mark.parametrize(
    ("side", "away", "parameters", "code"),
    [
        ("SELL", 1.01, {}, -2021),
        ("BUY", 0.99, {}, -2021),
        ("SELL", 0.99, {"type": "TAKE_PROFIT_MARKET"}, -2021),
        ("SELL", 0.99, {"quantity": "0.0101"}, -1111),
        ("SELL", 0.99, {"type": "MARKET"}, -1116),
        ("SELL", 0.99, {"algoType": "TWAP"}, -1116),
        ("SELL", 0.99, {"triggerPrice": "80000.15"}, -4014),
        ("SELL", 0.99, {"triggerPrice": ""}, -1102),
        ("SELL", 0.99, {"type": "STOP"}, -1102),
        ("SELL", 0.99, {"type": "TRAILING_STOP_MARKET", "callbackRate": "20"}, -2007),
    ],
)
def test_conditional_orders_are_refused(long, side, away, parameters, code):
    """A conditional order that the real exchange refuses gets its code, and leaves no trace."""
    assert long.conditional(side, long.price() * away, **parameters).code == code
    assert long.truth["algo_orders"] == []


def test_conditional_orders_are_cancelled(long):
    """A waiting one is cancelled by number or client id, a second time it is unknown."""
    low = long.price() * 0.9
    number = long.conditional("SELL", low, clientAlgoId="one").document["algoId"]
    assert long.conditional("SELL", low, clientAlgoId="one").code == -4116
    long.conditional("SELL", low, clientAlgoId="two")
    done = long.call("DELETE", "v1/algoOrder", algoId=number).document
    assert (done["code"], done["clientAlgoId"]) == ("200", "one")
    assert long.call("DELETE", "v1/algoOrder", clientAlgoId="one").code == -2011
    assert long.call("DELETE", "v1/algoOpenOrders", symbol="BTCUSDT").document["code"] == 200
    assert long.call("GET", "v1/openAlgoOrders").document == []
    every = long.call("GET", "v1/allAlgoOrders", symbol="BTCUSDT").document
    assert [each["algoStatus"] for each in every] == ["CANCELED", "CANCELED"]


def test_two_hundred_conditional_orders(long):
    """The 201st waiting conditional order is refused, whatever its symbol."""
    long.at_ms = NOON + 30_000
    for _ in range(200):
        assert long.conditional("SELL", LOWEST * 0.9).status == 200
    assert long.conditional("SELL", LOWEST * 0.9).code == -4045
