"""Bytes in and out of S3, each object with a digest that every reader verifies. Clients are made in
s3_clients.py, errors worded in s3_errors.py; what the bytes mean is candle_objects.py's and staging.py's.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.s3_clients import (
    RUN_PATIENCE,
    Patience,
    obstore_store,
)
from pipeline_assets.resources.s3_errors import (
    CredentialsRefusedError,
    DamagedObjectError,
    NoSuchObjectError,
    ObjectStoreError,
    PreconditionFailedError,
    S3Errors,
    StoreUnreachableError,
)
from pipeline_assets.resources.s3_uploads import PART, PARTS, RisingFile
from pipeline_assets.resources.store_threads import StoreThreads
from pipeline_assets.resources.stored_objects import (
    DIGEST,
    FoundObject,
    StoredObject,
    digest_of,
    etag_is_of,
)
from pipeline_assets.resources.write_guard import require_lease

if TYPE_CHECKING:
    from obstore.store import S3Store

    from pipeline_assets.resources.store_check import StoreIdentity
    from pipeline_assets.settings import S3Settings

T = TypeVar("T")
R = TypeVar("R")
# Deletions are a POST, which obstore does not send again by itself where the reply was lost.
_DELETIONS = RetryPolicy(attempts=3)
_OTHER_BYTES = "its bytes do not match the SHA-256 in its metadata"


class ObjectStore:
    """The bucket that holds the lake.

    All goes through obstore, which takes a ninth of boto3's CPU an object and a twentieth of its time
    to import. boto3 only searches for credentials where the settings name none (roles, profiles,
    the environment). Both are imported on first use.

    Every method that writes or deletes first calls store_check.py: does the store honour conditional writes?
    """

    def __init__(self, settings: "S3Settings", patience: Patience = RUN_PATIENCE) -> None:
        self._settings = settings
        self._errors = S3Errors(settings)
        self._patience = patience
        self._threads = StoreThreads(settings.concurrency)
        self._checks = True
        self._etag_is_md5 = True

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._settings.bucket

    def address(self, key: str = "") -> str:
        """Return the `s3://` address of a key or prefix."""
        return self._errors.address(key)

    @cached_property
    def _objects(self) -> "S3Store":
        """The store of obstore; safe to use from many threads."""
        return obstore_store(self._settings, self._patience)

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None if there is no such object."""
        found = self.get_with_etag(key)
        return found[0] if found else None

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """Return the object's bytes and ETag, or None if there is no such object.

        Raises:
            DamagedObjectError: the bytes do not match their digest.
        """
        found = self.find(key)
        return None if found is None else (self.verified(key, found), found.etag)

    def verified(self, key: str, found: FoundObject) -> bytes:
        """Return the bytes of an object that `find` found.

        Raises:
            DamagedObjectError: they do not match their digest.
        """
        if not found.intact:
            raise self.damaged(key, _OTHER_BYTES)
        return found.body

    def find(self, key: str) -> FoundObject | None:
        """Return the object without a comparison with its digest, or None if there is no such object.

        For a caller that handles damaged bytes itself; any other calls `get`.
        """
        import obstore

        def read() -> FoundObject:
            reply = obstore.get(self._objects, key)
            digest = reply.attributes.get(DIGEST)
            return FoundObject(bytes(reply.bytes()), str(reply.meta["e_tag"]), digest)

        return self._unless_absent(read, key)

    def damaged(self, key: str, why: str) -> DamagedObjectError:
        """Return the error for a damaged object. `why` completes "it is damaged:"."""
        return DamagedObjectError(
            f"{self.address(key)} is damaged: {why.rstrip('.')}. `pipeline-assets verify` lists every "
            "damaged object; docs/operations.md (Damaged objects) says how each kind is made again.",
            key,
        )

    def put(self, key: str, body: bytes) -> str:
        """Write an object whatever is there; returns its ETag. Safe to repeat: same key, same bytes."""
        import obstore

        self._require_suitable()
        attributes: Any = {DIGEST: digest_of(body)}
        etag = self._translated(
            lambda: str(obstore.put(self._objects, key, body, attributes=attributes)["e_tag"]), key
        )
        self._verify(key, body, etag)
        return etag

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        """Write an object only if the stored one is still the expected one; returns the new ETag.

        S3 compares and writes in one step (If-Match, or If-None-Match when `expected_etag` is
        None), so of two writers that read the same state exactly one succeeds.

        Raises:
            PreconditionFailedError: another object is stored there, or it was removed.
        """
        import obstore

        attributes: Any = {DIGEST: digest_of(body)}

        def write() -> str:
            mode: Any = "create" if expected_etag is None else {"e_tag": expected_etag}
            reply = obstore.put(self._objects, key, body, attributes=attributes, mode=mode)
            return str(reply["e_tag"])

        self._require_suitable()
        try:
            etag = self._translated(write, key)
        except NoSuchObjectError as error:
            if expected_etag is None:
                raise
            raise PreconditionFailedError(f"{self.address(key)} was removed meanwhile.") from error
        self._verify(key, body, etag)
        return etag

    def _verify(self, key: str, body: bytes, etag: str) -> None:
        """Compare the ETag of a write with the body's MD5, which it is unless the store encrypts.

        A store whose ETags are something else is asked for one object, and for none after that.

        Raises:
            ObjectStoreError: other bytes are stored than were sent.
        """
        if not self._etag_is_md5:
            return
        if etag_is_of(etag, body):
            return
        found = self.find(key)
        if found is None or found.etag != etag:
            # Another writer replaced the object meanwhile, which says nothing about this write.
            return
        if found.body != body:
            raise ObjectStoreError(
                f"{self._errors.endpoint} acknowledged {self.address(key)} and stored other bytes than "
                "were sent. Check the store and any proxy in front of it, remove the object, then repeat "
                "the run."
            )
        self._etag_is_md5 = False

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """Provide a file whose bytes go up while it is written, in parts of 5 MB.

        A file of less than 5 MB is one write with a digest. A larger one has none, because S3 takes the
        metadata before the first byte: its format has to detect damage, as staging.py has it do.

        Idempotent: S3 shows the object once the block has ended well, in place of the one before.
        After an error within the block, or a death of the process, there is what was there before;
        the parts of a dead process lie hidden until the bucket's lifecycle removes them.
        """
        import obstore

        self._require_suitable()
        file = RisingFile(
            lambda: obstore.open_writer(
                self._objects, key, buffer_size=PART, max_concurrency=PARTS
            ),
            lambda call: self._translated(call, key),
        )
        try:
            yield cast("IO[bytes]", file)
        except BaseException as error:
            file.abandon(error, self.address(key))
            raise
        if (body := file.small) is not None:
            self.put(key, body)
        else:
            require_lease()
            file.finish()

    def download(self, key: str, file: IO[bytes]) -> bool:
        """Read an object of any size into a file; False if there is no such object.

        Raises:
            DamagedObjectError: the bytes do not match their digest; the file has them all the same.
        """
        import obstore

        reply = self._unless_absent(lambda: obstore.get(self._objects, key), key)
        if reply is None:
            return False
        digest, expected = hashlib.sha256(), reply.attributes.get(DIGEST)
        parts = iter(reply.stream(min_chunk_size=PART))
        while (part := self._translated(lambda: next(parts, None), key)) is not None:
            digest.update(part)
            file.write(part)
        if expected is not None and expected != digest.hexdigest():
            raise self.damaged(key, _OTHER_BYTES)
        return True

    def holds(self, key: str) -> bool:
        """Return whether there is such an object; its bytes are not read."""
        import obstore

        # Not HEAD, whose 404 has no body to tell a missing bucket from a missing key.
        return self._unless_absent(lambda: obstore.get(self._objects, key), key) is not None

    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        """Return the objects under `prefix` in key order, asked for as they are taken, 1,000 a request.

        Args:
            prefix: whole parts of a key, as `ohlcv/1m/` or `ohlcv/1m`.
            start_after: leave out this key and those before it.
        """
        import obstore

        pages = iter(obstore.list(self._objects, prefix, offset=start_after))
        while (page := self._translated(lambda: next(pages, None), prefix)) is not None:
            for entry in page:
                yield StoredObject(
                    entry["path"], str(entry["e_tag"]), entry["size"], entry["last_modified"]
                )

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there counts as removed, so this may be repeated."""
        import obstore

        if keys:
            self._require_suitable()
            _DELETIONS.run(
                lambda: self._translated(
                    lambda: obstore.delete(self._objects, list(keys)), keys[0]
                ),
                lambda error: isinstance(error, StoreUnreachableError),
            )

    def check(self) -> None:
        """Check now that the store can hold the lake, whatever is remembered of it.

        Raises:
            UnsuitableStoreError: the store would lose candles.
            ObjectStoreError: the store does not answer, or refuses the credentials.
        """
        from pipeline_assets.resources import store_check

        store_check.check(self._unchecked, self._identity)

    def _require_suitable(self) -> None:
        require_lease()
        if not self._checks:
            return
        from pipeline_assets.resources import store_check

        store_check.require_suitable(self._unchecked, self._identity, datetime.now(UTC))

    @cached_property
    def _identity(self) -> "StoreIdentity":
        from pipeline_assets.resources.store_check import StoreIdentity

        return StoreIdentity(self._errors.endpoint, self.bucket)

    @cached_property
    def _unchecked(self) -> "ObjectStore":
        """This store for the check itself, over the same connections."""
        _ = self._objects
        other = copy(self)
        other._checks = False
        return other

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to every item with as many connections as the settings allow: see StoreThreads."""
        return self._threads.each(function, items)

    def _unless_absent(self, call: Callable[[], R], key: str) -> R | None:
        try:
            return self._translated(call, key)
        except NoSuchObjectError:
            return None

    def _translated(self, call: Callable[[], R], key: str) -> R:
        """Return what the call gives.

        obstore's own errors hold some forty lines, so none is kept as a cause. Some are built-in
        ones, which unlike the operating system's have no number.
        """
        from obstore.exceptions import BaseError

        try:
            return call()
        except BaseError as error:
            raise self._noted(self._errors.of_text(str(error), key)) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._noted(self._errors.of_text(str(error), key)) from None

    def _noted(self, error: ObjectStoreError) -> ObjectStoreError:
        """Return the error; after a refusal of the credentials the next operation looks for them again.

        A key in a profile's file may have been rotated, and boto3 reads the file once.
        """
        if isinstance(error, CredentialsRefusedError):
            self.__dict__.pop("_objects", None)
        return error
