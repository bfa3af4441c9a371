"""The check that an object store can hold the lake: what every write relies on, tried out before the
first write and again each day. Reading and writing the lake is in object_store.py.

The check exists because a store that ignores If-None-Match or If-Match (`rclone serve s3` does) answers
every write with success and loses candles without a sign: an ingest run erased a stored candle, and of
two runs on one symbol-day half the candles stayed.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.s3_errors import (
    ObjectStoreError,
    PreconditionFailedError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline_assets.resources.object_store import ObjectStore

# How long a passed check is believed: a gateway or a server may be replaced behind its address.
VALID = timedelta(days=1)
# Clocks of machines that share a lake differ; a mark from further ahead is of a clock that was wrong.
_CLOCK_ERROR = timedelta(minutes=5)
# Age at which trial objects of a killed check are removed. No check takes a day.
_ABANDONED = timedelta(days=1)
_MARKS = "state/store_checks/"
_TRIALS = "state/store_trials/"
# A conditional write whose reply was lost is repeated by the client and then refused by the store.
_ATTEMPTS = 3
# Raised when the check asks more of a store, so that marks of the weaker check count no longer.
_VERSION = 1

# Equal in length, and written within one second: an ETag made of size and time does not tell them apart.
_FIRST, _SECOND, _THIRD = b"first body", b"other body", b"third body"


class UnsuitableStoreError(ObjectStoreError):
    """The object store would lose candles. The message names endpoint, bucket and what was observed."""


class _RepeatError(OutsideSystemError):
    """A write was refused that must succeed; the message says which."""


@dataclass(frozen=True)
class StoreIdentity:
    """Which store a check is about: a mark counts for this endpoint and bucket only."""

    endpoint: str
    bucket: str

    @property
    def mark_key(self) -> str:
        """The key of the mark, different for each endpoint: a copied bucket brings no valid mark."""
        digest = hashlib.sha256(f"{self.endpoint}\n{self.bucket}".encode()).hexdigest()[:16]
        return f"{_MARKS}{digest}.json"


_passed: dict[StoreIdentity, datetime] = {}
_lock = Lock()


def remember(identity: StoreIdentity, checked_at: datetime) -> None:
    """Remember in this process that a store passed the check."""
    _passed[identity] = checked_at


def forget() -> None:
    """Forget what this process remembers, as a new process would not know it."""
    _passed.clear()


def require_suitable(store: "ObjectStore", identity: StoreIdentity, now: datetime) -> None:
    """Check the store unless it passed within a day; call this before a write.

    The result is remembered in this process, and as a mark on the store for other processes: a run
    process pays one GET, and one process a day the ten small requests of the check. Only a passed
    check is remembered, so a store that was mended is used at once.

    Args:
        store: the store, as it is without this check.
        identity: its endpoint and bucket.
        now: the time, UTC.

    Raises:
        UnsuitableStoreError: the store would lose candles.
        ObjectStoreError: the store does not answer, or refuses the credentials.
    """
    if _fresh(_passed.get(identity), now):
        return
    with _lock:
        # Another thread may have checked meanwhile.
        if _fresh(_passed.get(identity), now):
            return
        checked_at = _read_mark(store, identity)
        if checked_at is None or not _fresh(checked_at, now):
            check(store, identity)
            _write_mark(store, identity, now)
            checked_at = now
        remember(identity, checked_at)


def _fresh(checked_at: datetime | None, now: datetime) -> bool:
    return checked_at is not None and -_CLOCK_ERROR <= now - checked_at < VALID


def _read_mark(store: "ObjectStore", identity: StoreIdentity) -> datetime | None:
    """Return when the store passed by its mark; None without a mark of this store and version."""
    found = store.find(identity.mark_key)
    if found is None or not found.intact:
        return None
    try:
        mark = json.loads(found.body)
        named = (mark["endpoint"], mark["bucket"], mark["version"])
        checked_at = datetime.fromisoformat(mark["checked_at"])
    except (ValueError, KeyError, TypeError, RecursionError):
        # Another program's mark, or a damaged one: the check writes a new one.
        return None
    known = named == (identity.endpoint, identity.bucket, _VERSION) and checked_at.tzinfo
    return checked_at if known else None


def _write_mark(store: "ObjectStore", identity: StoreIdentity, now: datetime) -> None:
    mark = {
        "endpoint": identity.endpoint,
        "bucket": identity.bucket,
        "version": _VERSION,
        "checked_at": now.isoformat(),
    }
    store.put(identity.mark_key, json.dumps(mark).encode())


def check(store: "ObjectStore", identity: StoreIdentity) -> None:
    """Try out on an object of its own what the lake relies on; the object is removed afterwards.

    Checks of several processes do not meet: each uses a key that no other has.

    Raises:
        UnsuitableStoreError: the store would lose candles.
        ObjectStoreError: the store does not answer, or refuses the credentials.
    """
    refused = ""
    for _ in range(_ATTEMPTS):
        trial = _Trial(store, identity, f"{_TRIALS}{uuid4().hex}")
        try:
            trial.run()
        except _RepeatError as error:
            refused = str(error)
        else:
            return
    raise _unsuitable(identity, refused)


class _Trial:
    """One pass of the check, on one key."""

    def __init__(self, store: "ObjectStore", identity: StoreIdentity, key: str) -> None:
        self._store, self._identity, self._key = store, identity, key

    def run(self) -> None:
        """Try every step; the key is free again afterwards."""
        try:
            first = self._create()
            self._create_again(first)
            second = self._replace(first)
            self._replace_stale(first, second)
            self._list(second)
            self._store.delete([self._key])
            self._replace_removed(second)
        except BaseException as error:
            try:
                self._store.delete([self._key])
            except ObjectStoreError as left:
                error.add_note(f"{self._store.address(self._key)} was left there: {left}")
            raise

    def _create(self) -> str:
        try:
            etag = self._supported(lambda: self._store.put_if(self._key, _FIRST, None))
        except PreconditionFailedError:
            raise _RepeatError(
                "it refused to create an object under a new key (PUT with If-None-Match: *)"
            ) from None
        self._expect(_FIRST, etag, "an object that was just created")
        return etag

    def _create_again(self, etag: str) -> None:
        if self._accepted(_SECOND, None):
            self._refuse(
                "it replaced an object by a PUT with If-None-Match: *, which may only create one"
            )
        self._expect(_FIRST, etag, "an object that a refused PUT must leave unchanged")

    def _replace(self, etag: str) -> str:
        try:
            new = self._supported(lambda: self._store.put_if(self._key, _SECOND, etag))
        except PreconditionFailedError:
            raise _RepeatError(
                "it refused to replace an object by a PUT with If-Match and the object's ETag"
            ) from None
        if new == etag:
            self._refuse(f"it gave two different bodies of one object the same ETag {etag}")
        self._expect(_SECOND, new, "an object that was just replaced")
        return new

    def _replace_stale(self, stale: str, current: str) -> None:
        if self._accepted(_THIRD, stale):
            self._refuse("it replaced an object by a PUT with If-Match and an ETag of the past")
        self._expect(_SECOND, current, "an object that a refused PUT must leave unchanged")

    def _replace_removed(self, etag: str) -> None:
        if self._accepted(_THIRD, etag):
            self._refuse("it created an object by a PUT with If-Match, which may only replace one")

    def _list(self, etag: str) -> None:
        """Check that the listing shows the object as it is, and remove what killed checks left."""
        listed = {each.key: each for each in self._store.objects(_TRIALS)}
        own = listed.get(self._key)
        if own is None:
            self._refuse("its listing misses an object that was just written")
        elif own.etag != etag or own.size != len(_SECOND):
            self._refuse(
                f"its listing shows the ETag {own.etag} and {own.size} bytes of an object that was "
                f"written with the ETag {etag} and {len(_SECOND)} bytes"
            )
        else:
            for each in listed.values():
                # Both times are the store's own.
                if own.modified - each.modified > _ABANDONED:
                    self._store.delete([each.key])

    def _accepted(self, body: bytes, etag: str | None) -> bool:
        try:
            self._store.put_if(self._key, body, etag)
        except PreconditionFailedError:
            return False
        return True

    def _supported(self, write: "Callable[[], str]") -> str:
        try:
            return write()
        except UnsupportedError as error:
            self._refuse(f"it does not support a conditional PUT ({error})")
            raise

    def _expect(self, body: bytes, etag: str, what: str) -> None:
        found = self._store.find(self._key)
        if found is None:
            self._refuse(f"it did not find {what}")
        elif found.body != body:
            self._refuse(f"it returned other bytes for {what}")
        elif found.etag != etag:
            self._refuse(f"it returned the ETag {found.etag} instead of {etag} for {what}")

    def _refuse(self, observed: str) -> None:
        raise _unsuitable(self._identity, observed)


def _unsuitable(identity: StoreIdentity, observed: str) -> UnsuitableStoreError:
    return UnsuitableStoreError(
        f"S3 at {identity.endpoint} cannot hold the lake in the bucket {identity.bucket!r}: {observed}. "
        "Runs that write one object would lose candles without a sign, so nothing was written. Set "
        "PIPELINE_S3__ENDPOINT_URL to a store that honours If-None-Match and If-Match on PUT and is "
        "strongly consistent, such as AWS S3, MinIO, Cloudflare R2 or the embedded server; `rclone "
        "serve s3` is none. A gateway or proxy in front of the store must pass these headers on."
    )
