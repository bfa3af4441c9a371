"""The assets of funding rates: hourly runs, backfills, what they report, and the table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from dagster import AssetKey

from pipeline_assets.resources.funding_objects import funding_key
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.funding import (
    alter_funding,
    reported,
    run_funding,
    served,
    stored,
    verdict,
)
from pipeline_assets_tests.fixtures.platform import SYMBOLS

BTC, ETH, LIFE = SYMBOLS
NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
TODAY, YESTERDAY = "2026-11-20", "2026-11-19"


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}:00+00:00")


@pytest.fixture(autouse=True)
def exchange_as_new(minutes):
    """Hourly runs come five minutes after the hour."""
    minutes.exchange.set_clock(at("20T12:05"))


def test_ingest_stores_due_rates(minutes) -> None:
    """An hourly run stores the open day's rates, and a repeat writes nothing."""
    result = run_funding(minutes, "funding", TODAY)
    for symbol in SYMBOLS:
        expected = served(minutes.exchange, symbol, at("20T00:00"), at("20T12:05"))
        assert stored(minutes, symbol) == expected
        assert expected
    assert verdict(result)[0]
    before = minutes.objects()
    again = run_funding(minutes, "funding", TODAY)
    assert minutes.objects() == before
    told = reported(again)
    # fundingInfo alone.
    assert (told["objects"], told["rates stored"], told["funding requests"]) == (0, 0, 1)


def test_ingest_catches_up_after_days_off(minutes) -> None:
    """A run after days without any begins at the last stored rate of each symbol."""
    run_funding(minutes, "funding", TODAY)
    minutes.exchange.set_clock(at("24T09:05"))
    run_funding(minutes, "funding", "2026-11-24")
    for symbol in SYMBOLS:
        assert stored(minutes, symbol) == served(
            minutes.exchange, symbol, at("20T00:00"), at("24T09:05")
        )


def test_run_after_midnight_ends_day(minutes) -> None:
    """The run after midnight has yesterday as its partition and crosses the end of the month."""
    minutes.exchange.set_clock(at("30T23:05"))
    run_funding(minutes, "funding", "2026-11-30")
    minutes.exchange.set_clock(DECEMBER + timedelta(minutes=5))
    result = run_funding(minutes, "funding", "2026-11-30")
    assert verdict(result)[0]
    assert set(minutes.objects(f"funding/{BTC}/")) == {
        f"funding/{BTC}/202611.parquet",
        f"funding/{BTC}/202612.parquet",
    }


def test_backfill_completes_past_months(minutes) -> None:
    """A backfill of one day brings its whole month, and the other days find it stored."""
    archived = minutes.with_settings(binance={"archive": True})
    result = run_funding(archived, "funding_backfill", "2026-10-10")
    told = reported(result)
    assert (told["archive files taken"], told["rates stored"]) == (
        3,
        sum(len(stored(minutes, symbol)) for symbol in SYMBOLS),
    )
    for symbol in SYMBOLS:
        expected = served(minutes.exchange, symbol, OCTOBER, NOVEMBER)
        assert [row[:2] for row in stored(minutes, symbol)] == [row[:2] for row in expected]
        # The archive has no mark prices.
        assert {row[2] for row in stored(minutes, symbol)} == {None}
    other = reported(run_funding(archived, "funding_backfill", "2026-10-20", "2026-10-25"))
    assert (other["objects"], other["symbol-months stored before"]) == (0, 3)


@pytest.mark.parametrize(
    "fault",
    [
        "archive_corrupt",
        "archive_checksum",
        "archive_malformed",
        "archive_holes",
        "archive_missing",
    ],
)
def test_damaged_month_comes_from_exchange(minutes, fault: str) -> None:
    """A month whose archive file is damaged, absent or has holes is requested from the exchange."""
    minutes.exchange.faults(symbols={ETH: {fault: 1}})
    archived = minutes.with_settings(binance={"archive": True}, symbols=(BTC, ETH))
    result = run_funding(archived, "funding_backfill", "2026-10-01", "2026-10-31")
    assert verdict(result)[0]
    told = reported(result)
    assert told["archive files taken"] == 1
    assert stored(minutes, ETH) == served(minutes.exchange, ETH, OCTOBER, NOVEMBER)
    named = fault in ("archive_corrupt", "archive_checksum", "archive_malformed")
    assert (ETH in str(told["archive files refused"])) == named


