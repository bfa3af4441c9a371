"""Dagster's GraphQL over plain HTTP: runs and backfills are found, launched, re-executed and ended. Neither
Airflow nor candles are known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster_queries as queries
import requests
from candle_intervals import LOCATION, REPOSITORY
from loopback_proxies import loopback_proxies

RUNNING = frozenset({"QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING"})
ENDED_BACKFILL = frozenset(
    {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
)
# Refusals of a launch that waiting does not change. Any other refusal may come from a code server that is
# restarting: it shows as PipelineNotFoundError, InvalidSubsetError, a PythonError or HTTP 500.
_FINAL = frozenset({"RunConfigValidationInvalid", "UnauthorizedError"})
_TIME_OUT = (5, 30)
_RUNS = 20
_BACKFILLS = 100
_EVENTS = 1000


class DagsterError(Exception):
    """Dagster refused a request, and would again. The message says why."""


class DagsterUnavailableError(DagsterError):
    """Dagster did not answer, or its code is not loaded. Worth another attempt."""


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
        """Return whether nothing more happens in it."""
        return self.status not in RUNNING

    @property
    def awaits_retry(self) -> bool:
        """Return whether Dagster itself is about to run it again, as it does after a lost process."""
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
        """Return whether nothing more happens in it."""
        return self.status in ENDED_BACKFILL

    @property
    def succeeded(self) -> bool:
        """Return whether every run of it did."""
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
        """Return the page of a run, for people."""
        return f"{self.public_url}/runs/{run_id}"

    def backfill_url(self, backfill_id: str) -> str:
        """Return the page of a backfill, for people."""
        return f"{self.public_url}/runs/b/{backfill_id}"

    def runs(self, tags: Mapping[str, str]) -> list[Run]:
        """Return the newest runs with these tags, newest first."""
        variables = {"filter": {"tags": _pairs(tags)}, "limit": _RUNS}
        found = self._ask(queries.FIND_RUNS, "runsOrError", "Runs", variables)
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
        launched = self._ask(queries.LAUNCH, "launchRun", "LaunchRunSuccess", {"params": params})
        return str(launched["run"]["runId"])

    def reexecute(self, run_id: str) -> str:
        """Run the failed steps of a run, and those after them, again; returns the new run's id.

        The new run has the tags of the old one.
        """
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        field = "launchRunReexecution"
        launched = self._ask(queries.REEXECUTE, field, "LaunchRunSuccess", {"params": params})
        return str(launched["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """End a run, queued or running."""
        self._ask(queries.TERMINATE, "terminateRun", "TerminateRunSuccess", {"run": run_id})

    def failure(self, run_id: str) -> str:
        """Return what the first failed step of a run raised, or else the run's last words."""
        after: str | None = None
        last_words = "no reason was recorded"
        while True:
            variables = {"run": run_id, "after": after, "limit": _EVENTS}
            page = self._ask(queries.EVENTS_OF, "runOrError", "Run", variables)["eventConnection"]
            for event in page["events"]:
                if event["__typename"] == "ExecutionStepFailureEvent":
                    return f"{event['stepKey']}: {_reason(event['error'])}"
                if event["__typename"] in ("RunFailureEvent", "RunCanceledEvent"):
                    last_words = event["message"]
            if not page["hasMore"]:
                return str(last_words)
            after = page["cursor"]

    def backfills(self, tags: Mapping[str, str]) -> list[Backfill]:
        """Return those of the newest backfills that have these tags, newest first."""
        # Dagster filters runs by tag, but not backfills.
        field = "partitionBackfillsOrError"
        found = self._ask(
            queries.FIND_BACKFILLS, field, "PartitionBackfills", {"limit": _BACKFILLS}
        )
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
        launched = self._ask(
            queries.LAUNCH_BACKFILL, field, "LaunchBackfillSuccess", {"params": params}
        )
        return str(launched["backfillId"])

    def reexecute_backfill(self, backfill_id: str) -> str:
        """Backfill those partitions again that failed; returns the new backfill's id."""
        params = {"parentRunId": backfill_id, "strategy": "FROM_FAILURE"}
        field, success = "reexecutePartitionBackfill", "LaunchBackfillSuccess"
        launched = self._ask(queries.REEXECUTE_BACKFILL, field, success, {"params": params})
        return str(launched["backfillId"])

    def cancel_backfill(self, backfill_id: str) -> None:
        """End a backfill and the runs it launched."""
        field, success = "cancelPartitionBackfill", "CancelBackfillSuccess"
        self._ask(queries.CANCEL_BACKFILL, field, success, {"backfill": backfill_id})

    def _ask(
        self, query: str, field: str, success: str, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the answer to a query whose `field` is of the type `success`.

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
