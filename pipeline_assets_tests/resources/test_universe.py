"""The universe, by exchangeInfo bodies recorded on mainnet. Fetching it: test_exchange.py."""

import json
from datetime import UTC, datetime

import pytest

from pipeline_assets.resources.universe import Listing, read_listings, trading_symbols
from pipeline_assets_tests.market_data import market_data


def perpetual(**changes: object) -> Listing:
    started = datetime(2024, 1, 1, tzinfo=UTC)
    values: dict[str, object] = {
        "symbol": "BTCUSDT",
        "onboard_date": started,
        "delivery_date": datetime(2100, 12, 25, 8, tzinfo=UTC),
        "status": "TRADING",
        "contract_type": "PERPETUAL",
        "quote_asset": "USDT",
        "underlying_type": "COIN",
    }
    return Listing(**(values | changes))  # type: ignore[arg-type]


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
def test_what_is_no_trading_usdt_perpetual_on_a_coin_is_left_out(difference):
    assert trading_symbols([perpetual(symbol="ODDUSDT", **difference), perpetual()]) == ["BTCUSDT"]


def test_the_universe_is_sorted_and_keeps_every_character():
    names = ["ETHUSDT", "币安人生USDT", "1000PEPEUSDT"]
    assert trading_symbols([perpetual(symbol=name) for name in names]) == [
        "1000PEPEUSDT",
        "ETHUSDT",
        "币安人生USDT",
    ]


def test_a_recorded_mainnet_exchange_info_is_read():
    recorded = market_data() / "rest_recorded" / "fapi_v1_exchangeInfo_mainnet_20210721.json"
    listings = read_listings(json.loads(recorded.read_text(encoding="utf-8")))
    bitcoin = next(listing for listing in listings if listing.symbol == "BTCUSDT")
    assert bitcoin.onboard_date == datetime(2019, 9, 25, 8, tzinfo=UTC)
    assert bitcoin.delivery_date == datetime(2100, 12, 25, 8, tzinfo=UTC)
    universe = trading_symbols(listings)
    assert "BTCUSDT" in universe
    # As recorded: a quarterly contract, a stablecoin quote, an index.
    assert not {"BTCUSDT_210924", "BTCBUSD", "DEFIUSDT"} & set(universe)
    assert {"BTCUSDT_210924", "BTCBUSD", "DEFIUSDT"} <= {listing.symbol for listing in listings}
