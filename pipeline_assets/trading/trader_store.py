"""The documents that the trader keeps on the lake: fixed decisions, intents, and its checkpoint.

- `decisions/1m/{yyyyMMdd}/{HHmm}.json`: the decisions of a minute; `…/{HHmm}-{candidate id}.json`: the one
  about a candidate that came later. Neither is ever changed.
- `intents/1m/{yyyyMMdd}/{HHmm}.json`: the intents of a minute.
- `state/trader/{account}.json`: the checkpoint; its ETag keeps a second trader from going on.
"""

from datetime import date, datetime
from typing import Protocol, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from pipeline_assets.errors import DataError, OutsideSystemError
from pipeline_assets.market.step_tables import from_minute
from pipeline_assets.resources.document_versions import content_of
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.once_documents import read_once, write_once
from pipeline_assets.resources.s3_errors import PreconditionFailedError
from pipeline_assets.trading.decisions import Decision, MinuteDecisions, MinuteIntents
from pipeline_assets.trading.trades import Trade

M = TypeVar("M", bound=BaseModel)
DECISIONS, INTENTS = "decisions/1m/", "intents/1m/"


class SecondTraderError(OutsideSystemError):
    """Another trader works for the same account. The message says what to do."""


class TraderStateError(DataError):
    """A document of the trader that cannot be read. The message says which and what to do."""


class Checkpoint(msgspec.Struct, kw_only=True):
    """The trader's state after a minute.

    Attributes:
        minute: the newest one that was traded, counted from 1970.
        sequence: the newest record of the gateway's journal that was taken in.
        keeper: the positions (PositionKeeper.encode).
        offsets: by Kafka partition, the first message that has no decision yet.
    """

    minute: int
    sequence: int
    keeper: bytes
    trades: list[Trade] = []
    offsets: dict[int, int] = {}


class TraderStore(Protocol):
    """Documents of one account's trader."""

    def decisions(self, minute: int) -> MinuteDecisions | None:
        """Return the fixed decisions of a minute, or None."""

    def fix(self, minute: int, decisions: MinuteDecisions, late: str = "") -> MinuteDecisions:
        """Fix decisions unless some are fixed; return those that stand. `late` is a late candidate's id."""

    def note_intents(self, minute: int, intents: MinuteIntents) -> None:
        """Keep the intents of a minute."""

    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint, or None before the first."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint that this store read or wrote last."""


class LakeTraderStore:
    """The documents on the lake."""

    def __init__(self, store: ObjectStore, account: str) -> None:
        """Use a bucket; documents of other accounts are not touched."""
        self._store, self._key = store, f"state/trader/{account}.json"
        self._etag: str | None = None

    def decisions(self, minute: int) -> MinuteDecisions | None:
        """Return the fixed decisions of a minute.

        Raises:
            ObjectStoreError: S3 failed.
            TraderStateError: the document is of another version.
        """
        key = decisions_key(from_minute(minute))
        return _read(self._store, key)

    def fix(self, minute: int, decisions: MinuteDecisions, late: str = "") -> MinuteDecisions:
        """Fix decisions unless some are fixed.

        Raises:
            ObjectStoreError: S3 failed; whether the decisions are fixed is unknown until the next read.
            TraderStateError: the document is of another version.
        """
        key = decisions_key(from_minute(minute), late)
        body = write_once(self._store, key, decisions.model_dump_json().encode())
        return decoded_document(self._store, key, body, MinuteDecisions)

    def note_intents(self, minute: int, intents: MinuteIntents) -> None:
        """Keep the intents of a minute.

        Raises:
            ObjectStoreError: S3 failed.
        """
        key = f"{INTENTS}{from_minute(minute):%Y%m%d/%H%M}.json"
        self._store.put(key, intents.model_dump_json().encode())

    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint.

        Raises:
            ObjectStoreError: S3 failed.
            NewerVersionError: a newer release wrote the checkpoint.
            TraderStateError: the checkpoint cannot be read.
        """
        found = self._store.find(self._key)
        if found is None:
            return None
        self._etag = found.etag
        try:
            held = msgspec.json.decode(self._store.verified(self._key, found))
            content, _ = content_of(held, self._store.address(self._key))
            return msgspec.convert(content, Checkpoint, str_keys=True)
        except ValueError as error:
            raise _unreadable(self._store, self._key, error) from error

    def keep(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint.

        Raises:
            ObjectStoreError: S3 failed.
            SecondTraderError: another process wrote the checkpoint meanwhile.
        """
        try:
            self._etag = self._store.put_if(self._key, msgspec.json.encode(checkpoint), self._etag)
        except PreconditionFailedError as error:
            raise SecondTraderError(
                f"Another trader wrote {self._store.address(self._key)}: stop one of the two. This one "
                "ends; no decision was made twice, since decisions are fixed once."
            ) from error


def read_decisions(store: ObjectStore, day: date) -> list[Decision]:
    """Return the decisions about the candidates of a UTC day, in the order of their minutes.

    Raises:
        ObjectStoreError: S3 failed.
        TraderStateError: a document is of another version.
    """
    keys = [each.key for each in store.objects(f"{DECISIONS}{day:%Y%m%d}/")]
    found = store.each(lambda key: _read(store, key), keys)
    return [decision for each in found if each for decision in each.decisions]


def _read(store: ObjectStore, key: str) -> MinuteDecisions | None:
    body = read_once(store, key)
    return None if body is None else decoded_document(store, key, body, MinuteDecisions)


def decoded_document(store: ObjectStore, key: str, body: bytes, kind: type[M]) -> M:
    """Return the document of an object's bytes.

    Raises:
        TraderStateError: the document is of another version.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _unreadable(store, key, error) from error


def _unreadable(store: ObjectStore, key: str, error: Exception) -> TraderStateError:
    return TraderStateError(
        f"{store.address(key)} cannot be read ({type(error).__name__}): use the version that wrote it, or "
        "restore the object."
    )


def decisions_key(minute: datetime, late: str = "") -> str:
    """Return the key of a minute's decisions, or of the one about a candidate that came late."""
    return f"{DECISIONS}{minute:%Y%m%d/%H%M}{'-' if late else ''}{late}.json"
