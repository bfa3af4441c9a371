"""The ledger of what is missing: every cause from a range in which each was made to happen."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_assets.collection.lake_coverage import gap_ledger
from pipeline_assets.collection.lake_sweep import Selection, sweep
from pipeline_assets.collection.listings import collected_lifetimes
from pipeline_assets.market.candles import candle_schema
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets.resources.finalized_days import Absence, FinalizedDay, mark_finalized
from pipeline_assets.resources.ingest_state import IngestState, write_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.damage import flip_bit, store_damaged
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

MINUTE = Interval.ONE_MINUTE
BTC, ETH, LIFE = SYMBOLS


def at(text: str) -> datetime:
    """MM-DD HH:MM of 2026, UTC."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


RANGE = Window(at("11-17 00:00"), at("11-20 00:00"))


def ledger(platform: Platform, window: Window = RANGE, interval: Interval = MINUTE, **settings):
    """Symbol, first, last, count and cause of every gap."""
    store, now = ObjectStore(platform.settings.s3), platform.now()
    configured = platform.settings.model_copy(update=settings)
    lifetimes = collected_lifetimes(store, configured, window, now)
    found = gap_ledger(store, configured, interval, window, lifetimes, now)
    assert set(found["interval"]) <= {interval.value}
    return [
        (symbol, f"{first:%m-%d %H:%M}", f"{last:%m-%d %H:%M}", count, cause)
        for symbol, _, first, last, count, cause in found.rows()
    ]


def causes(platform: Platform, *args, **options) -> dict[str, int]:
    counted: dict[str, int] = {}
    for *_, count, cause in ledger(platform, *args, **options):
        counted[cause] = counted.get(cause, 0) + count
    return counted


def bodies_read(store: ObjectStore, monkeypatch) -> list[str]:
    """The candle objects that are read from now on."""
    read: list[str] = []
    original = ObjectStore.get_with_etag

    def noted(self, key):
        if key.startswith("ohlcv/"):
            read.append(key)
        return original(self, key)

    monkeypatch.setattr(ObjectStore, "get_with_etag", noted)
    return read


def test_complete_days_need_no_reading(minutes, monkeypatch) -> None:
    """Complete days have no gap, and their objects are not read."""
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    read = bodies_read(ObjectStore(minutes.settings.s3), monkeypatch)
    assert ledger(minutes) == []
    assert read == []


def test_unfetched_days_are_one_gap(minutes) -> None:
    """Days that no run fetched are one gap a symbol, after the time before its listing."""
    minutes.backfill("1m", "2026-11-18")
    assert ledger(minutes, symbols=(BTC, ETH)) == [
        (symbol, *span)
        for symbol in (BTC, ETH)
        for span in (
            ("11-17 00:00", "11-17 23:59", 1440, "not_fetched"),
            ("11-19 00:00", "11-19 23:59", 1440, "not_fetched"),
        )
    ]


def test_outages_belong_to_the_exchange(minutes) -> None:
    """Outages of all symbols and of one are the exchange's own."""
    minutes.exchange.outages(
        "2026-11-17T10:00:00Z/2026-11-17T11:00:00Z",
        f"2026-11-18T07:10:00Z/2026-11-18T09:40:00Z/{ETH}",
    )
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    everybodys = ("11-17 10:00", "11-17 10:59", 60, "exchange_outage")
    assert ledger(minutes) == [
        (BTC, *everybodys),
        (ETH, *everybodys),
        (ETH, "11-18 07:10", "11-18 09:39", 150, "exchange_outage"),
        (LIFE, *everybodys),
    ]


def test_malformed_row_is_rejected_until_corrected(minutes) -> None:
    """A candle whose row came malformed is rejected until a valid row comes."""
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    found = ledger(minutes)
    assert {symbol for symbol, *_ in found} == {ETH}
    assert {cause for *_, cause in found} == {"set_aside"}
    # One row of each page came malformed, and nothing else is missing.
    held = minutes.stored("1m", ETH).height
    assert sum(count for *_, count, _ in found) == 3 * 1440 - held > 0
    minutes.exchange.faults()
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    assert ledger(minutes) == []


