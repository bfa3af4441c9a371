"""The newest features of all symbols, kept in memory. They are read once for each new candle of 15m and 1h:
a query for each minute of candidates would keep a warehouse awake all day.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Protocol

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.trading.decisions import FEATURES_MISSING, FEATURES_OLD, WAREHOUSE_DOWN

if TYPE_CHECKING:
    import polars as pl

INTERVALS = (Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR)
# A row that becomes available is read a little later; a load that is late is asked for again.
_AFTER = timedelta(seconds=3)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=1)
_MOST_READS = 6
# While no row is young enough to be used: the first history may come long before the next 1h candle.
_UNUSABLE_PAUSE = timedelta(minutes=5)
# How much older than one interval a row may be, beside the load lag; model_inputs.py has the same rule.
_LATE = timedelta(minutes=1)
_logger = logging.getLogger(__name__)


class FeatureReader(Protocol):
    """The table of features."""

    def newest(
        self, interval: Interval, symbols: Sequence[str], moment: datetime
    ) -> "pl.DataFrame":
        """Return each symbol's newest row that was available at a moment."""


@dataclass
class _Held:
    """The kept rows of one interval.

    Attributes:
        frame: rows of the newest two candles; None before the first read.
        times: by symbol, when each kept row became available, in order.
        read_for: the newest candle that needs no further read, by when its features become available.
        reads: how often the table was read for the next candle.
        again_at: when the table may be read again.
        down: the last read failed, or there was none.
        reported: the failure is in the log.
    """

    frame: "pl.DataFrame | None" = None
    times: dict[str, list[datetime]] = field(default_factory=dict)
    read_for: datetime | None = None
    reads: int = 0
    again_at: datetime | None = None
    down: bool = True
    reported: bool = False


class LiveFeatures:
    """Features of 15m and 1h. One thread refreshes these, others read.

    Attributes:
        load_lag: from a candle's close until its features count as available.
        queries: how often a table was read.
        tried: set once each table was read, or did not answer.
    """

    def __init__(
        self, table: FeatureReader, symbols: Callable[[], Sequence[str]], load_lag: timedelta
    ) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            table: of the warehouse.
            symbols: returns the symbols to read, asked at each read.
            load_lag: from a candle's close until its features count as available.
        """
        self._table, self._symbols, self.load_lag = table, symbols, load_lag
        self._held = {interval: _Held() for interval in INTERVALS}
        self.queries = 0
        self.tried = Event()

    @property
    def frames(self) -> "Mapping[Interval, pl.DataFrame] | None":
        """The kept rows by interval; None before each interval was read once."""
        found = {interval: held.frame for interval, held in self._held.items()}
        complete = {interval: frame for interval, frame in found.items() if frame is not None}
        return complete if len(complete) == len(found) else None

    def refusal(self, symbol: str, close: datetime) -> str:
        """Return why a candidate has no usable features; empty if it has.

        Args:
            symbol: the candidate's.
            close: of the candidate's candle, UTC.
        """
        for interval, held in self._held.items():
            known = [each for each in held.times.get(symbol, []) if each <= close]
            if not known:
                return WAREHOUSE_DOWN if held.down else FEATURES_MISSING
            if close - known[-1] > interval.span + self.load_lag + _LATE:
                return WAREHOUSE_DOWN if held.down else FEATURES_OLD
        return ""

    def refresh(self, now: datetime) -> int:
        """Read what is due; return the number of queries.

        A warehouse that does not answer is asked again a minute later, and its error is logged once.

        Args:
            now: by the exchange's clock, UTC.
        """
        done = sum(self._refresh(interval, self._held[interval], now) for interval in INTERVALS)
        self.tried.set()
        return done

    def _refresh(self, interval: Interval, held: _Held, now: datetime) -> int:
        newest = interval.floor(now - self.load_lag - _AFTER) + self.load_lag
        if held.read_for is not None and held.read_for >= newest:
            return 0
        if held.again_at is not None and now < held.again_at:
            return 0
        self.queries += 1
        try:
            frame = self._table.newest(interval, list(self._symbols()), now)
        except OutsideSystemError as error:
            if not held.reported:
                _logger.warning("The features of %s are not read: %s", interval, error)
            held.down = held.reported = True
            held.again_at = now + _LONGEST_PAUSE
            return 1
        if held.reported:
            _logger.info("The features of %s are read again.", interval)
        held.down = held.reported = False
        self._keep(interval, held, frame, now)
        held.reads += 1
        youngest = max((times[-1] for times in held.times.values()), default=None)
        usable = youngest is not None and youngest >= newest - interval.span
        if youngest is not None and (youngest >= newest or (usable and held.reads >= _MOST_READS)):
            held.read_for, held.reads, held.again_at = newest, 0, None
        elif held.reads >= _MOST_READS:
            held.again_at = now + _UNUSABLE_PAUSE
        else:
            held.again_at = now + min(_FIRST_PAUSE * 2 ** (held.reads - 1), _LONGEST_PAUSE)
        return 1

    def _keep(self, interval: Interval, held: _Held, frame: "pl.DataFrame", now: datetime) -> None:
        """Add rows to those that are kept: a candidate of the last minute needs the row before the newest."""
        import polars as pl

        oldest = now - 2 * interval.span - self.load_lag - _LATE
        rows = frame if held.frame is None else pl.concat([frame, held.frame], how="diagonal")
        available = pl.col("available_at")
        # A symbol's newest row stays: without it, features that are too old would look like missing ones.
        kept = (
            rows.filter((available >= oldest) | (available == available.max().over("symbol")))
            .unique(["symbol", "open_time"], keep="first", maintain_order=True)
            .sort("symbol", "available_at")
        )
        times: dict[str, list[datetime]] = {}
        for symbol, since in kept.select("symbol", "available_at").iter_rows():
            times.setdefault(symbol, []).append(since)
        held.frame, held.times = kept, times
