"""The exchange's replies beside those recorded from Binance: same fields, same forms."""

import json
import re

import pytest

from pipeline_assets_tests.local.exchange.helpers import get
from pipeline_assets_tests.market_data import market_data


def recorded(path):
    """Return the bodies recorded for a path, newest recorder first."""
    file = market_data() / "rest_recorded" / "gct_binance_http_recorded.json"
    return [entry["data"] for entry in json.loads(file.read_text())["routes"][path]["GET"]]


def forms(value):
    """Return a value's shape: keys, types, and for numbers in strings that they are such."""
    if isinstance(value, dict):
        return {key: forms(one) for key, one in value.items()}
    if isinstance(value, list):
        return [forms(one) for one in value]
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return "decimal"
    return type(value).__name__


@pytest.fixture
def info(exchange):
    return get(exchange.url, "exchangeInfo").document


def test_exchange_info_has_2025_fields(info):
    """exchangeInfo has the fields of 2025."""
    (theirs,) = recorded("/fapi/v1/exchangeInfo")
    assert set(info) == set(theirs)
    assert info["rateLimits"] == theirs["rateLimits"]
    assert forms(info["assets"][0]) == forms(theirs["assets"][0])
    (bitcoin,) = (entry for entry in theirs["symbols"] if entry["symbol"] == "BTCUSDT")
    variable = ("underlyingSubType", "permissionSets")
    for ours in info["symbols"]:
        mine, real = forms(ours), forms(bitcoin)
        for name in variable:
            assert set(mine.pop(name)) <= {"str"} == set(real.pop(name))
        assert mine == real


def test_exchange_info_keeps_2021_order(info):
    """exchangeInfo keeps the order of 2021."""
    file = market_data() / "rest_recorded" / "fapi_v1_exchangeInfo_mainnet_20210721.json"
    theirs = json.loads(file.read_text())
    assert list(info) == list(theirs)

    def common(ours, real):
        return [key for key in ours if key in real] == [key for key in real if key in ours]

    assert common(info["symbols"][0], theirs["symbols"][0])


def test_bitcoins_contract_has_the_recorded_precision(info):
    (theirs,) = recorded("/fapi/v1/exchangeInfo")

    def contract(document):
        (entry,) = (one for one in document["symbols"] if one["symbol"] == "BTCUSDT")
        tick = next(f["tickSize"] for f in entry["filters"] if f["filterType"] == "PRICE_FILTER")
        step = next(f["stepSize"] for f in entry["filters"] if f["filterType"] == "LOT_SIZE")
        return tick, step, entry["pricePrecision"], entry["quantityPrecision"]

    assert contract(info) == contract(theirs)


def test_klines_rows_have_the_recorded_form(exchange):
    theirs = recorded("/fapi/v1/klines")[0][0]
    rows = get(exchange.url, "klines", symbol="BTCUSDT", interval="5m", limit=20).document
    assert {str(forms(row)) for row in rows} == {str(forms(theirs))}
    real = recorded("/fapi/v1/klines")[3][0]

    def places(row):
        return [len(value.partition(".")[2]) for value in row if isinstance(value, str)]

    assert {str(places(row)) for row in rows} == {str(places(real))}


def test_time_has_the_recorded_form(exchange):
    assert forms(get(exchange.url, "time").document) == forms(recorded("/fapi/v1/time")[0])


def test_unknown_symbol_refusal_matches_recording(exchange):
    """The refusal of an unknown symbol is the recorded one."""
    theirs = recorded("/fapi/v1/ticker/24hr")[0]
    assert theirs["code"] == -1121
    asked = get(exchange.url, "klines", symbol="BTCUSD_201225", interval="1m")
    assert asked.document == theirs
