"""The whole service over real servers: exchange, Redis, Kafka, S3 and warehouse."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from pipeline_assets.market.candidates import Candidate, candidate_id
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.heartbeat import inference_heartbeat
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.inference.process import run_inference
from pipeline_assets.settings import KafkaSettings, Settings
from pipeline_assets.trading.decision_store import read_decisions
from pipeline_assets.trading.decisions import Decision
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.live_inference import (
    STRATEGY,
    fill_features,
    promote_model,
    version,
)
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Bucket, eventually
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer
from pipeline_assets_tests.fixtures.threads import running

NOW = datetime(2026, 11, 20, 12, 1, 56, tzinfo=UTC)
# A candle that closes in four seconds: a busy machine has more than a minute until it is stale.
OPEN_TIME = datetime(2026, 11, 20, 12, 1, tzinfo=UTC)
SYMBOLS = ("COIN0USDT", "COIN1USDT", "COIN2USDT")


@pytest.fixture
def settings(
    exchange: ExchangeHandle,
    redis_server: RedisServer,
    kafka_settings: KafkaSettings,
    s3_bucket: S3Bucket,
    warehouse_settings: SimpleNamespace,
    tmp_path: Path,
) -> Settings:
    exchange.set_clock(NOW)
    base = exchange.url.removesuffix("/fapi")
    return Settings.model_validate(
        {
            "symbols": SYMBOLS,
            "data_dir": tmp_path,
            "binance": {"rest_url": base, "archive_url": base},
            "redis": redis_server.settings(),
            "kafka": kafka_settings,
            "s3": s3_bucket.settings(),
            "snowflake": warehouse_settings.snowflake,
            "strategies": [{"name": STRATEGY}],
            "inference": {"enabled": True, "group_id": f"group-{uuid4().hex[:8]}"},
        }
    )


def _running(settings: Settings) -> AbstractContextManager[None]:
    return running(lambda stop: run_inference(settings, stop))


def _candidates(symbols: int = 3) -> list[Candidate]:
    held = candidates(symbols=symbols, start=OPEN_TIME)
    return [each.model_copy(update=_of_this_version(each)) for each in held]


def _of_this_version(held: Candidate) -> dict[str, str]:
    key = (held.strategy, version(), held.symbol, held.interval, held.open_time)
    return {"version": version(), "id": candidate_id(*key)}


def _decided(settings: Settings, sent: list[Candidate]) -> dict[str, Decision]:
    """Send candidates, and return the decisions of the running service by symbol."""
    CandidateTopic(settings.kafka).publish(sent)
    store = ObjectStore(settings.s3)

    def found() -> list[Decision]:
        made = read_decisions(store, OPEN_TIME.date())
        return made if len(made) == len(sent) else []

    return {each.symbol: each for each in eventually(found, "all are decided", 90)}


def test_service_decides_by_model_and_features(
    settings: Settings, snowflake_server: SnowflakeServer, warehouse_settings: SimpleNamespace
) -> None:
    """A symbol without features is declined; the others carry the model's judgement."""
    model = promote_model(ObjectStore(settings.s3))
    fill_features(snowflake_server, warehouse_settings, SYMBOLS[:2], NOW)
    with _running(settings):
        made = _decided(settings, _candidates())
    assert {symbol: (each.verdict, each.reason) for symbol, each in made.items()} == {
        "COIN0USDT": ("accept", ""),
        "COIN1USDT": ("accept", ""),
        "COIN2USDT": ("decline", "features_missing"),
    }
    accepted = made["COIN0USDT"]
    assert accepted.model == model
    assert accepted.expected_value is not None
    assert accepted.expected_value > 0
    assert accepted.reasons is not None
    assert len(accepted.reasons) == 3
    assert inference_heartbeat(settings.data_dir).age() is not None


def test_missing_parts_decline_with_reason(
    settings: Settings, snowflake_server: SnowflakeServer, exchange: ExchangeHandle
) -> None:
    """No model was promoted; then there is one, and the warehouse does not answer."""
    first, second = _candidates(2)
    with _running(settings):
        assert _decided(settings, [first])[first.symbol].reason == "no_model"
    promote_model(ObjectStore(settings.s3))
    exchange.set_clock(NOW)
    down = settings.snowflake.model_copy(update={"port": 1, "timeout_seconds": 1})
    with _running(settings.model_copy(update={"snowflake": down})):
        CandidateTopic(settings.kafka).publish([second])
        store = ObjectStore(settings.s3)
        day = OPEN_TIME.date()
        made = eventually(
            lambda: [each for each in read_decisions(store, day) if each.symbol == second.symbol],
            "the second is decided",
            90,
        )
    assert [(each.reason, bool(each.model)) for each in made] == [("warehouse_down", True)]
    assert timedelta(0) < made[0].decided_at - NOW < timedelta(minutes=10)
