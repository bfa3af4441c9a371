"""Cursors of ingest runs and marks of finalized days, on a real S3 server."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.candle_objects import WrittenObject, object_key
from pipeline_assets.resources.finalized_days import (
    Absence,
    FinalizedDay,
    finalized_days,
    finalized_symbols,
    mark_finalized,
    read_finalized,
)
from pipeline_assets.resources.ingest_state import (
    IngestState,
    read_ingest_state,
    write_ingest_state,
)
from pipeline_assets.resources.listing_history import read_universe, write_universe
from pipeline_assets.resources.object_store import ObjectStore

TODAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ONE = Interval.ONE_MINUTE
SYMBOLS = ["BTCUSDT", "币安人生USDT", "NEWUSDT"]
WHOLE = FinalizedDay('"1"')
HOLED = FinalizedDay(None, ((Window(NOON, NOON + timedelta(hours=2)), Absence.CONFIRMED),))


@pytest.fixture
def store(s3_bucket):
    return ObjectStore(s3_bucket.settings())


def written(symbol: str, start: datetime, newest: datetime, etag: str = '"1"') -> WrittenObject:
    return WrittenObject(object_key(ONE, symbol, start), etag, symbol, 1, newest, changed=True)


def test_state_is_read_as_written(store):
    """A state is read as it was written."""
    state = IngestState().after(
        [written("BTCUSDT", NOON, NOON, '"a"'), written("币安人生USDT", NOON, NOON, '"b"')], SYMBOLS
    )
    write_ingest_state(store, ONE, state)
    read = read_ingest_state(store, ONE, SYMBOLS, NOON)
    assert dict(read.newest) == {"BTCUSDT": NOON, "币安人生USDT": NOON}
    assert dict(read.etags) == {
        "ohlcv/1m/BTCUSDT/20261120_1200.parquet": '"a"',
        "ohlcv/1m/币安人生USDT/20261120_1200.parquet": '"b"',
    }


def test_intervals_have_states_of_their_own(store):
    write_ingest_state(store, ONE, IngestState({"BTCUSDT": NOON}))
    assert read_ingest_state(store, Interval.ONE_HOUR, SYMBOLS, NOON).newest == {}


def test_ingest_keeps_newest_time_forgets_etags():
    """An ingest run keeps the newest time and forgets ETags of earlier objects."""
    both = {"BTCUSDT", "ETHUSDT"}
    state = IngestState().after([written("BTCUSDT", NOON - timedelta(hours=1), NOON, '"a"')], both)
    state = state.after([written("ETHUSDT", NOON, NOON, '"b"')], both)
    state = state.after([written("BTCUSDT", NOON, NOON - timedelta(minutes=5), '"c"')], both)
    assert state.newest == {"BTCUSDT": NOON, "ETHUSDT": NOON}
    assert state.etags == {
        object_key(ONE, "ETHUSDT", NOON): '"b"',
        object_key(ONE, "BTCUSDT", NOON): '"c"',
    }


def test_uncollected_symbol_is_forgotten():
    """A symbol that is not collected any more is forgotten."""
    state = IngestState().after(
        [written("BTCUSDT", NOON, NOON), written("OLDUSDT", NOON, NOON)], SYMBOLS
    )
    state = state.after([], {"BTCUSDT"})
    assert state.newest == {"BTCUSDT": NOON}
    assert list(state.etags) == [object_key(ONE, "BTCUSDT", NOON)]


def test_lost_state_is_rebuilt_from_objects(store):
    """A lost state is rebuilt from the objects of the open day."""
    for hour in (0, 11, 12):
        store.put(object_key(ONE, "BTCUSDT", NOON.replace(hour=hour)), b"x")
    yesterday = NOON - timedelta(days=1)
    store.put(object_key(ONE, "NEWUSDT", yesterday), b"x")
    store.put(object_key(ONE, "币安人生USDT", NOON.replace(hour=0)), b"x")
    state = read_ingest_state(store, ONE, SYMBOLS, NOON)
    # The state does not say how full the newest object is, so the hour is read again from its start.
    assert state.newest == {
        "BTCUSDT": NOON - timedelta(minutes=1),
        "币安人生USDT": NOON.replace(hour=0) - timedelta(minutes=1),
    }
    # An ETag in the state means that an ingest run wrote the object and knows its content.
    assert state.etags == {}


def test_finalized_symbols_add_up(store, s3_bucket):
    """Finalized symbols add up, and a repeat writes nothing."""
    assert finalized_symbols(store, ONE, TODAY) == frozenset()
    mark_finalized(store, ONE, TODAY, {"BTCUSDT": WHOLE})
    mark_finalized(store, ONE, TODAY, {"币安人生USDT": HOLED})
    (before,) = store.objects("state/sealed/")
    mark_finalized(store, ONE, TODAY, {"BTCUSDT": WHOLE})
    (after,) = store.objects("state/sealed/")
    assert after == before
    assert finalized_symbols(store, ONE, TODAY) == {"BTCUSDT", "币安人生USDT"}
    assert read_finalized(store, ONE, TODAY) == {"BTCUSDT": WHOLE, "币安人生USDT": HOLED}
    assert finalized_symbols(store, Interval.ONE_HOUR, TODAY) == frozenset()


def test_later_mark_replaces_the_earlier(store):
    """A later mark of a symbol replaces the earlier one."""
    mark_finalized(store, ONE, TODAY, {"BTCUSDT": HOLED, "NEWUSDT": HOLED})
    mark_finalized(store, ONE, TODAY, {"BTCUSDT": WHOLE})
    assert read_finalized(store, ONE, TODAY) == {"BTCUSDT": WHOLE, "NEWUSDT": HOLED}


@pytest.mark.parametrize("other", [Absence.REJECTED, Absence.UNCONFIRMED])
def test_exchange_holes_leave_day_complete(other):
    """A day is complete if each of its holes is the exchange's own."""
    hours = [Window(NOON.replace(hour=hour), NOON.replace(hour=hour + 1)) for hour in (3, 9)]
    own = (hours[0], Absence.CONFIRMED)
    assert FinalizedDay("e").complete
    assert FinalizedDay("e", (own, (hours[1], Absence.CONFIRMED))).complete
    assert not FinalizedDay("e", (own, (hours[1], other))).complete


