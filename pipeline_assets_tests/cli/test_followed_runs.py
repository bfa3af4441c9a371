"""A command follows its runs through Dagster's web server, also through faults of the server and the worker.

Dagster's answers are scripted, since these faults cannot be produced otherwise; the queries are checked
against Dagster's own schema. A command that follows real runs on a real worker is in local/test_demo.py.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, parse, validate

from pipeline_assets.cli import dagster_web, followed_runs
from pipeline_assets.cli.dagster_web import DagsterWeb, DagsterWebError
from pipeline_assets.cli.demo import runs_end_with_stack
from pipeline_assets.cli.followed_runs import REQUEST_TAG, FollowedRuns, runs_in_dagster
from pipeline_assets.cli.run_outcomes import BackfillError, Outcome, StoppedError
from pipeline_assets.resources.leases import LeaseStore
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.workers import Worker, WorkerRegistry, code_fingerprint
from pipeline_assets.settings import DagsterSettings, Settings
from pipeline_assets_tests.fixtures.dagster_web import answering_as
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 20)
CONFIG = {"ops": {"raw_candles_1m": {"config": {"symbols": None, "refresh": False}}}}
MATERIALIZED = {
    "__typename": "MaterializationEvent",
    "assetKey": {"path": ["candles_1m"]},
    "metadataEntries": [{"label": "rows", "intRepr": "28800"}, {"label": "shown"}],
}
CHECKED = {
    "__typename": "AssetCheckEvaluationEvent",
    "evaluation": {
        "assetKey": {"path": ["candle_objects_1m"]},
        "checkName": "complete",
        "success": False,
        "severity": "ERROR",
        "partition": "2026-11-02",
        "description": "3 candles are missing.",
        "metadataEntries": [{"label": "missing"}],
    },
}
FETCHED = {"__typename": "LogMessageEvent", "level": "INFO", "message": "1m candles: 7 of 9"}
RAISED = {
    "__typename": "ExecutionStepFailureEvent",
    "stepKey": "raw_candles_1m",
    "error": {
        "className": "DagsterExecutionStepExecutionError",
        "message": "dagster.DagsterExecutionStepExecutionError: Error occurred",
        "cause": {"className": "NoBucketError", "message": "package.NoBucketError: No bucket."},
    },
}


@dataclass
class Dagster:
    """A web server that answers from a script. `runs` has the statuses and tags of each run in turn."""

    settings: DagsterSettings = field(default_factory=DagsterSettings)
    runs: dict[str, list[tuple[str, dict[str, str]]]] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    to_launch: list[str] = field(default_factory=list)
    launched: list[dict[str, Any]] = field(default_factory=list)
    healthy: bool = True
    # How many of the next answers are lost after the request was served.
    lost_answers: int = 0
    on_look: Any = None
    searches: int = 0
    leases: LeaseStore | None = None

    def reply(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Answer, or lose the answer."""
        data = self.answer(query, variables)
        self.lost_answers -= (lost := self.lost_answers > 0)
        return None if lost else data

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if query == dagster_web.READY:
            located = {"__typename": "RepositoryLocation"}
            entry = {"name": "pipeline_assets", "locationOrLoadError": located}
            health = {"daemonStatus": {"healthy": self.healthy}}
            return {
                "instance": {"daemonHealth": health},
                "workspaceOrError": {"locationEntries": [entry]},
            }
        if query == dagster_web.LAUNCH:
            self.launched.append(variables["params"])
            run_id = self.to_launch.pop(0)
            self.unfinished.append(run_id)
            return {"launchRun": {"__typename": "LaunchRunSuccess", "run": shown(run_id)}}
        if query == dagster_web.EVENTS:
            events = self.events.pop(variables["run"], [])
            page = {"__typename": "EventConnection", "cursor": "1", "hasMore": False}
            return {"logsForRun": {**page, "events": events}}
        found = [shown(each) for each in self.unfinished]
        self.searches += "tags" in variables["filter"]
        if ids := variables["filter"].get("runIds"):
            script = self.runs[ids[0]]
            status, tags = script.pop(0) if script[1:] else script[0]
            found = [shown(ids[0], status, tags)]
            if self.on_look is not None:
                self.on_look()
        return {"runsOrError": {"__typename": "Runs", "results": found}}


def shown(
    run_id: str, status: str = "QUEUED", tags: dict[str, str] | None = None
) -> dict[str, Any]:
    pairs = [{"key": key, "value": value} for key, value in (tags or {}).items()]
    return {"runId": run_id, "status": status, "tags": pairs}


