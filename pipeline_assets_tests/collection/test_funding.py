"""Runs over funding rates: what they request, store and report. Dagster's side is in assets/."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.funding_table import load_funding
from pipeline_assets.market.funding import funding_rates
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.funding_objects import (
    funding_key,
    month_window,
    months_of,
    note_stored,
    objects_to_load,
    write_month,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets_tests.fixtures.funding import alter_funding, collect, served, stored
from pipeline_assets_tests.fixtures.platform import SYMBOLS

INGEST, BACKFILL = RunKind.INGEST, RunKind.BACKFILL
BTC, ETH, LIFE = SYMBOLS
OCTOBER, NOVEMBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
TODAY = "2026-11-20"


def at(text: str) -> datetime:
    """Return a time of November 2026."""
    return datetime.fromisoformat(f"2026-11-{text}:00+00:00")


@pytest.fixture(autouse=True)
def five_past_noon(minutes):
    """Hourly runs come five minutes after the hour."""
    minutes.exchange.set_clock(at("20T12:05"))


def test_ingest_stores_rates_once(minutes) -> None:
    """An hourly run stores the open day's rates, and a repeat writes nothing."""
    report = collect(minutes, INGEST, TODAY)
    for symbol in SYMBOLS:
        expected = served(minutes.exchange, symbol, at("20T00:00"), at("20T12:05"))
        assert stored(minutes, symbol) == expected
        assert expected
    assert report.findings()[at("20T00:00").date()].passed
    before = minutes.objects()
    again = collect(minutes, INGEST, TODAY)
    assert minutes.objects() == before
    # fundingInfo alone.
    assert (again.objects, again.rates, again.requests) == (0, 0, 1)


def test_ingest_catches_up_after_days_off(minutes) -> None:
    """A run after days without any begins at the last stored rate of each symbol."""
    collect(minutes, INGEST, TODAY)
    minutes.exchange.set_clock(at("24T09:05"))
    collect(minutes, INGEST, "2026-11-24")
    for symbol in SYMBOLS:
        expected = served(minutes.exchange, symbol, at("20T00:00"), at("24T09:05"))
        assert stored(minutes, symbol) == expected


def test_ingest_crosses_end_of_month(minutes) -> None:
    """The run after midnight has yesterday as its partition, and stores the new month's first rate."""
    minutes.exchange.set_clock(at("30T23:05"))
    collect(minutes, INGEST, "2026-11-30")
    minutes.exchange.set_clock(datetime(2026, 12, 1, 0, 5, tzinfo=UTC))
    report = collect(minutes, INGEST, "2026-11-30")
    assert report.findings()[at("30T00:00").date()].passed
    assert set(minutes.objects(f"funding/{BTC}/")) == {
        f"funding/{BTC}/202611.parquet",
        f"funding/{BTC}/202612.parquet",
    }


def test_backfill_completes_whole_month(minutes) -> None:
    """A backfill of one day brings its month from the archive; the other days find it stored."""
    archived = minutes.with_settings(binance={"archive": True})
    report = collect(archived, BACKFILL, "2026-10-10")
    assert report.archive_files == 3
    for symbol in SYMBOLS:
        expected = served(minutes.exchange, symbol, OCTOBER, NOVEMBER)
        # The archive has no mark prices.
        assert stored(minutes, symbol) == [(hour, rate, None) for hour, rate, _ in expected]
    assert report.rates == sum(len(stored(minutes, symbol)) for symbol in SYMBOLS)
    other = collect(archived, BACKFILL, "2026-10-20", "2026-10-25")
    assert (other.objects, other.plan.stored_before, other.requests) == (0, 3, 0)


REFUSED = ("archive_corrupt", "archive_checksum", "archive_malformed")


def slow(*faults: str) -> list:
    return [pytest.param(each, marks=pytest.mark.matrix) for each in faults]


@pytest.mark.parametrize(
    "fault", ["archive_corrupt", "archive_holes", *slow(*REFUSED[1:], "archive_missing")]
)
def test_damaged_month_comes_from_exchange(minutes, fault: str) -> None:
    """A month whose archive file is damaged, absent or has holes is requested from the exchange."""
    minutes.exchange.faults(symbols={ETH: {fault: 1}})
    archived = minutes.with_settings(binance={"archive": True}, symbols=(BTC, ETH))
    report = collect(archived, BACKFILL, "2026-10-01", "2026-10-31")
    assert all(each.passed for each in report.findings().values())
    assert report.archive_files == 1
    assert stored(minutes, ETH) == served(minutes.exchange, ETH, OCTOBER, NOVEMBER)
    assert list(report.refused) == [f"{ETH}-fundingRate-2026-10.zip"] * (fault in REFUSED)


def test_refresh_adds_mark_prices(minutes) -> None:
    """A refresh from the exchange adds mark prices, which a later one from the archive keeps."""
    only = minutes.with_settings(binance={"archive": True}, symbols=(BTC,))
    collect(only, BACKFILL, "2026-10-10")
    collect(minutes, BACKFILL, "2026-10-10", symbols=[BTC], refresh=True)
    assert stored(minutes, BTC) == served(minutes.exchange, BTC, OCTOBER, NOVEMBER)
    before = minutes.objects("funding/")
    assert collect(only, BACKFILL, "2026-10-10", refresh=True).changed == 0
    assert minutes.objects("funding/") == before


