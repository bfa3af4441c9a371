"""The report of a fetch from the archive: rows taken, files refused, disagreements. How a day is taken is in
archive_source.py.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.findings import Table
from pipeline_assets.resources.day_findings import keep_disagreements
from pipeline_assets.resources.object_store import ObjectStore


@dataclass
class ArchiveReport:
    """The rows that a fetch took from the archive, and the ones that it could not take.

    Attributes:
        rows: rows taken from it.
        absent: symbol-days that it does not have.
        refused: by file name why a file was not taken.
        distrusted: symbol, day and reason of what was there and not taken.
        looked_at: the symbols whose days were compared, by day.
        records: by day and symbol what the archive says otherwise than the exchange.
        unfilled: by day and symbol the candles missing from the archive, of symbols for which the
            request to the exchange then failed.
    """

    rows: int = 0
    absent: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    distrusted: list[tuple[str, date, str]] = field(default_factory=list)
    looked_at: dict[date, set[str]] = field(default_factory=dict)
    records: dict[date, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    unfilled: dict[date, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def note(self, day: date, symbol: str, record: dict[str, Any]) -> None:
        """Add a record."""
        self.records.setdefault(day, {}).setdefault(symbol, []).append(record)

    def keep(self, store: ObjectStore, plan: FetchPlan) -> None:
        """Record the disagreements on the lake; a repeat replaces those of the same symbol-days."""

        def keep_day(day: date) -> None:
            compared = self.looked_at[day] - plan.failures.keys()
            found = self.records.get(day, {})
            known = {symbol: held for symbol, held in found.items() if symbol in compared}
            unfilled = self.unfilled.get(day, {})
            keep_disagreements(
                store, plan.interval, day, compared | unfilled.keys(), known | unfilled
            )

        store.each(keep_day, sorted(self.looked_at))

    def values(self) -> dict[str, Any]:
        """Return what to report, by name: numbers and tables."""
        found: dict[str, Any] = {
            "rows from the archive": self.rows,
            "symbol-days not in the archive": self.absent,
        }
        if self.refused:
            columns = {"file": "string", "why": "string"}
            found["archive files refused"] = Table.of(columns, sorted(self.refused.items()))
        if self.distrusted:
            columns = {"symbol": "string", "day": "string", "why": "string"}
            rows = [(symbol, str(day), why) for symbol, day, why in sorted(self.distrusted)]
            found["archive days not taken"] = Table.of(columns, rows)
        records = [
            (symbol, each["kind"], each["first"], each["last"], each["count"])
            for noted in (self.records, self.unfilled)
            for _, by_symbol in sorted(noted.items())
            for symbol, held in sorted(by_symbol.items())
            for each in held
        ]
        if records:
            columns = dict.fromkeys(("symbol", "kind", "first", "last"), "string")
            found["archive disagreements"] = Table.of(columns | {"candles": "int"}, records)
        return found
