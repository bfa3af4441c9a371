"""From an empty directory to a lake and green partitions, by the commands that a person types, and
then by what Dagster's UI sends: through the real web server, code server, queue and daemon."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest

from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.s3 import HARD_NAME, eventually, free_port

SYMBOLS = ("BTCUSDT", "ETHUSDT")
REPOSITORY = Path(__file__).parents[2]
LAYERS_1H = ("raw_candles_1h", "candles_1h", "candle_objects_1h", "candle_table_1h")

LAUNCH_RUN = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
LAUNCH_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
BACKFILL = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status runs(limit: 10) { status tags { key value } } } } }
"""
RUNS = """
query ($ids: [String!]) { runsOrError(filter: {runIds: $ids}) {
  ... on Runs { results { runId status startTime endTime tags { key value } } } } }
"""
NEWEST = """
query ($job: String!) { runsOrError(filter: {pipelineName: $job}, limit: 1) {
  ... on Runs { results { runId } } } }
"""
CHECK = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks {
    name executionForLatestMaterialization { evaluation { success description } } } } } } } }
"""
PARTITIONS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } } } } }
"""


def read_until(process: "subprocess.Popen[str]", pattern: str) -> None:
    """Read what a process prints up to the first line that matches a pattern."""
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if re.search(pattern, line):
            return
    pytest.fail(f"{process.args} ended without {pattern!r}: {''.join(printed)}")


class Machine:
    """A machine's environment with free ports and an empty directory."""

    def __init__(self, directory: Path) -> None:
        self.s3 = f"http://127.0.0.1:{free_port()}"
        self.web = free_port()
        exchange = f"http://127.0.0.1:{free_port()}"
        self.directory = directory
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIPELINE_", "DAGSTER_"))}
        self.environment = kept | {
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "140",
            "PIPELINE_DATA_DIR": str(directory / HARD_NAME),
            "PIPELINE_SYMBOLS": ",".join(SYMBOLS),
            "PIPELINE_BINANCE__REST_URL": exchange,
            "PIPELINE_BINANCE__ARCHIVE_URL": exchange,
            "PIPELINE_S3__ENDPOINT_URL": self.s3,
            "PIPELINE_REDIS__URL": f"redis://127.0.0.1:{free_port()}/0",
            "PIPELINE_SNOWFLAKE__PORT": str(free_port()),
            "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "PIPELINE_DAGSTER__WEBSERVER_PORT": str(self.web),
            "PIPELINE_DAGSTER__CODE_SERVER_PORT": str(free_port()),
            "PIPELINE_GATEWAY__GRPC_PORT": str(free_port()),
            "PIPELINE_GATEWAY__HTTP_PORT": str(free_port()),
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline_assets", *arguments],
            env=self.environment,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
        )

    @contextmanager
    def up(self) -> Iterator[None]:
        """`pipeline-assets up`, until the block ends; then Ctrl-C.

        Without sensors it executes no runs but those of the test, and without features, which the demo
        has merged, no long MERGE.
        """
        self.environment |= {
            "PIPELINE_DAGSTER__SENSORS": "false",
            "PIPELINE_FEATURES__ENABLED": "false",
        }
        process = self.start("up", "--no-schedules")
        try:
            read_until(process, r"^\s*daemon")
            assert process.poll() is None
            yield
        finally:
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=180)
        assert process.returncode == 0, rest

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return next(iter(answer["data"].values()))

    def launch(
        self, job: str, partition: str, asset: str | None = None, check: str | None = None
    ) -> str:
        """Return what the launchpad sends for one partition; returns the run's id.

        With an asset, what the asset's page sends for it alone, or for a check on it.
        """
        path = {"path": [asset]}
        chosen: dict[str, Any] = {}
        if asset is not None:
            # Without a selection of checks Dagster takes those of the asset, as the asset's page has it.
            chosen = {"assetSelection": [] if check else [path]}
            if check is not None:
                chosen["assetCheckSelection"] = [{"assetKey": path, "name": check}]
        launched = self.graphql(
            LAUNCH_RUN,
            params={
                "selector": {
                    "repositoryLocationName": "pipeline_assets",
                    "repositoryName": "__repository__",
                    "jobName": job,
                    **chosen,
                },
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
            },
        )
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def killed_backfill(self, day: str) -> str:
        """Kill the command `backfill` once it has launched the run of a day; return the run's id."""
        end = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
        command = self.start("backfill", "--interval", "15m", "--start", day, "--end", end)
        read_until(command, "launched")
        command.kill()
        command.communicate()
        [newest] = self.graphql(NEWEST, job="backfill_15m")["results"]
        return str(newest["runId"])

    def ended(self, runs: list[str]) -> list[dict[str, Any]]:
        """Return the runs once all have ended, in the order of their start."""

        def look() -> list[dict[str, Any]] | None:
            found = self.graphql(RUNS, ids=runs)["results"]
            done = {"SUCCESS", "FAILURE", "CANCELED"}
            return found if all(run["status"] in done for run in found) else None

        found = eventually(look, "all runs have ended", seconds=120)
        return sorted(found, key=lambda run: run["startTime"])

    def materialized(self, asset: str) -> list[tuple[str, str]]:
        """Return the ranges of partitions that the UI shows green."""
        node = self.graphql(PARTITIONS, key={"path": [asset]})
        ranges = node["assetPartitionStatuses"]["ranges"]
        return [(r["startKey"], r["endKey"]) for r in ranges if r["status"] == "MATERIALIZED"]

    def check(self, asset: str, name: str) -> dict[str, Any]:
        """Return what the UI shows of a check on an asset."""
        node = self.graphql(CHECK, key={"path": [asset]})
        [found] = [each for each in node["assetChecksOrError"]["checks"] if each["name"] == name]
        execution = found["executionForLatestMaterialization"]
        assert execution is not None, f"{name} of {asset} was not judged"
        return dict(execution["evaluation"])

    def credentials(self) -> dict[str, str]:
        """Return what the stack made for its servers."""
        text = (self.directory / HARD_NAME / "credentials.env").read_text()
        return dict(line.split("=") for line in text.splitlines() if line.startswith("PIPELINE_"))

    def client(self) -> Any:
        credentials = self.credentials()
        return boto3.client(
            "s3",
            endpoint_url=self.s3,
            region_name="us-east-1",
            aws_access_key_id=credentials["PIPELINE_S3__ACCESS_KEY_ID"],
            aws_secret_access_key=credentials["PIPELINE_S3__SECRET_ACCESS_KEY"],
        )

    def stored(self, key: str) -> pl.DataFrame:
        found = self.client().get_object(Bucket="candles", Key=key)
        return pl.read_parquet(io.BytesIO(found["Body"].read()))

    def repaired(self, interval: str, day: str) -> str:
        """Let the command `gaps --repair` fill a day; return what it printed."""
        end = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
        command = self.start(
            "gaps", "--repair", "--interval", interval, "--start", day, "--end", end
        )
        printed, _ = command.communicate(timeout=180)
        assert command.returncode == 0, printed
        return printed


