"""The documents that the trader keeps on the lake beside decisions, which are in decision_store.py.

- `used/1m/{yyyyMMdd}/{HHmm}.json`: the decisions of the inference service that the trader used in a minute,
  written once.
- `intents/1m/{yyyyMMdd}/{HHmm}.json`: the intents of a minute; `…/{HHmm}-{candidate id}.json`: the one of a
  decision that came later.
- `state/trader/{account}.json`: the checkpoint; its ETag keeps a second trader from going on.
"""

from typing import Protocol

import msgspec

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.step_tables import from_minute
from pipeline_assets.resources.document_versions import content_of
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import PreconditionFailedError
from pipeline_assets.trading.decision_store import (
    INTENTS,
    USED,
    DecisionStore,
    LakeDecisions,
    fixed_document,
    minute_key,
    read_document,
    unreadable,
)
from pipeline_assets.trading.decisions import MinuteDecisions, MinuteIntents
from pipeline_assets.trading.trades import Trade


class SecondTraderError(OutsideSystemError):
    """Another trader works for the same account. The message says what to do."""


class Checkpoint(msgspec.Struct, kw_only=True):
    """The trader's state after a minute.

    Attributes:
        minute: the newest one that was traded, counted from 1970.
        sequence: the newest record of the gateway's journal that was taken in.
        at: the time of that record in milliseconds; another one means that the journal was restored. 0 in
            checkpoints of earlier versions.
        keeper: the positions (PositionKeeper.encode).
        offsets: by Kafka partition, the first message that has no decision yet.
    """

    minute: int
    sequence: int
    at: int = 0
    keeper: bytes
    trades: list[Trade] = []
    offsets: dict[int, int] = {}


class TraderStore(DecisionStore, Protocol):
    """Documents of decisions and of one account's trader."""

    def used(self, minute: int) -> MinuteDecisions | None:
        """Return the fixed decisions that are used in a minute, or None."""

    def fix_used(self, minute: int, used: MinuteDecisions) -> MinuteDecisions:
        """Fix the decisions that are used in a minute unless some are fixed; return those that stand."""

    def note_intents(self, minute: int, intents: MinuteIntents, late: str = "") -> None:
        """Keep the intents of a minute, or of one candidate by its id."""

    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint, or None before the first."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint that this store read or wrote last."""


class LakeTraderStore(LakeDecisions):
    """The documents on the lake."""

    def __init__(self, store: ObjectStore, account: str) -> None:
        """Use a bucket; documents of other accounts are not touched."""
        super().__init__(store)
        self._key = f"state/trader/{account}.json"
        self._etag: str | None = None

    def used(self, minute: int) -> MinuteDecisions | None:
        """Return the fixed decisions that are used in a minute.

        Raises:
            ObjectStoreError: S3 failed.
            TraderStateError: the document is of another version.
        """
        return read_document(self._store, _used_key(minute))

    def fix_used(self, minute: int, used: MinuteDecisions) -> MinuteDecisions:
        """Fix the decisions that are used in a minute unless some are fixed.

        Raises:
            ObjectStoreError: S3 failed.
            TraderStateError: the document is of another version.
        """
        return fixed_document(self._store, _used_key(minute), used)

    def note_intents(self, minute: int, intents: MinuteIntents, late: str = "") -> None:
        """Keep the intents of a minute, or of one candidate by its id.

        Raises:
            ObjectStoreError: S3 failed.
        """
        key = minute_key(INTENTS, from_minute(minute), late)
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
            raise unreadable(self._store, self._key, error) from error

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


def _used_key(minute: int) -> str:
    return minute_key(USED, from_minute(minute))
