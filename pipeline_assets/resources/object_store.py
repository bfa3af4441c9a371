"""Bytes in and out of S3. What the bytes mean is in candle_objects.py and staging.py."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock, current_thread
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pipeline_assets.settings import S3Settings

T = TypeVar("T")
R = TypeVar("R")
_THREADS = "object store"
_DELETE_BATCH = 1000  # DeleteObjects takes at most 1,000 keys a call (S3 API reference).
_LIST_PAGE = 1000  # ListObjectsV2 lists at most 1,000 keys a call (S3 API reference).
_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "403",
    "ExpiredToken",
}
_LOST_RACE = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_ABSENT = {"NoSuchKey", "404", "NotFound"}


class ObjectStoreError(Exception):
    """S3 refused or did not answer. The message names the bucket, the key and what to do."""


class PreconditionFailedError(ObjectStoreError):
    """The object is not the one that a conditional write expected: somebody else wrote it."""


class _AbsentError(ObjectStoreError):
    """There is no such object. Callers of this module get None instead."""


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it."""

    key: str
    etag: str
    size: int
    modified: datetime


class ObjectStore:
    """The bucket that holds the lake.

    The client is boto3's, made by dagster-aws' S3Resource on first use, because importing either
    costs a run's start more than everything else here.
    """

    def __init__(self, settings: "S3Settings") -> None:
        self._settings = settings
        self._client_lock = Lock()

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._settings.bucket

    def address(self, key: str = "") -> str:
        """The `s3://` address of a key or prefix."""
        return f"s3://{self.bucket}/{key}"

    @cached_property
    def _made_client(self) -> Any:
        from dagster_aws.s3 import S3Resource

        secret = self._settings.secret_access_key
        return S3Resource(
            endpoint_url=self._settings.endpoint_url,
            region_name=self._settings.region,
            aws_access_key_id=self._settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            max_attempts=5,
        ).get_client()

    @property
    def client(self) -> Any:
        """The boto3 S3 client; safe to use from many threads."""
        with self._client_lock:
            return self._made_client

    @cached_property
    def _parts(self) -> Any:
        """How large objects are moved: by default ten parts of 8 MB are held at once."""
        from boto3.s3.transfer import TransferConfig

        return TransferConfig(max_concurrency=3)

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None if there is no such object."""
        found = self.get_with_etag(key)
        return found[0] if found else None

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and ETag, or None if there is no such object."""

        def read() -> tuple[bytes, str] | None:
            reply = self.client.get_object(Bucket=self.bucket, Key=key)
            return reply["Body"].read(), reply["ETag"]

        return self._unless_absent(read, key)

    def put(self, key: str, body: bytes) -> str:
        """Write an object whatever is there; returns its ETag. Safe to repeat: same key, same bytes."""
        return self._translated(
            lambda: str(self.client.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"]), key
        )

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        """Write an object only if the stored one is still the expected one; returns the new ETag.

        S3 compares and writes in one step (If-Match, or If-None-Match when `expected_etag` is
        None), so of two writers that read the same state exactly one succeeds.

        Raises:
            PreconditionFailedError: another object is stored there, or it was removed.
        """
        condition = {"IfNoneMatch": "*"} if expected_etag is None else {"IfMatch": expected_etag}
        try:
            return self._translated(
                lambda: str(
                    self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **condition)[
                        "ETag"
                    ]
                ),
                key,
            )
        except _AbsentError as error:
            raise PreconditionFailedError(f"{self.address(key)} was removed meanwhile.") from error

    def upload(self, key: str, file: IO[bytes]) -> None:
        """Write a file of any size (multipart when large). Visible only once whole."""
        parts = self._parts
        self._translated(
            lambda: self.client.upload_fileobj(file, self.bucket, key, Config=parts), key
        )

    def download(self, key: str, file: IO[bytes]) -> bool:
        """Read an object of any size into a file; False if there is no such object."""

        def read() -> bool:
            self.client.download_fileobj(self.bucket, key, file, Config=self._parts)
            return True

        if self._unless_absent(read, key) is None:
            # It asked by HEAD, whose 404 has no body to tell a missing bucket from a missing key.
            self.get(key)
            return False
        return True

    def objects(
        self, prefix: str, start_after: str | None = None, page: int = _LIST_PAGE
    ) -> Iterator[StoredObject]:
        """Objects whose key begins with `prefix`, in key order, at most `page` (1,000) a request."""
        more: dict[str, str] = {"StartAfter": start_after} if start_after else {}
        while True:
            reply = self._translated(
                lambda more=more: self.client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self.bucket, Prefix=prefix, MaxKeys=min(page, _LIST_PAGE), **more
                ),
                prefix,
            )
            for entry in reply.get("Contents", ()):
                yield StoredObject(
                    entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"]
                )
            if not reply.get("IsTruncated"):
                return
            more = {"ContinuationToken": reply["NextContinuationToken"]}

    def polars_options(self) -> dict[str, str]:
        """How Polars' own S3 reader reaches the bucket. Holds the secret: never print it."""
        secret = self._settings.secret_access_key
        options = {
            "aws_region": self._settings.region,
            "aws_endpoint_url": self._settings.endpoint_url,
            "aws_access_key_id": self._settings.access_key_id,
            "aws_secret_access_key": secret.get_secret_value() if secret else None,
            "aws_allow_http": "true"
            if (self._settings.endpoint_url or "").startswith("http:")
            else None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there counts as removed, so this may be repeated."""
        for first in range(0, len(keys), _DELETE_BATCH):
            batch = [{"Key": key} for key in keys[first : first + _DELETE_BATCH]]
            reply = self._translated(
                lambda batch=batch: self.client.delete_objects(  # type: ignore[misc]
                    Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True}
                ),
                batch[0]["Key"],
            )
            for refused in reply.get("Errors", ()):
                raise ObjectStoreError(
                    f"S3 did not delete {self.address(refused['Key'])}: {refused.get('Code')} "
                    f"{refused.get('Message', '')}. It may be repeated."
                )

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to every item with as many connections as the settings allow.

        All items are tried; afterwards the first error, if there was one, is raised.
        """
        self.client  # noqa: B018  made before the threads start, or each would wait for the first
        if current_thread().name.startswith(_THREADS):
            # A thread that waited for others of the same pool could wait for ever.
            return [function(item) for item in items]
        futures = [self._pool.submit(function, item) for item in items]
        try:
            wait(futures)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
        return [future.result() for future in futures]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Kept: to start sixteen threads takes 60 ms while others are at work, for each of many calls.
        return ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix=_THREADS)

    def _unless_absent(self, call: Callable[[], R], key: str) -> R | None:
        try:
            return self._translated(call, key)
        except _AbsentError:
            return None

    def _translated(self, call: Callable[[], R], key: str) -> R:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _ABSENT:
                raise _AbsentError(f"{self.address(key)} is not there ({code}).") from error
            if code in _LOST_RACE:
                raise PreconditionFailedError(
                    f"{self.address(key)} was changed by another writer meanwhile ({code})."
                ) from error
            raise ObjectStoreError(self._explain(code, str(error), key)) from error
        except (BotoCoreError, Boto3Error) as error:
            where = self._settings.endpoint_url or f"AWS ({self._settings.region})"
            raise ObjectStoreError(
                f"S3 at {where} could not be reached for {self.address(key)}: {error}. Check that it "
                "runs and that PIPELINE_S3__ENDPOINT_URL is right, then repeat the run."
            ) from error

    def _explain(self, code: str, detail: str, key: str) -> str:
        where = self._settings.endpoint_url or f"AWS ({self._settings.region})"
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
        return f"S3 at {where} failed on {self.address(key)}: {detail}. The run may be repeated."
