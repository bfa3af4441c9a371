"""Dagster's web server as commands use it, over GraphQL: runs are found by tags, launched and read. How a
command follows its runs is in followed_runs.py; the query of `status` is in filling.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_assets.collection.run_names import LOCATION, REPOSITORY
from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.settings import DagsterSettings

# To connect, and to answer: a code server that is restarting holds an answer back.
_SECONDS = (5, 30)
_EVENTS = 500
_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
UNFINISHED = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]

READY = """
query Ready($daemon: String) {
  instance { daemonHealth { daemonStatus(daemonType: $daemon) { healthy } } }
  workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } }
}
"""
FIND = """
query Find($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 1) {
  __typename
  ... on Runs { results { runId status tags { key value } } }
  ... on PythonError { message }
} }
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename
  ... on LaunchRunSuccess { run { runId status tags { key value } } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message }
  ... on UnauthorizedError { message }
} }
"""
EVENTS = """
query Events($run: ID!, $after: String, $limit: Int!) {
  logsForRun(runId: $run, afterCursor: $after, limit: $limit) {
    __typename
    ... on PythonError { message }
    ... on EventConnection { cursor hasMore events {
      __typename
      ... on MessageEvent { message level stepKey }
      ... on MaterializationEvent { assetKey { path } metadataEntries {
        label ... on IntMetadataEntry { intRepr } ... on TextMetadataEntry { text } } }
      ... on AssetCheckEvaluationEvent { evaluation {
        assetKey { path } checkName success severity partition description
        metadataEntries { label } } }
      ... on ExecutionStepFailureEvent { error { className message cause { className message } } }
    } }
  }
}
"""


class DagsterWebError(OutsideSystemError):
    """Dagster refused a request. The message says why."""


class DagsterSilentError(DagsterWebError):
    """Dagster did not answer, or its code is not loaded just now: worth another attempt."""


@dataclass(frozen=True)
class WebRun:
    """A run as the web server shows it."""

    run_id: str
    status: str
    tags: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing more happens in this run."""
        return self.status in ENDED


class DagsterWeb:
    """One web server."""

    def __init__(
        self, settings: DagsterSettings, time_outs: tuple[float, float] = _SECONDS
    ) -> None:
        """Keep the address; nothing is sent. `time_outs` are the seconds to connect, and to answer."""
        self.url = f"http://{settings.host}:{settings.webserver_port}"
        self._time_outs = time_outs

    def is_ready(self) -> bool:
        """Return whether the daemon that starts queued runs is healthy and the product's code is loaded."""
        try:
            data = self.ask(READY, {"daemon": _QUEUE_DAEMON})
        except DagsterWebError:
            return False
        daemon = data["instance"]["daemonHealth"]["daemonStatus"]
        loaded = {
            each["name"]
            for each in data["workspaceOrError"].get("locationEntries", ())
            if (each["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        }
        return bool(daemon["healthy"]) and LOCATION in loaded

    def unfinished(self, tags: Mapping[str, str]) -> WebRun | None:
        """Return the newest run with these tags that has not ended.

        Raises:
            DagsterSilentError: no answer came.
        """
        found = self._find({"tags": _pairs(tags), "statuses": UNFINISHED})
        return found[0] if found else None

    def run(self, run_id: str) -> WebRun:
        """Return a run as it is now.

        Raises:
            DagsterSilentError: no answer came.
            DagsterWebError: the run has been deleted.
        """
        found = self._find({"runIds": [run_id]})
        if not found:
            raise DagsterWebError(
                f"Dagster at {self.url} has no run {run_id} any more: it was deleted. Repeat the command."
            )
        return found[0]

    def launch(self, job: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> WebRun:
        """Put a run into Dagster's queue. May not be repeated: look for an unfinished run first.

        Raises:
            DagsterSilentError: no answer came; the run may have been launched.
            DagsterWebError: the job does not take this configuration.
        """
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "jobName": job,
        }
        params = {
            "selector": selector,
            "runConfigData": dict(config),
            "executionMetadata": {"tags": _pairs(tags)},
        }
        answer = self.ask(LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] == "LaunchRunSuccess":
            return _web_run(answer["run"])
        errors = answer.get("errors") or [answer]
        reported = "; ".join(str(each.get("message", answer["__typename"])) for each in errors)
        # Other refusals come from a code server that is restarting, too.
        is_final = answer["__typename"] in ("RunConfigValidationInvalid", "UnauthorizedError")
        kind = DagsterWebError if is_final else DagsterSilentError
        raise kind(f"Dagster at {self.url} does not launch {job}: {reported}")

    def events(self, run_id: str, after: str | None) -> tuple[Sequence[dict[str, Any]], str | None]:
        """Return the events of a run after a cursor, and the cursor after the last of them.

        Raises:
            DagsterSilentError: no answer came.
        """
        found: list[dict[str, Any]] = []
        while True:
            variables = {"run": run_id, "after": after, "limit": _EVENTS}
            page = self.ask(EVENTS, variables)["logsForRun"]
            if page["__typename"] != "EventConnection":
                raise DagsterSilentError(
                    f"Dagster at {self.url} shows no events of run {run_id}: {page.get('message')}"
                )
            found += page["events"]
            after = page["cursor"]
            if not page["hasMore"]:
                return found, after

    def _find(self, chosen: Mapping[str, Any]) -> list[WebRun]:
        answer = self.ask(FIND, {"filter": dict(chosen)})["runsOrError"]
        if answer["__typename"] != "Runs":
            raise DagsterSilentError(
                f"Dagster at {self.url} lists no runs: {answer.get('message')}"
            )
        return [_web_run(each) for each in answer["results"]]

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Send a GraphQL query, and return the data of the answer.

        Raises:
            DagsterSilentError: no answer came in time, or the answer reports errors.
        """
        import requests

        try:
            reply = requests.post(
                f"{self.url}/graphql",
                json={"query": query, "variables": dict(variables)},
                timeout=self._time_outs,
            )
            reply.raise_for_status()
            document = reply.json()
        except (requests.RequestException, ValueError) as error:
            raise DagsterSilentError(
                f"Dagster's web server at {self.url} does not answer ({type(error).__name__})."
            ) from error
        if document.get("errors") or not document.get("data"):
            raise DagsterSilentError(f"Dagster at {self.url} answers {document.get('errors')}.")
        data: dict[str, Any] = document["data"]
        return data


def _web_run(reported: Mapping[str, Any]) -> WebRun:
    return WebRun(
        reported["runId"],
        reported["status"],
        {each["key"]: each["value"] for each in reported["tags"]},
    )


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]