@pytest.fixture
def dagster(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[Dagster]:
    """A scripted Dagster, which is asked again at once."""
    monkeypatch.setattr(followed_runs, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(followed_runs, "_POLICY", RetryPolicy(attempts=3))
    made = Dagster(leases=LeaseStore(Settings(redis={"url": redis_url}).redis))
    with answering_as(made.reply) as made.settings:
        yield made


def follow(
    dagster: Dagster,
    said: list[str] | None = None,
    partitions: tuple[date | str, date | str] = (FIRST, LAST),
) -> Outcome:
    """Execute one run, as `backfill` does."""
    say = [].append if said is None else said.append
    assert dagster.leases is not None
    runs = FollowedRuns(DagsterWeb(dagster.settings), "backfill_1m", say, dagster.leases)
    return runs.run(*partitions, CONFIG)


@pytest.mark.parametrize("name", ["READY", "FIND", "LAUNCH", "EVENTS"])
def test_query_fits_dagsters_schema(name: str, dagster_schema: GraphQLSchema) -> None:
    assert validate(dagster_schema, parse(getattr(dagster_web, name))) == []


def test_run_is_launched_and_read(dagster: Dagster) -> None:
    """A run gets the days and the configuration, its progress is printed, and its figures are returned."""
    dagster.to_launch = ["new"]
    dagster.runs = {"new": [("QUEUED", {}), ("STARTED", {}), ("SUCCESS", {})]}
    dagster.events = {"new": [FETCHED, MATERIALIZED, CHECKED]}
    said: list[str] = []
    outcome = follow(dagster, said)
    assert outcome.run_id == "new"
    assert outcome.metadata == {"candles_1m": {"rows": "28800"}}
    [check] = outcome.checks
    assert (check.name, check.passed, check.is_error) == ("complete", False, True)
    assert (check.partition, check.labels) == ("2026-11-02", {"missing"})
    days = "backfill_1m of 2026-11-01 to 2026-11-20, run new"
    assert said == [
        f"{days}: launched",
        f"{days} waits in Dagster's queue",
        f"{days}: 1m candles: 7 of 9",
        f"{days} is executed",
    ]
    [asked] = dagster.launched
    assert asked["runConfigData"] == CONFIG
    tags = {each["key"]: each["value"] for each in asked["executionMetadata"]["tags"]}
    assert tags["dagster/asset_partition_range_end"] == "2026-11-20"
    assert tags[REQUEST_TAG]


def test_run_of_a_strategy_is_launched(dagster: Dagster) -> None:
    """A partition that is no day is the run's partition too."""
    dagster.to_launch = ["new"]
    dagster.runs = {"new": [("SUCCESS", {})]}
    assert follow(dagster, partitions=("macd_cross", "macd_cross")).run_id == "new"
    [asked] = dagster.launched
    tags = {each["key"]: each["value"] for each in asked["executionMetadata"]["tags"]}
    assert set(tags) == {"dagster/partition", REQUEST_TAG}
    assert tags["dagster/partition"] == "macd_cross"


def test_unfinished_run_is_joined(dagster: Dagster) -> None:
    """A command that is repeated after a kill launches nothing while the first one's run goes on."""
    dagster.unfinished = ["earlier"]
    dagster.runs = {"earlier": [("SUCCESS", {})]}
    said: list[str] = []
    assert follow(dagster, said).run_id == "earlier"
    assert dagster.launched == []
    assert "already under way" in said[0]


def test_launch_without_answer_is_found(dagster: Dagster) -> None:
    """A run whose launch was answered by an error of the web server is not launched twice."""
    dagster.to_launch = ["new", "second"]
    dagster.runs = {"new": [("SUCCESS", {})]}
    answer = dagster.answer

    def losing(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        dagster.lost_answers = int(query == dagster_web.LAUNCH)
        return answer(query, variables)

    dagster.answer = losing  # type: ignore[method-assign]
    assert follow(dagster).run_id == "new"
    assert len(dagster.launched) == 1


def test_run_of_dead_worker_is_followed(dagster: Dagster) -> None:
    """A run whose worker died is followed in the run by which Dagster repeats it, whose figures count."""
    retry = {"dagster/will_retry": "true"}
    dagster.to_launch = ["first"]
    dagster.runs = {
        "first": [("FAILURE", retry), ("FAILURE", retry | {"dagster/auto_retry_run_id": "second"})],
        "second": [("STARTED", {}), ("SUCCESS", {})],
    }
    fetched = MATERIALIZED | {"assetKey": {"path": ["raw_candles_1m"]}}
    whole = CHECKED | {"evaluation": CHECKED["evaluation"] | {"success": True}}
    dagster.events = {"first": [fetched, CHECKED], "second": [MATERIALIZED, whole]}
    outcome = follow(dagster)
    assert outcome.run_id == "second"
    # The repetition left out the fetch, which the first run had finished, and judged anew.
    assert outcome.made_by == {"raw_candles_1m": "first", "candles_1m": "second"}
    assert outcome.metadata["raw_candles_1m"] == {"rows": "28800"}
    assert [each.passed for each in outcome.checks] == [True]


def test_late_news_of_retry_is_awaited(dagster: Dagster) -> None:
    """Dagster notes a failure before it says that it repeats the run."""
    retried = {"dagster/will_retry": "true", "dagster/auto_retry_run_id": "second"}
    dagster.to_launch = ["first"]
    dagster.runs = {"first": [("FAILURE", {}), ("FAILURE", retried)], "second": [("SUCCESS", {})]}
    assert follow(dagster).run_id == "second"


def test_death_of_run_is_explained(dagster: Dagster) -> None:
    """A run that failed outside its steps ends the command with Dagster's own reason."""
    died = {"__typename": "RunFailureEvent", "message": "Its lease was not renewed for 60 s."}
    dagster.to_launch, dagster.events = ["new"], {"new": [died]}
    dagster.runs = {"new": [("FAILURE", {"dagster/will_retry": "false"})]}
    with pytest.raises(BackfillError, match="Dagster run new failed: Its lease was not renewed"):
        follow(dagster)


def test_two_commands_launch_one_run(dagster: Dagster, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one command looks and launches, the same command elsewhere waits, and then joins the run."""
    patient = RetryPolicy(attempts=3000, first_wait=0.01, longest_wait=0.01)
    monkeypatch.setattr(followed_runs, "_POLICY", patient)
    dagster.to_launch, dagster.runs = ["new", "twin"], {"new": [("SUCCESS", {})]}
    outcomes: list[Outcome] = []
    answer = dagster.answer
    second = threading.Thread(target=lambda: outcomes.append(follow(dagster)))

    def slow(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if query == dagster_web.LAUNCH and not second.ident:
            second.start()
            eventually(lambda: dagster.searches > 1, "the second command has looked, too", 30)
        return answer(query, variables)

    dagster.answer = slow  # type: ignore[method-assign]
    outcomes.append(follow(dagster))
    second.join()
    assert [each.run_id for each in outcomes] == ["new", "new"]
    assert len(dagster.launched) == 1


def test_failed_step_shows_products_reason(dagster: Dagster) -> None:
    dagster.to_launch = ["new"]
    dagster.runs, dagster.events = {"new": [("FAILURE", {})]}, {"new": [RAISED]}
    with pytest.raises(BackfillError) as caught:
        follow(dagster)
    assert str(caught.value) == "raw_candles_1m failed: No bucket.\nDagster run: new"


def test_canceled_run_stops_the_command(dagster: Dagster) -> None:
    dagster.to_launch, dagster.runs = ["new"], {"new": [("CANCELED", {})]}
    with pytest.raises(StoppedError, match="Run new was canceled in Dagster"):
        follow(dagster)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_the_run(dagster: Dagster, number: signal.Signals) -> None:
    """A signal ends the command with the news that its run goes on, and handlers are as before."""
    before = signal.getsignal(number)
    dagster.to_launch, dagster.runs = ["new"], {"new": [("STARTED", {})]}
    dagster.on_look = lambda: os.kill(os.getpid(), number)
    with pytest.raises(StoppedError, match="The run goes on in Dagster"):
        follow(dagster)
    assert signal.getsignal(number) is before


def test_demo_stops_run_and_stack(dagster: Dagster) -> None:
    """The demo ends the stack that it started, so a followed run does not go on after a signal."""
    dagster.to_launch, dagster.runs = ["new"], {"new": [("STARTED", {})]}
    dagster.on_look = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(StoppedError) as caught, runs_end_with_stack():
        follow(dagster)
    assert "the stack that it started, and with it the run" in str(caught.value)
    assert "goes on in Dagster" not in str(caught.value)


def test_silent_web_server_is_named(dagster: Dagster) -> None:
    """A web server that does not come back ends the command with what to do, not with the run."""
    dagster.lost_answers = 99
    with pytest.raises(DagsterWebError, match="Repeat the command to follow it"):
        follow(dagster)


def test_command_executes_without_matching_worker(tmp_path: Path, dagster: Dagster) -> None:
    """Without a worker of its own settings, or a daemon, the command says that it executes its runs."""
    said: list[str] = []
    with RedisServer(tmp_path) as redis:
        settings = Settings(redis={"url": redis.url}, dagster=dagster.settings)
        registry = WorkerRegistry(settings.redis)
        assert runs_in_dagster(settings, said.append) is None
        registry.beat(Worker("one", ("ingest",), code_fingerprint(settings)))
        registry.beat(Worker("two", ("backfill",), "other"))
        assert runs_in_dagster(settings, said.append) is None
        registry.beat(Worker("three", ("backfill",), code_fingerprint(settings)))
        assert runs_in_dagster(settings, said.append) is not None
        models_decide = Settings.model_validate(
            settings.model_dump() | {"inference": {"enabled": True}}
        )
        assert code_fingerprint(models_decide) == code_fingerprint(settings)
        shown = settings.dagster.model_copy(update={"read_only": True})
        read_only = settings.model_copy(update={"dagster": shown})
        assert runs_in_dagster(read_only, said.append) is None
        dagster.healthy = False
        assert runs_in_dagster(settings, said.append) is None
    ending = ": this command executes its runs itself, and they end with it."
    assert [line.replace(ending, "") for line in said] == [
        "No worker serves the queue backfill",
        "The workers have other code or settings than this command Restart `up` to use the workers.",
        "Dagster's web server is read-only (PIPELINE_DAGSTER__READ_ONLY)",
        f"No Dagster daemon answers through {DagsterWeb(dagster.settings).url}",
    ]
