"""Airflow as it runs on many machines: PostgreSQL, CeleryExecutor with Redis as its broker, and a worker, all
real. Dagster is a stand-in, because only the way to it differs from the tests of the DAGs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.local.airflow import address, airflow_environment
from pipeline_assets.local.ports import http_answers
from pipeline_assets.settings import DagsterSettings, Settings
from pipeline_assets_tests.fixtures.dagster_web import answering_as
from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually, free_port
from pipeline_assets_tests.fixtures.tls import Tls
from pipeline_assets_tests.resources.test_postgres_tls import url_of as postgres_url

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("postgres"),
]
DAG = "candles_1m"
# Airflow's components need a minute to start on a machine with much to do.
SECONDS = 400
TASKS = {"fetch", "format", "upload", "insert"}
STEPS = ("raw_candles_1m", "candles_1m", "candle_objects_1m", "candle_slots_1m")


class Dagster:
    """Dagster's answers: each launched run succeeds at once.

    Attributes:
        launched: the tags of each launch.
    """

    def __init__(self) -> None:
        self.launched: list[dict[str, str]] = []

    def __call__(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "launchRun" in query:
            tags = variables["params"]["executionMetadata"]["tags"]
            self.launched.append({each["key"]: each["value"] for each in tags})
            run = {"runId": str(len(self.launched) - 1)}
            return {"launchRun": {"__typename": "LaunchRunSuccess", "run": run}}
        wanted = {each["key"]: each["value"] for each in variables["filter"]["tags"]}
        found = [
            self._run(number, tags)
            for number, tags in enumerate(self.launched)
            if wanted.items() <= tags.items()
        ]
        return {"runsOrError": {"__typename": "Runs", "results": found[::-1]}}

    def _run(self, number: int, tags: dict[str, str]) -> dict[str, Any]:
        return {
            "runId": str(number),
            "rootRunId": str(number),
            "status": "SUCCESS",
            "stepKeysToExecute": list(STEPS),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "stepStats": [{"stepKey": step, "status": "SUCCESS"} for step in STEPS],
        }


def many_machines(settings: Settings, broker: RedisServer) -> dict[str, str]:
    """Return the environment that docs/production.md names for CeleryExecutor, for one worker here."""
    environment = airflow_environment(settings)
    database = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    return environment | {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{broker.port}/2",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    }


@contextmanager
def running(name: str, environment: dict[str, str], directory: Path, *words: str) -> Iterator[None]:
    """Run a component of Airflow within the block; it logs to a file of its name."""
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", *words],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def airflow(environment: dict[str, str], *words: str) -> None:
    """Run a command of Airflow to its end."""
    subprocess.run(
        [sys.executable, "-m", "airflow", *words],
        env=environment,
        check=True,
        capture_output=True,
    )


def test_celery_worker_runs_the_ingest_dag(
    tmp_path: Path,
    tls: Tls,
    postgres_server: PostgresServer,
    storage_database: str,
    own_redis_server: RedisServer,
) -> None:
    """A scheduled minute goes by the broker to the worker: its four tasks succeed, on one Dagster run.

    All connections to the database are TLS, with the certificates of both sides checked.
    """
    before_database = tls.proxy(postgres_server.port, asks_clients=True)
    tls.client()
    dagster = Dagster()

    def rows(query: str) -> list[Any]:
        return postgres_server.execute(query, database=storage_database)

    with answering_as(dagster) as web, ExitStack() as stack:
        url = postgres_url(
            postgres_server, tls, before_database.port, storage_database, client=True
        )
        settings = Settings(
            data_dir=tmp_path,
            airflow={"enabled": True, "port": free_port(), "database_url": url},
            dagster=DagsterSettings(webserver_port=web.webserver_port),
        )
        environment = many_machines(settings, own_redis_server)
        port = str(settings.airflow.port)
        airflow(environment, "db", "migrate")
        airflow(environment, "dag-processor", "--num-runs", "1")
        server = ("api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1")
        stack.enter_context(running("api", environment, tmp_path, *server))
        version = f"{address(settings)}/api/v2/version"
        eventually(lambda: http_answers(version), "the API server answers", SECONDS)
        rows(f"UPDATE dag SET is_paused = false WHERE dag_id = '{DAG}'")
        for name, *words in (
            ("scheduler", "scheduler", "--skip-serve-logs"),
            ("worker", "celery", "worker", "--skip-serve-logs"),
        ):
            stack.enter_context(running(name, environment, tmp_path, *words))
        ended = f"SELECT run_id FROM dag_run WHERE dag_id = '{DAG}' AND state = 'success'"
        [(run_id,), *_] = eventually(lambda: rows(ended), "a DAG run succeeds", SECONDS)
        tasks = rows(
            "SELECT task_id, state, external_executor_id FROM task_instance "
            f"WHERE dag_id = '{DAG}' AND run_id = '{run_id}'"
        )
        by_celery = dict(rows("SELECT task_id, status FROM celery_taskmeta"))
    assert {(name, state) for name, state, _ in tasks} == {(name, "success") for name in TASKS}
    # Celery's result of each task is in its backend.
    assert {by_celery[name] for _, _, name in tasks} == {"SUCCESS"}
    assert [each["airflow/run_id"] for each in dagster.launched].count(run_id) == 1
    assert before_database.handshakes > 0
    logs = "".join(file.read_text("utf-8", "replace") for file in tmp_path.glob("*.log"))
    assert PASSWORD not in logs
