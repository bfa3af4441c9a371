"""Ingest runs of 1m by Airflow's own scheduler, while processes of Airflow and Dagster are killed.

After each fault the ingest runs continue without help, and the stored candles equal the exchange's.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import psutil
import pytest
import requests

from pipeline_assets.local.airflow import address, airflow_environment, login
from pipeline_assets.local.stack import running_stack, stack_status
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.airflow import Airflow, stack_settings
from pipeline_assets_tests.fixtures.s3 import eventually, free_port
from pipeline_assets_tests.fixtures.webhook import Webhook, receiving

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.xdist_group("airflow_faults"),
    pytest.mark.timeout(1200),
]

TASKS = ["fetch", "format", "upload", "insert"]


@dataclass
class Scheduler:
    """A whole Airflow over the embedded stack, seen through its own interface."""

    settings: Settings
    webhook: Webhook

    def reply(self, method: str, path: str, **arguments: Any) -> requests.Response:
        user, password = login(self.settings)
        root = address(self.settings)
        given = {"username": user, "password": password}
        token = requests.post(f"{root}/auth/token", json=given, timeout=30).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{root}/api/v2/{path}"
        return requests.request(method, url, headers=headers, timeout=30, **arguments)

    def ask(self, method: str, path: str, **arguments: Any) -> Any:
        reply = self.reply(method, path, **arguments)
        reply.raise_for_status()
        return reply.json()

    def get(self, path: str, **query: Any) -> Any:
        return self.ask("GET", path, params=query)

    def dag_runs(self) -> list[dict[str, Any]]:
        """Return the DAG runs of candles_1m, newest first."""
        query = {"order_by": "-run_after", "limit": 50}
        return self.get("dags/candles_1m/dagRuns", **query)["dag_runs"]

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        return self.get(f"dags/candles_1m/dagRuns/{run_id}/taskInstances")["task_instances"]

    def running(self, task: str) -> dict[str, Any] | None:
        """Return the task's instance that runs now, if one does."""
        for dag_run in self.dag_runs():
            if dag_run["state"] == "running":
                for each in self.tasks(dag_run["dag_run_id"]):
                    if each["task_id"] == task and each["state"] == "running":
                        return each
        return None

    def ingest_run_after(self, moment: datetime) -> dict[str, Any]:
        """Wait for an ingest run that began after a moment and has succeeded."""

        def found() -> dict[str, Any] | None:
            for dag_run in self.ingest_runs_or_none():
                begun = dag_run["start_date"]
                if (
                    begun
                    and datetime.fromisoformat(begun) > moment
                    and dag_run["state"] == "success"
                ):
                    return dag_run
            return None

        return eventually(found, f"an ingest run after {moment} succeeds", seconds=900)

    def ingest_runs_or_none(self) -> list[dict[str, Any]]:
        """Return the same as `dag_runs`, or an empty list while the API server is away."""
        try:
            return self.dag_runs()
        except (requests.RequestException, KeyError):
            return []

    def pid(self, name: str) -> int:
        return next(each.pid for each in stack_status(self.settings).services if each.name == name)

    def stored_is_right(self) -> None:
        """Check that every stored minute since the first equals the exchange's, without a gap."""
        platform = Airflow(self.settings, {}).platform
        for symbol in ("BTCUSDT", "ETHUSDT"):
            stored = platform.stored("1m", symbol)
            first, newest = stored["open_time"].min(), stored["open_time"].max()
            truth = platform.truth("1m", symbol, first, newest + timedelta(minutes=1))
            assert stored.equals(truth)
            assert datetime.now(UTC) - newest < timedelta(minutes=10)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    directory = tmp_path_factory.mktemp("airflow") / "data"
    with receiving() as webhook:
        settings = stack_settings(
            directory,
            airflow={"enabled": True, "port": free_port()},
            alerts={"webhook_url": webhook.url},
        )
        with running_stack(settings):
            made = Scheduler(settings, webhook)
            made.ingest_run_after(datetime.min.replace(tzinfo=UTC))
            yield made


def test_each_task_links_its_dagster_run(scheduler: Scheduler) -> None:
    """Each task has a button that opens its Dagster run."""
    dag_run = scheduler.ingest_run_after(datetime.min.replace(tzinfo=UTC))
    run = dag_run["dag_run_id"]
    for task in TASKS:
        links = scheduler.get(f"dags/candles_1m/dagRuns/{run}/taskInstances/{task}/links")
        page = links["extra_links"]["Dagster run"]
        assert page.startswith(
            f"http://127.0.0.1:{scheduler.settings.dagster.webserver_port}/runs/"
        )
        assert requests.get(page, timeout=30).ok