def test_interval_change_is_no_gap(minutes) -> None:
    """Intervals of 8, 4 and 1 hours follow one another, and each change is reported."""
    changes = {"2026-11-17T08:00:00Z": 4, "2026-11-18T12:00:00Z": 1}
    alter_funding(minutes.exchange, intervals={ETH: changes})
    report = collect(minutes, BACKFILL, "2026-11-16", "2026-11-19")
    assert all(each.passed for each in report.findings().values())
    assert report.values()["missing rates"] == 0
    found = [(each.symbol, each.time, each.before, each.after) for each in report.changes()]
    assert found == [(ETH, at("17T08:00"), 8, 4), (ETH, at("18T12:00"), 4, 1)]
    assert stored(minutes, ETH) == served(minutes.exchange, ETH, NOVEMBER, at("20T12:05"))


def test_late_rate_is_stored_later(minutes) -> None:
    """A rate that the exchange has not is named and is no row; once it has come, a repeat stores it."""
    alter_funding(minutes.exchange, missing={ETH: ["2026-11-18T16:00:00Z"]})
    report = collect(minutes, BACKFILL, "2026-11-17", "2026-11-19")
    assert report.missing(at("18T00:00").date()) == [(ETH, at("18T16:00"))]
    hour = int(at("18T16:00").timestamp()) // 3600
    assert hour not in {row[0] for row in stored(minutes, ETH)}
    before = minutes.objects("funding/")
    assert collect(minutes, BACKFILL, "2026-11-18").changed == 0
    assert minutes.objects("funding/") == before
    alter_funding(minutes.exchange)
    assert collect(minutes, BACKFILL, "2026-11-18").values()["missing rates"] == 0
    assert hour in {row[0] for row in stored(minutes, ETH)}


@pytest.mark.parametrize("fault", ["malformed_rows", *slow("cut_json", "html_502")])
def test_odd_reply_harms_its_symbol(minutes, fault: str) -> None:
    """One symbol's odd replies leave the rates of the other symbols alone, and name the symbol."""
    minutes.exchange.faults(symbols={ETH: {fault: 1}})
    report = collect(minutes.with_settings(binance={"retries": 0}), INGEST, TODAY)
    assert list(report.plan.failures) == [ETH]
    assert f"{ETH} funding rates" in report.findings()[at("20T00:00").date()].description
    assert [bool(stored(minutes, symbol)) for symbol in SYMBOLS] == [True, False, True]
    minutes.exchange.faults()
    assert collect(minutes, INGEST, TODAY).plan.failures == {}
    assert stored(minutes, ETH)


def test_disordered_replies_are_ordered(minutes) -> None:
    """Doubled and disordered rows are stored once, in order; what a reply left out is named."""
    minutes.exchange.faults(symbols={ETH: {"duplicate_rows": 1, "shuffled_rows": 1}})
    collect(minutes, BACKFILL, "2026-11-10", symbols=[ETH])
    minutes.exchange.faults()
    assert stored(minutes, ETH) == served(minutes.exchange, ETH, NOVEMBER, at("20T12:05"))


def test_damaged_object_is_made_again(minutes) -> None:
    """A damaged month is requested whole by the next hourly run, and its bytes are kept."""
    collect(minutes, BACKFILL, "2026-11-10")
    key = funding_key(BTC, NOVEMBER.date())
    good = minutes.objects(key)[key]
    minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b"no Parquet")
    collect(minutes, INGEST, TODAY)
    assert minutes.objects(key) == {key: good}
    assert list(minutes.objects("damaged/").values()) == [b"no Parquet"]


@pytest.mark.parametrize("last_write", ["second object", "index"])
def test_stopped_run_goes_on(minutes, monkeypatch, last_write: str) -> None:
    """A run that dies between two writes leaves what it stored; its repetition does the rest."""
    monkeypatch.setattr("pipeline_assets.collection.funding._BATCH", 1)
    put_if, writes = ObjectStore.put_if, []

    def dies(self, key, body, etag):
        writes.append(key)
        objects = sum(each.startswith("funding/") for each in writes)
        if objects == 2 if last_write == "second object" else key.startswith("state/funding/"):
            raise KeyboardInterrupt
        return put_if(self, key, body, etag)

    monkeypatch.setattr(ObjectStore, "put_if", dies)
    with pytest.raises(KeyboardInterrupt):
        collect(minutes, BACKFILL, "2026-11-10")
    survived = len(minutes.objects("funding/"))
    assert survived == (1 if last_write == "second object" else 3)
    monkeypatch.setattr(ObjectStore, "put_if", put_if)
    report = collect(minutes, BACKFILL, "2026-11-10")
    assert (report.objects, report.plan.stored_before) == (3 - survived, survived)
    due = objects_to_load(ObjectStore(minutes.settings.s3), NOVEMBER.date())
    assert set(due) == set(SYMBOLS)


