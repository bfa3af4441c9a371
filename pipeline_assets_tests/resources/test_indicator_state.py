"""The indicator states' hashes against a real Redis server: marks, and writes that lose none."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_assets.resources.indicator_state import IndicatorStateError, IndicatorStateStore
from pipeline_assets.resources.slots import CandleSlots, SlotsError
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.resources.test_slots import MINUTE, NOON, candles

BTC, ETH = "BTCUSDT", "ETHUSDT"


@pytest.fixture
def server(redis_server, redis_url) -> RedisServer:
    return redis_server


@pytest.fixture
def slots(server) -> CandleSlots:
    return CandleSlots(server.settings())


@pytest.fixture
def store(server) -> IndicatorStateStore:
    return IndicatorStateStore(server.settings())


def write(store: IndicatorStateStore, minute: int, state: bytes = b"\x00state", symbol=BTC) -> bool:
    """Write a state based on the one stored now."""
    held, _ = store.read_due([symbol])
    return store.write({symbol: (NOON + minute * MINUTE, state)}, held) == {symbol}


def test_no_state_reads_all_slots(store, slots):
    """If no state is stored, the reader returns no state and all slots."""
    slots.write(candles(BTC, range(3)))
    held, newer = store.read_due([BTC, ETH])
    assert (held[BTC].open_time, held[BTC].state, held[BTC].stale) == (None, None, False)
    assert held[ETH].open_time is None
    assert_frame_equal(newer, candles(BTC, range(3)))
    assert store.read_due([])[1].is_empty()


def test_state_comes_with_newer_candles(store, slots):
    """A state comes with the candles that it does not include yet."""
    slots.write(pl.concat([candles(BTC, range(10, 25)), candles(ETH, range(10, 25))]))
    assert write(store, 22)
    assert write(store, 23, symbol=ETH)
    held, newer = store.read_due([ETH, BTC])
    assert held[BTC].state == b"\x00state"
    assert held[BTC].open_time == NOON + 22 * MINUTE
    assert_frame_equal(newer, pl.concat([candles(BTC, [23, 24]), candles(ETH, [24])]))


def test_unchanged_state_is_not_transferred(store, slots):
    """If there is no newer candle, the bytes of the state are not transferred."""
    slots.write(candles(BTC, range(5)))
    write(store, 4)
    held, newer = store.read_due([BTC])
    assert held[BTC].open_time == NOON + 4 * MINUTE
    assert held[BTC].state is None
    assert newer.is_empty()


@pytest.mark.parametrize(
    ("then", "changed", "stale"),
    [
        (candles(BTC, [4], price=9.0), 4, True),  # a correction of what was folded
        (candles(BTC, [6], price=9.0), 6, False),  # of what was not folded yet
        (candles(BTC, [3]), 3, True),  # a hole that was passed over
        (candles(BTC, [7]), None, False),  # the next minute
        (candles(BTC, [6]), None, False),  # the same again
        (candles(BTC, [9]), None, False),  # with a hole before it
    ],
)
def test_older_slot_changes_are_marked(store, slots, then, changed, stale):
    """A change behind the newest slot is marked."""
    slots.write(candles(BTC, [0, 1, 2, 4, 5, 6]))
    write(store, 5)
    slots.write(then)
    [held] = store.read_due([BTC])[0].values()
    assert held.changed == (None if changed is None else NOON + changed * MINUTE)
    assert held.stale is stale


def test_oldest_change_is_remembered(store, slots):
    """The oldest of several changes is remembered."""
    slots.write(candles(BTC, range(10)))
    write(store, 9)
    for minute in (7, 4, 8):
        slots.write(candles(BTC, [minute], price=float(minute)))
    [held] = store.read_due([BTC])[0].values()
    assert held.changed == NOON + 4 * MINUTE


def test_stale_state_comes_with_all_slots(store, slots):
    """A stale state comes with all slots and without its bytes."""
    slots.write(candles(BTC, range(6)))
    write(store, 5)
    slots.write(candles(BTC, [2], price=9.0))
    held, newer = store.read_due([BTC])
    assert held[BTC].state is None
    assert newer["open_time"].to_list() == [NOON + minute * MINUTE for minute in range(6)]


def test_change_during_evaluation_keeps_its_mark(store, slots):
    """A slot that changes during the evaluation keeps its mark.

    Read, changed, written: the write is refused, whichever side of the state changed.
    """
    slots.write(candles(BTC, range(6)))
    write(store, 3)
    for minute in (2, 4):
        held, _ = store.read_due([BTC])
        slots.write(candles(BTC, [minute], price=10.0 * minute))
        assert store.write({BTC: (NOON + 5 * MINUTE, b"new")}, held) == frozenset()
    [after] = store.read_due([BTC])[0].values()
    assert (after.open_time, after.changed) == (NOON + 3 * MINUTE, NOON + 2 * MINUTE)


def test_second_change_is_not_the_first(store, slots):
    """A second change of the same candle is not taken for the first."""
    slots.write(candles(BTC, range(6)))
    write(store, 5)
    slots.write(candles(BTC, [2], price=8.0))
    held, _ = store.read_due([BTC])
    slots.write(candles(BTC, [2], price=9.0))
    assert store.write({BTC: (NOON + 5 * MINUTE, b"from the first")}, held) == frozenset()


def test_written_state_clears_its_mark(store, slots):
    """A written state clears the mark that it took into account."""
    slots.write(candles(BTC, range(6)))
    write(store, 5)
    slots.write(candles(BTC, [2], price=8.0))
    assert write(store, 5, b"built again")
    [after] = store.read_due([BTC])[0].values()
    assert (after.changed, after.stale) == (None, False)


def test_only_one_sensor_writes(store, server, slots):
    """If two sensors read the same state, only one of them writes."""
    slots.write(candles(BTC, range(6)))
    write(store, 3)
    other = IndicatorStateStore(server.settings())
    first, second = store.read_due([BTC])[0], other.read_due([BTC])[0]
    assert store.write({BTC: (NOON + 4 * MINUTE, b"one")}, first) == {BTC}
    assert other.write({BTC: (NOON + 5 * MINUTE, b"two")}, second) == frozenset()
    assert store.read_due([BTC])[0][BTC].open_time == NOON + 4 * MINUTE


def test_lost_state_is_not_restored(store, server):
    """A state that was lost in the meantime is not written back."""
    write(store, 3)
    held, _ = store.read_due([BTC])
    server.client().flushall()
    assert store.write({BTC: (NOON + 4 * MINUTE, b"one")}, held) == frozenset()


def test_state_briefly_outlives_its_slots(store, server, slots):
    """A state expires a little later than its slots."""
    slots.write(candles(BTC, range(6)))
    write(store, 3)
    slots.write(candles(ETH, [1, 2]))
    slots.write(candles(ETH, [1], price=7.0))  # a mark alone
    for symbol in (BTC, ETH):
        left = server.client().ttl(f"indicators:1m:{{{symbol}}}")
        assert 24 * 3600 < left <= 48 * 3600


@settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("slot"), st.integers(0, 20), st.integers(0, 2)),
            st.tuples(st.just("read"), st.just(0), st.just(0)),
            st.tuples(st.just("write"), st.just(0), st.just(0)),
        ),
        max_size=25,
    )
)
def test_no_change_goes_unseen(store, server, slots, steps):
    """Every change that a state does not include is seen.

    A model: a state "folds" the slots it read. At any later moment each candle that the slots held
    when it was read, and hold otherwise now, is newer than the state, or the state is stale.
    """
    server.client().flushall()
    held, folded, read = store.read_due([BTC])[0], {}, {}
    for step, minute, price in steps:
        if step == "slot":
            slots.write(candles(BTC, [minute], price=1.0 + price))
        elif step == "read":
            held, _ = store.read_due([BTC])
            read = prices(slots)
        elif read and store.write({BTC: (max(read), b"s")}, held):
            folded = dict(read)
        [now] = store.read_due([BTC])[0].values()
        if now.open_time is None or now.stale:
            continue
        known = {at: price for at, price in prices(slots).items() if at <= now.open_time}
        assert known == {at: price for at, price in folded.items() if at in known}


def prices(slots: CandleSlots) -> dict:
    frame = slots.read([BTC])
    newest = frame["open_time"].max()
    current = frame.filter(pl.col("open_time") > (newest or NOON) - timedelta(minutes=15))
    return dict(zip(current["open_time"], current["close"], strict=True))


def test_a_strange_slot_is_named(store, server, slots):
    slots.write(candles(BTC, [1]))
    write(store, 1)
    server.client().hset("ohlcv:1m:{BTCUSDT}", "7", "nonsense")
    with pytest.raises(SlotsError, match=r"ohlcv:1m:\{BTCUSDT\}"):
        store.read_due([BTC])


def test_down_server_error_says_next_step(own_redis_server):
    """The error for a server that is down says what to do."""
    store = IndicatorStateStore(own_redis_server.settings())
    assert write(store, 1)
    held, _ = store.read_due([BTC])
    own_redis_server.kill()
    with pytest.raises(IndicatorStateError, match="PIPELINE_REDIS__URL"):
        store.read_due([BTC])
    with pytest.raises(IndicatorStateError, match="cannot be reached"):
        store.write({BTC: (NOON, b"x")}, held)
    own_redis_server.start()
    store.read_due([BTC])


def test_states_work_on_a_cluster(redis_cluster):
    """States work through the client of a cluster."""
    server, client = redis_cluster
    slots = CandleSlots(server.settings(), client)
    store = IndicatorStateStore(server.settings(), client)
    for symbol in (BTC, "币USDT"):
        slots.write(candles(symbol, range(3)))
        assert write(store, 1, symbol=symbol)
        slots.write(candles(symbol, [0], price=3.0))
    client.script_flush()
    held, newer = store.read_due([BTC, "币USDT"])
    assert all(each.stale for each in held.values())
    assert newer.height == 6


# A clock that was wrong


def test_future_state_goes_with_next_candle(store, slots):
    """The next candle removes a state that was evaluated in the future. The state would take no candle from
    before its time, and the minutes until then would be skipped without a message.
    """
    slots.write(candles(BTC, range(2880, 2895)))
    assert write(store, 2894)
    slots.write(candles(BTC, [3]), now=NOON + 4 * MINUTE)
    held, due = store.read_due([BTC])
    assert held[BTC].open_time is None
    assert_frame_equal(due, candles(BTC, [3]))


def test_past_state_survives_future_slots(store, slots):
    """If only the slots are ahead, a state of the past stays."""
    slots.write(candles(BTC, [2]))
    assert write(store, 2)
    slots.write(candles(BTC, [2880]))
    slots.write(candles(BTC, [3]), now=NOON + 4 * MINUTE)
    held, due = store.read_due([BTC])
    assert (held[BTC].open_time, held[BTC].stale) == (NOON + 2 * MINUTE, False)
    assert_frame_equal(due, candles(BTC, [3]))
