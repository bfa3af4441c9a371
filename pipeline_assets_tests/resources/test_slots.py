"""The slots of the newest fifteen minutes, against a real Redis server."""

import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import SecretStr

from pipeline_assets.market.candles import candle_schema, empty_candles
from pipeline_assets.resources.slots import CandleSlots, SlotsError, SlotsWritten
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.fixtures.redis import RedisServer, free_port

NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
with_server = settings(
    max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def candles(symbol: str, minutes, price: float = 1.5) -> pl.DataFrame:
    """Candles at `minutes` after noon; the price identifies their write."""
    opens = [NOON + minute * MINUTE for minute in minutes]
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(opens),
            "open_time": opens,
            **dict.fromkeys(("open", "high", "low", "close"), [price] * len(opens)),
            **dict.fromkeys(
                ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"),
                [2.25] * len(opens),
            ),
            "trades": [7] * len(opens),
            "close_time": [open_time + MINUTE - timedelta(milliseconds=1) for open_time in opens],
        },
        schema=candle_schema(),
    )


@pytest.fixture
def server(redis_server, redis_url) -> RedisServer:
    return redis_server


@pytest.fixture
def slots(server) -> CandleSlots:
    return CandleSlots(server.settings())


def stored(server: RedisServer, symbol: str) -> dict[str, dict]:
    """Return what another program sees."""
    held = server.client().hgetall(f"ohlcv:1m:{{{symbol}}}")
    return {field: json.loads(value) for field, value in held.items()}


def test_slot_is_json_by_minute(server, slots):
    """A slot is a JSON object at the minute modulo fifteen."""
    assert slots.write(candles("BTCUSDT", [20])) == SlotsWritten(1, 1, 0, 0)
    assert server.client().keys() == ["ohlcv:1m:{BTCUSDT}"]
    (field, candle), = stored(server, "BTCUSDT").items()  # fmt: skip
    assert field == "5"
    assert list(candle.items()) == [
        ("open_time", 1792930800000),
        ("open", 1.5),
        ("high", 1.5),
        ("low", 1.5),
        ("close", 1.5),
        ("volume", 2.25),
        ("quote_volume", 2.25),
        ("taker_buy_volume", 2.25),
        ("taker_buy_quote_volume", 2.25),
        ("trades", 7),
        ("close_time", 1792930859999),
    ]


def test_candles_are_read_back_in_order(slots):
    """Written candles are read back for many symbols, in order."""
    frames = [candles(symbol, range(15)) for symbol in ("币安人生USDT", "ETHUSDT", "1000PEPEUSDT")]
    assert slots.write(pl.concat(frames)) == SlotsWritten(3, 45, 0, 0)
    read = slots.read(["币安人生USDT", "NONEUSDT", "ETHUSDT", "1000PEPEUSDT", "ETHUSDT"])
    assert_frame_equal(read, pl.concat(frames).sort("symbol", "open_time"), check_exact=True)


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@with_server
@given(st.lists(st.tuples(numbers, numbers, st.integers(0, 2**62)), min_size=1, max_size=15))
def test_numbers_survive_exactly(slots, values):
    """Every number is read back exactly."""
    frame = candles("BTCUSDT", range(len(values))).with_columns(
        pl.Series("low", [low for low, _, _ in values], dtype=pl.Float64),
        pl.Series("taker_buy_volume", [volume for _, volume, _ in values], dtype=pl.Float64),
        pl.Series("trades", [trades for *_, trades in values], dtype=pl.Int64),
    )
    slots.write(frame)
    read = slots.read(["BTCUSDT"], NOON + (len(values) - 1) * MINUTE)
    assert_frame_equal(read, frame, check_exact=True)
    assert [math.copysign(1, low) for low in read["low"].drop_nulls()] == [
        math.copysign(1, low) for low in frame["low"].drop_nulls()
    ]


batches = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 15)), min_size=1, max_size=8
).flatmap(lambda written: st.permutations(written + written[:2]))