def test_archive_hole_blames_failed_exchange(
    minutes,
) -> None:
    """A hole of the archive has its own cause if the exchange then fails for the symbol."""
    with_archive = minutes.with_settings(binance={"archive": True})
    faults = {"archive_holes": 1, "cut_json": 1}
    with_archive.exchange.faults(symbols={ETH: faults})
    with_archive.backfill("1m", "2026-11-18")
    window = day_window(date(2026, 11, 18))
    found = ledger(with_archive, window)
    assert {symbol for symbol, *_ in found} == {ETH}
    assert causes(with_archive, window) == {"archive_hole": 30, "not_fetched": 1440 - 30}
    with_archive.exchange.faults()
    with_archive.backfill("1m", "2026-11-18")
    assert ledger(with_archive, window) == []


def test_hole_filled_by_exchange_is_none(minutes) -> None:
    """A hole of the archive that the exchange filled is no gap."""
    with_archive = minutes.with_settings(binance={"archive": True})
    with_archive.exchange.faults(symbols={ETH: {"archive_holes": 1}})
    with_archive.backfill("1m", "2026-11-18")
    assert ledger(with_archive, day_window(date(2026, 11, 18))) == []


def kline_requests(platform: Platform) -> int:
    return sum(platform.exchange.state()["requests"].get("/fapi/v1/klines", {}).values())


ETHS_DAY = f"2026-11-18T00:00:00Z/2026-11-19T00:00:00Z/{ETH}"


def test_empty_symbol_is_believed_beside_others(minutes) -> None:
    """An empty answer for a symbol is believed while others are served."""
    store, day = ObjectStore(minutes.settings.s3), date(2026, 11, 18)
    minutes.exchange.outages(ETHS_DAY)
    minutes.backfill("1m", "2026-11-17", "2026-11-19", symbols=[BTC, LIFE])
    # A symbol that the exchange does not list any more is no witness.
    mark_finalized(store, MINUTE, day, {"AAAUSDT": FinalizedDay('"gone"')})
    before = kline_requests(minutes)
    minutes.backfill("1m", "2026-11-18", symbols=[ETH])
    # Its first candle; three pages, each said to be empty twice more; and a candle of another symbol.
    assert kline_requests(minutes) - before == 1 + 3 * 3 + 1
    hole = (ETH, "11-18 00:00", "11-18 23:59", 1440, "exchange_outage")
    assert ledger(minutes, day_window(day)) == [hole]
    minutes.backfill("1m", "2026-11-18", symbols=[ETH])
    assert kline_requests(minutes) - before == 1 + 3 * 3 + 1, "what is known is not asked for again"


def test_empty_exchange_is_not_believed(minutes) -> None:
    """An exchange that serves no symbol is not believed.

    It does not serve what the lake holds of the day: that it serves a later candle says nothing.
    """
    minutes.backfill("1m", "2026-11-18", symbols=[BTC, LIFE])
    minutes.exchange.outages(ETHS_DAY.removesuffix(f"/{ETH}"))
    minutes.backfill("1m", "2026-11-18", symbols=[ETH])
    window = day_window(date(2026, 11, 18))
    assert ledger(minutes, window) == [(ETH, "11-18 00:00", "11-18 23:59", 1440, "not_fetched")]
    # It has them again, and it turns out that it had this symbol's too.
    minutes.exchange.outages()
    minutes.backfill("1m", "2026-11-18", symbols=[ETH])
    assert ledger(minutes, window) == []


def test_empty_days_need_a_witness(
    minutes,
) -> None:
    """An empty run's days are believed once another symbol or the next candle is served."""
    minutes.exchange.outages(f"2026-11-17T00:00:00Z/2026-11-20T00:00:00Z/{ETH}")
    minutes.backfill("1m", "2026-11-18", symbols=[BTC])
    minutes.backfill("1m", "2026-11-17", "2026-11-19", symbols=[ETH])
    reported = [gap for gap in ledger(minutes, symbols=(BTC, ETH)) if gap[0] == ETH]
    assert reported == [
        (ETH, "11-17 00:00", "11-19 23:59", 3 * 1440, "exchange_outage"),
    ]


def test_times_outside_listing_are_not_listed(minutes) -> None:
    """Before its listing and after its delisting a symbol is not listed.

    The exchange lists one on 16 September at 10:30, and delivered another in July 2024 at 9:00.
    """
    minutes.exchange.set_clock(at("09-17 07:30"))
    new = minutes.with_settings(symbols=(BTC, "雪球USDT"))
    new.backfill("1m", "2026-09-16")
    assert ledger(new, Window(at("09-16 00:00"), at("09-17 00:00"))) == [
        ("雪球USDT", "09-16 00:00", "09-16 10:29", 630, "not_listed")
    ]
    old = minutes.with_settings(symbols=(BTC, "AGIXUSDT"))
    old.backfill("1m", "2024-07-08")
    assert ledger(old, day_window(date(2024, 7, 8))) == [
        ("AGIXUSDT", "07-08 09:00", "07-08 23:59", 900, "not_listed")
    ]


