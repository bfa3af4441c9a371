"""Injected faults: each is seen by a client, strikes alike from a seed, and ends when told."""

import asyncio
from collections import Counter
from urllib.error import HTTPError

import aiohttp
import pytest
from binance.exceptions import BinanceAPIException

from pipeline_assets.local.exchange.faults import Faults
from pipeline_assets_tests.local.exchange.helpers import get, klines

MINUTE = 60_000
ASKED = {"symbol": "BTCUSDT", "interval": "1m", "limit": 9}
OTHER = {"symbol": "ETHUSDT", "interval": "1m", "limit": 9}


@pytest.fixture
def truth(exchange):
    return get(exchange.url, "klines", **ASKED).document


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("http_500", 500, -1000), ("http_503", 503, -1001), ("http_408", 408, -1007)],
)
def test_failures_of_the_exchange_have_binances_bodies(exchange, fault, status, code):
    exchange.faults(**{fault: 1})
    reply = get(exchange.url, "klines", **ASKED)
    assert (reply.status, reply.document["code"]) == (status, code)
    assert set(reply.document) == {"code", "msg"}
    assert exchange.state()["faults_struck"] == {fault: 1}
    exchange.faults()
    assert get(exchange.url, "klines", **ASKED).status == 200


def test_an_html_502_reaches_the_client_with_code_0(exchange):
    exchange.faults(html_502=1)
    with pytest.raises(BinanceAPIException) as caught:
        klines(exchange.url, **ASKED)
    assert (caught.value.status_code, caught.value.code) == (502, 0)


