"""Data that passes from one asset to the next: its place, and its Parquet, read and written in pieces, so
that memory does not grow with the range. collection/step_inputs.py decides which output a step reads;
stored candles are in candle_objects.py.
"""

import errno
import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from operator import itemgetter
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING, Any, cast

from pipeline_assets.errors import DataError
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.document_versions import content_of
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.waiting import result_of

if TYPE_CHECKING:
    import polars as pl

    from pipeline_assets.market.intervals import Interval
    from pipeline_assets.resources.object_store import ObjectStore

_MODIFIED = itemgetter(0)
_IN_MEMORY = 32 * 1024 * 1024
_AGAIN = "Materialize the first asset of the run again, with the ones after it."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StagingError(DataError):
    """The input of a step is not there, or its output has no room. The message says what to do."""


class AbsentError(StagingError):
    """An output is not there: it was never made, or passed its retention."""


class Output(StrEnum):
    """The outputs that a step leaves for the next one, by key suffix; written last, after the plan."""

    RAW = ".parquet"
    FORMATTED = ".candles.parquet"
    OBJECTS = ".objects.json"


@dataclass(frozen=True)
class Staged:
    """Where the outputs of one run over some days of an interval lie.

    Addressed by interval, days and run: two runs on one day at once never share an object, and a later
    run of a single step finds what the newest run left for its days (`newest_first`). A re-execution
    has the address of the run that it repeats.

    Attributes:
        interval: the candles' interval.
        first: the first UTC day of the run's partitions.
        last: the last one, included.
        run: the root run's id.
    """

    interval: "Interval"
    first: date
    last: date
    run: str

    def _address(self, folder: str, ending: str) -> str:
        days = f"{self.first}" if self.first == self.last else f"{self.first}..{self.last}"
        return f"{folder}/{self.interval}/{days}/{self.run}{ending}"

    def key(self, output: Output) -> str:
        """Return the key of an output: replies as received, formatted candles, the list of stored objects."""
        return self._address(_folder(output), output.value)

    @property
    def plan(self) -> str:
        """Where the plan of the run's fetch lies."""
        return self._address("staging", ".plan.json")

    def load_mark(self, sink: str, day: date) -> str:
        """Return the key at which a sink notes which of the run's objects of a finished day it has loaded."""
        return self._address("staging", f".{sink}.{day}.loaded.json")

    @property
    def rejected(self) -> str:
        """Return the key of the rows that cleaning rejected, with their reasons."""
        return f"set_aside/{self.interval}/{self.run}.parquet"


_ADDRESS = re.compile(
    r"^[^/]+/[^/]+/(?P<first>\d{4}-\d\d-\d\d)(\.\.(?P<last>\d{4}-\d\d-\d\d))?/"
    r"(?P<run>[^/.]+)(?P<ending>\.[^/]+)$"
)


def _folder(output: Output) -> str:
    return "raw" if output is Output.RAW else "staging"


def newest_first(store: "ObjectStore", interval: "Interval", output: Output) -> list[Staged]:
    """Return the retained outputs of one kind, the last written first.

    A step writes its output last, so an output that is listed is whole. Keys of another form, such as
    those of earlier versions, are left out.
    """
    found = []
    for each in store.objects(f"{_folder(output)}/{interval}"):
        match = _ADDRESS.match(each.key)
        if match is None or match["ending"] != output.value:
            continue
        first = date.fromisoformat(match["first"])
        last = date.fromisoformat(match["last"]) if match["last"] else first
        found.append((each.modified, Staged(interval, first, last, match["run"])))
    return [staged for _, staged in sorted(found, key=_MODIFIED, reverse=True)]


