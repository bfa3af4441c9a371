"""The exchange over HTTP: what python-binance and any other client see of it."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest
from binance.exceptions import BinanceAPIException

from pipeline_assets.local.exchange.intervals import INTERVALS
from pipeline_assets.local.exchange.market import synthetic_market
from pipeline_assets_tests.fixtures.exchange import SYMBOLS, start_exchange
from pipeline_assets_tests.local.exchange.helpers import by_client, get, klines

MINUTE = 60_000
NOON = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
TRUTH = synthetic_market(SYMBOLS.split(","))


def refusal(url, **parameters):
    with pytest.raises(BinanceAPIException) as caught:
        klines(url, **parameters)
    return caught.value.status_code, caught.value.code


def test_the_client_reads_time_and_ping(exchange):
    async def ask(client):
        return await client.futures_ping(), await client.futures_time()

    assert by_client(exchange.url, ask) == ({}, {"serverTime": NOON + 30_000})


@pytest.mark.parametrize("interval", ["1m", "15m", "1h"])
@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT"])
def test_the_client_reads_the_true_candles(exchange, symbol, interval):
    start = NOON - 40 * INTERVALS[interval]
    rows = klines(
        exchange.url, symbol=symbol, interval=interval, startTime=start, endTime=NOON - 1, limit=99
    )
    assert rows == TRUTH.rows(symbol, interval, start, NOON)
    assert len(rows) == 40


def test_end_time_is_inclusive(exchange):
    """The end time of a request includes the candle that opens then."""
    times = {"startTime": NOON - 5 * MINUTE, "endTime": NOON - 2 * MINUTE}
    rows = klines(exchange.url, symbol="ETHUSDT", interval="1m", **times)
    assert [row[0] for row in rows] == [NOON - place * MINUTE for place in (5, 4, 3, 2)]


def test_off_grid_times_select_open_times(exchange):
    """Times off the grid select candles by open time."""
    times = {"startTime": NOON - 3 * MINUTE + 1, "endTime": NOON - 1}
    rows = klines(exchange.url, symbol="ETHUSDT", interval="1m", **times)
    assert [row[0] for row in rows] == [NOON - 2 * MINUTE, NOON - MINUTE]


def test_without_times_latest_rows_come(exchange):
    """Without times the latest rows come, the open candle last."""
    rows = klines(exchange.url, symbol="BTCUSDT", interval="1m", limit=3)
    assert [row[0] for row in rows] == [NOON - 2 * MINUTE, NOON - MINUTE, NOON]
    assert len(klines(exchange.url, symbol="BTCUSDT", interval="1m")) == 500


@pytest.mark.parametrize("interval", ["1m", "15m", "1h", "12h", "1d"])
def test_open_candle_grows_until_close(exchange, interval):
    """The open candle grows until it closes."""
    span = INTERVALS[interval]
    opened = NOON - NOON % span
    finished = TRUTH.rows("BTCUSDT", interval, opened, opened + span)[0]

    def seen(moment):
        exchange.set_clock(moment)
        (row,) = klines(exchange.url, symbol="BTCUSDT", interval=interval, startTime=opened)[:1]
        assert row[0] == opened
        assert row[6] == opened + span - 1
        assert row[1] == finished[1]
        assert float(finished[3]) <= float(row[3]) <= float(row[2]) <= float(finished[2])
        return row

    rows = [seen(opened + span * tenths // 10) for tenths in (0, 1, 5, 9)]
    volumes = [float(row[5]) for row in rows]
    assert volumes[0] == 0
    assert volumes == sorted(set(volumes))
    assert volumes[-1] < float(finished[5])
    assert [row[8] for row in rows] == sorted(row[8] for row in rows)
    exchange.set_clock(opened + span - 1)
    assert seen(opened + span - 1) != finished
    assert seen(opened + span) == finished


def test_the_future_is_empty(exchange):
    assert klines(exchange.url, symbol="BTCUSDT", interval="1m", startTime=NOON + MINUTE) == []


def test_start_before_listing_gives_first(exchange):
    """A start before the listing gives the first candles that exist."""
    listed = TRUTH.contracts["币安人生USDT"].onboard_ms
    rows = klines(exchange.url, symbol="币安人生USDT", interval="1m", startTime=0, limit=10)
    assert [row[0] for row in rows] == [listed + place * MINUTE for place in range(10)]
    before = {"startTime": listed - 100 * MINUTE, "endTime": listed - MINUTE}
    assert klines(exchange.url, symbol="币安人生USDT", interval="1m", **before) == []


def test_delivered_contract_ends_at_delivery(exchange):
    """A delivered contract has candles up to its delivery."""
    delivery = TRUTH.contracts["AGIXUSDT"].delivery_ms
    rows = klines(exchange.url, symbol="AGIXUSDT", interval="1m", limit=2)
    assert [row[0] for row in rows] == [delivery - 2 * MINUTE, delivery - MINUTE]
    assert klines(exchange.url, symbol="AGIXUSDT", interval="1m", startTime=delivery) == []


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"symbol": "NOPEUSDT", "interval": "1m"}, 400, -1121),
        ({"symbol": "btcusdt", "interval": "1m"}, 400, -1121),
        ({"symbol": "BTCUSDT", "interval": "7m"}, 400, -1120),
        ({"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}, 400, -1130),
        ({"symbol": "BTCUSDT", "interval": "1m", "limit": 0}, 400, -1130),
        ({"symbol": "BTCUSDT", "interval": "1m", "limit": "many"}, 400, -1130),
        ({"interval": "1m"}, 400, -1102),
        ({"symbol": "BTCUSDT"}, 400, -1102),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": "yesterday"}, 400, -1102),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": 2, "endTime": 1}, 400, -1023),
    ],
)
def test_bad_parameters_are_refused_as_binance(exchange, parameters, status, code):
    """Bad parameters are refused as Binance refuses them."""
    assert refusal(exchange.url, **parameters) == (status, code)
    assert exchange.state()["requests"]["/fapi/v1/klines"] == {"400": 1}


def test_replies_are_binances_compact_json(exchange):
    """Replies are compact JSON as Binance sends it."""
    reply = get(exchange.url, "klines", symbol="BTCUSDT", interval="1m", startTime=NOON, limit=1)
    assert reply.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert reply.body.startswith(b'[[%d,"' % NOON)
    assert reply.body.endswith(b'","0"]]')
    assert b" " not in reply.body
    assert parsedate_to_datetime(reply.headers["Date"]) == datetime(
        2026, 11, 20, 12, 0, 30, tzinfo=UTC
    )


def test_chinese_symbol_may_be_encoded(exchange):
    """A Chinese symbol may be percent-encoded."""
    rows = get(f"{exchange.url}/v1/klines?interval=1m&limit=2&symbol={quote('雪球USDT')}#", "")
    assert rows.document[0] == TRUTH.rows("雪球USDT", "1m", NOON - MINUTE, NOON)[0]


@pytest.mark.parametrize(
    ("limit", "weight"),
    [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10), (1500, 10), (None, 5)],
)
def test_a_call_weighs_by_its_limit(exchange, limit, weight):
    parameters = {} if limit is None else {"limit": limit}
    reply = get(exchange.url, "klines", symbol="BTCUSDT", interval="1m", **parameters)
    assert reply.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)
    assert len(reply.document) == (limit or 500)


def test_weight_counts_by_exchange_minute(exchange):
    """Weight is counted by minutes of the exchange's clock."""

    def used():
        return int(get(exchange.url, "ping").headers["X-MBX-USED-WEIGHT-1M"])

    assert (used(), used()) == (1, 2)
    assert refusal(exchange.url, symbol="NOPEUSDT", interval="1m", limit=499) == (400, -1121)
    assert used() == 5
    exchange.advance(29.999)
    assert used() == 6
    exchange.advance(0.001)
    assert used() == 1
    assert exchange.state()["weight"]["used"] == {
        "2026-11-20T12:00:00Z": 6,
        "2026-11-20T12:01:00Z": 1,
    }


