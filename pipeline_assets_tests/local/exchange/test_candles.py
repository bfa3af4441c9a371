"""The synthetic candles as numbers, without a server: what research may rely on in them."""

import json
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.local.exchange.catalogue import catalogue
from pipeline_assets.local.exchange.intervals import DAY, INTERVALS, MINUTE
from pipeline_assets.local.exchange.market import synthetic_market
from pipeline_assets.local.exchange.moments import parse_moment
from pipeline_assets.local.exchange.outages import Outage
from pipeline_assets_tests.examples import examples

MARKET = synthetic_market(60)
SYMBOLS = sorted(MARKET.contracts)
NOON = parse_moment("2026-11-20T12:00")
MIDNIGHT = parse_moment("2026-11-20T00:00")

days = st.integers(min_value=18_300, max_value=21_000).map(lambda day: day * DAY)
symbols = st.sampled_from(SYMBOLS)
coarser = st.sampled_from([name for name in INTERVALS if name != "1m"])


def merged(minutes):
    """One candle of these minutes' rows, by plain decimal arithmetic."""
    columns = list(zip(*minutes, strict=True))
    decimals = {place: [Decimal(text) for text in columns[place]] for place in (2, 3, 5, 7, 9, 10)}
    return {
        1: columns[1][0],
        2: max(decimals[2]),
        3: min(decimals[3]),
        4: columns[4][-1],
        5: sum(decimals[5]),
        7: sum(decimals[7]),
        8: sum(columns[8]),
        9: sum(decimals[9]),
        10: sum(decimals[10]),
    }


