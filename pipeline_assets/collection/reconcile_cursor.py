"""The reconciler's cursor: what it remembers between looks, as the JSON text that Dagster keeps."""

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter
from pydantic.dataclasses import dataclass

from pipeline_assets.collection.history_requests import Asked, History, LedgerRequest
from pipeline_assets.collection.repairs import Repair
from pipeline_assets.collection.run_names import RECONCILER
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.document_versions import cursor_content


def _from_rows(held: Any) -> Any:
    return {tuple(row[:2]): row[2:] for row in held} if isinstance(held, list) else held


def _to_rows(repairs: Mapping[tuple[Interval, date], Repair]) -> list[tuple[Any, ...]]:
    return [(*key, *each) for key, each in sorted(repairs.items())]


@dataclass(frozen=True)
class Cursor:
    """The reconciler's memory between its runs.

    The names are those of the cursors that the former sensors `gap_repair` and `new_listings` wrote. A
    cursor of either has only its own names.

    Attributes:
        read: the newest event of the ledger that was read.
        repairs: the requests for the gaps of each interval and day.
        first_stored: the first day with a ledger; the first stored day of any symbol, while there is none.
        ledger: the last request of a ledger.
        known: the symbols that are not new, by `name_of`; None before the first look.
        left: history of new symbols that is still to be requested.
        asked: requested runs of new symbols that are not finalized yet.
        unsealed: by interval without a finalized day, the new symbols that wait for the first one.
    """

    read: int | None = None
    repairs: Annotated[
        dict[tuple[Interval, date], Repair], BeforeValidator(_from_rows), PlainSerializer(_to_rows)
    ] = field(default_factory=dict)
    first_stored: date | None = None
    ledger: LedgerRequest | None = None
    known: frozenset[str] | None = None
    left: tuple[History, ...] = ()
    asked: tuple[Asked, ...] = ()
    unsealed: dict[Interval, frozenset[str]] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the cursor as JSON."""
        return _JSON.dump_json(self).decode()

    @classmethod
    def from_text(cls, text: str | None) -> "Cursor":
        """Return the cursor that `to_text` wrote, or an empty one without a text.

        Raises:
            NewerVersionError: a newer release wrote the cursor.
        """
        cursor_content(text, RECONCILER)
        return _JSON.validate_json(text) if text else cls()

    def with_new_symbols_of(self, former: "Cursor") -> "Cursor":
        """Return the cursor with what the former sensor `new_listings` remembered."""
        return replace(
            self,
            known=former.known,
            left=former.left,
            asked=former.asked,
            unsealed=former.unsealed,
        )


_JSON = TypeAdapter(Cursor)