def test_a_truncated_reply_is_short_of_its_length(exchange):
    exchange.faults(truncated=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        get(exchange.url, "klines", **ASKED)


def test_cut_json_is_a_whole_reply_that_does_not_parse(exchange):
    whole = get(exchange.url, "klines", **ASKED).body
    exchange.faults(cut_json=1)
    reply = get(exchange.url, "klines", **ASKED)
    assert reply.status == 200
    assert reply.body == whole[: len(whole) // 2]


def test_a_reset_connection_gives_no_reply(exchange):
    exchange.faults(reset=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        get(exchange.url, "klines", **ASKED)


def test_a_hanging_reply_runs_into_the_clients_timeout(exchange):
    exchange.faults(hang=1)
    with pytest.raises(asyncio.TimeoutError):
        get(exchange.url, "klines", timeout=0.2, **ASKED)


def test_a_hanging_reply_ends_without_an_answer(exchange):
    exchange.faults(hang=1, hang_seconds=0)
    with pytest.raises(aiohttp.ClientConnectionError):
        get(exchange.url, "klines", **ASKED)


@pytest.mark.parametrize(
    ("down", "expected"), [("reset", aiohttp.ClientConnectionError), ("http_503", None)]
)
def test_an_exchange_that_is_down_answers_nobody(exchange, down, expected):
    exchange.faults(down=down)
    for path in ("ping", "time", "exchangeInfo"):
        if expected is None:
            assert get(exchange.url, path).status == 503
        else:
            with pytest.raises(expected):
                get(exchange.url, path)
    assert exchange.state()["faults"] == {"down": down}


def test_rows_come_twice_disordered_or_not_at_all(exchange, truth):
    exchange.faults(duplicate_rows=1)
    assert get(exchange.url, "klines", **ASKED).document == truth[:5] + truth[4:]
    exchange.faults(missing_rows=1)
    assert get(exchange.url, "klines", **ASKED).document == truth[:4] + truth[5:]
    exchange.faults(shuffled_rows=1)
    shuffled = get(exchange.url, "klines", **ASKED).document
    assert shuffled != truth
    assert sorted(shuffled) == truth


def test_a_malformed_row_cannot_be_a_candle(exchange, truth):
    exchange.faults(malformed_rows=1)
    rows = get(exchange.url, "klines", **ASKED).document
    wrong = [row for row in rows if float(row[2]) < float(row[3]) or row[0] % MINUTE]
    assert len(wrong) == 1
    assert [row for row in rows if row not in wrong] == truth[:4] + truth[5:]


def test_a_disguised_open_row_claims_to_have_closed(exchange, truth):
    now_ms = exchange.state()["now_ms"]
    assert truth[-1][6] > now_ms
    exchange.faults(disguised_open_row=1)
    rows = get(exchange.url, "klines", **ASKED).document
    assert rows[-1][6] < now_ms
    assert rows[-1][:6] == truth[-1][:6]
    assert rows[:-1] == truth[:-1]


def test_a_settling_candle_is_short_for_a_while_after_its_close(exchange, truth):
    settled = truth[-2]
    exchange.faults(settling_ms=30_001)
    short = get(exchange.url, "klines", **ASKED).document[-2]
    assert short[0] == settled[0]
    assert float(short[5]) < float(settled[5])
    exchange.advance(0.001)
    assert get(exchange.url, "klines", **ASKED).document[-2] == settled


def test_a_storm_of_429_passes(exchange):
    exchange.faults(refuse_next=2)
    replies = [get(exchange.url, "klines", **ASKED) for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 429, 200]
    assert replies[0].headers["Retry-After"] == "30"
    assert replies[0].document["code"] == -1003


def test_a_ban_comes_once_and_ends_by_the_exchanges_clock(exchange):
    exchange.faults(ban_seconds=90)
    reply = get(exchange.url, "klines", **ASKED)
    assert (reply.status, reply.headers["Retry-After"]) == (418, "90")
    exchange.advance(89)
    assert get(exchange.url, "klines", **ASKED).headers["Retry-After"] == "1"
    exchange.advance(1)
    assert get(exchange.url, "klines", **ASKED).status == 200


def test_one_symbol_fails_and_the_others_do_not(exchange):
    exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
    assert get(exchange.url, "klines", **OTHER).status == 500
    assert get(exchange.url, "klines", **ASKED).status == 200
    exchange.faults(http_500=1, symbols={"ETHUSDT": {"http_500": 0}})
    assert get(exchange.url, "klines", **OTHER).status == 200
    assert get(exchange.url, "klines", **ASKED).status == 500


def statuses(exchange, limits, **faults):
    exchange.faults(**faults)
    return [
        get(exchange.url, "klines", symbol="BTCUSDT", interval="1m", limit=limit).status
        for limit in limits
    ]


def test_a_seed_replays_its_failures_whatever_the_order_of_requests(exchange):
    limits = [limit for limit in range(1, 31) for _ in range(2)]
    first = statuses(exchange, limits, http_500=0.4, seed=3)
    assert {200, 500} == set(first)
    assert statuses(exchange, limits, http_500=0.4, seed=3) == first
    assert statuses(exchange, limits, http_500=0.4, seed=4) != first
    turned = [limit for _ in range(2) for limit in range(30, 0, -1)]
    again = statuses(exchange, turned, http_500=0.4, seed=3)
    by_limit = sorted(zip(limits, first, strict=True))
    assert sorted(zip(turned, again, strict=True)) == by_limit


def test_a_share_strikes_about_that_share(exchange):
    counted = Counter(statuses(exchange, range(1, 101), http_503=0.3))
    assert 15 <= counted[503] <= 45


def test_latency_holds_replies_back(exchange):
    exchange.faults(latency_ms=30_000)
    with pytest.raises(asyncio.TimeoutError):
        get(exchange.url, "ping", timeout=0.2)


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"http_999": 1}, "no fault 'http_999'"),
        ({"http_500": 2}, "share of the requests"),
        ({"http_500": "often"}, "must be a number"),
        ({"latency_ms": -1}, "must be a number"),
        ({"down": "maybe"}, "down must be"),
        ({"symbols": {"ETHUSDT": {"latency_ms": 1}}}, "no fault 'latency_ms'"),
        ({"symbols": ["ETHUSDT"]}, "must map symbols"),
    ],
)
def test_faults_that_make_no_sense_are_refused_by_name(exchange, faults, message):
    with pytest.raises(ValueError, match=message):
        Faults.parse(faults)
    with pytest.raises(HTTPError) as caught:
        exchange.faults(**faults)
    assert message in caught.value.read().decode()
    assert exchange.state()["faults"] == {}