def test_refresh_adds_mark_prices(minutes) -> None:
    """A refresh from the exchange adds mark prices and keeps the archive's intervals."""
    only = minutes.with_settings(binance={"archive": True}, symbols=(BTC,))
    run_funding(only, "funding_backfill", "2026-10-10")
    run_funding(minutes, "funding_backfill", "2026-10-10", symbols=[BTC], refresh=True)
    assert stored(minutes, BTC) == served(minutes.exchange, BTC, OCTOBER, NOVEMBER)
    before = minutes.objects("funding/")
    run_funding(only, "funding_backfill", "2026-10-10", refresh=True)
    assert minutes.objects("funding/") == before


def test_interval_change_is_no_gap(minutes) -> None:
    """Intervals of 8, 4 and 1 hours follow one another, and each change is reported."""
    changes = {"2026-11-17T08:00:00Z": 4, "2026-11-18T12:00:00Z": 1}
    alter_funding(minutes.exchange, intervals={ETH: changes})
    result = run_funding(minutes, "funding_backfill", "2026-11-16", YESTERDAY)
    assert verdict(result)[0]
    told = reported(result)
    assert told["missing rates"] == 0
    rows = [record.data for record in told["interval changes"].records]
    assert [(row["from"][:16], row["before (h)"], row["after (h)"]) for row in rows] == [
        ("2026-11-17 08:00", 8, 4),
        ("2026-11-18 12:00", 4, 1),
    ]
    assert stored(minutes, ETH) == served(minutes.exchange, ETH, NOVEMBER, at("20T12:05"))


def test_missing_rate_is_named(minutes) -> None:
    """A rate that the exchange has not is named by day, and no row stands for it."""
    alter_funding(minutes.exchange, missing={ETH: ["2026-11-18T16:00:00Z"]})
    result = run_funding(minutes, "funding_backfill", "2026-11-17", YESTERDAY)
    passed, description, severity = verdict(result)
    assert (passed, severity) == (False, "WARN")
    assert f"1 funding rates of 1 symbols are missing, the first of {ETH} at 2026-11-18 16:00" in (
        description
    )
    failed = [
        each.partition
        for each in result.get_asset_check_evaluations()
        if not each.passed and each.partition
    ]
    assert failed == ["2026-11-18"]
    assert reported(result)["missing rates"] == 1
    hour = int(at("18T16:00").timestamp()) // 3600
    assert hour not in {row[0] for row in stored(minutes, ETH)}
    # It comes later: the next run stores it.
    alter_funding(minutes.exchange)
    assert verdict(run_funding(minutes, "funding_backfill", "2026-11-18"))[0]
    assert hour in {row[0] for row in stored(minutes, ETH)}


@pytest.mark.parametrize("fault", ["cut_json", "malformed_rows", "html_502"])
def test_odd_reply_harms_its_symbol(minutes, fault: str) -> None:
    """One symbol's odd replies leave the rates of the other symbols alone, and name the symbol."""
    minutes.exchange.faults(symbols={ETH: {fault: 1}})
    quick = minutes.with_settings(binance={"retries": 0})
    result = run_funding(quick, "funding", TODAY)
    passed, description, severity = verdict(result)
    assert (passed, severity) == (False, "ERROR")
    assert f"{ETH} funding rates" in description
    assert stored(minutes, ETH) == []
    assert stored(minutes, BTC)
    assert stored(minutes, LIFE)
    minutes.exchange.faults()
    assert verdict(run_funding(minutes, "funding", TODAY))[0]
    assert stored(minutes, ETH)


