"""DAG runs over a real Airflow and a real Dagster: what they launch, join, repeat and end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
import requests

from pipeline_assets.local.airflow import DAGS
from pipeline_assets_tests.fixtures.airflow import Airflow
from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.s3 import eventually, free_port
from pipeline_assets_tests.fixtures.webhook import Webhook

pytestmark = pytest.mark.xdist_group("airflow")

# Tasks as workers run them, with a context of this test's: a DAG run, its clear, and its try. As Airflow's
# own executor does, it imports Airflow once, which takes two seconds, and forks for each.
WORKERS = """
import datetime, json, os, signal, socket, socketserver, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import candle_dags, model_dags

def work(given):
    dag = {"tick": lambda: candle_dags.ingest_dag("1m"), "backfill": candle_dags.backfill_dag,
           "models": model_dags.model_dag}[given["dag"]]()
    now = datetime.datetime.now(datetime.UTC)
    pushed = {}
    context = {
        "dag_run": SimpleNamespace(
            dag_id=dag.dag_id, run_id=given["run"], clear_number=given["clear"], run_after=now,
            data_interval_start=None),
        "ti": SimpleNamespace(
            try_number=given["try"], xcom_push=lambda key, value: pushed.update({key: value})),
        "params": given["params"],
    }
    task = dag.get_task(given["task"])
    task.patience = datetime.timedelta(seconds=given["patience"])
    signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    try:
        task.execute(context)
    except Exception as error:
        return {"raised": type(error).__name__, "message": str(error), **pushed}
    return {"raised": None, **pushed}

class Worker(socketserver.StreamRequestHandler):
    def handle(self):
        given = json.loads(self.rfile.readline())
        self.wfile.write(b"%d\\n" % os.getpid())
        os.environ.update(given["environment"])
        self.wfile.write(json.dumps(work(given)).encode())

with socketserver.ForkingTCPServer(("127.0.0.1", 0), Worker, bind_and_activate=False) as workers:
    workers.socket = socket.socket(fileno=int(sys.argv[2]))
    workers.serve_forever()