def write_frames(
    store: "ObjectStore", key: str, empty: "pl.DataFrame", frames: Iterable["pl.DataFrame"]
) -> int:
    """Store frames as the row groups of one Parquet object; returns the number of rows.

    Each frame becomes one row group. Repeating replaces the object whole: an upload is seen only
    once it is done.

    Args:
        store: the bucket.
        key: the object's key.
        empty: a frame without rows that gives the schema.
        frames: frames of that schema, each at most a few hundred thousand rows.
    """
    import pyarrow.parquet as pq

    rows = 0
    schema = empty.to_arrow().schema
    # No reader looks for single rows here, and the minima and maxima of decimal strings take time.
    with (
        store.writing(key) as file,
        pq.ParquetWriter(
            file,
            schema,
            compression="lz4",
            use_dictionary=["symbol"],
            write_statistics=False,
            # An object in parts has no digest (object_store.py).
            write_page_checksum=True,
        ) as writer,
        ThreadPoolExecutor(1) as thread,
    ):

        def write(frame: "pl.DataFrame") -> None:
            writer.write_table(frame.to_arrow().cast(schema), row_group_size=max(frame.height, 1))

        # While one is written the next is made: in this thread, which alone sees a signal, for to make
        # one may take minutes of waiting for the exchange, and to write one does not.
        written: Future[None] | None = None
        for frame in frames:
            if written is not None:
                result_of(written)
            written = thread.submit(write, frame)
            rows += frame.height
        if written is not None:
            result_of(written)
    return rows


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    """Provide a file in memory, or on disk once it is large.

    Raises:
        StagingError: the disk does not take it.
    """
    try:
        with SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            yield cast("IO[bytes]", file)
    except OSError as error:
        # The frames are used within: an error of the network is one of these too.
        if error.errno not in _NO_ROOM:
            raise
        raise StagingError(
            f"The rows on their way do not fit into {gettempdir()} ({error.strerror or error}). Make "
            "room there, or set TMPDIR to a larger disk, then repeat the run: what is stored stays."
        ) from error


@contextmanager
def read_frames(store: "ObjectStore", key: str) -> Iterator[Iterator["pl.DataFrame"]]:
    """Provide the frames that `write_frames` stored, one row group at a time.

    Raises:
        AbsentError: the object is not there.
        StagingError: the object is damaged.
    """
    import polars as pl
    import pyarrow.parquet as pq

    with _temporary_file() as file:
        try:
            if not store.download(key, file):
                raise _absent(store, key)
        except DamagedObjectError as error:
            raise StagingError(f"{error} {_AGAIN}") from error
        file.seek(0)
        with _naming_damage(store, key):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)

        def read(group: int) -> pl.DataFrame:
            with _naming_damage(store, key):
                return cast("pl.DataFrame", pl.from_arrow(parquet.read_row_group(group)))

        def frames() -> Iterator[pl.DataFrame]:
            # The next one is read while the caller works on this one.
            with ThreadPoolExecutor(1) as reader:
                coming = [reader.submit(read, 0)] if parquet.num_row_groups else []
                for following in range(1, parquet.num_row_groups + 1):
                    frame = coming.pop().result()
                    if following < parquet.num_row_groups:
                        coming.append(reader.submit(read, following))
                    yield frame

        yield frames()


def write_document(store: "ObjectStore", key: str, document: Any) -> None:
    """Store a JSON document for the next steps; a repeat replaces it whole."""
    store.put(key, json.dumps(document, ensure_ascii=False).encode())


def read_document(store: "ObjectStore", key: str) -> Any:
    """Return the JSON document at a key.

    Raises:
        AbsentError: the object is not there.
        NewerVersionError: a newer release wrote it.
        StagingError: the object is damaged.
    """
    try:
        body = store.get(key)
    except DamagedObjectError as error:
        raise StagingError(f"{error} {_AGAIN}") from error
    if body is None:
        raise _absent(store, key)
    try:
        return content_of(json.loads(body), store.address(key))[0]
    except (ValueError, RecursionError) as error:
        # A cut document of an earlier version has no digest that would tell.
        raise StagingError(f"{store.damaged(key, f'it is no JSON ({error})')} {_AGAIN}") from error


@contextmanager
def _naming_damage(store: "ObjectStore", key: str) -> Iterator[None]:
    """Raise StagingError for whatever a decoder raises, which depends on where the bytes are damaged."""
    import polars as pl

    try:
        yield
    except (Exception, pl.exceptions.PanicException) as error:
        why = f"it cannot be decoded ({type(error).__name__}: {printable(error)})"
        raise StagingError(f"{store.damaged(key, why)} {_AGAIN}") from error


def _absent(store: "ObjectStore", key: str) -> AbsentError:
    return AbsentError(
        f"{store.address(key)} is not there: it was never written, or is not retained."
    )