def test_open_day_is_judged_while_closed(minutes) -> None:
    """The open day is judged as far as candles have closed."""
    minutes.exchange.outages("2026-11-20T06:00:00Z/2026-11-20T06:10:00Z")
    minutes.ingest("1m")
    window = day_window(date(2026, 11, 20))
    # Ingest runs do not fetch again a candle that was missing from a reply. The ledger still finds an
    # outage, since every symbol misses the candle.
    reported = [
        ("11-20 06:00", "11-20 06:09", 10, "exchange_outage"),
        ("11-20 12:00", "11-20 23:59", 720, "still_open"),
    ]
    assert ledger(minutes, window) == [(symbol, *span) for symbol in SYMBOLS for span in reported]
    minutes.exchange.advance(180)
    missed = ("11-20 12:00", "11-20 12:02", 3, "not_fetched")
    later = ("11-20 12:03", "11-20 23:59", 717, "still_open")
    assert ledger(minutes, window) == [
        (symbol, *span) for symbol in SYMBOLS for span in (reported[0], missed, later)
    ]


def test_open_day_of_longer_intervals(minutes) -> None:
    """The open day of 15m and 1h is read from its one object."""
    store, today = ObjectStore(minutes.settings.s3), at("11-20 00:00")
    put_hours(store, BTC, today, [today + timedelta(hours=n) for n in range(12) if n != 5])
    life = {BTC: (at("01-01 00:00"), None)}
    window, now = day_window(today.date()), minutes.now()
    found = gap_ledger(store, minutes.settings, Interval.ONE_HOUR, window, life, now)
    assert found.select("first", "count", "cause").rows() == [
        (at("11-20 05:00"), 1, "not_fetched"),
        (at("11-20 12:00"), 12, "still_open"),
    ]


def test_replaced_object_is_judged_by_rows(minutes, monkeypatch) -> None:
    """An object that is not the finalized one is judged by its rows."""
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    store, day = ObjectStore(minutes.settings.s3), date(2026, 11, 18)
    key = object_key(MINUTE, ETH, day_window(day).start)
    part = minutes.stored("1m", ETH).filter(pl.col("open_time").dt.date() == day)
    kept = pl.concat([part[:100], part[110:]])
    store.put(key, encode_candles(kept, MINUTE, ETH, day_window(day)))
    removed = object_key(MINUTE, BTC, day_window(day).start)
    store.delete([removed])
    read = bodies_read(store, monkeypatch)
    assert ledger(minutes) == [
        (BTC, "11-18 00:00", "11-18 23:59", 1440, "not_fetched"),
        (ETH, "11-18 01:40", "11-18 01:49", 10, "not_fetched"),
    ]
    assert set(read) == {key}


def test_damaged_object_is_fetched_again(minutes) -> None:
    """A damaged object counts as not stored and is fetched again."""
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    store, day = ObjectStore(minutes.settings.s3), date(2026, 11, 18)
    key = object_key(MINUTE, ETH, day_window(day).start)
    whole = store.get(key) or b""
    store_damaged(minutes.bucket, key, whole, flip_bit(whole, 4000))
    lost = [(ETH, "11-18 00:00", "11-18 23:59", 1440, "not_fetched")]
    assert ledger(minutes) == lost
    report = sweep(store, Selection(), quarantine=True)
    assert [each.key for each in report.damaged] == [key]
    assert ledger(minutes) == lost
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    assert ledger(minutes) == []
    assert store.get(key) == whole


def test_copied_object_is_fetched_again(minutes) -> None:
    """An object copied over another symbol's is fetched again.

    Its digest is right: only its Parquet metadata say whose candles it holds.
    """
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    store, start = ObjectStore(minutes.settings.s3), day_window(date(2026, 11, 18)).start
    key = object_key(MINUTE, ETH, start)
    whole = store.get(key)
    store.put(key, store.get(object_key(MINUTE, BTC, start)) or b"")
    assert ledger(minutes) == [(ETH, "11-18 00:00", "11-18 23:59", 1440, "not_fetched")]
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    assert ledger(minutes) == []
    assert store.get(key) == whole


