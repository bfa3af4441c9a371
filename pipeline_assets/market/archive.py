"""Files of Binance's archive of closed days: their names, and their bytes as raw frames. Downloading is in
resources/archive.py, the comparison with the exchange in archive_comparison.py.
"""

import hashlib
import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Protocol, Self

from pipeline_assets.errors import DataError
from pipeline_assets.market.candles import RAW_COLUMNS, RAW_INTEGER_COLUMNS, raw_schema
from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.windows import day_window
from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    import polars as pl

_FIELDS = RAW_COLUMNS[1:]
# The archive's own names of the twelve columns, in later files only.
_HEADER = (
    b"open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    b"taker_buy_volume,taker_buy_quote_volume,ignore"
)
# A row has 100 to 150 characters, and a third of that in the zip; a larger file is no such file.
_LARGEST_ROW, _LARGEST_PACKED_ROW, _LARGEST_HEADER = 512, 256, 65_536
# Between 2001-09-09 in microseconds and 33658-09-27 in milliseconds there is nothing to confuse.
_LEAST_MICROSECONDS = 10**15
_SHOWN = 80
# The errors that zipfile raises for one wrong bit or another.
_UNPACKING = (
    *(zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, OverflowError, RuntimeError),
)


class MalformedArchiveError(DataError, ValueError):
    """Bytes are not the archive's file that they should be. The message says which and why."""


class ArchivedFile(Protocol):
    """One zip of the archive, of candles or of funding rates, as a download needs it."""

    @property
    def symbol(self) -> str:
        """Whose rows the file holds."""

    @property
    def name(self) -> str:
        """The file's name without .zip."""

    @property
    def path(self) -> str:
        """Where the zip lies on data.binance.vision, not percent-encoded."""

    @property
    def days(self) -> list[date]:
        """The UTC days that the file covers."""

    @property
    def parts(self) -> "Sequence[Self]":
        """The files to download instead where this one is not to be had."""

    @property
    def largest_zip(self) -> int:
        """The most bytes that the zip may have."""

    @property
    def largest_csv(self) -> int:
        """The most bytes that the zip may unpack to."""

    def read(self, body: bytes) -> "pl.DataFrame":
        """Return the rows of the zip; raises MalformedArchiveError."""


@dataclass(frozen=True, order=True)
class ArchiveFile:
    """One zip of the archive: a symbol's candles of a day or of a month, from `first` on."""

    symbol: str
    interval: Interval
    first: date
    monthly: bool = False

    @property
    def name(self) -> str:
        """The file's name without .zip."""
        label = f"{self.first:%Y-%m}" if self.monthly else f"{self.first:%Y-%m-%d}"
        return f"{self.symbol}-{self.interval}-{label}"

    @property
    def path(self) -> str:
        """Where the zip lies on data.binance.vision, not percent-encoded."""
        period = "monthly" if self.monthly else "daily"
        return f"data/futures/um/{period}/klines/{self.symbol}/{self.interval}/{self.name}.zip"

    @property
    def days(self) -> list[date]:
        """The UTC days that the file covers."""
        following = (self.first + timedelta(days=31)).replace(day=1)
        count = (following - self.first).days if self.monthly else 1
        return [self.first + timedelta(days=number) for number in range(count)]

    @property
    def parts(self) -> "list[ArchiveFile]":
        """The days of a month; none of a day."""
        days = self.days if self.monthly else []
        return [ArchiveFile(self.symbol, self.interval, day) for day in days]

    def read(self, body: bytes) -> "pl.DataFrame":
        """Return the rows of the zip; see `read_archive`."""
        return read_archive(self, body)

    @property
    def largest_zip(self) -> int:
        """The most bytes that the zip may have."""
        return _LARGEST_HEADER + _LARGEST_PACKED_ROW * self._candles

    @property
    def largest_csv(self) -> int:
        """The most bytes that the zip may unpack to."""
        return _LARGEST_HEADER + _LARGEST_ROW * self._candles

    @property
    def _candles(self) -> int:
        return len(self.days) * self.interval.per_day


def archive_files(symbol: str, interval: Interval, days: Sequence[date]) -> list[ArchiveFile]:
    """Return the files that hold these days: a month's where all its days are asked for, else a day's.

    Args:
        symbol: whose.
        interval: of the candles.
        days: UTC days, ascending.
    """
    wanted = set(days)
    found = []
    for day in days:
        month = ArchiveFile(symbol, interval, day.replace(day=1), monthly=True)
        if wanted.issuperset(month.days):
            if day.day == 1:
                found.append(month)
        else:
            found.append(ArchiveFile(symbol, interval, day))
    return found


def verify_checksum(file: ArchivedFile, body: bytes, reported: bytes) -> None:
    """Compare a zip with its .CHECKSUM file, as sha256sum wrote it: hex digits, then the name.

    The name is not compared: the digest says all, and how names in Chinese are written is unknown.

    Raises:
        MalformedArchiveError: the digest is another's, or there is none.
    """
    digest = hashlib.sha256(body).hexdigest()
    words = reported.split(maxsplit=1)
    said = printable(words[0].decode("ascii", "replace").lower()) if words else ""
    if len(said) != len(digest):
        raise MalformedArchiveError(
            f"{file.name}.zip.CHECKSUM holds no SHA-256. It begins: {reported[:_SHOWN]!r}."
        )
    if said != digest:
        raise MalformedArchiveError(
            f"{file.name}.zip has the SHA-256 {digest}, and its checksum file says {said}."
        )