@with_server
@given(batches)
def test_newest_candle_wins_in_any_order(server, slots, batches):
    """Any sequence of writes leaves the newest candle in each slot."""
    server.client().flushall()
    expected: dict[int, tuple[int, float]] = {}
    for number, (first, length) in enumerate(batches):
        minutes = range(first, first + length)
        result = slots.write(candles("BTCUSDT", minutes, price=float(number)))
        assert result.written + result.unchanged + result.kept_newer == length
        for minute in minutes:
            held = expected.get(minute % 15, (-1, 0.0))
            if minute >= held[0]:
                expected[minute % 15] = (minute, float(number))
    assert {
        int(field): (candle["open_time"], candle["close"])
        for field, candle in stored(server, "BTCUSDT").items()
    } == {
        slot: ((NOON + minute * MINUTE).timestamp() * 1000, price)
        for slot, (minute, price) in expected.items()
    }


def test_interleaved_writers_leave_newest_candles(server):
    """Writers that interleave leave the newest candle in each slot."""
    symbols = [f"S{number}USDT" for number in range(5)]
    every = [(symbol, first) for symbol in symbols for first in range(60)]
    orders = [random.Random(seed).sample(every, len(every)) for seed in range(3)]

    def write(order: list[tuple[str, int]]) -> None:
        slots = CandleSlots(server.settings())
        for symbol, first in order:
            slots.write(candles(symbol, range(first, first + 3)))

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(write, order) for order in orders]:
            done.result()
    newest = pl.concat([candles(symbol, range(47, 62)) for symbol in symbols])
    assert_frame_equal(CandleSlots(server.settings()).read(symbols), newest, check_exact=True)


def test_only_newest_fifteen_minutes_are_written(slots):
    """Only the newest fifteen minutes are written, however many rows come and in any order."""
    day = pl.concat([candles("BTCUSDT", range(1440)), candles("ETHUSDT", range(0, 60, 10))])
    assert slots.write(day.sample(fraction=1, shuffle=True, seed=1)).written == 15 + 2
    assert_frame_equal(
        slots.read(["BTCUSDT", "ETHUSDT"]),
        pl.concat([candles("BTCUSDT", range(1425, 1440)), candles("ETHUSDT", [40, 50])]),
    )


def test_a_repeated_write_changes_nothing(server, slots):
    frame = candles("BTCUSDT", range(15))
    slots.write(frame)
    before = stored(server, "BTCUSDT")
    assert slots.write(frame) == SlotsWritten(1, 0, 15, 0)
    assert stored(server, "BTCUSDT") == before


def test_correction_replaces_same_open_time(server, slots):
    """A corrected candle of the same open time replaces the first."""
    slots.write(candles("BTCUSDT", [3], price=1.0))
    assert slots.write(candles("BTCUSDT", [3], price=2.0)) == SlotsWritten(1, 1, 0, 0)
    assert stored(server, "BTCUSDT")["3"]["close"] == 2.0


def test_backfill_leaves_newer_slots_alone(server, slots):
    """A backfill of old candles changes neither newer slots nor their expiry."""
    slots.write(candles("BTCUSDT", range(15, 30)))
    server.client().expire("ohlcv:1m:{BTCUSDT}", 77)
    assert slots.write(candles("BTCUSDT", range(15))) == SlotsWritten(1, 0, 0, 15)
    assert server.client().ttl("ohlcv:1m:{BTCUSDT}") <= 77
    assert_frame_equal(slots.read(["BTCUSDT"]), candles("BTCUSDT", range(15, 30)))


@pytest.mark.parametrize("second", [[3], [4]])
def test_each_write_renews_the_expiry(server, second):
    """Each write renews the whole expiry time of the key."""
    slots = CandleSlots(server.settings(slot_ttl_seconds=4000))
    slots.write(candles("BTCUSDT", [3]))
    server.client().expire("ohlcv:1m:{BTCUSDT}", 5)
    slots.write(candles("BTCUSDT", second))
    assert 3900 < server.client().ttl("ohlcv:1m:{BTCUSDT}") <= 4000