def test_lost_objects_are_no_outage(minutes) -> None:
    """A day whose objects are lost for all symbols is no outage."""
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    store = ObjectStore(minutes.settings.s3)
    start = day_window(date(2026, 11, 18)).start
    store.delete([object_key(MINUTE, symbol, start) for symbol in SYMBOLS])
    assert causes(minutes) == {"not_fetched": 3 * 1440}


@pytest.mark.parametrize("hours", [(12, 24), (0, 12), (6, 18)])
def test_unjudged_trading_time_is_missing(minutes, hours) -> None:
    """Trading time that a mark did not cover counts as missing.

    An onboard date that moved to an earlier time, a delivery that was postponed, both.
    """
    store, day = ObjectStore(minutes.settings.s3), day_window(date(2026, 11, 19))
    times = [day.start + timedelta(hours=n) for n in range(24)]
    etag = put_hours(store, BTC, day.start, times[slice(*hours)])
    judged = Window(*(day.start + timedelta(hours=n) for n in hours))
    mark_finalized(
        store, Interval.ONE_HOUR, day.start.date(), {BTC: FinalizedDay(etag, judged=judged)}
    )

    def reported(life):
        found = gap_ledger(
            store, minutes.settings, Interval.ONE_HOUR, day, {BTC: life}, minutes.now()
        )
        return {
            time: cause
            for first, last, cause in found.select("first", "last", "cause").rows()
            for time in times
            if first <= time <= last
        }

    outside = set(times) - set(times[slice(*hours)])
    assert reported((judged.start, judged.end)) == dict.fromkeys(outside, "not_listed")
    assert reported((at("01-01 00:00"), None)) == dict.fromkeys(outside, "not_fetched")


NOON = at("11-19 12:00")
SIX = Window(at("11-19 06:00"), at("11-19 07:00"))


@pytest.mark.parametrize("life", [(NOON, None), (at("01-01 00:00"), at("11-19 05:00"))])
def test_unlisted_symbol_witnesses_no_outage(minutes, life) -> None:
    """A symbol that did not trade at the time is no witness of an outage.

    No symbol has the hour at six, but only one of the two traded then: the other proves nothing.
    """
    store, day = ObjectStore(minutes.settings.s3), day_window(date(2026, 11, 19))
    times = [day.start + timedelta(hours=n) for n in range(24)]
    traded = [time for time in times if life[0] <= time < (life[1] or day.end)]
    held = {BTC: [time for time in times if time != SIX.start], ETH: traded}
    absent = {BTC: ((SIX, Absence.UNCONFIRMED),), ETH: ()}
    for symbol, own in held.items():
        etag = put_hours(store, symbol, day.start, own)
        mark = FinalizedDay(etag, absent[symbol])
        mark_finalized(store, Interval.ONE_HOUR, NOON.date(), {symbol: mark})
    lifetimes = {BTC: (at("01-01 00:00"), None), ETH: life}
    found = gap_ledger(store, minutes.settings, Interval.ONE_HOUR, day, lifetimes, minutes.now())
    assert found.filter(symbol=BTC).select("first", "count", "cause").rows() == [
        (SIX.start, 1, "not_fetched")
    ]
    assert set(found.filter(symbol=ETH)["cause"]) == {"not_listed"}


def test_ingest_witnesses_only_after_listing(minutes) -> None:
    """Ingest runs of a symbol are no witness of the time before its listing."""
    store, today = ObjectStore(minutes.settings.s3), day_window(date(2026, 11, 20))
    times = [today.start + timedelta(hours=n) for n in range(12)]
    put_hours(store, BTC, today.start, [time for time in times if time.hour != 6])
    put_hours(store, ETH, today.start, times[9:])
    write_ingest_state(store, Interval.ONE_HOUR, IngestState(dict.fromkeys((BTC, ETH), times[-1])))
    lifetimes = {BTC: (at("01-01 00:00"), None), ETH: (times[9], None)}
    found = gap_ledger(store, minutes.settings, Interval.ONE_HOUR, today, lifetimes, minutes.now())
    assert (BTC, times[6], "not_fetched") in found.select("symbol", "first", "cause").rows()