"""


class Task:
    """A task in a process of its own."""

    def __init__(self, workers: tuple[str, int], order: dict[str, Any]) -> None:
        self._connection = socket.create_connection(workers, timeout=200)
        self._answer = self._connection.makefile("rw", encoding="utf-8")
        self._answer.write(json.dumps(order) + "\n")
        self._answer.flush()
        self._pid = int(self._answer.readline())

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def end(self) -> str:
        """Return what it answered, once it has ended; nothing if it was killed."""
        with self._connection, self._answer:
            return self._answer.read()


@dataclass(frozen=True)
class Workers:
    """Begins tasks."""

    address: tuple[str, int]

    def begin(self, run: str, task: str = "fetch", **given: Any) -> Task:
        usual = {"dag": "tick", "clear": 0, "try": 1, "params": {}, "patience": 60}
        order = usual | {"environment": {}, "run": run, "task": task} | given
        return Task(self.address, order)

    def run(self, run: str, task: str = "fetch", **given: Any) -> dict[str, Any]:
        """Run a task from its beginning to its end."""
        return json.loads(self.begin(run, task, **given).end())


@pytest.fixture(scope="module")
def workers(airflow: Airflow) -> Iterator[Workers]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address, number = listening.getsockname(), listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", WORKERS, str(DAGS), str(number)],
            env=airflow.environment,
            pass_fds=[number],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
        )
    with process:
        yield Workers(address)
        process.kill()


def test_ingest_is_one_watched_run(airflow: Airflow) -> None:
    """An ingest run is one Dagster run that four tasks watch."""
    dag_run = airflow.run("candles_1m")
    assert dag_run.state == "success"
    assert dag_run.states == dict.fromkeys(["fetch", "format", "upload", "insert"], "success")
    (run,) = airflow.runs(airflow__run_id=dag_run.run_id)
    assert run["jobName"] == "tick_1m"
    tags = run["tags"]
    assert (tags["airflow/dag_id"], tags["airflow/clear_number"]) == ("candles_1m", "0")
    # The job's own tags limit the queue to one ingest run an interval, and mark the run as ingest.
    assert (tags["pipeline/kind"], tags["pipeline/open_day"]) == ("tick", "1m")
    addresses = {address for _, _, address in dag_run.tasks.values()}
    assert addresses == {f"{airflow.dagster_url}/runs/{run['runId']}"}
    platform = airflow.platform
    stored = platform.stored("1m", "BTCUSDT")
    assert stored.height > 0
    newest = stored["open_time"].max()
    start = datetime.fromisoformat(f"{tags['dagster/partition']}T00:00:00+00:00")
    truth = platform.truth("1m", "BTCUSDT", start, newest + timedelta(minutes=1))
    assert stored.equals(truth)
    assert newest >= datetime.now(UTC) - timedelta(minutes=5)


def test_only_failing_step_is_repeated(
    airflow: Airflow,
    workers: Workers,
) -> None:
    """A step that fails twice and then works is executed again, and no other step is.

    A key of another type makes the slots fail; uploads need no slots and are done once.
    """
    held = airflow.settings.redis
    client = redis.Redis.from_url(held.url, password=held.password.get_secret_value())
    key = "ohlcv:1m:{ETHUSDT}"
    client.delete(key)
    client.set(key, "not a hash")
    first = workers.run("failing", "insert")
    assert first["raised"] == "AirflowException"
    assert "candle_slots_1m" in first["message"]
    assert first["dagster_url"] in first["message"]
    second = workers.run("failing", "insert", **{"try": 2})
    assert second["raised"] == "AirflowException"
    client.delete(key)
    third = workers.run("failing", "insert", **{"try": 3})
    assert third["raised"] is None
    # The task ends with its step, the run a moment later.
    eventually(
        lambda: airflow.runs(airflow__run_id="failing")[0]["status"] == "SUCCESS", "it ended"
    )
    runs = airflow.runs(airflow__run_id="failing")
    assert [run["status"] for run in runs] == ["SUCCESS", "FAILURE", "FAILURE"]
    root = runs[-1]["runId"]
    assert [run["rootRunId"] for run in runs[:-1]] == [root, root]
    assert [run["stepKeysToExecute"] for run in runs[:-1]] == [["candle_slots_1m"]] * 2
    # A step that the re-executed runs skipped counts as done for a task that watches the run now.
    assert workers.run("failing", "upload")["raised"] is None
    # Just after midnight the open day has fewer minutes, and the day before was never stored here.
    held = airflow.platform.stored("1m", "ETHUSDT").height
    assert len(airflow.platform.slots("ETHUSDT")) == min(15, held)


def test_retry_joins_the_same_run(airflow: Airflow, workers: Workers) -> None:
    """A retry after a killed worker joins the same run."""
    worker = workers.begin("killed")
    eventually(lambda: airflow.runs(airflow__run_id="killed"), "it was launched", seconds=60)
    worker.send_signal(signal.SIGKILL)
    assert worker.end() == ""
    joined = workers.run("killed", **{"try": 2})
    (run,) = airflow.runs(airflow__run_id="killed")
    assert joined["raised"] is None
    assert joined["dagster_url"].endswith(run["runId"])


def test_a_clear_makes_a_new_run(airflow: Airflow, workers: Workers) -> None:
    first = workers.run("cleared")
    second = workers.run("cleared", clear=1, **{"try": 2})
    assert (first["raised"], second["raised"]) == (None, None)
    runs = airflow.runs(airflow__run_id="cleared")
    assert [run["tags"]["airflow/clear_number"] for run in runs] == ["1", "0"]
    assert first["dagster_url"] != second["dagster_url"]


def test_ended_task_ends_its_run(airflow: Airflow, workers: Workers) -> None:
    """A task that is ended ends its run, here one that waits for the exchange."""
    exchange = airflow.platform.exchange
    exchange.faults(http_500=1)
    try:
        worker = workers.begin("ended", "insert")
        # Before that, Dagster may accept to end a run that then starts and misses it.
        airflow.wait_for("STARTED", airflow__run_id="ended")
        worker.send_signal(signal.SIGTERM)
        answer = json.loads(worker.end())
        assert answer["raised"] == "DagsterStoppedError", answer
        airflow.wait_for("CANCELED", airflow__run_id="ended")
    finally:
        exchange.faults()


class LosesTheAnswer(BaseHTTPRequestHandler):
    """Passes a request on to Dagster, and drops the connection in place of a launch's answer."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = f"{self.server.dagster}/graphql"
        headers = {"Content-Type": "application/json"}
        answer = requests.post(address, data=body, headers=headers, timeout=60)
        if b"mutation Launch" in body:
            self.server.lost.append(answer.json())
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


