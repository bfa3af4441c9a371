"""The recipes of docs/operations.md, "Making things again": what is lost is made again."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from dagster import AssetExecutionContext, AssetKey, DagsterInstance, asset, materialize
from pydantic import BaseModel, SecretStr

from pipeline_assets.local.stack import dagster_environment
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets.resources.finalized_days import finalized_days, read_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

DAYS = ("2026-11-18", "2026-11-19")
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def asked(platform: Platform) -> int:
    """The klines requests that the exchange has had."""
    return sum(platform.exchange.state()["requests"].get("/fapi/v1/klines", {}).values())


def marks(platform: Platform) -> dict:
    store = ObjectStore(platform.settings.s3)
    return {
        day: read_finalized(store, Interval.ONE_MINUTE, day)
        for day in finalized_days(store, Interval.ONE_MINUTE)
    }


def test_next_ingest_rewrites_damaged_documents(minutes: Platform) -> None:
    """The next ingest run writes damaged documents again."""
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2))
    minutes.ingest("1m")
    documents = minutes.objects("state/")
    assert {"state/1m.json", "state/universe.json", "state/listings.json"} <= documents.keys()
    for key in documents:
        minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b'{"newest":{')
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2, minutes=1, seconds=10))
    assert minutes.ingest("1m").success
    for key in ("state/1m.json", "state/universe.json", "state/listings.json"):
        assert json.loads(minutes.objects(key)[key]).keys() == json.loads(documents[key]).keys()
    assert minutes.stored("1m").height == 3 * 121


def test_backfill_rewrites_lost_marks(minutes: Platform) -> None:
    """A backfill writes lost marks again."""
    minutes.backfill("1m", *DAYS)
    before, objects = marks(minutes), minutes.objects("ohlcv/")
    ObjectStore(minutes.settings.s3).delete(list(minutes.objects("state/sealed/")))
    assert marks(minutes) == {}
    minutes.backfill("1m", *DAYS)
    assert marks(minutes) == before
    assert minutes.objects("ohlcv/") == objects


def test_next_ingest_refills_lost_slots(minutes: Platform) -> None:
    """The next ingest run fills lost slots."""
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2))
    minutes.ingest("1m")
    held = minutes.settings.redis
    password = held.password.get_secret_value() if held.password else None
    redis.Redis.from_url(held.url, password=password).flushdb()
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2, minutes=1))
    minutes.ingest("1m")
    for symbol in SYMBOLS:
        assert len(minutes.slots(symbol)) == 15


def test_empty_dagster_storage_needs_no_fetch(minutes: Platform) -> None:
    """An empty Dagster storage turns green without fetching."""
    minutes.backfill("1m", *DAYS)
    before = asked(minutes)
    with DagsterInstance.ephemeral() as empty:
        anew = replace(minutes, instance=empty)
        anew.backfill("1m", *DAYS)
        for name in ("raw_candles_1m", "candles_1m", "candle_objects_1m"):
            assert empty.get_materialized_partitions(AssetKey(name)) == set(DAYS)
    assert asked(minutes) == before


def secrets(held: BaseModel) -> set[str]:
    """Every secret of the settings, at any depth."""
    found: set[str] = set()
    for value in (getattr(held, name) for name in type(held).model_fields):
        if isinstance(value, SecretStr):
            found.add(value.get_secret_value())
        elif isinstance(value, BaseModel):
            found |= secrets(value)
    return found - {""}


@asset
def reporting(context: AssetExecutionContext) -> None:
    """An asset that reports its progress."""
    context.log.info("half of it is fetched")


def test_damage_warnings_reach_the_event_log(
    minutes: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings of damage are in the event log of the run.

    With Dagster's storage as dagster.yaml has it.
    """
    hour = object_key(Interval.ONE_MINUTE, SYMBOLS[0], MIDNIGHT + timedelta(hours=2))
    damaged = ("state/1m.json", "state/universe.json", hour)
    for key in damaged:
        minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b"")
    environment = dagster_environment(minutes.settings.model_copy(update={"data_dir": tmp_path}))
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2, minutes=1, seconds=10))
    with DagsterInstance.get() as kept:
        ended = replace(minutes, instance=kept).ingest("1m")
        logged = kept.all_logs(ended.run_id)
        # Dagster's level of these loggers, if there were one, would hide the progress of runs.
        reported = materialize([reporting], instance=kept)
        shown = [each.user_message for each in kept.all_logs(reported.run_id)]
    assert "half of it is fetched" in shown
    warnings = [each.user_message for each in logged if each.level == logging.WARNING]
    for key in damaged:
        assert any(key in text for text in warnings), (key, warnings)
    message = "".join(str(each) for each in logged)
    assert len(secrets(minutes.settings)) >= 2
    assert not [secret for secret in secrets(minutes.settings) if secret in message]


def rows_of_gaps(platform: Platform) -> list[tuple]:
    """The rows of the table CANDLE_GAPS."""
    with platform.snowflake.connect(platform.settings.snowflake) as connection:
        cursor = connection.cursor().execute("select * from CANDLE_GAPS order by 1, 2, 3, 4")
        return cursor.fetchall()


def test_refresh_reloads_lost_tables(platform: Platform) -> None:
    """A refresh loads lost tables again."""
    day = DAYS[1]
    platform.backfill("1h", day)
    platform.run("gap_ledger", day)
    before, gaps = platform.table("1h"), rows_of_gaps(platform)
    assert len(before) == 3 * 24
    assert gaps
    with platform.snowflake.connect(platform.settings.snowflake) as connection:
        for table in ("CANDLES_1H", "CANDLE_GAPS"):
            connection.cursor().execute(f"drop table {table}")
    platform.backfill("1h", day, refresh=True)
    assert platform.table("1h") == before
    platform.materialize("candle_gap_table", day)
    assert rows_of_gaps(platform) == gaps