def test_new_listing_has_no_gap(minutes) -> None:
    """A symbol has no missing rate before its listing, nor in its first interval."""
    new = "雪球USDT"  # listed on 16 September, 10:30
    report = collect(minutes, BACKFILL, "2026-09-15", "2026-09-18", symbols=[new])
    assert all(each.passed for each in report.findings().values())
    first = stored(minutes, new)[0][0]
    assert first * 3600 > datetime(2026, 9, 16, 10, 30, tzinfo=UTC).timestamp()


def test_delivery_contract_has_no_funding(minutes) -> None:
    """A contract with a delivery date that is asked for by name is refused with the reason."""
    report = collect(minutes, BACKFILL, "2026-11-18", symbols=[BTC, "BTCUSDT_261225"])
    assert report.plan.failures == {
        "BTCUSDT_261225": "BTCUSDT_261225 has a delivery date, and so it has no funding rates."
    }


def test_hours_follow_fundinginfo(minutes) -> None:
    """Hourly runs ask only for symbols that settled since, by the interval that fundingInfo states."""
    alter_funding(minutes.exchange, intervals={ETH: {"2026-11-20T08:00:00Z": 1}})
    collect(minutes, INGEST, TODAY)
    minutes.exchange.set_clock(at("20T13:05"))
    # One request for fundingInfo, one for the symbol of one hour.
    assert collect(minutes, INGEST, TODAY).requests == 2
    assert stored(minutes, ETH) == served(minutes.exchange, ETH, at("20T00:00"), at("20T13:05"))


def test_table_loads_changed_objects(platform) -> None:
    """The table has each stored rate once; a repeat loads nothing, and a lost table is loaded again."""
    store, days = ObjectStore(platform.settings.s3), [at("20T00:00").date()]

    def load(run: str, *, all_again: bool = False):
        warehouse = Warehouse(platform.settings.snowflake, platform.settings.s3)
        loaded = load_funding(store, warehouse, days, run, all_again=all_again)
        return tuple(loaded[name] for name in ("objects", "rows inserted", "rows updated"))

    platform.exchange.set_clock(at("20T12:05"))
    collect(platform, INGEST, TODAY)
    count = sum(len(stored(platform, symbol)) for symbol in SYMBOLS)
    assert load("one") == (3, count, 0)
    assert load("two") == (0, 0, 0)
    platform.exchange.set_clock(at("20T16:05"))
    collect(platform, INGEST, TODAY)
    new = sum(len(stored(platform, symbol)) for symbol in SYMBOLS) - count
    assert load("three") == (3, new, 0)
    query = "select SYMBOL, FUNDING_TIME, FUNDING_RATE, MARK_PRICE from FUNDING_RATES order by 1, 2"
    with platform.snowflake.connect(platform.settings.snowflake) as connection:
        rows = connection.cursor().execute(query).fetchall()
        assert [(row[0], row[1].replace(tzinfo=UTC).timestamp(), *row[2:]) for row in rows] == [
            (symbol, hour * 3600, rate, mark)
            for symbol in sorted(SYMBOLS)
            for hour, rate, mark in stored(platform, symbol)
        ]
    assert load("four", all_again=True) == (3, 0, 0)


@pytest.mark.parametrize("harm", ["drop table FUNDING_RATES", "truncate table FUNDING_RATES"])
def test_lost_table_is_filled_by_news(platform, harm: str) -> None:
    """A person drops or empties the table: the next load with news brings back the months before, too."""
    store, symbol = ObjectStore(platform.settings.s3), SYMBOLS[0]
    warehouse = Warehouse(platform.settings.snowflake, platform.settings.s3)
    months = [date(2026, month, 1) for month in (9, 10, 11)]

    def news(month: date) -> None:
        """Store one rate of a month, which a run then loads."""
        start = month_window(month).start
        rows = [(to_milliseconds(start), 0.1, 1.0, 8)]
        written = write_month(store, symbol, month, funding_rates(symbol, rows).rates)
        note_stored(store, month, {symbol: written.etag})

    def held() -> list[tuple[int]]:
        return platform.rows("select month(FUNDING_TIME) from FUNDING_RATES order by 1")

    for month in months[:2]:
        news(month)
        load_funding(store, warehouse, [month], f"run of {month}")
    assert held() == [(9,), (10,)]
    platform.rows(harm)
    assert load_funding(store, warehouse, [months[1]], "without news")["objects"] == 0
    news(months[2])
    assert load_funding(store, warehouse, [months[2]], "with news")["objects"] == 3
    assert held() == [(9,), (10,), (11,)]
    # The months that were brought back are noted as loaded: the next news are loaded alone.
    news(date(2026, 12, 1))
    assert load_funding(store, warehouse, [date(2026, 12, 1)], "later")["objects"] == 1


def test_months_cover_window() -> None:
    """The months of a window are those of its first and last moment, and all between."""
    window = Window(at("30T23:00"), at("30T23:00") + timedelta(days=33))
    assert [f"{each:%Y%m}" for each in months_of(window)] == ["202611", "202612", "202701"]
    assert [f"{each:%Y%m}" for each in months_of(Window(OCTOBER, NOVEMBER))] == ["202610"]