def test_lost_launch_reply_is_joined(airflow: Airflow, workers: Workers) -> None:
    """A launch whose reply was lost is found and joined."""
    with ThreadingHTTPServer(("127.0.0.1", 0), LosesTheAnswer) as proxy:
        proxy.dagster, proxy.lost = airflow.dagster_url, []
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        connection = {"conn_type": "http", "host": "127.0.0.1", "port": proxy.server_port}
        environment = {"AIRFLOW_CONN_DAGSTER": json.dumps(connection)}
        result = workers.run("lost answer", environment=environment)
        proxy.shutdown()
    assert len(proxy.lost) == 1
    (run,) = airflow.runs(airflow__run_id="lost answer")
    assert (result["raised"], run["runId"]) == (
        None,
        proxy.lost[0]["data"]["launchRun"]["run"]["runId"],
    )


def test_absent_dagster_names_the_connection(
    workers: Workers,
) -> None:
    """If Dagster does not come back, the error names its address and the connection."""
    port = free_port()
    connection = {"conn_type": "http", "host": "127.0.0.1", "port": port}
    environment = {"AIRFLOW_CONN_DAGSTER": json.dumps(connection)}
    result = workers.run("no server there", environment=environment, patience=3)
    assert result["raised"] in ("AirflowException", "AirflowFailException")
    assert f"127.0.0.1:{port}" in result["message"]
    assert "connection `dagster`" in result["message"]


def backfill_params(**changes) -> dict:
    days = [str((datetime.now(UTC) - timedelta(days=ago)).date()) for ago in (3, 2)]
    return {
        "intervals": ["15m"],
        "symbols": ["BTCUSDT"],
        "first_day": days[0],
        "last_day": days[1],
    } | changes


@pytest.mark.matrix
def test_backfill_fills_requested_days(airflow: Airflow) -> None:
    """A backfill fills the days that were requested."""
    params = backfill_params()
    done = airflow.run("candles_backfill", params)
    assert done.states == {
        "backfill_1m": "skipped",
        "backfill_15m": "success",
        "backfill_1h": "skipped",
        "backfill_funding": "skipped",
    }
    platform = airflow.platform
    start = datetime.fromisoformat(f"{params['first_day']}T00:00:00+00:00")
    truth = platform.truth("15m", "BTCUSDT", start, start + timedelta(days=2))
    held = platform.stored("15m", "BTCUSDT")
    inside = held.filter(
        (held["open_time"] >= start) & (held["open_time"] < start + timedelta(days=2))
    )
    assert truth.height == 192
    assert inside.equals(truth)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2026-11-05", "2026-11-03", "The last day 2026-11-03 comes before the first 2026-11-05"),
        ("2026-11-31", "2026-12-01", "is no range of days"),
    ],
)
def test_invalid_range_is_refused_before_launch(
    workers: Workers, first: str, last: str, said: str
) -> None:
    """An invalid range is refused before any run is launched."""
    params = backfill_params(first_day=first, last_day=last)
    result = workers.run("no range", "backfill_15m", dag="backfill", params=params)
    assert result["raised"] == "AirflowFailException"
    assert said in result["message"]


