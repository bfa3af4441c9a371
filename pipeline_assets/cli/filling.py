"""The backfills and repairs under way: runs over days that have not ended, and when the sensor gap_repair
looks for more. Dagster's web server answers this (dagster_web.py), so that Dagster need not be imported;
status.py prints it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline_assets.cli.dagster_web import UNFINISHED, DagsterWeb, DagsterWebError
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.run_names import LOCATION, RECONCILER, REPOSITORY, tagged_days
from pipeline_assets.settings import DagsterSettings

# To connect, and to answer: a person waits for the status.
_SECONDS = (2, 5)
_MOST_RUNS = 100
_QUERY = """
query Filling($runs: RunsFilter!, $limit: Int!, $sensor: SensorSelector!) {
  runsOrError(filter: $runs, limit: $limit) {
    __typename
    ... on Runs { results { jobName status tags { key value } } }
  }
  sensorOrError(sensorSelector: $sensor) {
    __typename
    ... on Sensor {
      nextTick { timestamp }
      sensorState { status ticks(limit: 1) { status skipReason } }
    }
  }
}
"""
_RUNNING = {"STARTING", "STARTED", "CANCELING"}


@dataclass(frozen=True)
class FillingRun:
    """A run over days that has not ended. `last` is included."""

    job: str
    running: bool
    first: str
    last: str


@dataclass(frozen=True)
class Filling:
    """The backfills and repairs under way.

    Attributes:
        runs: the runs over days, running ones first.
        next_request: when the sensor looks for gaps again, UTC; None if it is off.
        said: the sensor's last skip message, if its last look requested nothing.
    """

    runs: tuple[FillingRun, ...] = ()
    next_request: datetime | None = None
    said: str | None = None


def filling(settings: DagsterSettings) -> Filling | None:
    """Return what is being filled, or None where Dagster's web server does not answer within seconds."""
    variables: dict[str, Any] = {
        "runs": {"statuses": UNFINISHED},
        "limit": _MOST_RUNS,
        "sensor": {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "sensorName": RECONCILER,
        },
    }
    try:
        return _filling(DagsterWeb(settings, _SECONDS).ask(_QUERY, variables))
    except DagsterWebError:
        return None


def _filling(data: Mapping[str, Any]) -> Filling:
    found = [_run(each) for each in data["runsOrError"].get("results", ())]
    runs = sorted((run for run in found if run), key=lambda run: not run.running)
    sensor = data["sensorOrError"]
    tick, on = sensor.get("nextTick"), sensor.get("sensorState")
    last = next(iter(on["ticks"]), None) if on else None
    return Filling(
        tuple(runs),
        datetime.fromtimestamp(tick["timestamp"], UTC) if tick else None,
        last["skipReason"] if last else None,
    )


def _run(reported: Mapping[str, Any]) -> FillingRun | None:
    """Return a run over days; None if it is an ingest run, or has no days."""
    tags = {each["key"]: each["value"] for each in reported["tags"]}
    days = tagged_days(tags)
    if days is None or RunKind.of(tags) is RunKind.INGEST:
        return None
    return FillingRun(reported["jobName"], reported["status"] in _RUNNING, *map(str, days))
