"""Dagster's GraphQL over plain HTTP: finding, launching, re-executing, following and ending runs and
backfills. Nothing of Airflow belongs here, and no candle.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from candle_intervals import LOCATION, REPOSITORY

Found = TypeVar("Found")

RUNNING = frozenset({"QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING"})
ENDED_BACKFILL = frozenset(
    {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
)
# What a launch is answered with that no waiting changes. All else may be a code server that is
# restarting: it shows as PipelineNotFoundError, InvalidSubsetError, a PythonError or HTTP 500.
_FINAL = frozenset({"RunConfigValidationInvalid", "UnauthorizedError"})
_SECONDS_BETWEEN_ATTEMPTS = 2.0
# A launch without an answer may still make its run; until then a second one would be a second run.
_SECONDS_OF_DOUBT = 10.0
_TIME_OUT = (5, 30)
_LOOPBACK = ("localhost", "::1")
_RUNS = 20
_BACKFILLS = 100
_EVENTS = 1000

_FIND_RUNS = """
query FindRuns($filter: RunsFilter!, $limit: Int!) {
  runsOrError(filter: $filter, limit: $limit) {
    __typename
    ... on Runs { results {
      runId rootRunId status stepKeysToExecute tags { key value } stepStats { stepKey status }
    } }
    ... on Error { message }
  }
}"""
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}"""
_REEXECUTE = """
mutation Reexecute($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
  }
}"""
_TERMINATE = """
mutation Terminate($run: String!) {
  terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
    __typename
    ... on TerminateRunFailure { message }
    ... on Error { message }
  }
}"""
_EVENTS_OF = """
query Events($run: ID!, $after: String, $limit: Int!) {
  runOrError(runId: $run) {
    __typename
    ... on Run { eventConnection(afterCursor: $after, limit: $limit) {
      cursor hasMore
      events {
        __typename
        ... on MessageEvent { message }
        ... on ExecutionStepFailureEvent { stepKey error { message cause { message } } }
      }
    } }
    ... on Error { message }
  }
}"""
_LAUNCH_BACKFILL = """
mutation LaunchBackfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}"""
_REEXECUTE_BACKFILL = """
mutation ReexecuteBackfill($params: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}"""
_BACKFILL_FIELDS = """
      id status numPartitions tags { key value } error { message }
      partitionStatusCounts { runStatus count }"""
_FIND_BACKFILLS = f"""
query FindBackfills($limit: Int!) {{
  partitionBackfillsOrError(limit: $limit) {{
    __typename
    ... on PartitionBackfills {{ results {{ {_BACKFILL_FIELDS} }} }}
    ... on Error {{ message }}
  }}
}}"""
_CANCEL_BACKFILL = """
mutation CancelBackfill($backfill: String!) {
  cancelPartitionBackfill(backfillId: $backfill) { __typename ... on Error { message } }
}"""


class DagsterError(Exception):
    """Dagster refused a request, and would again. The message says why."""


class DagsterUnavailableError(DagsterError):
    """Dagster did not answer, or not as when its code is loaded. Worth another attempt."""


class DagsterSilentError(DagsterUnavailableError):
    """No answer came: what was asked for may have been done all the same, or be done later."""


