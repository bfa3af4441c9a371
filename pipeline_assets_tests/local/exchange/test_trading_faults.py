"""Faults of orders on the replay exchange: the reply, the truth behind it, and what a seed repeats."""

import http.client
from urllib.error import URLError

import pytest

from pipeline_assets_tests.fixtures.signed import SignedClient

CUT = (ConnectionError, URLError, http.client.RemoteDisconnected)


@pytest.fixture
def client(exchange):
    return SignedClient(exchange)


@pytest.mark.parametrize(
    ("fault", "status", "code", "text", "accepted"),
    [
        ("order_503_accepted", 503, -1000, "Unknown error", True),
        ("order_503_lost", 503, -1000, "Unknown error", False),
        ("order_503_failed", 503, -1000, "Service Unavailable.", False),
        ("order_503_overloaded", 503, -1008, "throttled", False),
        ("order_408_accepted", 408, -1007, "execution status unknown", True),
        ("order_408_lost", 408, -1007, "execution status unknown", False),
    ],
)
def test_answers_hide_what_is_true(client, exchange, fault, status, code, text, accepted):
    """An error that leaves the outcome open comes for accepted and for lost orders alike."""
    exchange.faults(trading={fault: 1})
    answer = client.order("BUY", "0.010", newClientOrderId="a")
    assert (answer.status, answer.code) == (status, code)
    assert text in answer.document["msg"]
    assert len(client.truth["orders"]) == accepted
    assert client.truth["posts"] == {"a": 1}
    assert exchange.trading()["faults_struck"] == {fault: 1}
    asked = client.call("GET", "v1/order", symbol="BTCUSDT", origClientOrderId="a")
    assert asked.code == (0 if accepted else -2013)


def test_overloaded_exchange_takes_exits(client, exchange):
    """The exchange's own words: reduce-only orders are exempt from its throttle."""
    client.order("BUY", "0.010")
    exchange.faults(trading={"order_503_overloaded": 1})
    assert client.order("BUY", "0.010").code == -1008
    assert client.conditional("SELL", 80_000, reduceOnly="true").status == 200
    assert client.order("SELL", "0.010", reduceOnly="true").document["status"] == "FILLED"


@pytest.mark.parametrize(("fault", "accepted"), [("order_cut_before", 0), ("order_cut_after", 1)])
def test_connection_is_cut(client, exchange, fault, accepted):
    """A connection ends before the order is read, or after it is accepted; both were seen on the wire."""
    exchange.faults(trading={fault: 1})
    with pytest.raises(CUT):
        client.order("BUY", "0.010", newClientOrderId="a")
    with pytest.raises(CUT):
        client.conditional("SELL", 80_000, clientAlgoId="b")
    truth = client.truth
    assert (len(truth["orders"]), len(truth["algo_orders"])) == (accepted, accepted)
    assert truth["posts"] == {"a": 1, "b": 1}


def test_order_shows_after_minutes(client, exchange):
    """A hidden order is filled and held, and queries do not find it until its time has come."""
    exchange.faults(trading={"order_hidden": 1, "hidden_ms": 120_000})
    client.order("BUY", "0.010", newClientOrderId="a")
    client.conditional("SELL", 80_000, clientAlgoId="b")
    named = {"symbol": "BTCUSDT", "origClientOrderId": "a"}
    assert client.position() == 0.01
    assert client.call("GET", "v1/order", **named).code == -2013
    assert client.call("GET", "v1/algoOrder", clientAlgoId="b").code == -2013
    for path in ("v1/allOrders", "v1/userTrades", "v1/openAlgoOrders"):
        assert client.call("GET", path, symbol="BTCUSDT").document == []
    exchange.advance(119.999)
    assert client.call("GET", "v1/order", **named).code == -2013
    exchange.advance(0.001)
    assert client.call("GET", "v1/order", **named).document["status"] == "FILLED"
    assert client.call("GET", "v1/algoOrder", clientAlgoId="b").document["algoStatus"] == "NEW"


