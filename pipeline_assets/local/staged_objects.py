"""The objects of an S3 server as DuckDB's files, for the embedded Snowflake's COPY. COPY itself is in
fakesnow_patches.py.
"""

import io
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem

PREFETCH_THREADS = 8


class StagedObject(NamedTuple):
    """An object's bytes, and when it was written (UTC)."""

    body: bytes
    modified: datetime


class StagedObjects(AbstractFileSystem):  # type: ignore[misc]
    """The objects of an S3 server as DuckDB's files, each fetched whole by one GET.

    DuckDB opens a Parquet file twice during COPY (for its columns, then for its rows), each time
    with several requests one after the other: 500 small files took 30 s. `held` fetches the files
    of one COPY side by side and keeps their bodies until it ends. No longer: an object is
    rewritten as its window goes on, and a body kept would be an old one.
    """

    protocol = "s3"
    cachable = False

    def __init__(self, client: Any) -> None:
        """Read through `client`, a boto3 S3 client; boto3 clients may be shared by threads."""
        super().__init__()
        self._client = client
        self._objects: dict[str, StagedObject] = {}
        self._held = threading.local()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Drop, at the end, the bodies that `prefetch` fetched in this thread meanwhile."""
        self._held.urls = []
        try:
            yield
        finally:
            for url in self._held.urls:
                self._objects.pop(url, None)
            self._held.urls = []

    def prefetch(self, urls: Iterable[str]) -> None:
        """Fetch the bodies of `urls`; all of them are newer than the call."""
        wanted = list(dict.fromkeys(urls))
        self._held.urls.extend(wanted)
        with ThreadPoolExecutor(PREFETCH_THREADS) as pool:
            self._objects.update(zip(wanted, pool.map(self._fetch, wanted), strict=True))

    def _fetch(self, url: str) -> StagedObject:
        """Return one whole object.

        Raises:
            snowflake.connector.errors.ProgrammingError: as Snowflake answers: 91016 where there is
                no such object, 91003 where the bucket cannot be read.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from snowflake.connector.errors import ProgrammingError

        bucket, _, key = url.removeprefix("s3://").partition("/")
        try:
            reply = self._client.get_object(Bucket=bucket, Key=key)
            return StagedObject(reply["Body"].read(), reply["LastModified"])
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code in ("NoSuchKey", "404"):
                raise ProgrammingError(
                    msg=f"Remote file '{url}' was not found.", errno=91016, sqlstate="22000"
                ) from None
            raise ProgrammingError(
                msg=f"Failure using stage area. Cause: [{error}]", errno=91003, sqlstate="55000"
            ) from None

    def _object(self, path: str) -> StagedObject:
        url = f"s3://{path.removeprefix('s3://')}"
        return self._objects.get(url) or self._fetch(url)

    def open(self, path: str, mode: str = "rb", **options: Any) -> io.BytesIO:
        """Return the object's bytes; reading is all that a stage is for here."""
        del options
        if mode != "rb":
            raise ValueError(f"{path} can be opened for reading only, not {mode!r}")
        return io.BytesIO(self._object(path).body)

    def glob(self, path: str, **options: Any) -> list[str]:
        """`path` itself: COPY names its files, and a search by pattern would cost a listing."""
        del options
        return [path]

    def exists(self, path: str, **options: Any) -> bool:
        """True: an object that is absent is reported when it is opened, by name."""
        del path, options
        return True

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size in bytes and type, as fsspec asks."""
        del options
        return {"name": path, "size": len(self._object(path).body), "type": "file"}

    def modified(self, path: str) -> datetime:
        """Return when the object was written, UTC."""
        return self._object(path).modified
