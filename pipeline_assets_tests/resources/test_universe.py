"""The universe, by exchangeInfo bodies recorded on mainnet. Fetching it: test_exchange.py."""

import copy
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline_assets.resources.universe import read_listings, trading_symbols
from pipeline_assets_tests.fixtures.listings import listing
from pipeline_assets_tests.market_data import market_data


@pytest.mark.parametrize(
    "difference",
    [
        {"status": "SETTLING"},
        {"status": "PENDING_TRADING"},
        {"contract_type": "CURRENT_QUARTER"},
        {"contract_type": "TRADIFI_PERPETUAL"},
        {"quote_asset": "USDC"},
        {"underlying_type": "INDEX"},
    ],
)
def test_only_coin_usdt_perpetuals_are_kept(difference):
    """All but trading USDT perpetuals on a coin are left out."""
    assert trading_symbols([listing(symbol="ODDUSDT", **difference), listing()]) == ["BTCUSDT"]


def test_universe_is_sorted_and_unaltered():
    """The universe is sorted and keeps every character."""
    names = ["ETHUSDT", "币安人生USDT", "1000PEPEUSDT"]
    assert trading_symbols([listing(symbol=name) for name in names]) == [
        "1000PEPEUSDT",
        "ETHUSDT",
        "币安人生USDT",
    ]


def test_recorded_mainnet_info_is_read():
    """A recorded exchangeInfo of the main network is read."""
    recorded = market_data() / "rest_recorded" / "fapi_v1_exchangeInfo_mainnet_20210721.json"
    read = read_listings(json.loads(recorded.read_text(encoding="utf-8")))
    listings = read.valid
    assert read.left_out == {}
    bitcoin = next(listing for listing in listings if listing.symbol == "BTCUSDT")
    assert bitcoin.onboard_date == datetime(2019, 9, 25, 8, tzinfo=UTC)
    assert bitcoin.delivery_date == datetime(2100, 12, 25, 8, tzinfo=UTC)
    universe = trading_symbols(listings)
    assert "BTCUSDT" in universe
    # As recorded: a quarterly contract, a stablecoin quote, an index.
    assert not {"BTCUSDT_210924", "BTCBUSD", "DEFIUSDT"} & set(universe)
    assert {"BTCUSDT_210924", "BTCBUSD", "DEFIUSDT"} <= {listing.symbol for listing in listings}


# Entries as recorded, with the fields that the product relies on among others.


def entry(symbol: str = "BTCUSDT", **changes: Any) -> dict[str, Any]:
    base = symbol.removesuffix("USDT")
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}],
    } | changes


def without_field(name: str) -> dict[str, Any]:
    return {key: value for key, value in entry("ODDUSDT").items() if key != name}


@pytest.mark.parametrize(
    ("odd", "name", "why"),
    [
        (without_field("underlyingType"), "ODDUSDT", "underlyingType is missing"),
        (without_field("symbol"), "entry 1", "symbol is missing"),
        (entry("ODDUSDT", onboardDate=None), "ODDUSDT", "onboardDate: "),
        (entry("ODDUSDT", deliveryDate=10**19), "ODDUSDT", "deliveryDate: "),
        (entry("ODDUSDT", deliveryDate=-1), "ODDUSDT", "deliveryDate: "),
        (entry("ODDUSDT", onboardDate="1569398400000"), "ODDUSDT", "onboardDate: "),
        (entry("ODDUSDT", onboardDate=True), "ODDUSDT", "onboardDate: "),
        (entry("ODDUSDT", status=None), "ODDUSDT", "status: "),
        (entry("ODDUSDT", pair="BTCUSDT"), "ODDUSDT", "its pair is 'BTCUSDT'"),
        (entry("BTCUSDT"), "BTCUSDT (entry 1)", "an earlier entry is BTCUSDT too"),
        (None, "entry 1", "entry: "),
        ([], "entry 1", "entry: "),
    ],
)
def test_odd_entry_is_named_alone(odd: Any, name: str, why: str) -> None:
    """An odd entry is left out and named, and the others are read."""
    read = read_listings({"symbols": [entry(), odd, entry("ETHUSDT")]})
    assert [each.symbol for each in read.valid] == ["BTCUSDT", "ETHUSDT"]
    assert list(read.left_out) == [name]
    assert read.left_out[name].startswith(why)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            ".",
            "..",
            "../BTCUSDT",
            "BTC USDT",
            "BTCUSDT\n",
            "BTC\x00USDT",
            "BTC\u200bUSDT",
            "BTC\u00adUSDT",
        ),
        *(f"BTC{mark}USDT" for mark in "*?[];{},/\\\"'%#&=+<>|:~$"),
        *("btcusdt", "\ud800USDT", "A" * 41, "BTC\u202eUSDT", 7, ["BTCUSDT"]),
    ],
)
def test_invalid_symbol_names_are_left_out(name: Any) -> None:
    """A name that is not a valid symbol is left out with a short, printable reason."""
    read = read_listings({"symbols": [entry() | {"symbol": name}, entry("币安人生USDT")]})
    assert [each.symbol for each in read.valid] == ["币安人生USDT"]
    [(reported, why)] = read.left_out.items()
    assert f"{reported}: {why}".isprintable()
    assert len(reported) + len(why) < 200


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**19, 10**30, 1.5, "", " ", "..", "\n", "*?[;", "BTCUSDT", "x" * 5000),
    *([], {}, [None], {"symbol": "BTCUSDT"}),
)


def test_mutated_entry_harms_itself_only() -> None:
    """Each of 1000 mutated documents harms the mutated symbol only.

    A field goes, or becomes something else, or the whole entry does; wherever in the document.
    """
    chance = random.Random(13)
    names = [f"S{number}USDT" for number in range(60)]
    whole = {"symbols": [entry(name) for name in names]}
    for _ in range(1000):
        document = copy.deepcopy(whole)
        place = chance.randrange(len(names))
        mutated = document["symbols"][place]
        match chance.randrange(4):
            case 0:
                del mutated[chance.choice(list(mutated))]
            case 1:
                mutated[chance.choice(list(mutated))] = chance.choice(ODD_VALUES)
            case 2:
                mutated["symbol"] = chance.choice([*ODD_VALUES, *names])
            case 3:
                document["symbols"][place] = chance.choice(ODD_VALUES)
        read = read_listings(document)
        others = [name for name in names if name != names[place]]
        found = [each.symbol for each in read.valid if each.symbol != names[place]]
        assert found == others, document["symbols"][place]
        assert len(read.valid) + len(read.left_out) == len(names)
        assert json.dumps(read.left_out).isprintable()
