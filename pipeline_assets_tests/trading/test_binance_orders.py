"""Orders as Binance takes them: text by the symbol's filters, and nothing that the exchange would refuse."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.trading_rules import units
from pipeline_assets.trading.binance_orders import (
    OrderFilters,
    UnfitOrderError,
    filters_of,
    parameters_of,
    plain,
)
from pipeline_assets.trading.binance_replies import VenueReplyError
from pipeline_assets_tests.trading.binance_bench import new_order

_ENTRY: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "500", "maxPrice": "900000", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
        {"filterType": "MIN_NOTIONAL", "notional": "50"},
    ],
}
_FILTERS = OrderFilters.of(_ENTRY)


def _limit(price: str, **changes: Any):
    return new_order("a-1", kind="limit", price=units(price), **changes)


def test_market_order_is_explicit():
    assert parameters_of(new_order("a-1"), _FILTERS) == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "MARKET",
        "quantity": "0.01",
        "reduceOnly": "false",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "newOrderRespType": "RESULT",
        "newClientOrderId": "a-1",
    }


def test_stop_is_conditional_order():
    stop = new_order("s-1", kind="stop", side="sell", price=units("70000"), reduce_only=True)
    found = parameters_of(stop, _FILTERS)
    assert found["clientAlgoId"] == "s-1"
    assert "newClientOrderId" not in found
    wanted = {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "triggerPrice": "70000"}
    wanted |= {"workingType": "CONTRACT_PRICE", "reduceOnly": "true"}
    assert wanted.items() <= found.items()


@pytest.mark.parametrize(
    ("side", "kind", "price"),
    [
        ("buy", "limit", "70000"),
        ("sell", "limit", "70000.1"),
        ("sell", "stop", "70000.1"),
        ("buy", "stop", "70000"),
    ],
)
def test_price_rounds_to_safe_side(side, kind, price):
    """The tick grew since the core read it: a limit gets no worse, a stop triggers earlier."""
    asked = _limit("70000.04", side=side, reduce_only=True)
    found = parameters_of(asked.__class__(**{**_fields(asked), "kind": kind}), _FILTERS)
    assert found["triggerPrice" if kind == "stop" else "price"] == price


def _fields(order):
    return {name: getattr(order, name) for name in order.__struct_fields__}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"quantity": units("0.0105")}, "MARKET_LOT_SIZE 0.001"),
        ({"quantity": units("0.0004"), "reduce_only": True}, "MARKET_LOT_SIZE"),
        ({"quantity": units("121")}, "0.001 to 120"),
    ],
)
def test_unfit_quantity_is_not_sent(changes, named):
    with pytest.raises(UnfitOrderError, match=named):
        parameters_of(new_order("a-1", **changes), _FILTERS)


def test_limit_order_may_be_larger():
    assert parameters_of(_limit("70000", quantity=units("121")), _FILTERS)["quantity"] == "121"


def test_reducing_quantity_is_cut():
    order = new_order("a-1", quantity=units("0.0105"), reduce_only=True)
    assert parameters_of(order, _FILTERS)["quantity"] == "0.01"


def test_small_value_is_not_sent():
    with pytest.raises(UnfitOrderError, match="MIN_NOTIONAL 50"):
        parameters_of(_limit("4999", quantity=units("0.01")), _FILTERS)


def test_price_outside_filter_is_not_sent():
    with pytest.raises(UnfitOrderError, match="PRICE_FILTER 500 to 900000"):
        parameters_of(_limit("900001"), _FILTERS)


def test_symbol_that_stopped_only_reduces():
    stopped = OrderFilters.of(_ENTRY | {"status": "SETTLING"})
    with pytest.raises(UnfitOrderError, match="SETTLING"):
        parameters_of(new_order("a-1"), stopped)
    assert parameters_of(new_order("a-1", reduce_only=True), stopped)["reduceOnly"] == "true"


def test_unknown_symbol_is_not_sent():
    with pytest.raises(UnfitOrderError, match="list of symbols"):
        parameters_of(new_order("a-1"), None)


def test_damaged_symbol_leaves_others():
    damaged = {"symbol": "ETHUSDT", "status": "TRADING", "filters": []}
    assert filters_of({"symbols": [damaged, _ENTRY]}) == {"BTCUSDT": _FILTERS}
    with pytest.raises(VenueReplyError):
        filters_of({"symbols": [damaged]})


@given(st.decimals(min_value=0, max_value=10**9, places=8))
def test_decimals_are_plain(value):
    text = plain(value)
    assert "e" not in text.lower()
    assert Decimal(text) == value
    assert not ("." in text and text.endswith(("0", ".")))