@dataclass(frozen=True)
class Run:
    """A Dagster run: its status, the steps it is to execute, and how each that began stands.

    `root` is the first run of those that re-execute each other.
    """

    run_id: str
    root: str
    status: str
    planned: tuple[str, ...]
    steps: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing more happens in it."""
        return self.status not in RUNNING

    @property
    def awaits_retry(self) -> bool:
        """Whether Dagster itself is about to run it again, as it does after a lost process."""
        announced = self.tags.get("dagster/will_retry") == "true"
        return self.ended and announced and "dagster/auto_retry_run_id" not in self.tags


@dataclass(frozen=True)
class Backfill:
    """A Dagster backfill: its status and how many of its partitions' runs stand how."""

    backfill_id: str
    status: str
    partitions: int
    counts: Mapping[str, int]
    tags: Mapping[str, str]
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens in it."""
        return self.status in ENDED_BACKFILL

    @property
    def succeeded(self) -> bool:
        """Whether every run of it did."""
        return self.status in ("COMPLETED", "COMPLETED_SUCCESS")


@dataclass(frozen=True)
class DagsterApi:
    """One Dagster web server, and the code location whose jobs are launched.

    Attributes:
        url: its address, without `/graphql`.
        public_url: where people find it; differs behind a proxy.
        location: the code location's name.
        repository: the repository's name in it.
        auth: user and password, if a proxy asks for them.
    """

    url: str
    public_url: str
    location: str = LOCATION
    repository: str = REPOSITORY
    auth: tuple[str, str] | None = None

    def run_url(self, run_id: str) -> str:
        """The page of a run, for people."""
        return f"{self.public_url}/runs/{run_id}"

    def backfill_url(self, backfill_id: str) -> str:
        """The page of a backfill, for people."""
        return f"{self.public_url}/runs/b/{backfill_id}"

    def runs(self, tags: Mapping[str, str]) -> list[Run]:
        """The newest runs with these tags, newest first."""
        variables = {"filter": {"tags": _pairs(tags)}, "limit": _RUNS}
        found = self._ask(_FIND_RUNS, "runsOrError", "Runs", variables)
        return [
            Run(
                run_id=each["runId"],
                root=each["rootRunId"] or each["runId"],
                status=each["status"],
                planned=tuple(each["stepKeysToExecute"] or ()),
                steps={s["stepKey"]: s["status"] for s in each["stepStats"] if s["status"]},
                tags=_mapping(each["tags"]),
            )
            for each in found["results"]
        ]

    def launch(self, job: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> str:
        """Launch a job; its own tags stay beside the given ones. Returns the run's id.

        Not repeatable by itself: look for a run with these tags before.
        """
        selector = {
            "repositoryLocationName": self.location,
            "repositoryName": self.repository,
            "jobName": job,
        }
        params = {
            "selector": selector,
            "runConfigData": dict(config),
            "executionMetadata": {"tags": _pairs(tags)},
        }
        launched = self._ask(_LAUNCH, "launchRun", "LaunchRunSuccess", {"params": params})
        return str(launched["run"]["runId"])

    def reexecute(self, run_id: str) -> str:
        """Run the failed steps of a run, and those after them, again; returns the new run's id.

        The new run has the tags of the old one.
        """
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        field = "launchRunReexecution"
        launched = self._ask(_REEXECUTE, field, "LaunchRunSuccess", {"params": params})
        return str(launched["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """End a run, queued or running."""
        self._ask(_TERMINATE, "terminateRun", "TerminateRunSuccess", {"run": run_id})

    def failure(self, run_id: str) -> str:
        """Return what the first failed step of a run raised, or else the run's last words."""
        after: str | None = None
        last_words = "no reason was recorded"
        while True:
            variables = {"run": run_id, "after": after, "limit": _EVENTS}
            page = self._ask(_EVENTS_OF, "runOrError", "Run", variables)["eventConnection"]
            for event in page["events"]:
                if event["__typename"] == "ExecutionStepFailureEvent":
                    return f"{event['stepKey']}: {_reason(event['error'])}"
                if event["__typename"] in ("RunFailureEvent", "RunCanceledEvent"):
                    last_words = event["message"]
            if not page["hasMore"]:
                return str(last_words)
            after = page["cursor"]

    def backfills(self, tags: Mapping[str, str]) -> list[Backfill]:
        """Those of the newest backfills that have these tags, newest first."""
        # Dagster filters runs by tag, but not backfills.
        field = "partitionBackfillsOrError"
        found = self._ask(_FIND_BACKFILLS, field, "PartitionBackfills", {"limit": _BACKFILLS})
        made = [_backfill(each) for each in found["results"]]
        return [each for each in made if tags.items() <= each.tags.items()]

    def launch_backfill(
        self,
        assets: Sequence[str],
        partitions: Sequence[str],
        tags: Mapping[str, str],
        config: Mapping[str, Any],
        title: str,
    ) -> str:
        """Launch a backfill of some assets over some partitions; returns its id.

        Not repeatable by itself: look for a backfill with these tags before.
        """
        params = {
            "assetSelection": [{"path": [asset]} for asset in assets],
            "partitionNames": list(partitions),
            "tags": _pairs(tags),
            "title": title,
            "runConfigData": dict(config),
        }
        field = "launchPartitionBackfill"
        launched = self._ask(_LAUNCH_BACKFILL, field, "LaunchBackfillSuccess", {"params": params})
        return str(launched["backfillId"])

    def reexecute_backfill(self, backfill_id: str) -> str:
        """Backfill those partitions again that failed; returns the new backfill's id."""
        params = {"parentRunId": backfill_id, "strategy": "FROM_FAILURE"}
        field, success = "reexecutePartitionBackfill", "LaunchBackfillSuccess"
        launched = self._ask(_REEXECUTE_BACKFILL, field, success, {"params": params})
        return str(launched["backfillId"])

    def cancel_backfill(self, backfill_id: str) -> None:
        """End a backfill and the runs it launched."""
        field, success = "cancelPartitionBackfill", "CancelBackfillSuccess"
        self._ask(_CANCEL_BACKFILL, field, success, {"backfill": backfill_id})

    def _ask(
        self, query: str, field: str, success: str, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The answer to a query whose `field` is of the type `success`.

        Raises:
            DagsterUnavailableError: the answer is one that a restart would explain.
            DagsterSilentError: there is none at all.
            DagsterError: the request is wrong, and will be.
        """
        address = f"{self.url}/graphql"
        body: dict[str, Any] = {"query": query, "variables": dict(variables)}
        try:
            reply = requests.post(
                address,
                json=body,
                auth=self.auth,
                timeout=_TIME_OUT,
                allow_redirects=False,
                proxies=loopback_proxies(address),
            )
        except requests.RequestException as error:
            raise DagsterSilentError(
                f"Dagster at {self.url} cannot be reached ({type(error).__name__}). Is its web "
                "server up, and is the Airflow connection `dagster` right?"
            ) from error
        answer = _decoded(reply, self.url)[field]
        kind = answer["__typename"]
        if kind == success:
            return dict(answer)
        reasons = [each["message"] for each in answer.get("errors", ())]
        message = answer.get("message") or "; ".join(reasons) or "no reason given"
        refusal = f"Dagster at {self.url} answered {kind}: {message}"
        raise (DagsterError if kind in _FINAL else DagsterUnavailableError)(refusal)


def loopback_proxies(url: str) -> dict[str, Any] | None:
    """Return what keeps requests from a proxy if `url` is this machine's; None leaves the choice to it.

    Without NO_PROXY in the environment, requests sends even what is for loopback through a proxy.
    """
    host = urlsplit(url).hostname or ""
    if host in _LOOPBACK or host.startswith("127."):
        return {"http": None, "https": None, "all": None}
    return None


def _decoded(reply: requests.Response, url: str) -> dict[str, Any]:
    try:
        content = reply.json()
    except requests.JSONDecodeError as error:
        raise DagsterUnavailableError(
            f"Dagster at {url} answered HTTP {reply.status_code} without JSON."
        ) from error
    if not isinstance(content, dict) or not content.get("data"):
        errors = content.get("errors", ()) if isinstance(content, dict) else ()
        said = "; ".join(str(each.get("message")) for each in errors) or "nothing more"
        raise DagsterUnavailableError(
            f"Dagster at {url} answered HTTP {reply.status_code} and {said}."
        )
    return dict(content["data"])


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _mapping(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in pairs}


def _backfill(facts: Mapping[str, Any]) -> Backfill:
    return Backfill(
        backfill_id=facts["id"],
        status=facts["status"],
        partitions=facts["numPartitions"] or 0,
        counts={each["runStatus"]: each["count"] for each in facts["partitionStatusCounts"]},
        tags=_mapping(facts["tags"]),
        error=facts["error"]["message"] if facts["error"] else None,
    )


def _reason(error: Mapping[str, Any] | None) -> str:
    """Return what the asset itself raised: Dagster wraps it in an error of its own."""
    if error is None:
        return "no reason was recorded"
    cause = error.get("cause")
    return str((cause or error)["message"]).strip()


@dataclass
class Patience:
    """How long Dagster may be away before that is an error: a deploy restarts its code server.

    Attributes:
        limit: how long it may be away at a stretch.
        interrupted: asked between attempts; whatever it raises ends the waiting.
    """

    limit: timedelta
    interrupted: Callable[[], None]
    _away_since: float | None = None

    def bear(self, error: DagsterUnavailableError) -> None:
        """Wait a little after an error, or raise it if Dagster has been away for too long."""
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since > self.limit.total_seconds():
            raise error
        self.pause(_SECONDS_BETWEEN_ATTEMPTS)

    def answered(self) -> None:
        """Dagster is there."""
        self._away_since = None

    def pause(self, seconds: float) -> None:
        """Wait between two looks."""
        self.interrupted()
        time.sleep(seconds)
        self.interrupted()


def find_or_launch(
    find: Callable[[], Sequence[Found]], launch: Callable[[], str], patience: Patience
) -> Found:
    """The newest of what `find` finds; launched if there is none.

    Whoever asks after a lost answer, a killed process or a retry joins what was launched before.
    """
    doubtful_until = 0.0
    while True:
        try:
            if found := find():
                patience.answered()
                return found[0]
            if time.monotonic() >= doubtful_until:
                launch()
                doubtful_until = time.monotonic() + _SECONDS_OF_DOUBT
        except DagsterSilentError as error:
            doubtful_until = time.monotonic() + _SECONDS_OF_DOUBT
            patience.bear(error)
        except DagsterUnavailableError as error:
            patience.bear(error)
        else:
            patience.pause(0.1)
