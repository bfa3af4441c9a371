"""Deciding about a minute's candidates: 20 of 500 symbols from the batch to Kafka's acknowledgement of the
decisions, and the cost of the idle service. Real Kafka, S3, Redis, warehouse and exchange.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from pipeline_assets.research.model_inputs import model_inputs
from pipeline_assets.research.model_registry import ModelRegistry
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_features import FeatureTable
from pipeline_assets.services.inference.judging import ModelJudge
from pipeline_assets.services.inference.live_features import LiveFeatures
from pipeline_assets.services.inference.live_models import LiveModels
from pipeline_assets.settings import S3Settings, Settings
from pipeline_assets.trading.decision_store import LakeDecisions
from pipeline_assets.trading.decisions import DECISION_SCHEMA, DECISIONS_TOPIC
from pipeline_assets.trading.model_decider import ModelDecider
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures import live_inference as live
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.kafka import KafkaServer, candidates
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Server, eventually, make_bucket
from pipeline_assets_tests.fixtures.snowflake import PASSWORD, running_snowflake_server

SYMBOLS = [f"COIN{number}USDT" for number in range(500)]
EACH, MINUTES, SETS, IDLE_SECONDS = 20, 12, 8, 60.0
NOW = datetime(2026, 11, 20, 12, 2, 1, tzinfo=UTC)
# Trees of a usual model; the model of the tests has four.
ITERATIONS = 100


def main() -> int:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[name] = "1"
    with tempfile.TemporaryDirectory() as directory, ExitStack() as servers:
        return measure(Path(directory), servers)


def measure(directory: Path, servers: ExitStack) -> int:
    enter = servers.enter_context
    s3 = enter(S3Server(directory / "s3"))
    bucket = make_bucket(s3)
    snowflake = enter(running_snowflake_server(directory, s3.endpoint))
    sections = {
        "redis": enter(RedisServer(directory / "redis")),
        "kafka": enter(KafkaServer(make_bucket(s3))),
        "s3": bucket,
        "snowflake": snowflake,
    }
    exchange = enter(start_exchange(clock=f"stepped:{NOW:%Y-%m-%dT%H:%M:%SZ}"))
    named: dict[str, Any] = {name: each.settings() for name, each in sections.items()}
    named["binance"] = {"rest_url": exchange.url.removesuffix("/fapi")}
    named["strategies"] = [{"name": live.STRATEGY}]
    settings = Settings(_env_file=None, symbols=SYMBOLS, data_dir=directory, **named)
    store = ObjectStore(settings.s3)
    held = SimpleNamespace(snowflake=settings.snowflake, s3=S3Settings(bucket=bucket.name))
    live.fill_features(snowflake, held, SYMBOLS, NOW)
    live.promote_model(store, ITERATIONS)

    table = FeatureTable(Warehouse(settings.snowflake, settings.s3))
    features = LiveFeatures(table, lambda: SYMBOLS, live.LAG)
    began = time.perf_counter()
    features.refresh(NOW)
    queried = time.perf_counter() - began
    models = LiveModels(ModelRegistry(store), [(live.STRATEGY, live.version())])
    models.refresh()
    judge = ModelJudge(models, features, partial(model_inputs, load_lag=live.LAG))
    topic = settings.kafka.model_copy(update={"topic": DECISIONS_TOPIC})
    publish = CandidateTopic(topic, DECISION_SCHEMA).publish
    taken: dict[str, list[float]] = {"judged": [], "decided": [], "whole": []}
    plain: list[float] = []
    for minute in range(MINUTES):
        start = NOW.replace(second=0) + timedelta(minutes=minute)
        # Ten seconds after the candle's close.
        decided_at = int((start + timedelta(seconds=70)).timestamp() * 1000)
        sent = [
            each.model_copy(update={"version": live.version()})
            for each in candidates(symbols=len(SYMBOLS), start=start)
        ]
        for number in range(SETS):
            batch = sent[number::25][:EACH]
            begun = time.perf_counter()
            judge.judge(batch)
            taken["judged"].append(1000 * (time.perf_counter() - begun))
            # Another one each time, so that it does not know the minute's document.
            decider = ModelDecider(
                judge,
                LakeDecisions(store),
                {f"{live.STRATEGY} {live.version()}"},
                0.0,
                partial(int, decided_at),
            )
            begun = time.perf_counter()
            made = decider.decide(batch)
            taken["decided"].append(1000 * (time.perf_counter() - begun))
            publish(made)
            taken["whole"].append(1000 * (time.perf_counter() - begun))
            assert {each.verdict for each in made} == {"accept"}, made[0]
            begun = time.perf_counter()
            store.each(
                lambda each: store.put_if(
                    f"plain/{each.id}", each.model_dump_json().encode(), None
                ),
                made,
            )
            plain.append(1000 * (time.perf_counter() - begun))
    half, most = (_at(taken["whole"], share) for share in (0.5, 0.99))
    reference = statistics.median(plain)
    against = "20 conditional writes of the same size alone"
    what = "20 candidates of 500 symbols: batch to Kafka's acknowledgement of the decisions"
    more = {
        "judged": _at(taken["judged"], 0.5),
        "decided": _at(taken["decided"], 0.5),
        "query": 1000 * queried,
    }
    met = [
        report(f"{what}, p50", half, "ms", 50, ratio=half / reference, against=against, **more),
        report(f"{what}, p99", most, "ms", 500, ratio=most / reference, against=against),
    ]
    met += _idle(settings, PASSWORD)
    return 0 if all(met) else 1


def _cpu_seconds(process: int) -> float:
    """Return the CPU time of a process's threads: of short turns, the usual counters see few."""
    found = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in found) / 1e9


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _idle(settings: Any, password: str) -> list[bool]:
    """Run the service as a process of its own without candidates, and report what it costs."""
    from pipeline_assets_tests.fixtures.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY

    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")},
        "PIPELINE_SYMBOLS": ",".join(SYMBOLS),
        "PIPELINE_DATA_DIR": str(settings.data_dir),
        "PIPELINE_BINANCE__REST_URL": settings.binance.rest_url,
        "PIPELINE_S3__ENDPOINT_URL": settings.s3.endpoint_url,
        "PIPELINE_S3__BUCKET": settings.s3.bucket,
        "PIPELINE_S3__ACCESS_KEY_ID": ACCESS_KEY_ID,
        "PIPELINE_S3__SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "PIPELINE_REDIS__URL": settings.redis.url,
        "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "PIPELINE_SNOWFLAKE__PORT": str(settings.snowflake.port),
        "PIPELINE_SNOWFLAKE__PASSWORD": password,
        "PIPELINE_INFERENCE__ENABLED": "true",
    }
    command = [sys.executable, "-m", "pipeline_assets", "inference"]
    log = settings.data_dir / "inference.log"
    with log.open("wb") as lines:
        child = subprocess.Popen(command, env=environment, stdout=lines, stderr=lines)
    try:
        process, file = psutil.Process(child.pid), settings.data_dir / "heartbeats" / "inference"
        eventually(file.exists, "the service works", 120)
        first = file.stat().st_mtime
        eventually(lambda: file.stat().st_mtime > first, log.read_text(), 120)
        time.sleep(15)
        before, begun = _cpu_seconds(child.pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        used = _cpu_seconds(child.pid) - before
        used *= 60 / (time.monotonic() - begun)
        memory = process.memory_full_info()
    finally:
        child.terminate()
        child.wait(30)
    return [
        report("idle inference service: CPU a minute", used, "s", 1, ratio=used, against="1 s"),
        report(
            "idle inference service: memory (proportional set size)",
            memory.pss / 2**20,
            "MB",
            300,
            ratio=memory.pss / memory.rss,
            against="its resident set size",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
