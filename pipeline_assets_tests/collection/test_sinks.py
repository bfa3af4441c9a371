"""The load marks of a finished day, for an interval with several sinks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from pipeline_assets.collection.sinks import fill, mark_loaded
from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import FinalizedDay, read_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.s3 import S3Bucket

INTERVAL = Interval.FIFTEEN_MINUTES
FIRST, SECOND = date(2026, 11, 18), date(2026, 11, 19)


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


@pytest.fixture
def _two_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    two = replace(INTERVAL.definition, sinks=("table", "other"))
    monkeypatch.setattr(INTERVAL, "definition", two)


def step(store: ObjectStore, days: Sequence[date] = (FIRST, SECOND), run: str = "run") -> Step:
    return Step.of(store, INTERVAL, [day.isoformat() for day in days], run, "a sink")


def uploaded(store: ObjectStore, etag: str = "one") -> dict[date, dict[str, FinalizedDay]]:
    """Return what a run over both days stored."""
    finalized = {day: {"BTCUSDT": FinalizedDay(f"{etag} {day}")} for day in (FIRST, SECOND)}
    step(store).keep_stored([], finalized)
    return finalized


def load(name: str, own: Step) -> None:
    mark_loaded(own, own.stored(), name)


def marked(store: ObjectStore) -> dict[date, dict[str, FinalizedDay]]:
    found = {day: read_finalized(store, INTERVAL, day) for day in (FIRST, SECOND)}
    return {day: marks for day, marks in found.items() if marks}


@pytest.mark.usefixtures("_two_sinks")
@pytest.mark.parametrize("names", [("table", "other"), ("other", "table")])
def test_day_is_marked_after_every_sink(store: ObjectStore, names: tuple[str, str]) -> None:
    """A day is marked once every sink has loaded it."""
    finalized = uploaded(store)
    load(names[0], step(store))
    load(names[0], step(store))
    assert marked(store) == {}
    # The other one failed; a person materializes a single day of it, in another run.
    load(names[1], step(store, [SECOND], "later"))
    assert marked(store) == {SECOND: finalized[SECOND]}
    load(names[1], step(store))
    assert marked(store) == finalized


@pytest.mark.usefixtures("_two_sinks")
def test_old_attempts_load_mark_is_ignored(store: ObjectStore) -> None:
    """The load mark of an earlier attempt is ignored.

    A run that is executed again stores other objects at the same address.
    """
    uploaded(store, "one")
    load("table", step(store))
    finalized = uploaded(store, "two")
    load("other", step(store))
    assert marked(store) == {}
    load("table", step(store))
    assert marked(store) == finalized


def test_only_sink_marks_days_without_mark(store: ObjectStore) -> None:
    """The only sink marks the days without a load mark."""
    finalized = uploaded(store)
    before = {each.key for each in store.objects("staging/")}
    load("table", step(store))
    assert marked(store) == finalized
    assert {each.key for each in store.objects("staging/")} == before


def test_unverified_sink_marks_nothing() -> None:
    """No day is marked before its sink is verified.

    A sink that is found damaged fails the run, and the day is fetched and loaded again.
    """
    calls = []

    class Damaged:
        def load(self) -> dict[str, int]:
            calls.append("load")
            return {"rows": 1}

        def verify(self) -> dict[str, int]:
            calls.append("verify")
            raise OSError("rows are missing")

        def mark(self) -> None:
            calls.append("mark")

    with pytest.raises(OSError, match="rows are missing"):
        fill(Damaged())
    assert calls == ["load", "verify"]
