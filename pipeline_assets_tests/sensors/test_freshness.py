"""Freshness of each interval: the reported state, and when a report is repeated."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    SensorDefinition,
    build_sensor_context,
)

from pipeline_assets.assets.check_results import freshness_evaluation
from pipeline_assets.assets.checks import freshness_check
from pipeline_assets.collection.freshness import due_reports, judge
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.ingest_state import (
    IngestState,
    read_ingest_state,
    write_ingest_state,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import Platform

MINUTE, QUARTER, HOUR = Interval
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def stored_until(newest: datetime, *more: tuple[str, datetime]) -> IngestState:
    return IngestState({"BTCUSDT": newest, "ETHUSDT": newest, **dict(more)})


@pytest.mark.parametrize(
    ("interval", "newest", "seconds", "passed"),
    [
        # The candle of 11:59 closes at 12:00; its ingest run has until 12:02.
        (MINUTE, NOON - timedelta(minutes=2), 119, True),
        (MINUTE, NOON - timedelta(minutes=2), 120, False),
        (MINUTE, NOON - timedelta(minutes=1), 120, True),
        (QUARTER, NOON - timedelta(minutes=30), 119, True),
        (QUARTER, NOON - timedelta(minutes=30), 120, False),
        (QUARTER, NOON - timedelta(minutes=15), 900, True),
        (HOUR, NOON - timedelta(hours=2), 119, True),
        (HOUR, NOON - timedelta(hours=2), 120, False),
        (HOUR, NOON - timedelta(hours=1), 3600, True),
    ],
)
def test_candle_has_two_minutes(
    interval: Interval, newest: datetime, seconds: float, passed: bool
) -> None:
    """A candle has two minutes from its close to be stored."""
    finding = judge(interval, stored_until(newest), NOON + timedelta(seconds=seconds), 1)
    assert finding.fresh is passed


def test_oldest_stale_symbol_comes_first() -> None:
    """The oldest of the stale symbols is named first."""
    fresh = NOON - timedelta(minutes=1)
    state = stored_until(
        fresh,
        ("SOLUSDT", NOON - timedelta(hours=3)),
        ("币安人生USDT", NOON - timedelta(hours=5)),
    )
    finding = judge(MINUTE, state, NOON + timedelta(minutes=2), 1).finding(seen=True)
    assert not finding.passed
    assert (
        "2 of 4 symbols are stale; the oldest, 币安人生USDT, ends at 2026-11-20 07:00:00 UTC"
        in (finding.description)
    )
    assert "tick_1m" in finding.description
    symbols = [symbol for symbol, _ in finding.metadata["stale"].rows]
    assert symbols == ["币安人生USDT", "SOLUSDT"]


def test_nothing_stored_is_not_fresh() -> None:
    verdict = judge(MINUTE, IngestState(), NOON, 1)
    assert (verdict.fresh, verdict.stored) == (False, False)
    assert (verdict.stale(seen=False), verdict.stale(seen=True)) == (False, True)
    assert "Is the schedule on?" in verdict.description


def reported_at(state: IngestState, now: datetime, reported: dict[str, list[str]]):
    """Return the events of one evaluation, and the reported states after it."""
    verdict = judge(MINUTE, state, now, 1)
    due, now_reported = due_reports({MINUTE: verdict}, reported)
    return [freshness_evaluation(each, verdict) for each in due], now_reported


def test_unused_interval_is_not_reported() -> None:
    """An interval that was never stored is not reported.

    Before the first candle is stored, a new installation shows no alarm.
    """
    assert reported_at(IngestState(), NOON, {}) == ([], {})


def test_lost_state_is_reported_as_stale() -> None:
    """An interval that was reported before, and of which nothing is known any more, is stale."""
    _, reported = reported_at(stored_until(NOON), NOON + timedelta(minutes=1), {})
    [event], _ = reported_at(IngestState(), NOON + timedelta(minutes=2), reported)
    assert not event.passed


def test_staleness_is_reported_once() -> None:
    """Staleness is reported once while nothing is stored."""
    state, later = stored_until(NOON), NOON + timedelta(hours=1)
    [event], reported = reported_at(state, later, {})
    assert (event.passed, event.check_name) == (False, "fresh")
    assert event.asset_key == AssetKey("candle_objects_1m")
    assert reported_at(state, later + timedelta(hours=1), reported) == ([], reported)


def test_a_change_is_reported_at_once() -> None:
    _, reported = reported_at(stored_until(NOON), NOON + timedelta(minutes=1), {})
    [event], reported = reported_at(stored_until(NOON), NOON + timedelta(hours=1), reported)
    assert not event.passed
    healed = stored_until(NOON + timedelta(minutes=59))
    [event], _ = reported_at(healed, NOON + timedelta(hours=1), reported)
    assert event.passed


def test_new_candles_renew_the_report() -> None:
    """A verdict is reported again once newer candles are stored."""
    _, reported = reported_at(stored_until(NOON), NOON + timedelta(minutes=1), {})
    newer = stored_until(NOON + timedelta(minutes=1))
    [event], _ = reported_at(newer, NOON + timedelta(minutes=2), reported)
    assert event.passed


def look(platform: Platform, cursor: str | None = None) -> Any:
    """One tick of the real sensor over the real state."""
    definitions = build_definitions(platform.settings)
    sensor = definitions.resolve_sensor_def("freshness")
    assert isinstance(sensor, SensorDefinition)
    with build_sensor_context(
        instance=platform.instance,
        cursor=cursor,
        definitions=definitions,
        resources={
            "store": ObjectStore(platform.settings.s3),
            "exchange": Exchange(platform.settings),
            "settings": platform.settings,
        },
    ) as context:
        return sensor.evaluate_tick(context)


def verdicts(found: Any) -> dict[str, bool]:
    events: list[AssetCheckEvaluation] = found.asset_events
    return {
        event.asset_key.path[0].removeprefix("candle_objects_"): event.passed for event in events
    }


def test_sensor_judges_the_lake(minutes: Platform) -> None:
    """The sensor judges the candles that ingest runs left on the lake."""
    first = look(minutes)
    assert (verdicts(first), first.skip_message) == ({}, "Nothing changed.")

    minutes.ingest("1m")
    second = look(minutes, first.cursor)
    assert verdicts(second) == {"1m": True}
    third = look(minutes, second.cursor)
    assert (verdicts(third), third.skip_message) == ({}, "Nothing changed.")

    minutes.exchange.advance(240)
    stale = look(minutes, third.cursor)
    assert verdicts(stale) == {"1m": False}
    assert "3 of 3 symbols are stale" in stale.asset_events[0].description
    minutes.ingest("1m")
    assert verdicts(look(minutes, stale.cursor)) == {"1m": True}


def test_uncollected_symbols_are_not_stale(minutes: Platform) -> None:
    """Symbols that are not collected any more are not stale.

    AGIXUSDT was delisted; ETHUSDT was taken out of the settings. With `all`, ETHUSDT is judged
    again, and so are two symbols of which nothing was ever stored.
    """
    minutes.ingest("1m")
    store = ObjectStore(minutes.settings.s3)
    state = read_ingest_state(store, MINUTE, (), NOON)
    long_ago = dict.fromkeys(("AGIXUSDT", "ETHUSDT"), NOON - timedelta(days=300))
    write_ingest_state(store, MINUTE, IngestState({**state.newest, **long_ago}, state.etags))
    fewer = minutes.with_settings(symbols=("BTCUSDT", "AGIXUSDT"))
    found = look(fewer)
    assert verdicts(found)["1m"]
    assert ": 1 symbol." in found.asset_events[0].description
    everything = look(minutes.with_settings(symbols="all"))
    assert "3 of 5 symbols are stale" in everything.asset_events[0].description


def test_verdict_can_be_requested(minutes: Platform) -> None:
    """A person may request the verdict at once."""
    resources = {
        "store": ObjectStore(minutes.settings.s3),
        "exchange": Exchange(minutes.settings),
        "settings": minutes.settings,
    }
    assert freshness_check(MINUTE)(**resources).passed, "nothing that was never stored is stale"
    minutes.ingest("1m")
    assert freshness_check(MINUTE)(**resources).passed
    minutes.exchange.advance(240)
    assert not freshness_check(MINUTE)(**resources).passed
