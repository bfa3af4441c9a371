"""Injected faults: a client sees each of them, a seed repeats them, and a call ends them."""

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
def test_failures_have_binances_bodies(exchange, fault, status, code):
    """Failures of the exchange have Binance's error bodies."""
    exchange.faults(**{fault: 1})
    reply = get(exchange.url, "klines", **ASKED)
    assert (reply.status, reply.document["code"]) == (status, code)
    assert set(reply.document) == {"code", "msg"}
    assert exchange.state()["faults_struck"] == {fault: 1}
    exchange.faults()
    assert get(exchange.url, "klines", **ASKED).status == 200


def test_html_502_has_code_0(exchange):
    """An HTML page with status 502 reaches the client with error code 0."""
    exchange.faults(html_502=1)
    with pytest.raises(BinanceAPIException) as caught:
        klines(exchange.url, **ASKED)
    assert (caught.value.status_code, caught.value.code) == (502, 0)


def test_truncated_reply_is_too_short(exchange):
    """A truncated reply is shorter than its stated length."""
    exchange.faults(truncated=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        get(exchange.url, "klines", **ASKED)


def test_cut_json_does_not_parse(exchange):
    """A reply of cut JSON is complete as HTTP and cannot be parsed."""
    whole = get(exchange.url, "klines", **ASKED).body
    exchange.faults(cut_json=1)
    reply = get(exchange.url, "klines", **ASKED)
    assert reply.status == 200
    assert reply.body == whole[: len(whole) // 2]


def test_a_reset_connection_gives_no_reply(exchange):
    exchange.faults(reset=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        get(exchange.url, "klines", **ASKED)


def test_hanging_reply_meets_client_timeout(exchange):
    """A hanging reply lasts until the client's timeout."""
    exchange.faults(hang=1)
    with pytest.raises(asyncio.TimeoutError):
        get(exchange.url, "klines", timeout=0.2, **ASKED)


def test_hanging_reply_ends_unanswered(exchange):
    """A hanging reply ends without an answer."""
    exchange.faults(hang=1, hang_seconds=0)
    with pytest.raises(aiohttp.ClientConnectionError):
        get(exchange.url, "klines", **ASKED)


@pytest.mark.parametrize(
    ("down", "expected"), [("reset", aiohttp.ClientConnectionError), ("http_503", None)]
)
def test_down_exchange_answers_nobody(exchange, down, expected):
    """An exchange that is down answers no request."""
    exchange.faults(down=down)
    for path in ("ping", "time", "exchangeInfo"):
        if expected is None:
            assert get(exchange.url, path).status == 503
        else:
            with pytest.raises(expected):
                get(exchange.url, path)
    assert exchange.state()["faults"] == {"down": down}


def test_rows_are_doubled_disordered_or_missing(exchange, truth):
    """Rows come twice, in disorder, or not at all."""
    exchange.faults(duplicate_rows=1)
    assert get(exchange.url, "klines", **ASKED).document == truth[:5] + truth[4:]
    exchange.faults(missing_rows=1)
    assert get(exchange.url, "klines", **ASKED).document == truth[:4] + truth[5:]
    exchange.faults(shuffled_rows=1)
    shuffled = get(exchange.url, "klines", **ASKED).document
    assert shuffled != truth
    assert sorted(shuffled) == truth


def test_malformed_row_is_no_candle(exchange, truth):
    """A malformed row cannot be a candle."""
    exchange.faults(malformed_rows=1)
    rows = get(exchange.url, "klines", **ASKED).document
    wrong = [row for row in rows if float(row[2]) < float(row[3]) or row[0] % MINUTE]
    assert len(wrong) == 1
    assert [row for row in rows if row not in wrong] == truth[:4] + truth[5:]


def test_disguised_open_row_claims_closed(exchange, truth):
    """A disguised open row claims to have closed."""
    now_ms = exchange.state()["now_ms"]
    assert truth[-1][6] > now_ms
    exchange.faults(disguised_open_row=1)
    rows = get(exchange.url, "klines", **ASKED).document
    assert rows[-1][6] < now_ms
    assert rows[-1][:6] == truth[-1][:6]
    assert rows[:-1] == truth[:-1]


def test_settling_candle_is_short(exchange, truth):
    """A candle is incomplete for a while after its close, until it has settled."""
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


def test_ban_comes_once_and_ends(exchange):
    """A ban comes once and ends by the exchange's clock."""
    exchange.faults(ban_seconds=90)
    reply = get(exchange.url, "klines", **ASKED)
    assert (reply.status, reply.headers["Retry-After"]) == (418, "90")
    exchange.advance(89)
    assert get(exchange.url, "klines", **ASKED).headers["Retry-After"] == "1"
    exchange.advance(1)
    assert get(exchange.url, "klines", **ASKED).status == 200


def test_one_symbol_fails_alone(exchange):
    """One symbol fails and the others do not."""
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


def test_seed_replays_failures_in_any_order(exchange):
    """A seed replays its failures whatever the order of requests."""
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
def test_impossible_faults_are_refused(exchange, faults, message):
    """Faults that cannot be made are refused by name."""
    with pytest.raises(ValueError, match=message):
        Faults.parse(faults)
    with pytest.raises(HTTPError) as caught:
        exchange.faults(**faults)
    assert message in caught.value.read().decode()
    assert exchange.state()["faults"] == {}
