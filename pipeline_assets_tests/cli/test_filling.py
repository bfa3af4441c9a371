"""`status` lists the backfills under way: its query fits Dagster's GraphQL schema, replies are parsed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from graphql import GraphQLSchema, parse, validate

from pipeline_assets.cli import filling as module
from pipeline_assets.cli.filling import Filling, FillingRun, filling
from pipeline_assets.cli.status import filling_lines
from pipeline_assets.settings import DagsterSettings
from pipeline_assets_tests.fixtures.dagster_web import answering_as
from pipeline_assets_tests.fixtures.s3 import free_port


def run(job: str, status: str, **tags: str) -> dict[str, Any]:
    reported = [{"key": key.replace("__", "/"), "value": value} for key, value in tags.items()]
    return {"jobName": job, "status": status, "tags": reported}


RANGE = {
    "dagster__asset_partition_range_start": "2026-11-01",
    "dagster__asset_partition_range_end": "2026-11-20",
}
ANSWER = {
    "runsOrError": {
        "__typename": "Runs",
        "results": [
            run("repair_15m", "QUEUED", **RANGE),
            run("tick_1m", "STARTED", dagster__partition="2026-11-22", pipeline__kind="tick"),
            run("repair_1m", "STARTED", dagster__partition="2026-11-21"),
            run("housekeeping", "STARTED"),
        ],
    },
    "sensorOrError": {
        "__typename": "Sensor",
        "nextTick": {"timestamp": datetime(2026, 11, 22, 10, 20, 30, tzinfo=UTC).timestamp()},
        "sensorState": {
            "status": "RUNNING",
            "ticks": [{"status": "SKIPPED", "skipReason": "2 earlier repairs are under way."}],
        },
    },
}


@pytest.fixture
def answering() -> Iterator[DagsterSettings]:
    """Provide a web server that answers as Dagster's does while two days are filled."""
    with answering_as(lambda *_: ANSWER) as settings:
        yield settings


def test_dagsters_schema_takes_the_question(dagster_schema: GraphQLSchema) -> None:
    assert validate(dagster_schema, parse(module._QUERY)) == []


def test_runs_show_days_running_first(
    answering: DagsterSettings,
) -> None:
    """Runs over days are named with their days, the running ones first."""
    found = filling(answering)
    assert found == Filling(
        (
            FillingRun("repair_1m", True, "2026-11-21", "2026-11-21"),
            FillingRun("repair_15m", False, "2026-11-01", "2026-11-20"),
        ),
        datetime(2026, 11, 22, 10, 20, 30, tzinfo=UTC),
        "2 earlier repairs are under way.",
    )
    lines = list(filling_lines(found, missing=True))
    assert lines[:2] == [
        "Running: repair_1m of 2026-11-21.",
        "Queued: repair_15m of 2026-11-01 to 2026-11-20.",
    ]
    assert "at 10:20:30 UTC" in lines[2]
    assert len(list(filling_lines(found, missing=False))) == 2


def test_off_sensor_and_server_are_reported() -> None:
    """A sensor that is off and a server that is down are reported."""
    assert list(filling_lines(Filling(), missing=True)) == [
        "Nothing more is requested: the sensor gap_repair is off, or has not run since the start."
    ]
    down = filling(DagsterSettings(webserver_port=free_port()))
    assert down is None
    [reported] = filling_lines(down, missing=True)
    assert "does not answer" in reported