def read_archive(file: ArchiveFile, body: bytes) -> "pl.DataFrame":
    """Return the rows of a zip, with or without a header row, times in ms or us.

    Returns:
        A frame of `raw_schema()`, in the order of the file; decimal strings keep every character,
        times are in ms. Nothing is checked that `cleaning.clean` checks.

    Raises:
        MalformedArchiveError: no zip of one CSV, other columns, no number where one belongs, or
            rows of another day.
    """
    import polars as pl

    csv = unzipped(file, body)
    first_line = csv[: csv.find(b"\n") + 1 or len(csv)].strip()
    header = not first_line[:1].isdigit()
    if header and first_line != _HEADER:
        raise malformed(file, f"has other columns: {first_line[:_SHOWN]!r}")
    if first_line.count(b",") != len(_FIELDS) - 1:
        count = first_line.count(b",") + 1
        raise malformed(file, f"has {count} columns, not {len(_FIELDS)}: {first_line[:_SHOWN]!r}")
    try:
        rows = pl.read_csv(
            csv,
            has_header=False,
            skip_rows=int(header),
            schema={name: raw_schema()[name] for name in _FIELDS},
            quote_char=None,
            empty_string_is_null=False,
        )
    # The kind of error depends on the line: a short or blank first line of data is a SchemaError, a
    # later one is not. Polars panics instead on some bytes, and a panic is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = printable(str(error))[:_SHOWN]
        raise malformed(file, f"has a line that cannot be read: {reason}") from None
    if rows.is_empty():
        raise malformed(file, "has no rows")
    if any(rows[name].null_count() for name in RAW_INTEGER_COLUMNS):
        raise malformed(file, "has a time or count that is no whole number")
    # A short line is filled up with empty strings.
    if (rows[_FIELDS[-1]].fill_null("") == "").any():
        raise malformed(file, "has a line with fewer columns than the first")
    if int(rows["open_time"][0]) >= _LEAST_MICROSECONDS:
        rows = rows.with_columns(pl.col("open_time", "close_time") // 1000)
    start, end = day_window(file.days[0]).start, day_window(file.days[-1]).end
    if (
        not rows["open_time"]
        .is_between(to_milliseconds(start), to_milliseconds(end), closed="left")
        .all()
    ):
        raise malformed(file, f"has rows that do not open from {start} to before {end}")
    return rows.insert_column(0, pl.repeat(file.symbol, rows.height, eager=True).alias("symbol"))


def unzipped(file: ArchivedFile, body: bytes) -> bytes:
    """Return the bytes of the one CSV in a zip; raises MalformedArchiveError."""
    member = f"{file.name}.csv"
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            held = archive.infolist()
            names = [_name(each) for each in held]
            if names != [member]:
                raise malformed(file, f"holds {names[:3]}, not {member} alone")
            if held[0].file_size > file.largest_csv:
                raise malformed(file, f"unpacks to more than {file.largest_csv} bytes")
            if held[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise malformed(file, f"is packed by method {held[0].compress_type}")
            if held[0].compress_type == zipfile.ZIP_STORED:
                return archive.read(held[0])
        csv = _inflated(body, held[0])
    except MalformedArchiveError:
        raise
    except _UNPACKING as error:
        raise malformed(file, f"cannot be unpacked ({printable(error)})") from None
    return csv


def _name(member: zipfile.ZipInfo) -> str:
    """Return a member's name; zip(1) writes UTF-8 without saying so, which zipfile reads as cp437."""
    if member.flag_bits & 0x800:
        return member.filename
    return member.filename.encode("cp437").decode("utf-8", "replace")


def _inflated(body: bytes, member: zipfile.ZipInfo) -> bytes:
    """Return a deflated member's bytes. zipfile's own zlib took a quarter of the time from zip to objects.

    Raises:
        zipfile.BadZipFile: it cannot be inflated, or to another length or CRC than the zip says.
        struct.error: it is not there.
    """
    from isal import igzip_lib, isal_zlib

    # https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7: the local header's lengths.
    lengths = struct.unpack_from("<HH", body, member.header_offset + 26)
    start = member.header_offset + 30 + sum(lengths)
    packed = body[start : start + member.compress_size]
    try:
        unpacked: bytes = isal_zlib.decompressobj(-15).decompress(packed, member.file_size + 1)
    except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub has an instance
        raise zipfile.BadZipFile(str(error)) from None
    if len(unpacked) != member.file_size or isal_zlib.crc32(unpacked) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} is not what its checksum says")
    return unpacked


def malformed(file: ArchivedFile, fault: str) -> MalformedArchiveError:
    """Return the error for a file with this fault."""
    return MalformedArchiveError(f"{file.name}.zip {fault}.")