@settings(max_examples=examples(60))
@given(symbols, days, coarser)
def test_intervals_add_up_from_minutes(symbol, day, interval):
    """Every interval is exactly the sum of its minutes."""
    span = INTERVALS[interval]
    minutes = MARKET.rows(symbol, "1m", day, day + DAY)
    by_bucket = {}
    for row in minutes:
        by_bucket.setdefault(row[0] // span * span, []).append(row)
    rows = MARKET.rows(symbol, interval, day, day + DAY)
    assert [row[0] for row in rows] == sorted(by_bucket)
    for row in rows:
        assert row[6] == row[0] + span - 1
        for place, value in merged(by_bucket[row[0]]).items():
            assert str(row[place]) == str(value)


@settings(max_examples=examples(60))
@given(symbols, days)
def test_minutes_are_possible_candles(symbol, day):
    """Minutes are possible candles on the contract's price and quantity grid."""
    contract = MARKET.contracts[symbol]
    tick = Decimal(contract.price(contract.tick_units))
    rows = MARKET.rows(symbol, "1m", day, day + DAY)
    for row in rows:
        o, h, low, c, volume, quote, taker, taker_quote = (
            Decimal(row[place]) for place in (1, 2, 3, 4, 5, 7, 9, 10)
        )
        assert 0 < low <= min(o, c) <= max(o, c) <= h
        assert all(price % tick == 0 for price in (o, h, low, c))
        assert 0 <= taker <= volume
        assert low * volume <= quote <= h * volume
        assert low * taker <= taker_quote <= h * taker
        assert (row[8] == 0) == (volume == 0)
        if not volume:
            assert o == h == low == c
    assert all(after[1] == before[4] for before, after in pairwise(rows))


@settings(max_examples=examples(30))
@given(symbols, days)
def test_the_price_goes_on_over_midnight(symbol, day):
    rows = MARKET.rows(symbol, "1m", day - 2 * MINUTE, day + 2 * MINUTE)
    for before, after in pairwise(rows):
        assert after[0] == before[0] + MINUTE
        assert after[1] == before[4]


def test_only_small_contracts_are_silent():
    """Small contracts have minutes without trades, and large ones have none."""

    def silent(symbol):
        return sum(row[8] == 0 for row in MARKET.rows(symbol, "1m", MIDNIGHT, MIDNIGHT + DAY))

    assert silent("BTCUSDT") == 0
    assert 10 < silent("雪球USDT") < 100


def test_another_process_makes_the_same_candles():
    program = (
        "from pipeline_assets.local.exchange.market import synthetic_market\n"
        f"print(synthetic_market(60).rows('龙虾USDT', '15m', {MIDNIGHT}, {MIDNIGHT + DAY}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    ).stdout
    assert printed.strip() == str(MARKET.rows("龙虾USDT", "15m", MIDNIGHT, MIDNIGHT + DAY))


def test_seeds_candles_never_change():
    """The candles of a seed never change.

    Recorded once: lakes filled from an earlier release must stay comparable.
    """
    (row,) = MARKET.rows("BTCUSDT", "1m", NOON, NOON + MINUTE)
    assert row == [
        *(1795176000000, "87621.60", "87689.60", "87506.30", "87530.20", "17.905"),
        *(1795176059999, "1568243.80260", 2766, "10.199", "893298.99708", "0"),
    ]


def test_seed_and_symbol_change_candles():
    """Another seed or another symbol makes other candles."""
    candles = {
        str(synthetic_market([symbol], seed).rows(symbol, "1m", NOON, NOON + MINUTE))
        for symbol in ("BABAUSDT", "DABAUSDT")
        for seed in (1, 2)
    }
    assert len(candles) == 4


def test_universe_keeps_a_symbols_candles():
    """The choice of symbols does not change the candles of one of them."""
    alone = synthetic_market(["BABAUSDT"]).rows("BABAUSDT", "1h", MIDNIGHT, NOON)
    assert alone == MARKET.rows("BABAUSDT", "1h", MIDNIGHT, NOON)


@settings(max_examples=examples(100))
@given(
    symbols,
    st.sampled_from(sorted(INTERVALS)),
    st.integers(min_value=0, max_value=6 * DAY),
    st.integers(min_value=0, max_value=3 * DAY),
    st.integers(min_value=1, max_value=1500),
)
def test_page_holds_first_rows(symbol, interval, before, length, limit):
    """A page holds the first rows of the window."""
    start = NOON - 7 * DAY + before
    truth = MARKET.rows(symbol, interval, start, min(start + length + 1, NOON))
    page = MARKET.page(symbol, interval, start, min(start + length, NOON - 1), limit, NOON + DAY)
    assert [json.loads(row) for row in page] == truth[:limit]


@settings(max_examples=examples(60))
@given(
    st.sampled_from(sorted(INTERVALS)),
    st.integers(min_value=0, max_value=3 * DAY),
    st.integers(min_value=1, max_value=1500),
)
def test_page_without_start_holds_last(interval, back, limit):
    """Without a start, a page holds the last rows."""
    end = NOON - back
    truth = MARKET.rows("ETHUSDT", interval, end - 1600 * INTERVALS[interval], end + 1)
    page = MARKET.page("ETHUSDT", interval, None, end, limit, NOON + DAY)
    assert [json.loads(row) for row in page] == truth[-limit:]


@pytest.mark.parametrize("symbol", ["BTCUSDT_261225", "AGIXUSDT", "币安人生USDT"])
def test_candles_exist_from_listing_to_delivery(symbol):
    contract = MARKET.contracts[symbol]
    first = MARKET.rows(symbol, "1m", 0, contract.onboard_ms + 3 * MINUTE)
    assert [row[0] - contract.onboard_ms for row in first] == [0, MINUTE, 2 * MINUTE]
    if contract.contract_type == "PERPETUAL" and contract.status(NOON) == "TRADING":
        assert MARKET.rows(symbol, "1m", 2 * NOON, 2 * NOON + MINUTE)
    else:
        last = MARKET.rows(symbol, "1m", contract.delivery_ms - 3 * MINUTE, 2 * NOON)
        assert [row[0] - contract.delivery_ms for row in last] == [-180_000, -120_000, -60_000]


def test_outage_shortens_aggregates():
    """An outage leaves no candles, and aggregates of fewer minutes."""
    start, end = NOON + 10 * MINUTE, NOON + 40 * MINUTE
    market = synthetic_market(["BTCUSDT", "ETHUSDT"], outages=[Outage(start, end, ("BTCUSDT",))])
    whole = market.rows("ETHUSDT", "1m", NOON, NOON + 60 * MINUTE)
    assert len(whole) == 60
    left = market.rows("BTCUSDT", "1m", NOON, NOON + 60 * MINUTE)
    assert [row[0] for row in left] == [
        NOON + place * MINUTE for place in (*range(10), *range(40, 60))
    ]
    quarters = market.rows("BTCUSDT", "15m", NOON, NOON + 60 * MINUTE)
    assert [row[0] - NOON for row in quarters] == [0, 30 * MINUTE, 45 * MINUTE]
    assert str(merged(left[:10])[5]) == quarters[0][5]


def test_large_universe_has_special_symbols():
    """Nine hundred symbols include five with Chinese characters, and contracts of all other kinds."""
    contracts = catalogue(900)
    universe = [
        contract
        for contract in contracts.values()
        if contract.status(NOON) == "TRADING"
        and (contract.contract_type, contract.quote, contract.underlying_type)
        == ("PERPETUAL", "USDT", "COIN")
    ]
    assert len(universe) == 900
    assert sum(not contract.symbol.isascii() for contract in universe) == 5
    outside = set(contracts) - {contract.symbol for contract in universe}
    assert outside == {"AGIXUSDT", "ALPACAUSDT", "BTCUSDT_261225", "BTCDOMUSDT", "ETHUSDC"}
    assert len({contract.onboard_ms for contract in universe}) > 500


def test_impossible_symbol_is_refused_by_name():
    """A symbol for which no candles can be made is refused by name."""
    with pytest.raises(ValueError, match=r"'BTCEUR'.*USDT"):
        catalogue(["BTCEUR"])