def test_marks_with_confirmation_only_are_read(store):
    """Marks that say only whether a hole was confirmed are still read."""
    times = [NOON.replace(hour=hour).isoformat() for hour in (3, 4, 9, 10)]
    missing = [[*times[:2], True], [*times[2:], False]]
    held = {"BTCUSDT": {"etag": "e", "missing": missing}}
    store.put(f"state/sealed/1m/{TODAY:%Y%m%d}.json", json.dumps(held).encode())
    mark = read_finalized(store, ONE, TODAY)["BTCUSDT"]
    assert [absence for _, absence in mark.missing] == [Absence.CONFIRMED, Absence.UNCONFIRMED]
    mark_finalized(store, ONE, TODAY, {"BTCUSDT": mark})
    assert read_finalized(store, ONE, TODAY)["BTCUSDT"] == mark


def test_mark_names_its_part_of_day(store):
    """A mark says which part of its day it covers."""
    part = Window(NOON, NOON + timedelta(hours=12))
    mark_finalized(store, ONE, TODAY, {"NEWUSDT": FinalizedDay("e", judged=part), "BTCUSDT": WHOLE})
    held = read_finalized(store, ONE, TODAY)
    assert held == {"NEWUSDT": FinalizedDay("e", judged=part), "BTCUSDT": WHOLE}
    minute = timedelta(minutes=1)
    assert held["NEWUSDT"].covers(part)
    assert not held["NEWUSDT"].covers(Window(part.start - minute, part.end))
    assert not held["NEWUSDT"].covers(Window(part.start, part.end + minute))
    assert held["BTCUSDT"].covers(Window(NOON - timedelta(hours=12), part.end))


def test_old_marks_name_no_complete_day(store):
    """Marks of earlier versions name symbols and no complete day.

    They were a list of symbols. Their placeholder ETag matches no object.
    """
    store.put(f"state/sealed/1m/{TODAY:%Y%m%d}.json", b'["BTCUSDT","NEWUSDT"]')
    assert finalized_symbols(store, ONE, TODAY) == {"BTCUSDT", "NEWUSDT"}
    written_now = store.put(object_key(ONE, "BTCUSDT", NOON.replace(hour=0)), b"x")
    assert read_finalized(store, ONE, TODAY)["BTCUSDT"].etags != [written_now]
    assert read_finalized(store, ONE, TODAY)["BTCUSDT"].etags != []
    mark_finalized(store, ONE, TODAY, {"BTCUSDT": WHOLE})
    assert finalized_symbols(store, ONE, TODAY) == {"BTCUSDT", "NEWUSDT"}


def test_concurrent_finalizes_lose_no_symbol(store):
    """Runs that finalize at the same time lose no symbol."""
    symbols = [f"COIN{number}USDT" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda symbol: mark_finalized(store, ONE, TODAY, {symbol: WHOLE}), symbols))
    assert finalized_symbols(store, ONE, TODAY) == set(symbols)


def test_finalized_days_are_listed_in_order(store):
    """Finalized days are listed by interval, in order."""
    days = [date(2026, 11, 19), date(2026, 9, 30), date(2026, 11, 2)]
    for day in days:
        mark_finalized(store, Interval.FIFTEEN_MINUTES, day, {"BTCUSDT": WHOLE})
    assert finalized_days(store, Interval.FIFTEEN_MINUTES) == sorted(days)
    assert finalized_days(store, ONE) == []


def test_the_universe_is_kept_whole(store):
    assert read_universe(store) is None
    write_universe(store, {"seen_ms": 1, "symbols": {"币安人生USDT": [1, None, "TRADING", True]}})
    last = {"seen_ms": 2, "symbols": {}, "left_out": {"ODDUSDT": "onboardDate: is no number"}}
    write_universe(store, last)
    assert read_universe(store) == last
