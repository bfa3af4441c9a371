"""Bytes in and out of S3, each object with a digest that every reader verifies. What the bytes mean is
in candle_objects.py and staging.py.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from threading import current_thread
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3Store
    from pydantic import SecretStr

    from pipeline_assets.resources.store_check import StoreIdentity
    from pipeline_assets.settings import S3Settings

T = TypeVar("T")
R = TypeVar("R")
_THREADS = "object store"
# The name of the digest in an object's user metadata (the header x-amz-meta-sha256). SHA-256 hashes 1 GB/s
# of one core; MD5 and BLAKE2b, the standard library's others, less than half of that.
DIGEST = "sha256"
_DELETE_BATCH = 1000  # DeleteObjects takes at most 1,000 keys a call (S3 API reference).
# Of a file on its way up one part is sent while the next one fills. S3 takes none smaller, and the time
# for a reply runs while a part goes up: three of 8 MB took a line of 3.4 Mbit/s, this 0.7.
_PART, _PARTS = 5 * 1024 * 1024, 1
# A connection that was idle for longer is not used again: a firewall may have forgotten it, and the next
# request would wait in vain for a reply. Ticks come once a minute; S3 itself closes idle connections too.
_IDLE = timedelta(seconds=15)
_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "401",
    "403",
    "ExpiredToken",
    "InvalidToken",
}
_OTHER_BYTES = "its bytes do not match the SHA-256 in its metadata"
_LOST_RACE = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_ABSENT = {"404", "NotFound"}
_UNSUPPORTED = {"NotImplemented", "501"}
# In the text of obstore's errors, which has no other place for them: S3's answer, and what the
# operating system said.
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_NO_CREDENTIALS = re.compile(r"for path External AWS credential provider: (.*)")
_SYSTEM_ERROR = re.compile(r'code: \d+,\s+kind: \w+,\s+message: "([^"]+)"')


class ObjectStoreError(OutsideSystemError):
    """S3 refused or did not answer. The message names the bucket, the key and what to do."""


class PreconditionFailedError(ObjectStoreError):
    """The object is not the one that a conditional write expected: somebody else wrote it."""


class DamagedObjectError(ObjectStoreError):
    """The bytes of an object are not the ones that were written, or nothing can be decoded from them.

    Attributes:
        key: the object's key.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class StoreUnreachableError(ObjectStoreError):
    """S3 did not answer at all, after every repetition."""


class UnsupportedError(ObjectStoreError):
    """The store says that it does not implement what was asked of it."""


class _AbsentError(ObjectStoreError):
    """There is no such object. Callers of this module get None instead, where S3 may say so."""


@dataclass(frozen=True)
class Patience:
    """How long a store that does not answer is waited for.

    Attributes:
        read: the longest time without a byte of a reply.
        attempts: how often a request is sent at most.
        retry: no request is repeated this long after its first attempt.
    """

    read: timedelta
    attempts: int
    retry: timedelta


# A run outlasts a restart of the store: nobody repeats a backfill. A hanging store takes 3 minutes.
RUN_PATIENCE = Patience(timedelta(minutes=1), 5, timedelta(minutes=3))
# A person waits before a terminal. A hanging store takes 20 seconds.
PERSON_PATIENCE = Patience(timedelta(seconds=10), 2, timedelta(seconds=15))


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it."""

    key: str
    etag: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class FoundObject:
    """The bytes of an object as the store returned them, which may be damaged.

    Attributes:
        body: the bytes.
        etag: the object's ETag.
        digest: the SHA-256 that the writer put into the metadata; None for an object of an earlier
            version or of another program.
    """

    body: bytes
    etag: str
    digest: str | None

    @property
    def intact(self) -> bool:
        """Whether the bytes match the digest, or have none to match."""
        return self.digest is None or self.digest == digest_of(self.body)


def digest_of(body: bytes) -> str:
    """The digest of an object's bytes, as it stands in the metadata."""
    return hashlib.sha256(body).hexdigest()