def test_slots_of_last_quarter_are_stale(slots):
    """Slots of an earlier quarter of an hour are not current."""
    slots.write(candles("BTCUSDT", range(15)))
    slots.write(candles("BTCUSDT", range(15, 18)))
    slots.write(candles("OLDUSDT", [2]))
    slots.write(candles("EDGEUSDT", [3]))
    symbols = ["BTCUSDT", "OLDUSDT", "EDGEUSDT"]
    assert_frame_equal(
        slots.read(symbols, newest=NOON + 17 * MINUTE),
        pl.concat([candles("BTCUSDT", range(3, 18)), candles("EDGEUSDT", [3])]),
    )
    assert slots.read(symbols, newest=NOON + 16 * MINUTE)["open_time"].max() == NOON + 16 * MINUTE


def test_summary_counts_current_slots(slots):
    """The summary counts the current slots of every requested symbol."""
    slots.write(candles("BTCUSDT", range(15)))
    slots.write(candles("BTCUSDT", [25]))
    slots.write(candles("ETHUSDT", [1, 2]))
    assert slots.summary(["NONEUSDT", "ETHUSDT", "BTCUSDT"]).rows() == [
        ("NONEUSDT", 0, None),
        ("ETHUSDT", 2, NOON + 2 * MINUTE),
        ("BTCUSDT", 5, NOON + 25 * MINUTE),
    ]


def test_empty_calls_need_no_server():
    """A call without symbols or candles is answered without a server."""
    slots = CandleSlots(RedisServer(None).settings())
    assert slots.write(empty_candles()) == SlotsWritten(0, 0, 0, 0)
    assert_frame_equal(slots.read([]), empty_candles())


def test_no_slots_give_empty_frame(slots):
    """If there are no slots, the reader returns an empty candle frame."""
    assert_frame_equal(slots.read(["BTCUSDT"], NOON), empty_candles())
    assert slots.summary(["BTCUSDT"]).rows() == [("BTCUSDT", 0, None)]


def test_forgotten_script_is_sent_again(server, slots):
    """A server that forgot the script is given the script again."""
    slots.write(candles("BTCUSDT", [1]))
    server.client().script_flush()
    assert slots.write(candles("BTCUSDT", [2])).written == 1


def test_repeated_write_after_outage_is_clean(own_redis_server):
    """After an outage, the repeated write ends as if there had been none."""
    slots = CandleSlots(own_redis_server.settings())
    slots.write(candles("BTCUSDT", range(10)))
    own_redis_server.kill()
    with pytest.raises(SlotsError, match=r"cannot be reached .* or set PIPELINE_REDIS__URL"):
        slots.write(candles("BTCUSDT", range(20)))
    own_redis_server.start()
    slots.write(candles("BTCUSDT", range(20)))
    assert_frame_equal(slots.read(["BTCUSDT"]), candles("BTCUSDT", range(5, 20)))


def test_hanging_server_is_reported(own_redis_server):
    """A server that hangs is reported after the timeout."""
    slots = CandleSlots(own_redis_server.settings(timeout_seconds=0.2))
    slots.write(candles("BTCUSDT", [1]))
    own_redis_server.pause()
    with pytest.raises(SlotsError, match=r"did not answer within 0\.2 s"):
        slots.read(["BTCUSDT"])
    own_redis_server.resume()
    assert slots.read(["BTCUSDT"]).height == 1


@pytest.mark.parametrize("password", [None, SecretStr("guessed-secret")])
def test_refused_credentials_name_setting_only(tmp_path, password):
    """The error for refused credentials names the setting and no secret."""
    with RedisServer(tmp_path, SecretStr("the-real-secret")) as server:
        slots = CandleSlots(server.settings(password=password))
        with pytest.raises(SlotsError, match="PIPELINE_REDIS__PASSWORD") as caught:
            slots.write(candles("BTCUSDT", [1]))
    assert "secret" not in str(caught.value)


