"""Binance's replies and events, in the shapes of its documentation, read into messages."""

import pytest

from pipeline_assets.trading.binance_events import (
    FundingDue,
    KeyExpired,
    LeverageChanged,
    read_event,
)
from pipeline_assets.trading.binance_replies import (
    TriggeredOrders,
    VenueReplyError,
    fill_of,
    open_orders_of,
    order_seen,
    payments_of,
    positions_of,
    reading,
    stop_seen,
)
from pipeline_assets.trading.messages import FillSeen, FundingPaid, OpenOrder, OrderSeen
from pipeline_assets.trading.order_types import Fill, Status

_ORDER = {
    "avgPrice": "0.00000",
    "clientOrderId": "abc",
    "cumQuote": "0",
    "executedQty": "0.004",
    "orderId": 1917641,
    "origQty": "0.40",
    "origType": "LIMIT",
    "price": "7000.1",
    "reduceOnly": False,
    "side": "BUY",
    "positionSide": "BOTH",
    "status": "NEW",
    "stopPrice": "0",
    "symbol": "BTCUSDT",
    "time": 1579276756075,
    "type": "LIMIT",
}
_STOP = {
    "algoId": 2146760,
    "clientAlgoId": "s-1",
    "algoType": "CONDITIONAL",
    "orderType": "STOP_MARKET",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "positionSide": "BOTH",
    "quantity": "0.01",
    "algoStatus": "NEW",
    "actualOrderId": "",
    "triggerPrice": "750.000",
    "price": "0.000",
    "reduceOnly": True,
}
_TRADE = {
    "buyer": False,
    "commission": "0.07819010",
    "commissionAsset": "USDT",
    "id": 698759,
    "orderId": 25851813,
    "price": "7819.01",
    "qty": "0.002",
    "side": "SELL",
    "positionSide": "BOTH",
    "symbol": "BTCUSDT",
    "time": 1569514978020,
}
_UPDATE = {
    "s": "BTCUSDT",
    "c": "abc",
    "S": "SELL",
    "o": "MARKET",
    "q": "0.002",
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "i": 8886774,
    "l": "0.001",
    "z": "0.001",
    "L": "7819.5",
    "N": "USDT",
    "n": "0.004",
    "T": 1568879465650,
    "t": 77,
    "ot": "MARKET",
}


def _event(kind, row):
    return {"e": kind, "E": 1568879465651, "T": 1568879465650, "o": row}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("NEW", Status.OPEN),
        ("PARTIALLY_FILLED", Status.OPEN),
        ("FILLED", Status.FILLED),
        ("CANCELED", Status.CANCELED),
        ("EXPIRED", Status.EXPIRED),
        ("EXPIRED_IN_MATCH", Status.EXPIRED),
    ],
)
def test_query_gives_status_and_fills(word, status):
    seen = order_seen(_ORDER | {"status": word}, TriggeredOrders())
    assert seen == OrderSeen("abc", "1917641", status, 400_000, "BTCUSDT")


def test_unknown_status_is_no_guess():
    with pytest.raises(VenueReplyError, match="an order"), reading("an order"):
        order_seen(_ORDER | {"status": "SLEEPING"}, TriggeredOrders())


def test_waiting_stop_is_open():
    seen = stop_seen(_STOP, None)
    assert seen == OrderSeen("s-1", "2146760", Status.OPEN, 0, "BTCUSDT")


def test_triggered_stop_is_its_order():
    became = _ORDER | {"orderId": 5, "status": "FILLED", "executedQty": "0.01"}
    seen = stop_seen(_STOP | {"algoStatus": "FINISHED", "actualOrderId": "5"}, became)
    assert seen == OrderSeen("s-1", "2146760", Status.FILLED, 1_000_000, "BTCUSDT", "5")


def test_finished_stop_waits_for_order():
    """The order that it became is not shown yet: the stop is not at an end."""
    seen = stop_seen(_STOP | {"algoStatus": "FINISHED", "actualOrderId": "5"}, None)
    assert seen.status is Status.OPEN


def test_trade_becomes_fill():
    assert fill_of(_TRADE, "abc") == Fill(
        symbol="BTCUSDT",
        trade_id=698759,
        venue_id="25851813",
        client_id="abc",
        side="sell",
        quantity=200_000,
        price=781_901_000_000,
        fee=7_819_010,
        time=1569514978020,
    )


def test_fee_in_another_asset_is_unknown():
    assert fill_of(_TRADE | {"commissionAsset": "BNB"}, "").fee == 0


def test_positions_have_signs():
    rows = [
        {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "-0.010"},
        {"symbol": "ETHUSDT", "positionSide": "BOTH", "positionAmt": "0.000"},
    ]
    assert positions_of(rows) == {"BTCUSDT": -1_000_000}


def test_hedge_mode_is_an_error():
    row = {"symbol": "BTCUSDT", "positionSide": "LONG", "positionAmt": "1"}
    with pytest.raises(VenueReplyError, match="one-way"), reading("the positions"):
        positions_of([row])


def test_open_orders_of_both_lists():
    foreign = _STOP | {"orderType": "TRAILING_STOP_MARKET", "quantity": None, "clientAlgoId": ""}
    found = open_orders_of([_ORDER], [_STOP, foreign])
    assert found == (
        OpenOrder("BTCUSDT", "abc", "1917641", "limit", "buy", 40_000_000, 700_010_000_000),
        OpenOrder(
            *("BTCUSDT", "s-1", "2146760", "stop", "sell", 1_000_000, 75_000_000_000),
            conditional=True,
            reduce_only=True,
        ),
        OpenOrder(
            *("BTCUSDT", "", "2146760", "trailing_stop_market", "sell", 0, 75_000_000_000),
            conditional=True,
            reduce_only=True,
        ),
    )