class ObjectStore:
    """The bucket that holds the lake.

    Every write puts the SHA-256 of the bytes into the object's metadata, and every read compares
    them. An object without a digest is read as it is.

    Bytes and listings go through obstore, which takes a ninth of boto3's CPU an object and a
    twentieth of its time to import; both are imported on first use. Deletions, which no tick
    makes, go through boto3 as dagster-aws' S3Resource makes it, and so does the search for
    credentials where the settings name none (roles, profiles, the environment).

    Every method that writes or deletes first makes sure that the store keeps what it is told:
    see store_check.py.
    """

    def __init__(self, settings: "S3Settings", patience: Patience = RUN_PATIENCE) -> None:
        self._settings = settings
        self._patience = patience
        self._checks = True
        self._etag_is_md5 = True

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._settings.bucket

    def address(self, key: str = "") -> str:
        """The `s3://` address of a key or prefix."""
        return f"s3://{self.bucket}/{key}"

    @cached_property
    def _objects(self) -> "S3Store":
        """The store of obstore; safe to use from many threads."""
        from obstore.store import S3Store

        settings = self._settings
        # Said although they are the defaults: obstore would take another's from the environment.
        config: S3Config = {
            "region": settings.region,
            "skip_signature": False,
            "virtual_hosted_style_request": False,
        }
        if settings.endpoint_url:
            config |= {
                "endpoint": settings.endpoint_url,
                "aws_endpoint_url_s3": settings.endpoint_url,
            }
        client: ClientConfig = {
            "allow_http": (settings.endpoint_url or "").startswith("http:"),
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": self._patience.read,
            "pool_idle_timeout": _IDLE,
            # Of a whole request: the rows of a run, on a slow line.
            "timeout": timedelta(minutes=30),
        }
        retries: RetryConfig = {
            "max_retries": self._patience.attempts - 1,
            "retry_timeout": self._patience.retry,
        }
        return S3Store(
            settings.bucket,
            config=config,
            client_options=client,
            retry_config=retries,
            credential_provider=self._credentials(),
        )

    def _credentials(self) -> Any:
        """The settings' key, or what boto3's own chain finds: the environment, profiles, roles.

        Raises:
            ObjectStoreError: there are none.
        """
        key, secret = self._settings.access_key_id, self._settings.secret_access_key
        if key and secret:
            known: S3Credential = {
                "access_key_id": key,
                "secret_access_key": secret.get_secret_value(),
                "expires_at": None,
            }
            # Not by the configuration, to which obstore adds the environment's session token.
            return lambda: known
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            session = boto3.Session(region_name=self._settings.region)
            # When a key ends obstore is not told, and asks for another when 5 minutes of this are
            # left: after 10. boto3 gives out keys that have no more than that to live.
            return Boto3CredentialProvider(session, ttl=timedelta(minutes=15))
        except BotoCoreError as error:
            raise self._without_credentials(str(error)) from error
        except ValueError as error:
            raise self._without_credentials() from error

    def _without_credentials(self, why: str = "") -> ObjectStoreError:
        return ObjectStoreError(
            f"There are no credentials for {self.address()}{f' ({printable(why)})' if why else ''}: set "
            "PIPELINE_S3__ACCESS_KEY_ID and PIPELINE_S3__SECRET_ACCESS_KEY, or one of the ways that "
            "boto3 looks for them (AWS_PROFILE, a role of the machine), or start the embedded stack "
            "(`pipeline-assets up` makes a key); then repeat the run."
        )

    @cached_property
    def _client(self) -> Any:
        """The boto3 client that deletes."""
        from dagster_aws.s3 import S3Resource

        secret = self._settings.secret_access_key
        return S3Resource(
            endpoint_url=self._settings.endpoint_url,
            region_name=self._settings.region,
            aws_access_key_id=self._settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            max_attempts=self._patience.attempts,
        ).get_client()

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None if there is no such object."""
        found = self.get_with_etag(key)
        return found[0] if found else None

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and ETag, or None if there is no such object.

        Raises:
            DamagedObjectError: the bytes do not match their digest.
        """
        found = self.find(key)
        return None if found is None else (self.verified(key, found), found.etag)

    def verified(self, key: str, found: FoundObject) -> bytes:
        """The bytes of an object that `find` found.

        Raises:
            DamagedObjectError: they do not match their digest.
        """
        if not found.intact:
            raise self.damaged(key, _OTHER_BYTES)
        return found.body

    def find(self, key: str) -> FoundObject | None:
        """The object without a comparison with its digest, or None if there is no such object.

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
        except _AbsentError as error:
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
        if etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest():
            return
        found = self.find(key)
        if found is None or found.etag != etag:
            # Another writer replaced the object meanwhile, which says nothing about this write.
            return
        if found.body != body:
            raise ObjectStoreError(
                f"{self._where} acknowledged {self.address(key)} and stored other bytes than were sent. "
                "Check the store and any proxy in front of it, remove the object, then repeat the run."
            )
        self._etag_is_md5 = False

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """A file whose bytes go up while it is written, in parts of 5 MB.

        A file of less than 5 MB is one write with a digest. A larger one has none, because S3 takes the
        metadata before the first byte: its format has to detect damage, as staging.py has it do.

        Idempotent: S3 shows the object once the block has ended well, in place of the one before.
        After an error within the block, or a death of the process, there is what was there before;
        the parts of a dead process lie hidden until the bucket's lifecycle removes them.
        """
        import obstore
        from obstore.exceptions import BaseError

        self._require_suitable()
        file = _Rising(
            lambda: obstore.open_writer(
                self._objects, key, buffer_size=_PART, max_concurrency=_PARTS
            ),
            lambda call: self._translated(call, key),
        )
        try:
            yield cast("IO[bytes]", file)
        except BaseException as error:
            try:
                file.abandon(error)
            except (BaseError, OSError) as refused:
                error.add_note(
                    f"S3 keeps hidden parts of {self.address(key)}: {_summary(str(refused))}"
                )
            raise
        if (body := file.small) is not None:
            self.put(key, body)
        else:
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
        parts = iter(reply.stream(min_chunk_size=_PART))
        while (part := self._translated(lambda: next(parts, None), key)) is not None:
            digest.update(part)
            file.write(part)
        if expected is not None and expected != digest.hexdigest():
            raise self.damaged(key, _OTHER_BYTES)
        return True

    def holds(self, key: str) -> bool:
        """Whether there is such an object; its bytes are not read."""
        import obstore

        # Not HEAD, whose 404 has no body to tell a missing bucket from a missing key.
        return self._unless_absent(lambda: obstore.get(self._objects, key), key) is not None

    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        """The objects under `prefix` in key order, asked for as they are taken, 1,000 a request.

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

    def polars_options(self) -> dict[str, Any]:
        """How Polars' own S3 reader reaches the bucket: arguments of its `scan_parquet`."""
        key, secret = self._settings.access_key_id, self._settings.secret_access_key
        # Said although they are the defaults: Polars would take another's from the environment.
        options = {
            "aws_region": self._settings.region,
            "aws_skip_signature": "false",
            "aws_virtual_hosted_style_request": "false",
        }
        if self._settings.endpoint_url:
            options["aws_endpoint_url"] = self._settings.endpoint_url
            options["aws_endpoint_url_s3"] = self._settings.endpoint_url
            if self._settings.endpoint_url.startswith("http:"):
                options["aws_allow_http"] = "true"
        # Not by these options, to which Polars adds the environment's session token.
        known = partial(_known_to_polars, key, secret) if key and secret else "auto"
        return {"storage_options": options, "credential_provider": known}

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there counts as removed, so this may be repeated."""
        if keys:
            self._require_suitable()
        for first in range(0, len(keys), _DELETE_BATCH):
            batch = [{"Key": key} for key in keys[first : first + _DELETE_BATCH]]
            reply = self._deleted(batch)
            for refused in reply.get("Errors", ()):
                raise ObjectStoreError(
                    f"S3 did not delete {self.address(refused['Key'])}: {refused.get('Code')} "
                    f"{refused.get('Message', '')}. It may be repeated."
                )

    def discard(self, key: str) -> None:
        """Remove one object without boto3, whose import costs a second; may be repeated."""
        import obstore

        self._require_suitable()
        self._translated(lambda: obstore.delete(self._objects, key), key)

    def check(self) -> None:
        """Check now that the store can hold the lake, whatever is remembered of it.

        Raises:
            UnsuitableStoreError: the store would lose candles.
            ObjectStoreError: the store does not answer, or refuses the credentials.
        """
        from pipeline_assets.resources import store_check

        store_check.check(self._unchecked, self._identity)

    def _require_suitable(self) -> None:
        if not self._checks:
            return
        from pipeline_assets.resources import store_check

        store_check.require_suitable(self._unchecked, self._identity, datetime.now(UTC))

    @cached_property
    def _identity(self) -> "StoreIdentity":
        from pipeline_assets.resources.store_check import StoreIdentity

        return StoreIdentity(self._where, self.bucket)

    @cached_property
    def _unchecked(self) -> "ObjectStore":
        """This store for the check itself, over the same connections."""
        _ = self._objects
        other = copy(self)
        other._checks = False
        return other

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to every item with as many connections as the settings allow.

        All items are tried; afterwards the first error, if there was one, is raised. Once the store
        does not answer at all, what has not begun is left out: 900 symbols would wait for hours.
        """
        if current_thread().name.startswith(_THREADS):
            # A thread that waited for others of the same pool could wait for ever.
            return [function(item) for item in items]
        futures = [self._pool.submit(function, item) for item in items]
        try:
            for future in as_completed(futures):
                if isinstance(future.exception(), StoreUnreachableError):
                    break
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
        for future in futures:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        return [future.result() for future in futures]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Kept: to start sixteen threads takes 60 ms while others are at work, for each of many calls.
        return ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix=_THREADS)

    def _deleted(self, batch: list[dict[str, str]]) -> Any:
        from boto3.exceptions import Boto3Error
        from botocore import exceptions

        credentials_lacking = (
            exceptions.CredentialRetrievalError,
            exceptions.InvalidConfigError,
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.ProfileNotFound,
            exceptions.SSOError,
            exceptions.TokenRetrievalError,
        )
        try:
            return self._client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True}
            )
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            self._forget_refused(code)
            raise ObjectStoreError(self._explain(code, str(error), batch[0]["Key"])) from error
        except credentials_lacking as error:
            raise self._without_credentials(str(error)) from error
        except (exceptions.BotoCoreError, Boto3Error) as error:
            raise ObjectStoreError(self._unreachable(str(error), batch[0]["Key"])) from error

    def _unless_absent(self, call: Callable[[], R], key: str) -> R | None:
        try:
            return self._translated(call, key)
        except _AbsentError:
            return None

    def _translated(self, call: Callable[[], R], key: str) -> R:
        """What the call gives.

        obstore's own errors hold some forty lines, so none is kept as a cause. Some are built-in
        ones, which unlike the operating system's have no number.
        """
        from obstore.exceptions import BaseError

        try:
            return call()
        except BaseError as error:
            raise self._told(str(error), key) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._told(str(error), key) from None

    def _told(self, text: str, key: str) -> ObjectStoreError:
        """The error for what obstore says, which is told apart by S3's own code in it."""
        code = _found(_CODE, text) or _found(_STATUS, text)
        code = printable(code) if code else None
        if code == "NoSuchKey":
            return _AbsentError(f"{self.address(key)} is not there ({code}).")
        if code in _ABSENT:
            # Read where an object is asked for that may be absent; S3 says it of nothing else.
            return _AbsentError(
                f"{self._where} answers 404 for {self.address(key)} where S3 would not: check that "
                "PIPELINE_S3__ENDPOINT_URL is the address of an S3 server."
            )
        if code in _UNSUPPORTED:
            return UnsupportedError(
                f"{self._where} does not implement what {self.address(key)} was asked for ({code})."
            )
        if code in _LOST_RACE:
            return PreconditionFailedError(
                f"{self.address(key)} was changed by another writer meanwhile ({code})."
            )
        if code is None:
            return self._without_answer(text, key)
        self._forget_refused(code)
        return ObjectStoreError(
            self._explain(code, f"{code} {_found(_MESSAGE, text) or ''}".rstrip(), key)
        )

    def _forget_refused(self, code: str) -> None:
        """After a refusal of the credentials, have the next operation look for them again.

        A key in a profile's file may have been rotated, and boto3 reads the file once.
        """
        if code in _CREDENTIALS:
            for client in ("_objects", "_client"):
                self.__dict__.pop(client, None)

    def _without_answer(self, text: str, key: str) -> ObjectStoreError:
        """The error where S3 gave no answer that names a code."""
        summary = _summary(text)
        if (why := _found(_NO_CREDENTIALS, summary)) is not None:
            return self._without_credentials(why)
        cause = _found(_SYSTEM_ERROR, text)
        return StoreUnreachableError(
            self._unreachable(f"{summary} ({cause})" if cause else summary, key)
        )

    @property
    def _where(self) -> str:
        return self._settings.endpoint_url or f"AWS ({self._settings.region})"

    def _unreachable(self, detail: str, key: str) -> str:
        # obstore does not say that it is the certificate, and reads another variable than boto3.
        own_authority = (
            " If its certificate is from an authority of your own, set SSL_CERT_FILE and AWS_CA_BUNDLE "
            "to that authority's file."
            if self._where.startswith("https:")
            else ""
        )
        return (
            f"S3 at {self._where} could not be reached for {self.address(key)}: {printable(detail)}. "
            "Check that it runs and that PIPELINE_S3__ENDPOINT_URL is right, then repeat the run."
            f"{own_authority}"
        )

    def _explain(self, code: str, detail: str, key: str) -> str:
        where = self._where
        if code == "NoSuchBucket":
            return (
                f"There is no bucket {self.bucket!r} at {where}. Create it, or set "
                "PIPELINE_S3__BUCKET to one that exists, then repeat the run."
            )
        if code in _CREDENTIALS:
            return (
                f"S3 at {where} refuses the credentials for {self.address(key)} ({code}). Check "
                "PIPELINE_S3__ACCESS_KEY_ID and PIPELINE_S3__SECRET_ACCESS_KEY and the bucket's policy."
            )
        return f"S3 at {where} failed on {self.address(key)}: {printable(detail)}. The run may be repeated."