@pytest.mark.xdist_group("demo")
@pytest.mark.timeout(900)
def test_demo_then_ui_over_same_data(tmp_path: Path) -> None:
    """The demo runs once, and then Dagster's UI opens over the same data."""
    machine = Machine(tmp_path)
    began = datetime.now(UTC)
    demo = machine.start("demo", "--once")
    printed, _ = demo.communicate(timeout=400)
    assert demo.returncode == 0, printed
    assert "0 candles missing." in printed
    shown = [line.split()[:2] for line in printed.splitlines()]
    assert ["positions", "0"] in shown
    assert "stops before live minutes" in " ".join(printed.split())
    assert "Model: " in printed
    assert "Current models: none yet." in " ".join(printed.split())
    assert "launched" in printed
    assert "executes its runs itself" not in printed, "the worker executed them"
    assert not [name for name, value in machine.credentials().items() if value in printed]
    rows = [line.split() for line in printed.splitlines()]
    for symbol in SYMBOLS:
        for interval in ("1m", "15m", "1h"):
            assert any(row[:2] == [symbol, interval] and row[-1] == "0" for row in rows), printed
    for name in ("REST_URL", "ENDPOINT_URL"):
        assert any(
            value in printed for key, value in machine.environment.items() if key.endswith(name)
        )
    assert f"http://127.0.0.1:{machine.web}" in printed

    with machine.up():
        yesterday = (began - timedelta(days=1)).date()
        finalized = machine.stored(f"ohlcv/1m/BTCUSDT/{yesterday:%Y%m%d}_0000.parquet")
        assert finalized.height == 1440, "the data of the first start are there"
        for interval in ("1m", "15m", "1h"):
            fresh = machine.check(f"candle_objects_{interval}", "fresh")
            assert fresh["success"], fresh

        today = datetime.now(UTC).date().isoformat()
        ingest_runs = machine.ended([machine.launch("tick_1m", today) for _ in range(2)])
        assert [run["status"] for run in ingest_runs] == ["SUCCESS"] * 2
        for run in ingest_runs:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            assert tags["pipeline/open_day"] == "1m"
            assert tags["pipeline/kind"] == "tick"
        for before, after in pairwise(ingest_runs):
            assert before["endTime"] <= after["startTime"], "two writers of one open day at a time"
        assert machine.materialized("candle_slots_1m")[-1][1] == today

        old = (began - timedelta(days=9)).date().isoformat()
        assert all(start > old for start, _ in machine.materialized("candle_table_1h"))
        launched = machine.graphql(
            LAUNCH_BACKFILL,
            params={
                "assetSelection": [{"path": [asset]} for asset in LAYERS_1H],
                "partitionNames": [old],
            },
        )
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        backfill = eventually(
            lambda: (
                found
                if (found := machine.graphql(BACKFILL, id=launched["backfillId"]))["status"]
                not in ("REQUESTED", "COMPLETING")
                else None
            ),
            "the backfill has ended",
            seconds=150,
        )
        assert backfill["status"] == "COMPLETED_SUCCESS", backfill
        assert [run["status"] for run in backfill["runs"]] == ["SUCCESS"]
        for asset in LAYERS_1H:
            assert (old, old) in machine.materialized(asset)
        assert machine.stored(f"ohlcv/1h/ETHUSDT/{old.replace('-', '')}_0000.parquet").height == 24

        killed = machine.killed_backfill(old)
        assert [run["status"] for run in machine.ended([killed])] == ["SUCCESS"]
        assert (old, old) in machine.materialized("candle_table_15m"), (
            "the run outlived its command"
        )

        lost = f"ohlcv/1h/ETHUSDT/{old.replace('-', '')}_0000.parquet"
        whole = machine.stored(lost)
        machine.client().delete_object(Bucket="candles", Key=lost)
        printed = machine.repaired("1h", old)
        assert "launched" in printed
        assert "executes its runs itself" not in printed, "the worker repaired it"
        assert machine.stored(lost).equals(whole)

        alone = [
            machine.launch("__ASSET_JOB", old, "candle_objects_1h"),
            machine.launch("__ASSET_JOB", old, "candle_objects_1h", "complete"),
        ]
        assert [run["status"] for run in machine.ended(alone)] == ["SUCCESS"] * 2