def test_finally_failed_dag_run_alerts(scheduler: Scheduler) -> None:
    """A DAG run whose retries are used up reaches the webhook."""
    day = str((datetime.now(UTC) - timedelta(days=2)).date())
    conf = {"intervals": ["1h"], "symbols": ["BTCUSD"], "first_day": day, "last_day": day}
    body = {"logical_date": None, "conf": conf}
    made = scheduler.ask("POST", "dags/candles_backfill/dagRuns", json=body)

    def reported() -> list[dict[str, Any]]:
        return [
            each for each in scheduler.webhook.received if each.get("alert") == "dag_run_failed"
        ]

    (alert,) = eventually(reported, "an alert at the webhook", seconds=900)
    assert (alert["dag_id"], alert["run_id"]) == ("candles_backfill", made["dag_run_id"])
    assert "BTCUSD is not on the exchange; did you mean BTCUSDT?" in alert["error"]
    assert requests.get(alert["dagster_url"], timeout=30).ok


@pytest.mark.parametrize("task", TASKS)
def test_worker_killed_in_a_task(scheduler: Scheduler, task: str) -> None:
    """A worker is killed in a task, and the task is done all the same."""

    def kill() -> bool:
        instance = scheduler.running(task)
        if instance is None:
            return False
        for process in psutil.process_iter(["cmdline"]):
            if instance["id"] in " ".join(process.info["cmdline"] or ()):
                process.send_signal(signal.SIGKILL)
                return True
        return False

    eventually(kill, f"a worker in {task} is killed", seconds=600)
    scheduler.ingest_run_after(datetime.now(UTC))
    scheduler.stored_is_right()


@pytest.mark.parametrize("service", ["airflow-scheduler", "airflow", "webserver", "code-server"])
def test_server_killed_during_ingest(scheduler: Scheduler, service: str) -> None:
    """A server is killed during an ingest run, and the run is completed all the same."""
    eventually(lambda: scheduler.running("fetch"), "an ingest run fetches", seconds=600)
    os.kill(scheduler.pid(service), signal.SIGKILL)
    scheduler.ingest_run_after(datetime.now(UTC))
    scheduler.stored_is_right()


def test_airflows_backfill_finalizes_missing_days(scheduler: Scheduler) -> None:
    """Airflow's backfill finalizes the two days before the catch-up's first; its end is exclusive."""
    first = date.fromisoformat(
        airflow_environment(scheduler.settings)["AIRFLOW_VAR_CANDLES_FIRST_DAY"]
    )
    days = [first - timedelta(days=n) for n in (2, 1, 0)]
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", "candles_seal"]
    command += ["--from-date", str(days[0]), "--to-date", str(days[2])]
    environment = airflow_environment(scheduler.settings)
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    platform = Airflow(scheduler.settings, {}).platform

    def finalized() -> bool:
        query = {"order_by": "-run_after", "limit": 50}
        runs = scheduler.get("dags/candles_seal/dagRuns", **query)["dag_runs"]
        states = [run["state"] for run in runs if run["run_type"] == "backfill"]
        assert "failed" not in states
        return states.count("success") >= 2

    eventually(finalized, "the backfill ends", seconds=900)
    for interval, count in (("1m", 1440), ("15m", 96), ("1h", 24)):
        for day in days[:2]:
            name = f"{day:%Y%m%d}_0000.parquet"
            key = f"ohlcv/{interval}/BTCUSDT/{name}"
            assert list(platform.objects(key)) == [key]
        start = datetime.combine(days[0], time(), UTC)
        truth = platform.truth(interval, "BTCUSDT", start, start + timedelta(days=2))
        stored = platform.stored(interval, "BTCUSDT").filter(
            pl.col("open_time").is_between(start, start + timedelta(days=2), closed="left")
        )
        assert truth.height == 2 * count
        assert stored.equals(truth)


def test_airflow_prunes_its_own_records(scheduler: Scheduler) -> None:
    """Airflow removes its own old records and continues."""
    scheduler.ingest_run_after(datetime.now(UTC))
    done = [
        dag_run["dag_run_id"] for dag_run in scheduler.dag_runs() if dag_run["state"] == "success"
    ]
    old = done[1:] or done
    with closing(sqlite3.connect(scheduler.settings.data_dir / "airflow" / "airflow.db", 60)) as db:
        aged = f"datetime(start_date, '-4 days') where run_id in ({','.join('?' * len(old))})"
        for table in ("dag_run", "task_instance"):
            db.execute(f"update {table} set start_date = {aged}", old)
        db.commit()
    body = {"logical_date": None, "conf": {}}
    made = scheduler.ask("POST", "dags/airflow_cleaning/dagRuns", json=body)
    path = f"dags/airflow_cleaning/dagRuns/{made['dag_run_id']}"

    def cleaned() -> bool:
        state = scheduler.get(path)["state"]
        assert state != "failed"
        return bool(state == "success")

    eventually(cleaned, "the cleaning ends", seconds=600)
    left = {dag_run["dag_run_id"] for dag_run in scheduler.dag_runs()}
    assert not left & set(old)
    scheduler.ingest_run_after(datetime.now(UTC))
    scheduler.stored_is_right()