def test_damaged_object_is_made_again(minutes) -> None:
    """A damaged month is requested whole by the next hourly run, and its bytes are kept."""
    run_funding(minutes, "funding_backfill", "2026-11-10")
    key = funding_key(BTC, NOVEMBER.date())
    good = minutes.objects(key)[key]
    minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b"no Parquet")
    run_funding(minutes, "funding", TODAY)
    assert minutes.objects(key) == {key: good}
    assert list(minutes.objects("damaged/").values()) == [b"no Parquet"]


def test_stopped_backfill_goes_on(minutes, monkeypatch) -> None:
    """A run that dies between two batches leaves what it stored; its repetition asks for the rest only."""
    monkeypatch.setattr("pipeline_assets.collection.funding._BATCH", 1)
    put_if, writes = ObjectStore.put_if, []

    def dies(self, key, body, etag):
        if key.startswith("funding/"):
            writes.append(key)
            if len(writes) == 2:
                raise KeyboardInterrupt
        return put_if(self, key, body, etag)

    monkeypatch.setattr(ObjectStore, "put_if", dies)
    with pytest.raises(KeyboardInterrupt):
        run_funding(minutes, "funding_backfill", "2026-11-10")
    assert len(minutes.objects("funding/")) == 1
    monkeypatch.setattr(ObjectStore, "put_if", put_if)
    told = reported(run_funding(minutes, "funding_backfill", "2026-11-10"))
    assert (told["objects"], told["symbol-months stored before"]) == (2, 1)
    assert len(minutes.objects("funding/")) == 3


def test_table_holds_changed_objects(platform) -> None:
    """The table has each stored rate once; a repeat loads nothing, a lost table is loaded by `reload`."""
    platform.exchange.set_clock(at("20T12:05"))
    result = run_funding(platform, "funding", TODAY, table=True)
    count = sum(len(stored(platform, symbol)) for symbol in SYMBOLS)
    assert reported(result, "funding_table")["rows inserted"] == count
    again = run_funding(platform, "funding", TODAY, table=True)
    assert reported(again, "funding_table")["objects"] == 0
    platform.exchange.set_clock(at("20T16:05"))
    result = run_funding(platform, "funding", TODAY, table=True)
    assert reported(result, "funding_table")["rows updated"] == 0
    query = "select SYMBOL, FUNDING_TIME, FUNDING_RATE, MARK_PRICE from FUNDING_RATES order by 1, 2"
    with platform.snowflake.connect(platform.settings.snowflake) as connection:
        rows = connection.cursor().execute(query).fetchall()
        assert [(s, t.timestamp(), r, m) for s, t, r, m in _utc(rows)] == [
            (symbol, hour * 3600, rate, mark)
            for symbol in sorted(SYMBOLS)
            for hour, rate, mark in stored(platform, symbol)
        ]
        connection.cursor().execute("drop table FUNDING_RATES")
    job = {"ops": {"funding_table": {"config": {"reload": True}}}}
    loaded = platform.materialize("funding_table", TODAY, run_config=job)
    assert reported(loaded, "funding_table")["rows inserted"] == len(rows)


def _utc(rows):
    return [(row[0], row[1].replace(tzinfo=UTC), *row[2:]) for row in rows]


def test_funding_limit_is_own_budget(minutes) -> None:
    """Requests beyond the limit of five minutes are not sent, and spend no request weight."""
    tight = minutes.with_settings(binance={"funding_limit": 4})
    run_funding(tight, "funding", TODAY, symbols=[BTC])
    state = minutes.exchange.state()["funding"]
    assert (state["used"], state["refused"]) == (2, 0)
    assert AssetKey("funding_rates") in {
        event.asset_key for event in minutes.instance.all_asset_keys() if False
    } or minutes.instance.has_asset_key(AssetKey("funding_rates"))
