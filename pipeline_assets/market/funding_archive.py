"""The archive's monthly files of funding rates: their names, and their bytes as frames. Downloading is in
resources/archive.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.archive import malformed, unzipped
from pipeline_assets.market.funding import funding_rates, rate_of
from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    import polars as pl

_HEADER = "calc_time,funding_interval_hours,last_funding_rate"
# A month of hourly rates has 744 rows of 40 characters.
_LARGEST = 262_144
_SHOWN = 80


@dataclass(frozen=True, order=True)
class FundingArchiveFile:
    """One zip of the archive: a symbol's funding rates of the month that begins with `first`."""

    symbol: str
    first: date

    @property
    def name(self) -> str:
        """The file's name without .zip."""
        return f"{self.symbol}-fundingRate-{self.first:%Y-%m}"

    @property
    def path(self) -> str:
        """Where the zip lies on data.binance.vision, not percent-encoded."""
        return f"data/futures/um/monthly/fundingRate/{self.symbol}/{self.name}.zip"

    @property
    def days(self) -> list[date]:
        """The UTC days of the month."""
        end = (self.first + timedelta(days=31)).replace(day=1)
        return [self.first + timedelta(days=number) for number in range((end - self.first).days)]

    @property
    def parts(self) -> "Sequence[FundingArchiveFile]":
        """None: the archive has no daily files of funding rates."""
        return ()

    @property
    def largest_zip(self) -> int:
        """The most bytes that the zip may have."""
        return _LARGEST

    @property
    def largest_csv(self) -> int:
        """The most bytes that the zip may unpack to."""
        return _LARGEST

    def read(self, body: bytes) -> "pl.DataFrame":
        """Return the rates of the zip as a frame of `funding_schema()`; no row has a mark price.

        Raises:
            MalformedArchiveError: no zip of one CSV, other columns, a row that cannot be read, or rates of
                another month.
        """
        lines = unzipped(self, body).decode("utf-8", "replace").splitlines()
        if lines[:1] == [_HEADER]:
            lines = lines[1:]
        elif lines and not lines[0][:1].isdigit():
            raise malformed(self, f"has other columns: {printable(lines[0])[:_SHOWN]!r}")
        rows = [self._row(line) for line in lines]
        if not rows:
            raise malformed(self, "has no rows")
        found = funding_rates(self.symbol, rows)
        if found.rejected:
            raise malformed(self, f"is odd: {found.rejected[0]}")
        times = found.rates["funding_time"].dt.date()
        if not ((times >= self.days[0]) & (times <= self.days[-1])).all():
            raise malformed(self, "has rates of another month")
        return found.rates

    def _row(self, line: str) -> tuple[int, float, None, int]:
        try:
            time, hours, rate = line.split(",")
            if not (time.isascii() and time.isdigit() and hours.isascii() and hours.isdigit()):
                raise ValueError
            found = int(time), rate_of(rate), None, int(hours)
        except ValueError:
            shown = printable(line)[:_SHOWN]
            raise malformed(self, f"has a line that cannot be read: {shown!r}") from None
        if len(time) > 14 or not 1 <= found[3] <= 24:
            raise malformed(self, f"has a line that cannot be: {printable(line)[:_SHOWN]!r}")
        return found
