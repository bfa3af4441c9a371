"""The result of a run over funding rates, for people: what was stored, which rates are missing, which
intervals changed. Computing what is missing is market/funding_intervals.py's.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from threading import Lock
from typing import Any

from pipeline_assets.collection.findings import Finding, Table, failures, moment
from pipeline_assets.collection.funding_plan import FundingPlan
from pipeline_assets.market.funding_intervals import IntervalChange, interval_changes
from pipeline_assets.market.windows import Window, day_window

_MISSING = {"symbol": "string", "funding time": "string"}


@dataclass
class FundingReport:
    """The result of a run.

    Attributes:
        plan: the run's plan, with what is stored now.
        rates: how many rates were stored that were not there before.
        objects: how many objects were written, or held the rates already.
        changed: how many objects were written.
        requests: the requests of the exchange's funding limit, repeated ones included.
        archive_files: the archive's files that were taken.
        refused: the archive's files that were not, with the reason.
        rejected: rows of replies that were left out, with the reason.
    """

    plan: FundingPlan
    rates: int = 0
    objects: int = 0
    changed: int = 0
    requests: int = 0
    archive_files: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def stored(self, rates: int, *, changed: bool) -> None:
        """Count an object; threads that store objects call this."""
        with self._lock:
            self.rates += rates
            self.objects += 1
            self.changed += changed

    def missing(self, day: date) -> list[tuple[str, datetime]]:
        """Return a day's settlements without a rate, by symbol and time. Call this after the last write."""
        return self._missing.get(day, [])

    @cached_property
    def _missing(self) -> dict[date, list[tuple[str, datetime]]]:
        # All days of a symbol at once: of 900 symbols and 31 days, one by one would take a minute.
        start, end = (day_window(self.plan.days[place]) for place in (0, -1))
        found: dict[date, list[tuple[str, datetime]]] = {}
        for symbol in sorted(self.plan.listed):
            for time in self.plan.missing(symbol, Window(start.start, end.end)):
                found.setdefault(time.date(), []).append((symbol, time))
        return found

    def changes(self) -> list[IntervalChange]:
        """Return the changes of intervals in the run's days."""
        start, end = (day_window(self.plan.days[place]) for place in (0, -1))
        found = (interval_changes(self.plan.rates(symbol)) for symbol in sorted(self.plan.listed))
        return [each for held in found for each in held if start.start <= each.time < end.end]

    def findings(self) -> dict[date, Finding]:
        """Return by day whether each settlement has a rate; a symbol that failed is named on each day."""
        return {day: self._finding(day) for day in self.plan.days}

    def _finding(self, day: date) -> Finding:
        failed = sorted(self.plan.failures)
        missing = [each for each in self.missing(day) if each[0] not in self.plan.failures]
        parts = []
        if failed:
            parts.append(
                f"{len(failed)} symbols could not be fetched, the first: "
                f"{self.plan.failures[failed[0]]}"
            )
        if missing:
            symbol, time = missing[0]
            symbols = len({each for each, _ in missing})
            parts.append(
                f"{len(missing)} funding rates of {symbols} symbols are missing, the first of {symbol} at "
                f"{moment(time)}. The exchange has been asked for them; a backfill asks again."
            )
        rows = ((symbol, moment(time)) for symbol, time in missing)
        return Finding(
            not parts,
            " ".join(parts) or "Every settlement has a rate.",
            {"missing rates": len(missing), "missing": Table.of(_MISSING, rows)} if missing else {},
        )

    def values(self) -> dict[str, Any]:
        """Return the report as values and tables for the run's metadata."""
        plan = self.plan
        missing = [each for day in plan.days for each in self.missing(day)]
        changes = self.changes()
        values: dict[str, Any] = {
            "rates stored": self.rates,
            "symbols": len(plan.listed),
            "objects": self.objects,
            "objects changed": self.changed,
            "symbol-months stored before": plan.stored_before,
            "funding requests": self.requests,
            "missing rates": len(missing),
            "kind of run": plan.kind.value,
        }
        if missing:
            values["missing"] = Table.of(_MISSING, ((s, moment(time)) for s, time in missing))
        if changes:
            columns = {
                "symbol": "string",
                "from": "string",
                "before (h)": "int",
                "after (h)": "int",
            }
            values["interval changes"] = Table.of(
                columns, ((c.symbol, moment(c.time), c.before, c.after) for c in changes)
            )
        if self.archive_files or self.refused:
            values["archive files taken"] = self.archive_files
            values["archive files refused"] = Table.of(
                {"file": "string", "reason": "string"}, sorted(self.refused.items())
            )
        if self.rejected:
            values["rates rejected"] = Table.of({"reason": "string"}, zip(self.rejected))
        return values | failures(plan)