def _known_to_polars(key: str, secret: "SecretStr") -> tuple[dict[str, str], None]:
    """The settings' key, as Polars asks for it; it has no end.

    A function of the module, by whose pickle Polars knows that two scans may share connections, and
    of the secret wrapped, for Polars prints it where POLARS_VERBOSE is set.
    """
    return {"aws_access_key_id": key, "aws_secret_access_key": secret.get_secret_value()}, None


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def _summary(text: str) -> str:
    """The first line of an error of obstore."""
    return text.split("\n", 1)[0]


class _Rising(io.RawIOBase):
    """A file that can only be written, in order: for pyarrow, which asks more of one than obstore's.

    The upload in parts is opened with the first byte beyond one part.
    """

    def __init__(
        self, open_upload: Callable[[], Any], translated: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._open_upload, self._translated = open_upload, translated
        self._upload: Any = None
        self._held = bytearray()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes, and hand them over once there are more than one part; returns how many."""
        if self._upload is not None:
            return int(self._translated(lambda: self._upload.write(data)))
        self._held += data
        if len(self._held) >= _PART:
            self._upload = self._translated(self._open_upload)
            held, self._held = bytes(self._held), bytearray()
            self._translated(lambda: self._upload.write(held))
        return len(memoryview(data).cast("B"))

    @property
    def small(self) -> bytes | None:
        """All bytes, if they are less than one part; None if an upload in parts is under way."""
        return bytes(self._held) if self._upload is None else None

    def finish(self) -> None:
        """Complete the upload in parts."""
        self._translated(self._upload.close)

    def abandon(self, error: BaseException) -> None:
        """Abort the upload in parts, if one is under way."""
        if self._upload is not None:
            self._upload.__exit__(type(error), error, error.__traceback__)
