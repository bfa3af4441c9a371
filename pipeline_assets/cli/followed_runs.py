"""Runs that a command puts into Dagster's queue and follows to their end. Workers execute the runs, so
they go on without the command. Requests to the web server are in dagster_web.py.
"""

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from types import FrameType
from typing import Any, TypeVar

from pipeline_assets.cli.dagster_web import DagsterSilentError, DagsterWeb, DagsterWebError, WebRun
from pipeline_assets.cli.run_outcomes import (
    BackfillError,
    Check,
    Outcome,
    Raised,
    StoppedError,
    UnfollowedError,
    failure,
    failure_without_step,
)
from pipeline_assets.collection.run_names import PARTITION_TAG, range_tags
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.settings import Settings

# The same request has the same value, so that a repeated command finds the run of the first one.
REQUEST_TAG = "pipeline/request"
_LOOK_SECONDS = 1.0
# A web server or a code server that is started again answers within this time.
_POLICY = RetryPolicy(deadline=180.0, first_wait=1.0, longest_wait=5.0)
# Dagster's own tags of a run that it executes again because its process died.
_WILL_RETRY, _RETRIED_BY = "dagster/will_retry", "dagster/auto_retry_run_id"
# Dagster notes a failure first, and whether it executes the run again a moment later.
_LOOKS_FOR_RETRY = 10
_STATUS = {
    "QUEUED": "waits in Dagster's queue",
    "STARTING": "waits for a worker",
    "STARTED": "is executed",
    "CANCELING": "is being canceled",
}
Say = Callable[[str], object]
T = TypeVar("T")


class FollowedRuns:
    """Launches runs of one job and follows them."""

    def __init__(self, web: DagsterWeb, job: str, say: Say, leases: LeaseStore) -> None:
        """`say` prints a line for a person; `leases` keep two commands from one launch."""
        self._web, self._job, self._say, self._leases = web, job, say, leases

    def run(self, first: date | str, last: date | str, config: Mapping[str, Any]) -> Outcome:
        """Follow the unfinished run of this request, or a new one, of the partitions from `first` to `last`.

        Raises:
            BackfillError: the run failed.
            StoppedError: a signal came, or somebody canceled the run. After a signal the run goes on.
            DagsterWebError: Dagster refused the run, or has not answered for three minutes.
            LeaseStoreError: Redis failed.
        """
        tags = _tags(self._job, first, last, config)
        with _stopping(f"{self._job} {_days(first, last)}", self._web.url):
            run, launched = _patiently(lambda: self._joined_or_launched(tags, config))
            name = f"{self._job} of {_days(first, last)}, run {run.run_id[:8]}"
            self._say(f"{name}: {'launched' if launched else 'already under way, followed'}")
            follower = _Follower(self._web, name, self._say)
            ended = follower.follow(run)
            if ended.status == "SUCCESS":
                return follower.outcome(ended.run_id)
            raise follower.error(ended)

    def _joined_or_launched(
        self, tags: Mapping[str, str], config: Mapping[str, Any]
    ) -> tuple[WebRun, bool]:
        """Return a run, and whether it is new. May be repeated: a launch whose answer was lost is found.

        A lease of the request lets one command at a time look and launch.
        """
        request = tags[REQUEST_TAG]
        token = self._leases.take(_launching(request))
        try:
            found = self._web.unfinished({REQUEST_TAG: request})
            if found is not None:
                return found, False
            if token is None:
                raise DagsterSilentError("Another command is launching the same run.")
            return self._web.launch(self._job, tags, config), True
        finally:
            if token is not None:
                with suppress(LeaseStoreError):
                    # The lease then ends by itself.
                    self._leases.release(_launching(request), token)


def runs_in_dagster(settings: Settings, say: Say) -> DagsterWeb | None:
    """Return the web server through which runs reach a worker, or None if a command executes its runs itself.

    A worker with other settings, such as other symbols, would store other candles than the command was asked
    for, so its code and settings must be the command's. `say` gets the reason for None.

    Raises:
        WorkerRegistryError: Redis failed.
    """
    from pipeline_assets.dagster_instance.celery_app import BACKFILL
    from pipeline_assets.resources.workers import WorkerRegistry, code_fingerprint

    web = DagsterWeb(settings.dagster)
    reason, remedy = None, ""
    if settings.dagster.launcher == "celery":
        serving = [
            each for each in WorkerRegistry(settings.redis).living() if BACKFILL in each.queues
        ]
        if not serving:
            reason = f"No worker serves the queue {BACKFILL}"
        elif code_fingerprint(settings) not in {each.code for each in serving}:
            reason = "The workers have other code or settings than this command"
            remedy = " Restart `up` to use the workers."
    if settings.dagster.read_only:
        reason, remedy = "Dagster's web server is read-only (PIPELINE_DAGSTER__READ_ONLY)", ""
    if reason is None and not web.is_ready():
        reason = f"No Dagster daemon answers through {web.url}"
    if reason is None:
        return web
    say(f"{reason}: this command executes its runs itself, and they end with it.{remedy}")
    return None


