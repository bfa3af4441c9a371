"""The archive of closed days and months, in the layout of data.binance.vision: names and bytes.

How a file is served is in server.py; which faults strike it is in faults.py.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from pipeline_assets.local.exchange.draws import uniform
from pipeline_assets.local.exchange.intervals import DAY, INTERVALS
from pipeline_assets.local.exchange.market import Market, RecentlyUsed
from pipeline_assets.local.exchange.moments import EPOCH, parse_moment
from pipeline_assets.local.exchange.outages import Outage

HEADER = (
    b"open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    b"taker_buy_volume,taker_buy_quote_volume,ignore"
)
HEADERS = ("later", "always", "never")
TIMES = ("ms", "us")

HEADER_SINCE_MS = parse_moment("2022-06-01")
"""Futures files of earlier periods have no header row (binance/binance-public-data, issue 246)."""

BYTES_KEPT = 96_000_000
"""Finished files in the cache: some 1,600 symbol-days of 1m."""

HOLE_ROWS = 30
FROZEN_ROWS = 74
"""The longest false run without volume that was seen in the real archive."""

NO_SUCH_KEY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"""
"""The reply of the bucket behind data.binance.vision for a missing file."""


@dataclass(frozen=True)
class ArchiveForm:
    """The differences between the archive's files of different years.

    Attributes:
        header: `later` has the row of column names from June 2022 on, as the real archive;
            `always` or `never`.
        times: `ms`, as for futures, or `us`, as the real archive has for spot since 2025.
    """

    header: str = "later"
    times: str = "ms"

    def __post_init__(self) -> None:
        """Refuse a form that there is not."""
        if self.header not in HEADERS:
            raise ValueError(
                f"There is no archive header {self.header!r}: use {', '.join(HEADERS)}"
            )
        if self.times not in TIMES:
            raise ValueError(f"There are no archive times {self.times!r}: use {' or '.join(TIMES)}")


@dataclass(frozen=True)
class ArchiveFile:
    """One zip of the archive: candles that open from `start_ms` to before `end_ms`."""

    symbol: str
    interval: str
    label: str
    start_ms: int
    end_ms: int

    @property
    def name(self) -> str:
        """The file's name without .zip."""
        return f"{self.symbol}-{self.interval}-{self.label}"

    @classmethod
    def parse(
        cls,
        period: str,
        symbol: str,
        interval: str,
        zip_name: str,
        *,
        kinds: Container[str] = INTERVALS,
    ) -> "ArchiveFile | None":
        """Return the file that the last four parts of a path name, or None if no file has such a name."""
        beginning, end = f"{symbol}-{interval}-", ".zip"
        if interval not in kinds or not zip_name.startswith(beginning):
            return None
        label = zip_name.removeprefix(beginning).removesuffix(end)
        form = {"daily": "%Y-%m-%d", "monthly": "%Y-%m"}.get(period)
        try:
            first = datetime.strptime(label, form or "").replace(tzinfo=UTC).date()
        except ValueError:
            first = None
        # strptime takes 2026-1-5 for a day, too.
        if first is None or zip_name != f"{beginning}{first.strftime(form or '')}{end}":
            return None
        start = (first - EPOCH.date()).days * DAY
        return cls(symbol, interval, label, start, start + days_of(first, period) * DAY)


def days_of(first: date, period: str) -> int:
    """Return how many days the period that begins with `first` has."""
    if period == "daily":
        return 1
    return ((first.replace(day=1) + timedelta(days=32)).replace(day=1) - first).days


class Archive:
    """The files of a market: pure functions of its candles, kept because they are asked for twice.

    A file and its checksum are two requests, and a file costs some ten milliseconds to make.
    """

    def __init__(self, market: Market, form: ArchiveForm) -> None:
        self.market = market
        self.form = form
        self._made: RecentlyUsed[bytes] = RecentlyUsed(BYTES_KEPT)
        self._outages: Sequence[Outage] = market.outages

    def zip_bytes(self, wanted: ArchiveFile, now_ms: int, struck: frozenset[str]) -> bytes | None:
        """Return the file as served, or None where there is none: unknown, not over yet, or empty.

        Args:
            wanted: the file.
            now_ms: the exchange's clock.
            struck: the faults of its content (see `faults.ARCHIVE_FILE_FAULTS`).
        """
        if wanted.symbol not in self.market.contracts or wanted.end_ms > now_ms:
            return None
        if self._outages != self.market.outages:
            self._made.clear()
            self._outages = self.market.outages
        key = (f"{wanted.name}:{','.join(sorted(struck))}", wanted.interval, wanted.start_ms)
        made = self._made.get(key)
        if made is None:
            made = self._make(wanted, struck)
            self._made.put(key, len(made), made)
        return made or None

    def _make(self, wanted: ArchiveFile, struck: frozenset[str]) -> bytes:
        rows = self.market.rendered(wanted.symbol, wanted.interval, wanted.start_ms, wanted.end_ms)
        rows = damaged(rows, struck, wanted.name)
        if not rows:
            return b""
        lines = [row.translate(None, b'["]') for row in rows]
        if self.form.times == "us":
            lines = [in_microseconds(line) for line in lines]
        if "archive_malformed" in struck:
            lines[0] = malformed_line(lines[0], wanted.name)
        header = self.form.header == "always" or (
            self.form.header == "later" and wanted.start_ms >= HEADER_SINCE_MS
        )
        csv = b"\n".join([*([HEADER] if header else []), *lines, b""])
        return zipped(f"{wanted.name}.csv", csv, wanted.end_ms)