def test_excess_weight_gives_429_then_ban():
    """Beyond the limit a request gets 429 until the next minute, and a client that continues gets a ban."""
    with start_exchange(
        clock="stepped:2026-11-20T12:00:50.500Z", weight_limit=10, ban_after=3, ban_seconds=120
    ) as exchange:
        asked = {"symbol": "BTCUSDT", "interval": "1m", "limit": 1000}
        assert [get(exchange.url, "klines", **asked).status for _ in range(2)] == [200, 200]
        refused = get(exchange.url, "klines", **asked)
        assert (refused.status, refused.document["code"]) == (429, -1003)
        assert refused.headers["Retry-After"] == "10"
        assert refused.headers["X-MBX-USED-WEIGHT-1M"] == "15"
        exchange.advance(10)
        assert get(exchange.url, "klines", **asked).status == 200

        statuses = [get(exchange.url, "klines", **asked).status for _ in range(6)]
        assert statuses == [200, 429, 429, 429, 418, 418]
        banned = get(exchange.url, "ping")
        until = NOON + 60_500 + 120_000
        assert banned.headers["Retry-After"] == "120"
        assert banned.document["code"] == -1003
        assert f"banned until {until}." in banned.document["msg"]
        exchange.set_clock(until - 1)
        assert get(exchange.url, "ping").status == 418
        exchange.set_clock(until)
        assert get(exchange.url, "ping").status == 200
        state = exchange.state()
        assert (state["sent_429"], state["sent_418"]) == (4, 4)