def test_only_funding_is_a_payment():
    rows = [
        {"symbol": "BTCUSDT", "incomeType": "FUNDING_FEE", "income": "-0.37500000", "time": 9},
        {"symbol": "BTCUSDT", "incomeType": "COMMISSION", "income": "-1", "time": 9},
    ]
    assert payments_of(rows) == [FundingPaid("BTCUSDT", 9, -37_500_000)]


def test_trade_event_gives_fill_and_state():
    fill, seen = read_event(_event("ORDER_TRADE_UPDATE", _UPDATE), TriggeredOrders())
    assert isinstance(fill, FillSeen)
    assert (fill.fill.trade_id, fill.fill.quantity, fill.fill.fee) == (77, 100_000, 400_000)
    assert seen == OrderSeen("abc", "8886774", Status.OPEN, 100_000, "BTCUSDT")


def test_events_show_resting_orders():
    """Orders of others are shown from these, since the list of open orders is read once a minute."""
    rests = {
        "x": "NEW",
        "X": "NEW",
        "S": "BUY",
        "o": "LIMIT",
        "q": "0.4",
        "p": "7000.1",
        "R": False,
    }
    (seen,) = read_event(_event("ORDER_TRADE_UPDATE", _UPDATE | rests), TriggeredOrders())
    assert seen.resting == OpenOrder(
        "BTCUSDT", "abc", "8886774", "limit", "buy", 40_000_000, 700_010_000_000
    )
    algo = {"caid": "s-1", "aid": 9, "s": "BTCUSDT", "X": "NEW", "ai": "", "aq": "0"}
    (bare,) = read_event(_event("ALGO_UPDATE", algo), TriggeredOrders())
    assert bare.resting is None
    algo |= {"S": "SELL", "o": "STOP_MARKET", "q": "0.4", "p": "0", "tp": "7000.1", "R": True}
    (seen,) = read_event(_event("ALGO_UPDATE", algo), TriggeredOrders())
    assert seen.resting == OpenOrder(
        *("BTCUSDT", "s-1", "9", "stop", "sell", 40_000_000, 700_010_000_000),
        conditional=True, reduce_only=True,
    )  # fmt: skip


def test_event_in_envelope_is_read():
    event = {"stream": "key", "data": _event("ORDER_TRADE_UPDATE", _UPDATE)}
    assert len(read_event(event, TriggeredOrders())) == 2


def test_expired_order_keeps_its_fills():
    row = _UPDATE | {"x": "EXPIRED", "X": "EXPIRED", "l": "0", "t": 0}
    assert read_event(_event("ORDER_TRADE_UPDATE", row), TriggeredOrders()) == [
        OrderSeen("abc", "8886774", Status.EXPIRED, 100_000, "BTCUSDT")
    ]


def test_liquidation_keeps_its_name():
    row = _UPDATE | {"c": "autoclose-99", "x": "CALCULATED", "X": "NEW_INSURANCE"}
    (fill,) = read_event(_event("ORDER_TRADE_UPDATE", row), TriggeredOrders())
    assert fill.fill.client_id == "autoclose-99"


def test_triggered_stop_owns_its_trades():
    """The order that a stop became may have another client id; its trades are the stop's."""
    triggered = TriggeredOrders()
    algo = {"caid": "s-1", "aid": 9, "s": "BTCUSDT", "X": "TRIGGERED", "ai": "8886774", "aq": "0"}
    assert read_event(_event("ALGO_UPDATE", algo), triggered) == [
        OrderSeen("s-1", "9", Status.OPEN, 0, "BTCUSDT", "8886774")
    ]
    fill, seen = read_event(_event("ORDER_TRADE_UPDATE", _UPDATE | {"c": "x-1"}), triggered)
    assert fill.fill.client_id == "s-1"
    assert seen == OrderSeen("s-1", "9", Status.OPEN, 100_000, "BTCUSDT", "8886774")


def test_rejected_stop_is_at_its_end():
    algo = {"caid": "s-1", "aid": 9, "s": "BTCUSDT", "X": "REJECTED", "ai": "", "rm": "Reduce Only"}
    (seen,) = read_event(_event("ALGO_UPDATE", algo), TriggeredOrders())
    assert seen.status is Status.REJECTED


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"e": "listenKeyExpired", "listenKey": "x"}, [KeyExpired()]),
        ({"e": "ACCOUNT_UPDATE", "a": {"m": "FUNDING_FEE", "B": []}}, [FundingDue()]),
        ({"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER", "B": []}}, []),
        (
            {"e": "ACCOUNT_CONFIG_UPDATE", "ac": {"s": "BTCUSDT", "l": 25}},
            [LeverageChanged("BTCUSDT", 25)],
        ),
        ({"e": "ACCOUNT_CONFIG_UPDATE", "ai": {"j": True}}, []),
        ({"e": "TRADE_LITE"}, []),
        ({}, []),
    ],
)
def test_other_events(event, found):
    assert read_event(event, TriggeredOrders()) == found


def test_malformed_event_is_named():
    with pytest.raises(VenueReplyError, match="private stream"):
        read_event(_event("ORDER_TRADE_UPDATE", {"s": "BTCUSDT"}), TriggeredOrders())