def zipped(name: str, content: bytes, made_ms: int) -> bytes:
    """Return a zip with one member; the same content gives the same bytes.

    Args:
        name: the member's.
        content: the member's.
        made_ms: the time stamp within the zip, ms since the epoch.
    """
    made = EPOCH + timedelta(milliseconds=made_ms)
    member = zipfile.ZipInfo(name, made.timetuple()[:6])
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(member, content)
    return target.getvalue()


def checksum(body: bytes, zip_name: str, *, wrong: bool = False) -> bytes:
    """Return a .CHECKSUM file, as sha256sum writes it."""
    digest = hashlib.sha256(b"another file" if wrong else body).hexdigest()
    return f"{digest}  {zip_name}\n".encode()


def corrupted(body: bytes) -> bytes:
    """Return a zip of the same length with a stretch in its middle turned around."""
    middle = len(body) // 2
    stretch = bytes(byte ^ 0xFF for byte in body[middle : middle + 64])
    return body[:middle] + stretch + body[middle + len(stretch) :]


def in_microseconds(line: bytes) -> bytes:
    """Return a line with its two times in microseconds: the close time is the last one before the next."""
    fields = line.split(b",")
    fields[0] += b"000"
    fields[6] += b"999"
    return b",".join(fields)


def damaged(rows: list[bytes], struck: frozenset[str], name: str) -> list[bytes]:
    """Return a file's rows after the faults of its content; where they lie depends on its name alone."""
    rows = list(rows)
    if "archive_partial" in struck and rows:
        place = place_of("archive_partial", name, rows, 1)
        rows[place] = partial(rows[place])
    if "archive_zero_volume" in struck and rows:
        count = min(FROZEN_ROWS, max(1, len(rows) // 4))
        first = place_of("archive_zero_volume", name, rows, count)
        before = json.loads(rows[max(first - 1, 0)])[4]
        rows[first : first + count] = [frozen(row, before) for row in rows[first : first + count]]
    if "archive_holes" in struck and rows:
        count = min(HOLE_ROWS, max(1, len(rows) // 4))
        first = place_of("archive_holes", name, rows, count)
        del rows[first : first + count]
    return rows


def malformed_line(line: bytes, name: str) -> bytes:
    """Return a line that is blank, cut short or one column too long, as the file's name decides."""
    forms = (b"", line[: len(line) // 2], line + b",0")
    return forms[int(uniform("archive_malformed", name) * len(forms))]


def place_of(fault: str, name: str, rows: list[bytes], count: int) -> int:
    """Return where a run of `count` rows begins that a fault strikes."""
    return int(uniform(fault, name) * (len(rows) - count + 1))


def partial(row: bytes) -> bytes:
    """Return a candle as it stood half-way: it closes where it opened, with half of everything traded."""
    fields = json.loads(row)
    fields[4] = fields[1]
    for place in (5, 7, 9, 10):
        fields[place] = halved(fields[place])
    fields[8] //= 2
    return compact(fields)


def halved(text: str) -> str:
    """Half of a decimal string, rounded down to as many places."""
    number = Decimal(text)
    return str((number / 2).quantize(number, ROUND_DOWN))


def frozen(row: bytes, close: str) -> bytes:
    """Return a candle without a trade at the close before it."""
    fields = json.loads(row)
    fields[1:5] = [close] * 4
    fields[5] = fields[7] = fields[9] = fields[10] = "0"
    fields[8] = 0
    return compact(fields)


def compact(fields: list[Any]) -> bytes:
    """Return a row as `candles.render` makes it."""
    return json.dumps(fields, separators=(",", ":")).encode()