@pytest.mark.matrix
def test_finalizes_yesterday_in_every_interval(airflow: Airflow) -> None:
    finalized = airflow.run("candles_seal")
    assert finalized.state == "success"
    (run,) = airflow.runs(airflow__run_id=finalized.run_id)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    assert run["tags"]["dagster/partition"] in (str(yesterday), str(yesterday - timedelta(days=1)))
    day = run["tags"]["dagster/partition"].replace("-", "")
    for interval in ("1m", "15m", "1h"):
        stored = airflow.platform.objects(f"ohlcv/{interval}/BTCUSDT/{day}")
        assert list(stored) == [f"ohlcv/{interval}/BTCUSDT/{day}_0000.parquet"]


@pytest.mark.matrix
def test_drift_is_of_yesterday(airflow: Airflow) -> None:
    """A run succeeds without any model: the check says that nothing was compared."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    measured = airflow.run("model_drift")
    assert measured.states == {"drift": "success"}
    (run,) = airflow.runs(airflow__run_id=measured.run_id)
    day = datetime.fromisoformat(run["tags"]["dagster/partition"]).replace(tzinfo=UTC)
    # Before 02:30 the interval that ended last is of the day before.
    assert midnight - day <= timedelta(days=2)
    assert (run["jobName"], run["status"]) == ("model_drift", "SUCCESS")


@pytest.mark.matrix
def test_trading_tables_without_records(airflow: Airflow) -> None:
    """A run on a lake without trading records succeeds, and each task watches its table."""
    loaded = airflow.run("trading_tables")
    tables = ("candidates", "decisions", "intents", "orders", "fills", "views")
    assert loaded.states == dict.fromkeys(tables, "success")
    (run,) = airflow.runs(airflow__run_id=loaded.run_id)
    assert (run["jobName"], run["tags"]["pipeline/kind"]) == ("trading_tables", "tick")


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("dag", "job", "longest"),
    [
        ("day_report", "report_day", 2),
        ("week_report", "report_week", 14),
        ("month_report", "report_month", 62),
    ],
)
def test_reports_are_of_ended_spans(airflow: Airflow, dag: str, job: str, longest: int) -> None:
    """A DAG run is of the span that ended, begins with its first day, and succeeds without records."""
    made = airflow.run(dag)
    assert made.states == {job: "success"}
    runs = airflow.runs(airflow__run_id=made.run_id)
    assert {(run["jobName"], run["status"]) for run in runs} == {(job, "SUCCESS")}
    (day,) = (datetime.fromisoformat(run["tags"]["dagster/partition"]).date() for run in runs)
    assert datetime.now(UTC).date() - day <= timedelta(days=longest)
    if job == "report_week":
        assert day.weekday() == 0
    if job == "report_month":
        assert day.day == 1


@pytest.mark.matrix
def test_outcomes_are_of_two_days(airflow: Airflow) -> None:
    """One Dagster run computes yesterday's outcomes, and those of the day before once more."""
    made = airflow.run("candidate_outcomes")
    assert made.states == {"outcomes": "success"}
    (run,) = airflow.runs(airflow__run_id=made.run_id)
    assert (run["jobName"], run["status"]) == ("outcomes", "SUCCESS")
    first, last = (
        datetime.fromisoformat(run["tags"][f"dagster/asset_partition_range_{end}"]).date()
        for end in ("start", "end")
    )
    assert last - first == timedelta(days=1)
    assert datetime.now(UTC).date() - last <= timedelta(days=2)