def test_object_moved_during_read_is_found(minutes, monkeypatch) -> None:
    """An object removed between listing and reading is looked for again.

    Finalizing moves candles so: it writes the day's object, then removes the hours' objects.
    """
    minutes.backfill("1m", "2026-11-18")
    store, day = ObjectStore(minutes.settings.s3), date(2026, 11, 18)
    part = minutes.stored("1m", ETH).filter(pl.col("open_time").dt.date() == day)
    hour = object_key(MINUTE, ETH, at("11-18 05:00"))
    window = Window(at("11-18 05:00"), at("11-18 06:00"))
    inside = pl.col("open_time").is_between(window.start, window.end, closed="left")
    store.put(hour, encode_candles(part.filter(inside), MINUTE, ETH, window))
    original = ObjectStore.get_with_etag

    def finalized_meanwhile(self, key):
        if key == hour:
            self.delete([hour])
        return original(self, key)

    monkeypatch.setattr(ObjectStore, "get_with_etag", finalized_meanwhile)
    assert ledger(minutes, day_window(day)) == []


def test_non_parquet_object_is_named(minutes, caplog) -> None:
    """An object that is not Parquet counts as not stored and is named."""
    minutes.backfill("1m", "2026-11-17", "2026-11-19")
    key = object_key(MINUTE, ETH, at("11-18 00:00"))
    ObjectStore(minutes.settings.s3).put(key, b"no Parquet")
    assert ledger(minutes) == [(ETH, "11-18 00:00", "11-18 23:59", 1440, "not_fetched")]
    assert f"{key} count as not stored" in caplog.text


def test_nothing_was_ever_collected(minutes) -> None:
    now, store = at("11-20 12:00"), ObjectStore(minutes.settings.s3)
    found = gap_ledger(store, minutes.settings, MINUTE, RANGE, {}, now)
    assert found.is_empty()
    life = {BTC: (at("01-01 00:00"), None)}
    found = gap_ledger(store, minutes.settings, MINUTE, RANGE, life, now)
    assert found.select("count", "cause").rows() == [(3 * 1440, "not_fetched")]


hours = st.sets(st.integers(0, 71))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_ledger_and_rows_cover_candles_once(s3_bucket, data) -> None:
    """The ledger and the stored rows together are every candle once.

    This holds for any stored rows, with marks that match, marks that do not, and no marks.
    """
    store = ObjectStore(s3_bucket.settings())
    interval, first = Interval.ONE_HOUR, RANGE.start
    store.delete([each.key for each in store.objects("")])
    stored: dict[str, set[int]] = {}
    for symbol in (BTC, ETH):
        stored[symbol] = data.draw(hours)
        for day in range(3):
            own = sorted(n for n in stored[symbol] if n // 24 == day)
            kept = data.draw(st.sampled_from(["marked", "another's mark", "unmarked"]))
            start = first + timedelta(days=day)
            etag = put_hours(store, symbol, start, [first + timedelta(hours=n) for n in own])
            absent = tuple(
                (Window(begin, begin + timedelta(hours=1)), Absence.UNCONFIRMED)
                for n in range(24 * day, 24 * day + 24)
                if n not in own
                for begin in [first + timedelta(hours=n)]
            )
            if kept == "marked":
                mark_finalized(store, interval, start.date(), {symbol: FinalizedDay(etag, absent)})
            elif kept == "another's mark":
                mark_finalized(store, interval, start.date(), {symbol: FinalizedDay('"else"')})
    life = (at("01-01 00:00"), None)
    configured = settings_of(s3_bucket)
    now = at("11-20 12:00")
    found = gap_ledger(store, configured, interval, RANGE, {BTC: life, ETH: life}, now)
    missing: dict[str, list[int]] = {BTC: [], ETH: []}
    for symbol, _, begin, last, count, _ in found.rows():
        numbers = range((begin - first) // interval.span, (last - first) // interval.span + 1)
        assert count == len(numbers)
        missing[symbol] += numbers
    for symbol, held in stored.items():
        assert sorted([*missing[symbol], *held]) == list(range(72))


def settings_of(bucket):
    return Settings(s3=bucket.settings().model_dump(), symbols=f"{BTC},{ETH}")


def put_hours(store: ObjectStore, symbol: str, start: datetime, times: list[datetime]):
    """A day's object of these open times; its ETag, or None where there are none."""
    if not times:
        return None
    numbers = {name: [1.0] * len(times) for name in candle_schema().names()}
    rows = {
        **numbers,
        "symbol": [symbol] * len(times),
        "open_time": times,
        "close_time": [each + timedelta(minutes=59, seconds=59.999) for each in times],
        "trades": [1] * len(times),
    }
    frame = pl.DataFrame(rows, schema=candle_schema())
    window = Window(start, start + timedelta(days=1))
    body = encode_candles(frame, Interval.ONE_HOUR, symbol, window)
    return store.put(object_key(Interval.ONE_HOUR, symbol, start), body)
