"""Findings about finished days that their marks do not hold: disagreements with the archive, and false runs
without volume. The marks are in finalized_days.py.
"""

from collections.abc import Container, Iterable, Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, StrictInt, TypeAdapter
from typing_extensions import TypedDict

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    Symbol,
    documented_days,
    left_out_alone,
    read_document,
    update_document,
    utc_time,
)
from pipeline_assets.resources.object_store import ObjectStore

# A kind of disagreement with the archive: a hole in a file while the exchange could not be asked about it.
UNFILLED_HOLE = "hole that the exchange was not asked about"


def _time(text: str) -> str:
    utc_time(text)
    return text


_Time = Annotated[str, AfterValidator(_time)]


class _Disagreement(TypedDict):
    """One record, as `read_disagreements` describes it."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc] # as pydantic has it
    kind: str
    first: _Time
    last: _Time
    count: StrictInt


_DISAGREEMENTS: TypeAdapter[Any] = TypeAdapter(
    Annotated[dict[Symbol, list[_Disagreement]], left_out_alone()], config=DEFERRED
)
_SYMBOLS: TypeAdapter[list[str]] = TypeAdapter(list[Symbol], config=DEFERRED)
_ZERO_VOLUME = "state/zero_volume/"


def _disagreements_prefix(interval: Interval) -> str:
    return f"state/archive_disagreements/{interval}/"


def _disagreements_key(interval: Interval, day: date) -> str:
    return f"{_disagreements_prefix(interval)}{day:%Y%m%d}.json"


def disagreement_days(store: ObjectStore, interval: Interval) -> list[date]:
    """Return the days of which disagreements with the archive are recorded, ascending."""
    return documented_days(store, _disagreements_prefix(interval))


def keep_disagreements(
    store: ObjectStore,
    interval: Interval,
    day: date,
    looked_at: Container[str],
    found: Mapping[str, list[dict[str, Any]]],
) -> None:
    """Record where the archive says otherwise than the exchange about a day.

    Idempotent, and safe beside other runs: what was found replaces what was known of the symbols
    that were looked at, and of no other. A day without disagreements has no object.
    """

    def change(
        held: dict[str, list[dict[str, Any]]] | None,
    ) -> dict[str, list[dict[str, Any]]] | None:
        others = {symbol: each for symbol, each in (held or {}).items() if symbol not in looked_at}
        changed = dict(sorted({**others, **found}.items()))
        return held if changed == (held or {}) else changed

    update_document(store, _disagreements_key(interval, day), _DISAGREEMENTS, change)


def read_disagreements(
    store: ObjectStore, interval: Interval, day: date
) -> dict[str, list[dict[str, Any]]]:
    """Return, by symbol, where the archive contradicts the exchange about a day.

    Each is `kind`, `first` and `last` open time (ISO 8601, UTC), `count`, and for a file that was
    refused `why`.
    """
    return read_document(store, _disagreements_key(interval, day), _DISAGREEMENTS) or {}


def _zero_volume_key(day: date) -> str:
    return f"{_ZERO_VOLUME}{day:%Y%m%d}.json"


def zero_volume_days(store: ObjectStore) -> list[date]:
    """Return the days that were checked for false zero volume, ascending."""
    return documented_days(store, _ZERO_VOLUME)


def keep_zero_volume(store: ObjectStore, day: date, symbols: Iterable[str]) -> None:
    """Record the symbols with a false run without volume on a day; a repeat replaces the record.

    A day without such runs has a record too, which says that the day was checked.
    """
    found = sorted(symbols)
    update_document(store, _zero_volume_key(day), _SYMBOLS, lambda _: found)


def read_zero_volume(store: ObjectStore, day: date) -> list[str] | None:
    """Return the symbols that had a false run without volume when the day was checked.

    None if the day was not checked, or its record is damaged: nothing is known of it then. A record with
    one wrong entry is damaged as a whole, since that entry may be any symbol.
    """
    return read_document(store, _zero_volume_key(day), _SYMBOLS)