@pytest.mark.parametrize(
    ("fault", "status"),
    [("expired_with_fills", "EXPIRED"), ("expired_in_match", "EXPIRED_IN_MATCH")],
)
def test_expired_orders_have_fills(client, exchange, fault, status):
    """An order ends with half of it filled, and the position is that half."""
    exchange.faults(trading={fault: 1})
    placed = client.order("BUY", "0.010").document
    assert (placed["status"], placed["executedQty"]) == (status, "0.005")
    assert client.position() == 0.005


def test_no_prevention_without_mode(client, exchange):
    exchange.faults(trading={"expired_in_match": 1})
    placed = client.order("BUY", "0.010", selfTradePreventionMode="NONE").document
    assert placed["status"] == "FILLED"


def test_partial_fill_is_completed(client, exchange):
    """The second half comes after its time, and the order can be cancelled before."""
    exchange.faults(trading={"partial_fill": 1, "partial_ms": 5000})
    first = client.order("BUY", "0.010", newClientOrderId="a").document
    assert (first["status"], first["executedQty"]) == ("PARTIALLY_FILLED", "0.005")
    exchange.advance(5)
    named = {"symbol": "BTCUSDT", "origClientOrderId": "a"}
    assert client.call("GET", "v1/order", **named).document["status"] == "FILLED"
    client.order("BUY", "0.010", newClientOrderId="b")
    named["origClientOrderId"] = "b"
    cancelled = client.call("DELETE", "v1/order", **named).document
    assert (cancelled["status"], cancelled["executedQty"]) == ("CANCELED", "0.005")
    exchange.advance(10)
    assert client.position() == 0.015


def test_cancellations_are_struck_too(client, exchange):
    """A cancellation is done although its reply leaves the outcome open."""
    client.limit("BUY", "0.010", client.price() * 0.99, newClientOrderId="a")
    exchange.faults(trading={"cancel_503_accepted": 1})
    named = {"symbol": "BTCUSDT", "origClientOrderId": "a"}
    assert client.call("DELETE", "v1/order", **named).status == 503
    exchange.faults()
    assert client.call("GET", "v1/order", **named).document["status"] == "CANCELED"


def struck_ids(client, exchange, names, seed):
    """Return the client ids whose orders got no clear answer, sent in this order."""
    exchange.reset()
    exchange.faults(trading={"order_503_lost": 0.5, "seed": seed})
    return {
        name for name in names if client.order("BUY", "0.010", newClientOrderId=name).status == 503
    }


def test_seed_strikes_the_same_orders(client, exchange):
    """A seed strikes the same client ids in any order, another seed strikes others."""
    names = [f"order{number}" for number in range(12)]
    first = struck_ids(client, exchange, names, 3)
    assert 0 < len(first) < 12
    assert struck_ids(client, exchange, names[::-1], 3) == first
    assert struck_ids(client, exchange, names, 4) != first


def test_faults_can_be_aimed(client, exchange):
    """Faults strike one endpoint only, and a number of times."""
    exchange.faults(trading={"order_503_lost": 1, "endpoint": "algoOrder", "most": 2})
    statuses = [client.order("BUY", "0.010").status]
    statuses += [client.conditional("SELL", 80_000).status for _ in range(3)]
    assert statuses == [200, 503, 503, 200]


@pytest.mark.parametrize(
    "faults",
    [
        {"order_lost": 1},
        {"order_hidden": 2},
        {"stream_silent": 1},
        {"endpoint": "x"},
        ["order_hidden"],
    ],
)
def test_impossible_trading_faults_are_refused(exchange, faults):
    with pytest.raises(URLError):
        exchange.faults(trading=faults)
    assert exchange.state()["faults"] == {}


def test_ban_stops_orders(client, exchange):
    """A ban refuses orders with 418 before they are read, and the exchange counts the attempt."""
    exchange.faults(ban_seconds=120)
    banned = client.order("BUY", "0.010", newClientOrderId="a")
    assert (banned.status, banned.code, banned.headers["retry-after"]) == (418, -1003, "120")
    assert client.truth["orders"] == []
    assert client.truth["posts"] == {"a": 1}
