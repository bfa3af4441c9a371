"""Sinks, the stores of candles besides the lake: the order of their steps, and when a finished day passes
for loaded. Each sink is in a module of its own, its asset in assets/sinks.py.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol

from pipeline_assets.collection.step_inputs import Step, Stored
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.staging import AbsentError, read_document, write_document


class Sink(Protocol):
    """A store that receives what one step has to load. Each method may be repeated after a crash."""

    def load(self) -> dict[str, Any]:
        """Write the candles of the run; return what to report."""

    def verify(self) -> dict[str, Any]:
        """Check what the sink holds, and mend or raise; return what to report."""

    def mark(self) -> None:
        """Record that the sink holds the finished days of the run (`mark_loaded`)."""


def fill(sink: Sink) -> dict[str, Any]:
    """Load a sink, and mark what it holds once that is verified; return what to report."""
    report = {**sink.load(), **sink.verify()}
    sink.mark()
    return report


def mark_loaded(step: Step, stored: Stored, name: str) -> None:
    """Record that a sink has loaded what an upload stored, and mark the days that all sinks hold.

    A finished day is marked on the lake once every lasting sink of the interval has loaded the same
    objects, in whatever order: a marked day is not fetched again, and so not loaded again either. The
    only sink of an interval needs no load mark of its own: the day's mark says the same.

    Args:
        step: of the sink.
        stored: what the sink has loaded.
        name: the sink's, in the registry of intervals.
    """
    store, interval = step.store, step.own.interval
    others = [sink for sink in interval.lasting_sinks if sink != name]

    def loaded(sink: str, day: date, digest: str) -> bool:
        try:
            return bool(read_document(store, stored.source.load_mark(sink, day)) == digest)
        except AbsentError:
            return False

    def mark(each: tuple[date, Mapping[str, FinalizedDay]]) -> None:
        day, marks = each
        digest = _digest(marks)
        if others:
            write_document(store, stored.source.load_mark(name, day), digest)
        if all(loaded(sink, day, digest) for sink in others):
            mark_finalized(store, interval, day, marks)

    store.each(mark, stored.finalized.items())


def _digest(marks: Mapping[str, FinalizedDay]) -> str:
    """Return a text that differs between uploads of a day: a repeated run may store other objects."""
    facts = {symbol: mark.to_dict() for symbol, mark in marks.items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
