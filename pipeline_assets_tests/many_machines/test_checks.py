"""The counts find what they count: a check that sees nothing would make a clean table."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from dagster import DagsterEvent, DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.execution.plan.objects import StepSuccessData

from pipeline_assets.collection.fetch_plan import OPEN_DAY_TAG
from pipeline_assets_tests.fixtures.instance import instance_in_memory
from pipeline_assets_tests.many_machines.checks import orphans, run_twice
from pipeline_assets_tests.services.worker_jobs import waiting

SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_in_memory() as made:
        yield made


def started(instance: DagsterInstance, day: str = "2026-11-20") -> DagsterRun:
    """Make an ingest run of a day that is being executed, with its step begun."""
    run = instance.create_run_for_job(
        waiting, status=DagsterRunStatus.STARTED, tags={OPEN_DAY_TAG: day}
    )
    note(instance, run, "STEP_START")
    return run


def note(instance: DagsterInstance, run: DagsterRun, kind: str, data: object = None) -> None:
    event = DagsterEvent(
        event_type_value=kind,
        job_name=run.job_name,
        step_key="fetch",
        message="",
        event_specific_data=data,
    )
    instance.report_dagster_event(event, run.run_id)


def test_steps_at_once_are_found(instance: DagsterInstance) -> None:
    """A second run of the day begins before the first one's step, or the run itself, has ended."""
    first, second, other_day = started(instance), started(instance), started(instance, "2026-11-21")
    assert len(run_twice(instance, [first, second, other_day])) == 1
    assert run_twice(instance, [first, other_day]) == []


def test_repetition_is_none(instance: DagsterInstance) -> None:
    """A run that begins after a step's end, or after a dead run's, is no second execution at once."""
    dead = started(instance)
    instance.report_run_failed(dead)
    repeated = started(instance)
    note(instance, repeated, "STEP_SUCCESS", StepSuccessData(1.0))
    assert run_twice(instance, [dead, repeated, started(instance)]) == []


def test_step_that_began_twice_is_found(instance: DagsterInstance) -> None:
    """Two processes that execute one run leave two beginnings of its step."""
    run = started(instance)
    note(instance, run, "STEP_START")
    assert len(run_twice(instance, [run])) == 1


def test_run_without_end_is_an_orphan(instance: DagsterInstance) -> None:
    """A run that has not ended is an orphan, and so is one whose process goes on after its end."""
    ended, alive, left = started(instance), started(instance), started(instance)
    for run in (ended, alive):
        instance.report_run_failed(run)
    assert set(orphans(instance, {alive.run_id}, SOON)) == {alive.run_id, left.run_id}
    assert orphans(instance, set(), SOON - timedelta(days=1)) == []
