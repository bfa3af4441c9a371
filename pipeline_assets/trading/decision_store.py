"""The documents of decisions on the lake. The trader's own documents are in trader_store.py.

- `decisions/1m/{yyyyMMdd}/{HHmm}.json`: the decisions that were made about a minute as a whole. An empty one
  closes the minute: from then on each decision has a document of its own.
- `decisions/1m/{yyyyMMdd}/{HHmm}-{candidate id}.json`: the decision about one candidate of a closed minute.

Neither is ever changed, and the second kind is written only after the first. So a candidate has one decision,
whichever programs decide about it.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline_assets.errors import DataError
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.step_tables import from_minute, to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.once_documents import read_once, write_once
from pipeline_assets.trading.decisions import Decision, MinuteDecisions

M = TypeVar("M", bound=BaseModel)
DECISIONS, INTENTS, USED = "decisions/1m/", "intents/1m/", "used/1m/"


class TraderStateError(DataError):
    """A document of decisions or of the trader that cannot be read. The message says which and what to do."""


class DecisionStore(Protocol):
    """Documents of decisions."""

    def decisions(self, minute: int, late: str = "") -> MinuteDecisions | None:
        """Return the fixed decisions of a minute, or of one candidate by its id; None if none are fixed."""

    def fix(self, minute: int, decisions: MinuteDecisions, late: str = "") -> MinuteDecisions:
        """Fix decisions unless some are fixed; return those that stand. `late` is a candidate's id."""

    def fix_each(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Fix each decision in a document of its own unless one is fixed; return those that stand."""

    def decisions_of(self, candidates: Sequence[Candidate]) -> list[Decision]:
        """Return the fixed decisions of candidates, in their order; nothing for one without a decision."""


class LakeDecisions:
    """The documents of decisions on the lake."""

    def __init__(self, store: ObjectStore) -> None:
        """Use a bucket."""
        self._store = store

    def decisions(self, minute: int, late: str = "") -> MinuteDecisions | None:
        """Return the fixed decisions of a minute, or of one candidate.

        Raises:
            ObjectStoreError: S3 failed.
            TraderStateError: the document is of another version.
        """
        return read_document(self._store, decisions_key(from_minute(minute), late))

    def fix(self, minute: int, decisions: MinuteDecisions, late: str = "") -> MinuteDecisions:
        """Fix decisions unless some are fixed.

        Raises:
            ObjectStoreError: S3 failed; whether the decisions are fixed is unknown until the next read.
            TraderStateError: the document is of another version.
        """
        return fixed_document(self._store, decisions_key(from_minute(minute), late), decisions)

    def fix_each(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Fix each decision unless one is fixed, several at once; the minutes have to be closed.

        Raises:
            ObjectStoreError: S3 failed; which decisions are fixed is unknown until the next read.
            TraderStateError: a document is of another version.
        """

        def fix(decision: Decision) -> Decision:
            candidate = decision.candidate
            minute = to_minute(candidate.open_time)
            standing = self.fix(minute, MinuteDecisions(decisions=(decision,)), candidate.id)
            return standing.of(candidate.id) or decision

        return self._store.each(fix, decisions)

    def decisions_of(self, candidates: Sequence[Candidate]) -> list[Decision]:
        """Return the fixed decisions of candidates; several documents are read at once.

        Raises:
            ObjectStoreError: S3 failed.
            TraderStateError: a document is of another version.
        """
        minutes = list({to_minute(each.open_time) for each in candidates})
        closed = dict(zip(minutes, self._store.each(self.decisions, minutes), strict=True))

        def find(candidate: Candidate) -> Decision | None:
            minute = to_minute(candidate.open_time)
            held = closed[minute]
            if held is None:
                # Without this document, no candidate of the minute has one of its own.
                return None
            own = None if held.of(candidate.id) else self.decisions(minute, candidate.id)
            return (own or held).of(candidate.id)

        return [each for each in self._store.each(find, candidates) if each is not None]


def read_decisions(store: ObjectStore, day: date) -> list[Decision]:
    """Return the decisions about the candidates of a UTC day, in the order of their minutes.

    Raises:
        ObjectStoreError: S3 failed.
        TraderStateError: a document is of another version.
    """
    keys = [each.key for each in store.objects(f"{DECISIONS}{day:%Y%m%d}/")]
    found = store.each(lambda key: read_document(store, key), keys)
    return [decision for each in found if each for decision in each.decisions]


def decisions_key(minute: datetime, late: str = "") -> str:
    """Return the key of a minute's decisions, or of the one about a candidate by its id."""
    return minute_key(DECISIONS, minute, late)


def minute_key(prefix: str, minute: datetime, late: str = "") -> str:
    """Return the key of a document about a minute, or about one candidate of the minute by its id."""
    return f"{prefix}{minute:%Y%m%d/%H%M}{'-' if late else ''}{late}.json"


def read_document(store: ObjectStore, key: str) -> MinuteDecisions | None:
    """Return a document of decisions, or None if there is none.

    Raises:
        ObjectStoreError: S3 failed.
        TraderStateError: the document is of another version.
    """
    body = read_once(store, key)
    return None if body is None else decoded_document(store, key, body, MinuteDecisions)


def fixed_document(store: ObjectStore, key: str, document: MinuteDecisions) -> MinuteDecisions:
    """Write a document of decisions unless there is one; return what stands there.

    Raises:
        ObjectStoreError: S3 failed.
        TraderStateError: the document is of another version.
    """
    body = write_once(store, key, document.model_dump_json().encode())
    return decoded_document(store, key, body, MinuteDecisions)


def unreadable(store: ObjectStore, key: str, error: Exception) -> TraderStateError:
    """Return the error for a document that cannot be read."""
    return TraderStateError(
        f"{store.address(key)} cannot be read ({type(error).__name__}): use the version that wrote it, or "
        "restore the object."
    )


def decoded_document(store: ObjectStore, key: str, body: bytes, kind: type[M]) -> M:
    """Return the document of an object's bytes.

    Raises:
        TraderStateError: the document is of another version.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise unreadable(store, key, error) from error
