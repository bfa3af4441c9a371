"""The daily look at what the exchange lists, and what days it makes of symbols that come and go."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import ExecuteInProcessResult

from pipeline_assets.assets.universe import UNIVERSE
from pipeline_assets.definitions import build_definitions
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.platform import Platform

END = datetime(2026, 10, 20, 9, tzinfo=UTC)
"""When the catalogue's ALPACAUSDT is delivered."""
BEGIN = datetime(2026, 10, 20, 13, 30, tzinfo=UTC)
DAY_BEFORE, LAST_DAY = "2026-10-19", "2026-10-20"
AFTER = datetime(2026, 10, 21, 0, 5, 30, tzinfo=UTC)


@pytest.fixture
def exchange() -> Iterator[ExchangeHandle]:
    """One symbol is delisted at END, and another listed at BEGIN."""
    with start_exchange(
        symbols="BTCUSDT,ALPACAUSDT,ETHUSDT,BTCUSDT_261225",
        clock="stepped:2026-10-20T00:05:30Z",
        listed=f"ETHUSDT={BEGIN:%Y-%m-%dT%H:%M}",
    ) as own:
        yield own


@pytest.fixture
def everything(platform: Platform) -> Platform:
    return platform.with_settings(symbols="all")


@pytest.fixture
def forgetful(everything: Platform) -> Iterator[Platform]:
    """The same lake, beside an exchange that names ALPACAUSDT no more, and a new symbol."""
    with start_exchange(
        symbols="BTCUSDT,ETHUSDT,SOLUSDT", clock=f"stepped:{AFTER:%Y-%m-%dT%H:%M:%SZ}"
    ) as other:
        changed = everything.with_settings(binance={"rest_url": other.url.removesuffix("/fapi")})
        changed.exchange = other
        yield changed


def metadata(result: ExecuteInProcessResult, node: str) -> dict[str, Any]:
    [made] = result.asset_materializations_for_node(node)
    return {name: held.value for name, held in made.metadata.items()}


def changes(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(record.data.values()) for record in found["changes"].records]


def look(platform: Platform, partition: str) -> dict[str, Any]:
    """Return the asset's metadata after it was materialized alone, as by a person in the UI."""
    definitions = build_definitions(platform.settings)
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=platform.instance, partition_key=partition, asset_selection=[UNIVERSE]
    )
    return metadata(result, "universe")


def test_changes_since_last_look_are_reported(everything: Platform, forgetful: Platform) -> None:
    """The asset reports the symbols that came and went since its last observation."""
    first = look(everything, DAY_BEFORE)
    assert (first["symbols on the exchange"], first["symbols collected"]) == (4, 2)
    assert not {"listed", "delisted", "changes"} & first.keys(), "there was nothing to compare with"

    # Ingest runs read the listings too, and the asset still reports the change.
    everything.exchange.set_clock(END + timedelta(hours=8, seconds=30))
    everything.ingest("1m")
    found = look(everything, DAY_BEFORE)
    assert (found["listed"], found["delisted"], found["symbols collected"]) == (1, 1, 2)
    assert changes(found) == [
        ("ALPACAUSDT", "delisted", "2026-10-20 09:00:00 UTC", "yes"),
        ("ETHUSDT", "listed", "2026-10-20 13:30:00 UTC", "yes"),
    ]

    found = look(forgetful, LAST_DAY)
    # The other exchange has an ETHUSDT of another date, which is a correction and no listing.
    assert [each[:2] for each in changes(found)] == [
        ("SOLUSDT", "listed"),
        ("BTCUSDT_261225", "delisted"),
    ]
    again = look(forgetful, LAST_DAY)
    assert (again["listed"], again["delisted"]) == (0, 0)
    assert "changes" not in again


def test_unknown_configured_symbol_is_reported(platform: Platform) -> None:
    """A symbol of the settings that is not on the exchange is reported."""
    found = look(platform.with_settings(symbols=("BTCUSDT", "OLDUSDT")), DAY_BEFORE)
    assert found["in the settings and not on the exchange"] == "OLDUSDT"


def test_finalizing_stores_delisted_last_day(
    everything: Platform,
) -> None:
    """Finalizing reads the listings first and stores the last day of a delisted symbol."""
    everything.exchange.set_clock(AFTER)
    result = everything.run("seal", LAST_DAY)
    steps = [event.step_key for event in result.all_events if event.is_step_start]
    assert steps[0] == "universe"
    start = datetime(2026, 10, 20, tzinfo=UTC)
    for interval, count in (("1m", 540), ("15m", 36), ("1h", 9)):
        stored = everything.stored(interval, "ALPACAUSDT")
        assert stored.height == count
        assert stored.equals(everything.truth(interval, "ALPACAUSDT", start, AFTER))
        assert "failed symbols" not in metadata(result, f"raw_candles_{interval}")
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert failed == []


def test_vanished_symbol_is_reported_once(everything: Platform, forgetful: Platform) -> None:
    """A symbol that the exchange no longer lists is reported once, in its last day, and is no failure."""
    look(everything, DAY_BEFORE)
    everything.exchange.set_clock(END + timedelta(hours=1, seconds=30))
    look(everything, LAST_DAY)
    found = metadata(forgetful.run("backfill_1h", LAST_DAY), "raw_candles_1h")
    assert "failed symbols" not in found
    assert found["symbols gone"] == 1
    [record] = found["gone"].records
    assert record.data["symbol"] == "ALPACAUSDT"
    assert "traded until 2026-10-20 09:00 UTC" in record.data["reason"]
    assert {*forgetful.stored("1h")["symbol"]} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    forgetful.exchange.set_clock(AFTER + timedelta(days=1))
    found = metadata(forgetful.run("backfill_1h", "2026-10-21"), "raw_candles_1h")
    assert not {"symbols gone", "failed symbols"} & found.keys()
