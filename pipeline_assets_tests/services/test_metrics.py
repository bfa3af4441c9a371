"""The metrics exporter: what it says of each part, and what it says when a part is away."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pipeline_assets.dagster_instance.celery_app import INGEST
from pipeline_assets.local.ports import http_answers
from pipeline_assets.local.stack import settings_environment
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.ingest_state import IngestState, write_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.workers import Worker, WorkerRegistry
from pipeline_assets.services import metric_names as names
from pipeline_assets.services import metrics
from pipeline_assets.services.metric_text import Sample, exposition
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.dagster_web import answering_as
from pipeline_assets_tests.fixtures.gateway import GatewayServer
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.redis import die_with_the_tests, free_port
from pipeline_assets_tests.fixtures.s3 import eventually

if TYPE_CHECKING:
    from graphql import GraphQLSchema

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def by_labels(samples: list[Sample], name: str) -> dict[tuple[str, ...], float]:
    """Return the values of one metric by the values of its labels."""
    return {tuple(each.labels.values()): each.value for each in samples if each.name == name}


def test_text_is_in_prometheus_format() -> None:
    """Labels are escaped, a metric's samples stand together, and a metric without samples is absent."""
    samples = [Sample("b", 1.0, {"x": 'a"\\\n'}), Sample("a", 1764417900.25), Sample("b", 0.0)]
    text = exposition(samples, {"a": "First.", "b": "Second.", "c": "Absent."})
    assert text.splitlines() == [
        "# HELP a First.",
        "# TYPE a gauge",
        "a 1764417900.25",
        "# HELP b Second.",
        "# TYPE b gauge",
        'b{x="a\\"\\\\\\n"} 1',
        "b 0",
    ]


def test_stale_interval_is_shown(minutes: Platform) -> None:
    """A symbol that is late makes its interval stale; the workers and the weight are read from Redis."""
    minutes.ingest("1m")
    settings = minutes.settings
    WorkerRegistry(settings.redis).beat(Worker("w", (INGEST,), "code"))
    found = metrics.Collector(settings, ("s3", "redis")).collect(minutes.now())
    assert by_labels(found, names.PART_ANSWERS) == {("s3",): 1.0, ("redis",): 1.0}
    assert by_labels(found, names.CANDLES_FRESH)[("1m",)] == 1.0
    assert by_labels(found, names.WORKERS) == {("ingest",): 1.0, ("backfill",): 0.0}
    assert by_labels(found, names.WEIGHT_CAPACITY) == {(): 2340.0}
    late = IngestState({"BTCUSDT": minutes.now().replace(second=0) - timedelta(hours=3)})
    write_ingest_state(ObjectStore(settings.s3), Interval("1m"), late)
    found = metrics.Collector(settings, ("s3",)).collect(minutes.now())
    assert by_labels(found, names.CANDLES_FRESH)[("1m",)] == 0.0
    assert by_labels(found, names.CANDLES_STALE_SYMBOLS)[("1m",)] >= 1.0


def test_new_installation_is_not_stale(minutes: Platform) -> None:
    """Before the first ingest run an interval is neither fresh nor stale, so no alert begins."""
    found = metrics.Collector(minutes.settings, ("s3",)).collect(minutes.now())
    assert found == [Sample(names.PART_ANSWERS, 1.0, {"part": "s3"})]


def test_gateway_state_is_shown(gateway_server: GatewayServer) -> None:
    settings = Settings(_env_file=None, gateway=gateway_server.settings.model_dump())
    found = metrics.Collector(settings, ("gateway",)).collect(NOON)
    assert by_labels(found, names.GATEWAY_MODE) == {
        ("paper", "ACTIVE"): 1.0,
        ("paper", "REDUCING"): 0.0,
        ("paper", "HALTED"): 0.0,
    }
    assert by_labels(found, names.GATEWAY_UNKNOWN) == {("paper",): 0.0}


def test_dagster_daemons_are_shown() -> None:
    """Required daemons and the runs that have not ended are counted."""
    daemons = [
        {"daemonType": "SENSOR", "required": True, "healthy": False},
        {"daemonType": "BACKFILL", "required": False, "healthy": None},
    ]
    runs = [{"status": "STARTED"}, {"status": "NOT_STARTED"}, {"status": "QUEUED"}]

    def answer(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        del query, variables
        health = {"daemonHealth": {"allDaemonStatuses": daemons}}
        return {"instance": health, "runsOrError": {"__typename": "Runs", "results": runs}}

    with answering_as(answer) as dagster:
        settings = Settings(_env_file=None, dagster=dagster.model_dump())
        found = metrics.Collector(settings, ("dagster",)).collect(NOON)
    assert by_labels(found, names.DAEMON_HEALTHY) == {("SENSOR",): 0.0}
    counts = by_labels(found, names.RUNS)
    assert (counts[("QUEUED",)], counts[("STARTED",)], counts[("STARTING",)]) == (2.0, 1.0, 0.0)


def test_query_fits_the_schema(dagster_schema: "GraphQLSchema") -> None:
    """Dagster's web server accepts the exporter's query."""
    from graphql import parse, validate

    assert validate(dagster_schema, parse(metrics._DAGSTER)) == []


def test_absent_parts_are_shown(tmp_path: Path) -> None:
    """The exporter answers while everything else is away, and says so."""
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        binance={"rest_url": f"http://127.0.0.1:{free_port()}"},
        redis={"url": f"redis://127.0.0.1:{free_port()}/0"},
        dagster={"webserver_port": free_port()},
        gateway={"http_port": free_port()},
    )
    port = free_port()
    command = (sys.executable, "-m", "pipeline_assets.services.metrics", "--port", str(port))
    environment = settings_environment(settings)
    with subprocess.Popen(command, env=environment, preexec_fn=die_with_the_tests) as exporter:  # noqa: PLW1509
        try:
            eventually(lambda: http_answers(f"http://127.0.0.1:{port}/health"), "the exporter", 60)
            reply = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60)
            # A pod is named by its address; a page that made its own name mean this machine sends that name.
            statuses = [
                requests.get(
                    f"http://127.0.0.1:{port}/health", headers={"Host": host}, timeout=60
                ).status_code
                for host in ("10.1.2.3:9102", "evil.test")
            ]
        finally:
            exporter.terminate()
    assert statuses == [200, 403]
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = re.findall(r'^pipeline_part_answers\{part="(\w+)"\} (\d)$', reply.text, re.MULTILINE)
    assert dict(found) == dict.fromkeys(metrics.PARTS, "0")


def test_soon_repeated_scrape_is_shared(tmp_path: Path) -> None:
    """Two scrapers within ten seconds cost one look."""
    now, looks = [0.0], []

    class Counted(metrics.Collector):
        def collect(self, now: datetime) -> list[Sample]:
            looks.append(now)
            return []

    text = metrics.KeptText(Counted(Settings(_env_file=None), ()), lambda: now[0])
    for now[0] in (0.0, 9.9, 10.0):
        text()
    assert len(looks) == 2


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        metrics.main(["--parts", "s3,kafka"])
    assert "no part kafka" in capsys.readouterr().err