class _Follower:
    """Follows one run, or the run by which Dagster repeats it, and keeps the events that matter."""

    def __init__(self, web: DagsterWeb, name: str, say: Say) -> None:
        self._web, self._name, self._say = web, name, say
        # By run: of a run that is repeated, the steps count that were finished.
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._cursor: str | None = None
        self._status = ""

    def follow(self, run: WebRun) -> WebRun:
        """Return the run once it has ended and is not executed again."""
        looks = 0
        while True:
            run = self._look(run.run_id)
            if not run.ended:
                time.sleep(_LOOK_SECONDS)
                continue
            again = run.tags.get(_RETRIED_BY)
            if run.status == "FAILURE" and again:
                self._say(
                    f"{self._name}: its worker died; Dagster executes it again as {again[:8]}"
                )
                self._cursor, looks = None, 0
                run = WebRun(again, "QUEUED", {})
            elif run.status == "FAILURE" and self._may_be_repeated(run, looks):
                looks += 1
                time.sleep(_LOOK_SECONDS)
            else:
                return run

    def _may_be_repeated(self, run: WebRun, looks: int) -> bool:
        """Return whether Dagster has not said yet by which run it repeats this one, or that it does not."""
        said = run.tags.get(_WILL_RETRY)
        return said == "true" or (said is None and looks < _LOOKS_FOR_RETRY)

    def _look(self, run_id: str) -> WebRun:
        """Read status, then events: of an ended run all events are there."""
        run = _patiently(lambda: self._web.run(run_id))
        events, self._cursor = _patiently(lambda: self._web.events(run_id, self._cursor))
        if run.status != self._status and run.status in _STATUS:
            self._say(f"{self._name} {_STATUS[run.status]}")
        self._status = run.status
        for event in events:
            if event["__typename"] == "LogMessageEvent" and event["level"] == "INFO":
                # The progress of a fetch, which the run reports every ten seconds.
                self._say(f"{self._name}: {event['message']}")
        kept = (each for each in events if each["__typename"] in _KEPT)
        self._events.setdefault(run_id, []).extend(kept)
        return run

    def outcome(self, run_id: str) -> Outcome:
        """Return the outcome of the run, which succeeded, and of the runs that it repeats.

        A repetition executes the steps that were not finished, so what it says of an asset or a check
        stands for what an earlier run said.
        """
        metadata: dict[str, dict[str, str]] = {}
        made_by: dict[str, str] = {}
        checks: dict[tuple[str, str, str | None], Check] = {}
        for run in self._events:
            for event in self._of_type(run, "MaterializationEvent"):
                asset = event["assetKey"]["path"][0]
                if made_by.get(asset) != run:
                    metadata[asset], made_by[asset] = _values(event), run
            for event in self._of_type(run, "AssetCheckEvaluationEvent"):
                check = _check(event["evaluation"])
                asset = event["evaluation"]["assetKey"]["path"][0]
                checks.pop((asset, check.name, check.partition), None)
                checks[asset, check.name, check.partition] = check
        return Outcome(run_id, metadata, made_by, tuple(checks.values()))

    def error(self, run: WebRun) -> BackfillError | StoppedError:
        """Return the error of the run, which failed or was canceled."""
        if run.status == "CANCELED":
            return StoppedError(
                f"Run {run.run_id} was canceled in Dagster. Stored data stays; the same command "
                "launches the run again."
            )
        for event in self._of_type(run.run_id, "ExecutionStepFailureEvent"):
            error = _raised(event["error"])
            cause = _raised((event["error"] or {}).get("cause"))
            return failure(run.run_id, event["stepKey"], error, cause)
        reasons = [each["message"] for each in self._of_type(run.run_id, "RunFailureEvent")]
        return failure_without_step(run.run_id, reasons[-1] if reasons else None)

    def _of_type(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        return [each for each in self._events.get(run_id, ()) if each["__typename"] == kind]


_KEPT = {
    "MaterializationEvent",
    "AssetCheckEvaluationEvent",
    "ExecutionStepFailureEvent",
    "RunFailureEvent",
}


def _values(materialized: Mapping[str, Any]) -> dict[str, str]:
    return {
        each["label"]: str(each.get("intRepr") or each.get("text"))
        for each in materialized["metadataEntries"]
        if each.keys() & {"intRepr", "text"}
    }


def _check(evaluated: Mapping[str, Any]) -> Check:
    return Check(
        name=evaluated["checkName"],
        passed=evaluated["success"],
        is_error=evaluated["severity"] == "ERROR",
        partition=evaluated["partition"],
        description=evaluated["description"],
        labels=frozenset(entry["label"] for entry in evaluated["metadataEntries"]),
    )


def _launching(request: str) -> str:
    return f"launch:{request}"


def _raised(reported: Mapping[str, Any] | None) -> Raised | None:
    return Raised(reported["className"], reported["message"]) if reported else None


def _tags(
    job: str, first: date | str, last: date | str, config: Mapping[str, Any]
) -> dict[str, str]:
    asked = json.dumps([job, str(first), str(last), config], sort_keys=True).encode()
    day = {PARTITION_TAG: str(first)} if first == last else {}
    return {**range_tags(first, last), **day, REQUEST_TAG: hashlib.sha256(asked).hexdigest()[:32]}


def _days(first: date | str, last: date | str) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _patiently(ask: Callable[[], T]) -> T:
    try:
        return _POLICY.run(ask, lambda error: isinstance(error, DagsterSilentError))
    except DagsterSilentError as error:
        raise DagsterWebError(
            f"{error} A run that was launched goes on. Repeat the command to follow it, once "
            "`pipeline-assets status` shows the web server as up."
        ) from error


@contextmanager
def _stopping(name: str, url: str) -> Iterator[None]:
    """Raise UnfollowedError upon SIGINT or SIGTERM within the block. Handlers belong to the main thread."""

    def stop(_: int, __: FrameType | None) -> None:
        raise UnfollowedError(
            f"Stopped following {name}. The run goes on in Dagster, which stores what it fetches. The same "
            f"command follows it again. To end the run, terminate it at {url}/runs."
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
