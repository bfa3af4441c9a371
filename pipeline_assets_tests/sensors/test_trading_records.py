"""The sensor `trading_records` over a real S3 server: events on the assets from decisions to positions."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetMaterialization,
    AssetObservation,
    SensorResult,
    TableMetadataValue,
    build_sensor_context,
)

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.sensors.trading_records import trading_record_sensor
from pipeline_assets.settings import Settings
from pipeline_assets.trading.record_objects import Kind, object_key
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.trading.record_bench import copied, decide
from pipeline_assets_tests.trading.test_record_copy import DAY


class RecordSensor:
    """The sensor with its cursor, as Dagster keeps it between ticks."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.settings = Settings(_env_file=None, s3=bucket.settings().model_dump())
        self.store = ObjectStore(self.settings.s3)
        self.cursor: str | None = None

    def tick(self) -> SensorResult:
        resources = {"settings": self.settings, "store": self.store}
        with build_sensor_context(cursor=self.cursor, resources=resources) as context:
            result: Any = trading_record_sensor().evaluate_tick(context)
        self.cursor = result.cursor
        return result


@pytest.fixture
def record_sensor(s3_bucket: S3Bucket) -> RecordSensor:
    """Provide the sensor before its first tick, and an empty lake."""
    return RecordSensor(s3_bucket)


def _shown(event: Any) -> tuple[str, str, str | None]:
    return type(event).__name__, event.asset_key.to_user_string(), event.partition


def test_events_show_what_was_traded(record_sensor: RecordSensor, tmp_path: Path) -> None:
    """Each asset is reported once, by day, with the figures that a person looks for."""
    decide(record_sensor.store, 2)
    asyncio.run(copied(tmp_path, record_sensor.store))
    events = record_sensor.tick().asset_events
    decided, traded = str(MIDNIGHT.date()), str(DAY)
    assert {_shown(each) for each in events} == {
        ("AssetMaterialization", "decisions", decided),
        ("AssetObservation", "decisions", decided),
        ("AssetMaterialization", "orders", traded),
        ("AssetMaterialization", "fills", traded),
        ("AssetObservation", "fills", traded),
        ("AssetMaterialization", "positions", None),
    }
    figures = {
        (type(each), each.asset_key.to_user_string()): {
            name: [record.data for record in value.records]
            if isinstance(value, TableMetadataValue)
            else value.value
            for name, value in each.metadata.items()
        }
        for each in events
    }
    decisions = figures[AssetMaterialization, "decisions"]
    assert (decisions["decisions"], decisions["accepted"], decisions["declined"]) == (4, 2, 2)
    assert [tuple(each.values()) for each in decisions["by verdict and reason"]] == [
        ("accept", "", 2),
        ("decline", "position_held", 2),
    ]
    newest = decisions["newest decisions"]
    assert list(newest[0])[-3:] == ["probability", "expected_value", "model"]
    assert sorted({(each["verdict"], each["reason"]) for each in newest}) == [
        ("accept", ""),
        ("decline", "position_held"),
    ]
    assert len(newest) == 4
    assert figures[AssetObservation, "decisions"]["sent"] == 2
    orders = figures[AssetMaterialization, "orders"]
    assert (orders["orders"], orders["not at an end"]) == (3, 0)
    assert {each["status"]: each["number"] for each in orders["by state"]} == {
        "filled": 2,
        "rejected": 1,
    }
    fills = figures[AssetMaterialization, "fills"]
    assert (fills["fills"], fills["value (USDT)"], fills["fees (USDT)"]) == (2, 20.0, 0.0)
    funding = figures[AssetObservation, "fills"]
    assert (funding["funding payments"], funding["funding (USDT)"]) == (1, -0.00012345)
    bought = [(each["symbol"], each["side"], each["quantity"]) for each in fills["newest fills"]]
    assert bought == [("BTCUSDT", "buy", 0.1)] * 2
    positions = figures[AssetMaterialization, "positions"]
    assert (positions["mode"], positions["gross exposure (USDT)"]) == ("ACTIVE", 20.0)
    assert [each["quantity"] for each in positions["positions and open orders"]] == [0.2]


def test_stopped_trading_reports_nothing(record_sensor: RecordSensor) -> None:
    """Without trader and gateway a tick is empty; after the first news, so is the next one."""
    assert not record_sensor.tick().asset_events
    decide(record_sensor.store, 1)
    assert len(record_sensor.tick().asset_events) == 2
    result = record_sensor.tick()
    assert not result.asset_events
    assert "No new document" in str(result.skip_message)


def test_damaged_object_is_red(record_sensor: RecordSensor) -> None:
    """The check of the asset fails for the day, once, and passes after the object was made again."""
    decide(record_sensor.store, 1)
    key = object_key(Kind.INTENTS, MIDNIGHT.date())
    record_sensor.store.put(key, b"PAR1 and no more")
    first, second = record_sensor.tick(), record_sensor.tick()
    assert [_shown(each)[0] for each in first.asset_events] == [
        "AssetMaterialization",
        "AssetCheckEvaluation",
    ]
    assert not second.asset_events
    assert key in str(second.skip_message)
    record_sensor.store.delete([key])
    failed, passed = (
        next(each for each in result.asset_events if isinstance(each, AssetCheckEvaluation))
        for result in (first, record_sensor.tick())
    )
    for evaluation, whole in ((failed, False), (passed, True)):
        asset = evaluation.asset_key.to_user_string()
        named = (asset, evaluation.check_name, evaluation.partition)
        assert named == ("decisions", "readable", str(MIDNIGHT.date()))
        assert evaluation.passed is whole
    assert key in str(failed.description)