def test_without_a_limit_nothing_is_refused():
    with start_exchange(clock="stepped:2026-11-20T12:00:00Z", weight_limit=0) as exchange:

        async def ask(client):
            for _ in range(300):
                await client.futures_klines(symbol="BTCUSDT", interval="1m", limit=1500, endTime=1)
            return client.response.headers["X-MBX-USED-WEIGHT-1M"]

        assert by_client(exchange.url, ask) == "3000"


def test_contract_status_follows_the_clock(exchange):
    """The status of a contract follows the clock."""

    def statuses():
        info = by_client(exchange.url, lambda client: client.futures_exchange_info())
        return {entry["symbol"]: entry["status"] for entry in info["symbols"]}

    now = statuses()
    assert now["AGIXUSDT"] == "SETTLING"
    assert now["BTCUSDT_261225"] == "TRADING"
    exchange.set_clock(datetime(2026, 12, 25, 8, tzinfo=UTC))
    assert statuses()["BTCUSDT_261225"] == "SETTLING"
    exchange.set_clock(datetime(2025, 10, 1, tzinfo=UTC))
    assert statuses()["币安人生USDT"] == "PENDING_TRADING"


def test_restarted_exchange_serves_same_bytes(exchange):
    """A restarted exchange serves the same bytes."""
    asked = {"symbol": "1000PEPEUSDT", "interval": "15m", "startTime": NOON - 86_400_000}
    with start_exchange(clock="stepped:2026-11-20T12:00:30Z") as other:
        assert get(other.url, "klines", **asked).body == get(exchange.url, "klines", **asked).body


def test_outages_are_the_exchanges_truth(exchange):
    exchange.outages("2026-11-20T11:55/2026-11-20T11:58")
    rows = klines(exchange.url, symbol="BTCUSDT", interval="1m", startTime=NOON - 6 * MINUTE)
    assert [(row[0] - NOON) // MINUTE for row in rows] == [-6, -2, -1, 0]
    exchange.outages("2026-11-20T12:00/2026-11-20T12:05")
    rows = klines(exchange.url, symbol="BTCUSDT", interval="1m", startTime=NOON - 2 * MINUTE)
    assert [(row[0] - NOON) // MINUTE for row in rows] == [-2, -1]
    exchange.reset()
    assert exchange.state()["outages"] == []


def test_future_candle_does_not_exist(exchange):
    """A candle whose first minute is still to come does not exist."""
    exchange.outages("2026-11-20T12:00/2026-11-20T12:03")
    asked = {"symbol": "BTCUSDT", "interval": "15m", "startTime": NOON}
    exchange.set_clock(NOON + 3 * MINUTE - 1)
    assert klines(exchange.url, **asked) == []
    exchange.set_clock(NOON + 3 * MINUTE)
    assert [row[0] for row in klines(exchange.url, **asked)] == [NOON]


def test_listing_is_moved_by_option():
    """The time of a listing can be set on the command line."""
    with start_exchange(
        clock="stepped:2026-11-20T12:00:00Z", listed=["BTCUSDT=2026-11-20T11:07"]
    ) as exchange:
        rows = klines(exchange.url, symbol="BTCUSDT", interval="15m", startTime=0)
        minutes = klines(exchange.url, symbol="BTCUSDT", interval="1m", startTime=0)
    assert rows[0][0] == NOON - 60 * MINUTE
    assert minutes[0][0] == NOON - 53 * MINUTE


def test_unknown_path_answers_as_binance(exchange):
    """An unknown path answers as Binance does."""
    reply = get(exchange.url, "nonsense")
    assert (reply.status, reply.document["code"]) == (404, -5000)


def test_clock_continues_from_start():
    """The clock runs on from a given start."""
    with start_exchange(clock="start:2026-11-20T12:00:00Z") as exchange:
        first = exchange.state()["now_ms"]
        second = exchange.state()["now_ms"]
        exchange.set_clock(NOON + 3_600_000)
        moved = exchange.state()["now_ms"]
    assert NOON <= first <= second < NOON + 600_000
    assert NOON + 3_600_000 <= moved < NOON + 3_600_000 + 600_000
