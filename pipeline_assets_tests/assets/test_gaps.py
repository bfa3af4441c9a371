"""The gap ledger as an asset: its objects, its metadata, and its checks."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from dagster import AssetCheckKey, AssetKey
from polars.testing import assert_frame_equal

from pipeline_assets.collection.listings import NothingListedError
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import day_window
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets.resources.day_findings import read_zero_volume, zero_volume_days
from pipeline_assets.resources.finalized_days import finalized_symbols
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

DAYS = [date(2026, 11, day) for day in (17, 18, 19)]
RANGE = ("2026-11-17", "2026-11-19")
BTC, ETH, LIFE = SYMBOLS
TABLES = ("candle_table_15m", "candle_table_1h")
COLUMNS = ["day", "symbol", "interval", "first", "last", "count", "cause"]


def repaired(platform: Platform, days: str | tuple[str, str], **options):
    """Run the job without its table: no Snowflake runs here, and the ledger does not need one."""
    return platform.run("repair_1m", days, without="candle_gap_table", **options)


def kept(platform: Platform, day: date) -> pl.DataFrame:
    found = read_gaps(ObjectStore(platform.settings.s3), day)
    assert found is not None
    return found


def minutes_kept(platform: Platform, day: date) -> list[tuple]:
    """Symbol, time of the first, candles and cause of each gap in the minutes."""
    own = kept(platform, day).filter(interval="1m")
    assert set(own["day"]) <= {day}
    return [
        (symbol, f"{first:%H:%M}", count, cause)
        for _, symbol, _, first, _, count, cause in own.rows()
    ]


def reported(result) -> dict:
    held = result.asset_materializations_for_node("candle_gaps")[0].metadata
    return {name: value.value for name, value in held.items()}


def verdicts(result) -> dict[str, bool]:
    """Return for each check on the ledger whether it passed in all days."""
    found: dict[str, bool] = {}
    for each in result.get_asset_check_evaluations():
        if each.asset_key.path == ["candle_gaps"]:
            found[each.check_name] = found.get(each.check_name, True) and each.passed
    return found


def said(result, check: str) -> str:
    """Return the description of a check on the ledger, of a run of one day."""
    [found] = [
        each.description
        for each in result.get_asset_check_evaluations()
        if (each.asset_key.path, each.check_name) == (["candle_gaps"], check)
    ]
    return str(found)


def zero_volume_checked(platform: Platform, day: str, **options):
    """Run the check alone."""
    job = build_definitions(platform.settings).resolve_job_def("seal")
    check = AssetCheckKey(AssetKey("candle_gaps"), "zero_volume")
    alone = job.get_subset(asset_selection=set(), asset_check_selection={check})
    return alone.execute_in_process(instance=platform.instance, partition_key=day, **options)


def test_unknown_listings_prevent_a_ledger(minutes) -> None:
    """No ledger is written before the listings of the exchange were read.

    Empty ledgers and green checks would say that nothing is missing.
    """
    job = build_definitions(minutes.settings).resolve_job_def("seal")
    ledger = job.get_subset(asset_selection={AssetKey("candle_gaps")})
    with pytest.raises(NothingListedError, match=r"state/listings\.json.*Materialize `universe`"):
        ledger.execute_in_process(instance=minutes.instance, partition_key="2026-11-18")
    assert minutes.objects("gaps/") == {}
    with pytest.raises(NothingListedError, match=r"Materialize `universe`"):
        zero_volume_checked(minutes, "2026-11-18")


def test_gapless_day_has_empty_object(minutes) -> None:
    """A day without gaps has an object without rows for its minutes."""
    result = repaired(minutes, RANGE)
    for day in DAYS:
        found = kept(minutes, day)
        assert found.columns == COLUMNS
        # Nothing was fetched for the other intervals.
        assert found.select("interval", "cause").unique().sort("interval").rows() == [
            ("15m", "not_fetched"),
            ("1h", "not_fetched"),
        ]
    assert reported(result)["candles missing"] == 3 * 3 * (96 + 24)
    assert verdicts(result)["nothing_to_fetch"] is False
    assert verdicts(result)["outages"] is True


def test_gaps_are_cut_at_midnight(minutes) -> None:
    """Each gap is kept in its days and cut at midnight."""
    minutes.exchange.outages(f"2026-11-17T23:00:00Z/2026-11-18T02:00:00Z/{ETH}")
    result = repaired(minutes, RANGE)
    assert minutes_kept(minutes, DAYS[0]) == [(ETH, "23:00", 60, "exchange_outage")]
    assert minutes_kept(minutes, DAYS[1]) == [(ETH, "00:00", 120, "exchange_outage")]
    assert minutes_kept(minutes, DAYS[2]) == []
    assert verdicts(result)["outages"] is False
    largest = reported(result)["largest gaps"].records[0].data
    assert (largest["interval"], largest["candles"]) == ("15m", 96)
    assert reported(result)["completeness of 1m"].startswith("![")


def test_days_object_ignores_other_days(minutes) -> None:
    """A day's object is the same whichever days the run has.

    The symbol is listed on 16 September. Before that day the ledger does not mention it.
    """
    minutes.exchange.set_clock(datetime(2026, 9, 18, 7, 30, tzinfo=UTC))
    new = minutes.with_settings(symbols=(BTC, "雪球USDT"))
    repaired(new, ("2026-09-15", "2026-09-16"))
    together = new.objects("gaps/")
    assert len(together) == 2
    listed = date(2026, 9, 16)
    assert minutes_kept(new, listed - timedelta(days=1)) == []
    assert minutes_kept(new, listed) == [("雪球USDT", "00:00", 630, "not_listed")]
    repaired(new, "2026-09-15")
    assert new.objects("gaps/") == together


def test_repair_replaces_the_days_gaps(minutes) -> None:
    """A repair replaces the known gaps of its day."""
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    first = repaired(minutes, "2026-11-18")
    rows = minutes_kept(minutes, DAYS[1])
    assert {(symbol, cause) for symbol, _, _, cause in rows} == {(ETH, "set_aside")}
    assert reported(first)["candles to fetch"] == 3 * (96 + 24) + sum(row[2] for row in rows)
    minutes.exchange.faults()
    repaired(minutes, "2026-11-18", symbols=[ETH])
    assert minutes_kept(minutes, DAYS[1]) == []


def test_forgotten_symbol_needs_no_fetch(
    minutes,
) -> None:
    """Gaps of a symbol that the exchange does not list any more need no fetch."""
    repaired(minutes, "2026-11-18", symbols=[BTC])
    lacking = kept(minutes, DAYS[1]).filter(symbol=ETH)
    assert set(lacking["cause"]) == {"not_fetched"}
    with start_exchange(symbols=BTC, clock="stepped:2026-11-20T13:00:30Z") as other:
        url = other.url.removesuffix("/fapi")
        forgetful = minutes.with_settings(symbols=(BTC, ETH), binance={"rest_url": url})
        result = repaired(forgetful, "2026-11-18", symbols=[BTC])
        # The cause stays; what could be fetched are the other symbol's quarters and hours.
        assert_frame_equal(kept(forgetful, DAYS[1]).filter(symbol=ETH), lacking)
        assert reported(result)["candles to fetch"] == 96 + 24
        assert said(result, "nothing_to_fetch") == (
            "120 candles can be fetched, of BTCUSDT. The sensor gap_repair asks for it, "
            "`pipeline-assets gaps --repair` does it now. 1,560 candles cannot be fetched, of ETHUSDT, "
            "which the exchange does not name any more."
        )
        job = build_definitions(forgetful.with_settings(symbols=(ETH,)).settings)
        ledger = job.resolve_job_def("seal").get_subset(asset_selection={AssetKey("candle_gaps")})
        result = ledger.execute_in_process(instance=minutes.instance, partition_key="2026-11-18")
        assert verdicts(result)["nothing_to_fetch"] is True
        assert "Nothing is missing that could be fetched. 1,560 candles cannot be fetched" in said(
            result, "nothing_to_fetch"
        )


def test_finalizing_judges_all_intervals(platform) -> None:
    """Finalizing writes the ledger after all intervals are stored."""
    platform.exchange.outages("2026-11-19T10:00:00Z/2026-11-19T12:00:00Z")
    result = platform.run("seal", "2026-11-19")
    counted = kept(platform, DAYS[2]).group_by("interval", "cause").agg(pl.col("count").sum())
    assert sorted(counted.rows()) == [
        ("15m", "exchange_outage", 3 * 8),
        ("1h", "exchange_outage", 3 * 2),
        ("1m", "exchange_outage", 3 * 120),
    ]
    assert verdicts(result) == {"nothing_to_fetch": True, "outages": False, "zero_volume": True}


def test_symbol_hole_has_finalizing_causes(platform) -> None:
    """A hole of one symbol has the cause that finalizing found.

    At the scheduled time of finalizing, the causes of 15m and 1h are known from their tables.
    """
    schedule = build_definitions(platform.settings).resolve_schedule_def("seal")
    minute, hour, *_ = str(schedule.cron_schedule).split()
    platform.exchange.set_clock(datetime(2026, 11, 20, int(hour), int(minute), tzinfo=UTC))
    platform.exchange.outages(f"2026-11-19T10:00:00Z/2026-11-19T12:00:00Z/{ETH}")
    result = platform.run("seal", "2026-11-19")
    found = kept(platform, DAYS[2]).select("interval", "symbol", "count", "cause")
    assert found.sort("interval").rows() == [
        ("15m", ETH, 8, "exchange_outage"),
        ("1h", ETH, 2, "exchange_outage"),
        ("1m", ETH, 120, "exchange_outage"),
    ]
    for interval in Interval:
        marks = finalized_symbols(ObjectStore(platform.settings.s3), interval, DAYS[2])
        assert marks == {*SYMBOLS}, interval
    ended = [event.step_key for event in result.all_events if event.is_step_success]
    assert ended.index("candle_gaps") > max(map(ended.index, TABLES))


def test_down_warehouse_still_reports_gaps(minutes) -> None:
    """Gaps are reported even if the warehouse is down."""
    minutes.exchange.outages(f"2026-11-19T10:00:00Z/2026-11-19T12:00:00Z/{ETH}")
    result = minutes.run("seal", "2026-11-19", raise_on_error=False)
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    assert failed == {*TABLES, "candle_gap_table"}
    assert minutes_kept(minutes, DAYS[2]) == [(ETH, "10:00", 120, "exchange_outage")]
    found = kept(minutes, DAYS[2]).filter(pl.col("interval") != "1m")
    assert sorted(found.select("interval", "symbol", "count").rows()) == [
        ("15m", ETH, 8),
        ("1h", ETH, 2),
    ]
    assert verdicts(result).keys() == {"nothing_to_fetch", "outages", "zero_volume"}


def test_contradicted_zero_volume_is_shown(minutes) -> None:
    """Stored minutes without volume that the hours contradict are shown."""
    repaired(minutes, "2026-11-18")
    store, window = ObjectStore(minutes.settings.s3), day_window(DAYS[1])
    times = pl.col("open_time")
    mine = minutes.stored("1m", BTC)
    frozen = times.is_between(window.start, window.start + timedelta(minutes=73))
    zero = pl.when(frozen).then(0.0).otherwise("volume").alias("volume")
    key = object_key(Interval.ONE_MINUTE, BTC, window.start)
    store.put(key, encode_candles(mine.with_columns(zero), Interval.ONE_MINUTE, BTC, window))
    hours = minutes.truth("1h", BTC, window.start, window.end)
    key = object_key(Interval.ONE_HOUR, BTC, window.start)
    store.put(key, encode_candles(hours, Interval.ONE_HOUR, BTC, window))
    result = zero_volume_checked(minutes, "2026-11-18")
    assert verdicts(result) == {"zero_volume": False}
    found = said(result, "zero_volume")
    assert "74 candles without volume look false, the first 1m of BTCUSDT" in found
    assert read_zero_volume(store, DAYS[1]) == [BTC]


def frozen_minutes(platform, first: datetime, last: datetime) -> None:
    """Store the minutes of BTCUSDT from first to last without volume, and its true hours."""
    store = ObjectStore(platform.settings.s3)
    for day in DAYS:
        window = day_window(day)
        within = pl.col("open_time").is_between(window.start, window.end, closed="left")
        mine = platform.stored("1m", BTC).filter(within)
        zero = pl.when(pl.col("open_time").is_between(first, last)).then(0.0).otherwise("volume")
        body = encode_candles(mine.with_columns(volume=zero), Interval.ONE_MINUTE, BTC, window)
        store.put(object_key(Interval.ONE_MINUTE, BTC, window.start), body)
        hours = platform.truth("1h", BTC, window.start, window.end)
        body = encode_candles(hours, Interval.ONE_HOUR, BTC, window)
        store.put(object_key(Interval.ONE_HOUR, BTC, window.start), body)


@pytest.mark.parametrize("minutes_before", [10, pytest.param(40, marks=pytest.mark.matrix)])
def test_false_run_is_whole_across_midnight(minutes, minutes_before):
    """A false run across midnight is reported as a whole on both days.

    Ten minutes on each side are less than a quarter of an hour in either day.
    """
    repaired(minutes, RANGE)
    midnight = day_window(DAYS[1]).start
    first, last = midnight - timedelta(minutes=minutes_before), midnight + timedelta(minutes=9)
    frozen_minutes(minutes, first, last)
    for day in DAYS[:2]:
        result = zero_volume_checked(minutes, str(day))
        assert verdicts(result) == {"zero_volume": False}
        assert f"from {first:%Y-%m-%d %H:%M:%S} UTC to {last:%Y-%m-%d %H:%M:%S} UTC" in said(
            result, "zero_volume"
        )
    assert verdicts(zero_volume_checked(minutes, str(DAYS[2]))) == {"zero_volume": True}
    store = ObjectStore(minutes.settings.s3)
    assert zero_volume_days(store) == DAYS
    assert [read_zero_volume(store, day) for day in DAYS] == [[BTC], [BTC], []]


@pytest.mark.parametrize("harm", ["no Parquet", "of other columns"])
def test_unreadable_ledger_day_names_remedy(minutes, harm) -> None:
    """The error for a ledger day that cannot be read names the remedy."""
    store = ObjectStore(minutes.settings.s3)
    assert read_gaps(store, DAYS[0]) is None
    body = io.BytesIO(b"no Parquet")
    if harm == "of other columns":
        pl.DataFrame({"symbol": [BTC]}).write_parquet(body)
    store.put("gaps/20261117.parquet", body.getvalue())
    with pytest.raises(ObjectStoreError, match=r"gaps/20261117.parquet .*materialize candle_gaps"):
        read_gaps(store, DAYS[0])