@pytest.mark.matrix
def test_reconciliation_is_of_yesterday(airflow: Airflow) -> None:
    """One Dagster run of the day that ended; on paper it says that nothing was compared, and succeeds."""
    made = airflow.run("reconciliation")
    assert made.states == {"compare": "success"}
    (run,) = airflow.runs(airflow__run_id=made.run_id)
    assert (run["jobName"], run["status"]) == ("reconciliation", "SUCCESS")
    day = datetime.fromisoformat(run["tags"]["dagster/partition"]).date()
    # Before 04:20 the interval that ended last is of the day before.
    assert timedelta(days=1) <= datetime.now(UTC).date() - day <= timedelta(days=2)
    account = airflow.settings.trading.account
    key = f"reconciliations/{account}/{day:%Y%m%d}.json"
    document = json.loads(airflow.platform.objects(key)[key])
    assert "The venue is paper" in document["skipped"]


@pytest.mark.matrix
def test_trainings_fail_apart(airflow: Airflow, workers: Workers) -> None:
    """Each strategy of a DAG run has a Dagster run of its own, and its task names that run's error."""
    for name in ("macd_cross", "ema_trend"):
        failed = workers.run("weekly", name, dag="models")
        assert failed["raised"] == "AirflowException"
        assert "models ended as FAILURE" in failed["message"]
        (run,) = airflow.runs(airflow__run_id="weekly", dagster__partition=name)
        assert failed["dagster_url"] == f"{airflow.dagster_url}/runs/{run['runId']}"
    assert len(airflow.runs(airflow__run_id="weekly")) == 2


def test_future_partition_is_refused_by_asset(airflow: Airflow) -> None:
    """A partition in the future is refused by the asset.

    Launched as the operator launches: Dagster itself does not look at the day.
    """
    sys.path.insert(0, str(DAGS))
    try:
        from dagster_api import DagsterApi
    finally:
        sys.path.remove(str(DAGS))
    api = DagsterApi(airflow.dagster_url, airflow.dagster_url)
    run = api.launch("tick_1m", {"dagster/partition": "2036-01-01", "airflow/run_id": "future"}, {})
    airflow.wait_for("FAILURE", airflow__run_id="future")
    assert "Partition 2036-01-01 lies in the future" in api.failure(run)


CALLBACK = """
import json, sys; sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from failure_alerts import report_failure
dag = SimpleNamespace(dag_id=sys.argv[2])
report_failure({"dag": dag, "run_id": sys.argv[3], "reason": "task_failure"})
"""


def test_unknown_symbol_reaches_task_and_webhook(
    airflow: Airflow, workers: Workers, webhook: Webhook
) -> None:
    """An unknown symbol is named in the task and in the alert, whose text is in Slack's format."""
    name = "<!channel> alerted"
    params = backfill_params(symbols=["ETHUSD"])
    given = {"dag": "backfill", "params": params}
    failed = workers.run(name, "backfill_15m", **given)
    assert failed["raised"] == "AirflowException"
    assert "ETHUSD is not on the exchange; did you mean ETHUSDT?" in failed["message"]
    connection = json.dumps({"conn_type": "http", "password": webhook.url})
    done = subprocess.run(
        [sys.executable, "-c", CALLBACK, str(DAGS), "candles_backfill", name],
        env=airflow.environment | {"AIRFLOW_CONN_CANDLE_ALERTS": connection},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (alert,) = webhook.received
    assert (alert["alert"], alert["dag_id"]) == ("dag_run_failed", "candles_backfill")
    assert "ETHUSD is not on the exchange" in alert["error"]
    (run,) = airflow.runs(airflow__run_id=name)
    assert alert["dagster_url"] == f"{airflow.dagster_url}/runs/{run['runId']}"
    assert alert["dagster_url"] in alert["text"]
    assert alert["run_id"] == name
    assert "(&lt;!channel&gt; alerted)" in alert["text"]
    assert "T0KEN" not in done.stdout + done.stderr