def test_error_address_omits_the_user():
    """An error names the address without the user."""
    port = free_port()
    url = f"redis://someone@127.0.0.1:{port}/3"
    slots = CandleSlots(RedisServer(None).settings(url=url))
    with pytest.raises(SlotsError) as caught:
        slots.read(["BTCUSDT"])
    assert f"redis://127.0.0.1:{port}/3 cannot be reached" in str(caught.value)
    assert "someone" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["nonsense", "{}", '{"open_time":"x"}', '{"open_time":60000,"open":"x"}', "[1]"]
)
def test_invalid_slot_names_its_key(server, slots, value):
    """A slot that holds no candle is an error that names the key."""
    slots.write(pl.concat([candles("ETHUSDT", [1]), candles("BTCUSDT", [1])]))
    server.client().hset("ohlcv:1m:{BTCUSDT}", "7", value)
    with pytest.raises(SlotsError, match=r"ohlcv:1m:\{BTCUSDT\}"):
        slots.read(["ETHUSDT", "BTCUSDT"])


def test_invalid_slot_is_overwritten(server, slots):
    """A slot that holds no candle is overwritten by a candle."""
    server.client().hset("ohlcv:1m:{BTCUSDT}", "7", "nonsense")
    slots.write(candles("BTCUSDT", [7]))
    assert_frame_equal(slots.read(["BTCUSDT"]), candles("BTCUSDT", [7]))


def test_slots_work_on_a_cluster(redis_cluster):
    """Slots work through the client of a cluster."""
    server, client = redis_cluster
    slots = CandleSlots(server.settings(), client)
    frame = pl.concat([candles(symbol, range(15)) for symbol in ("ADAUSDT", "BTCUSDT", "币USDT")])
    assert slots.write(frame) == SlotsWritten(3, 45, 0, 0)
    client.script_flush()
    assert slots.write(frame) == SlotsWritten(3, 0, 45, 0)
    assert_frame_equal(slots.read(["ADAUSDT", "BTCUSDT", "币USDT"]), frame)


# A clock that was wrong

HOUR = 60


def test_far_future_candle_is_replaced(server, slots):
    """A candle that a wrong clock put far ahead is replaced."""
    slots.write(candles("BTCUSDT", range(48 * HOUR, 48 * HOUR + 15), price=9.0))
    written = slots.write(candles("BTCUSDT", range(15)), now=NOON + 15 * MINUTE)
    assert written == SlotsWritten(1, 15, 0, 0, removed=15)
    assert_frame_equal(slots.read(["BTCUSDT"]), candles("BTCUSDT", range(15)))


def test_future_slots_go_with_current_candle(slots):
    """The first current candle removes every slot of the future.

    Removing the candle's own slot would not be enough: the sensor and `status` go by the newest slot.
    """
    slots.write(candles("BTCUSDT", range(48 * HOUR, 48 * HOUR + 15)))
    slots.write(candles("BTCUSDT", [3]), now=NOON + 4 * MINUTE)
    assert slots.summary(["BTCUSDT"]).rows() == [("BTCUSDT", 1, NOON + 3 * MINUTE)]


def test_minutes_of_concurrent_run_stay(slots):
    """Minutes that another run has just written stay.

    A slow run measured the exchange's time before a faster one wrote the minute after.
    """
    slots.write(candles("BTCUSDT", range(16)), now=NOON + 16 * MINUTE)
    assert slots.write(candles("BTCUSDT", range(15)), now=NOON + 15 * MINUTE) == SlotsWritten(
        1, 0, 14, 1
    )


def test_exchange_candles_ignore_local_clock(slots):
    """Candles from the exchange are kept whatever the local clock says.

    The wall clock of this machine was set back between the fetch and the write.
    """
    slots.write(candles("BTCUSDT", range(15)), now=NOON - 600 * MINUTE)
    assert slots.write(candles("BTCUSDT", range(15)), now=NOON - 600 * MINUTE).unchanged == 15
