"""A backtest's inputs from the lake: candles, listings, funding rates, rules and fees. Other sources
fulfil the protocols of backtest_types.py too.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_request import month_windows
from pipeline_assets.research.backtest_types import DocumentsReader
from pipeline_assets.resources.candle_objects import list_objects
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.trading_documents import read_trading_documents

if TYPE_CHECKING:
    import polars as pl

_INTERVAL = Interval.ONE_MINUTE
_NO_END = datetime(2100, 1, 1, tzinfo=UTC)


class LakeCandles:
    """The lake's 1m candles, funding rates and listings."""

    def __init__(self, store: ObjectStore, *, skip_damaged: bool = False) -> None:
        """Make a reader.

        Args:
            store: the bucket.
            skip_damaged: leave damaged objects out and name them, rather than fail at the first.
        """
        self._store, self._skip = store, skip_damaged
        self._damaged: list[str] = []

    @property
    def damaged(self) -> Sequence[str]:
        """Keys of the damaged objects that were left out so far."""
        return tuple(self._damaged)

    def candles(
        self, symbols: Sequence[str], window: Window, columns: Sequence[str]
    ) -> "pl.DataFrame":
        """Return these columns of the stored candles of a window, sorted by symbol and open time.

        Raises:
            DamagedObjectError: an object is damaged, and none is to be left out.
            ObjectStoreError: the bucket cannot be read.
        """
        listings = self._store.each(
            lambda symbol: list_objects(self._store, _INTERVAL, symbol, window.start, window.end),
            sorted(symbols),
        )
        objects = [each for listing in listings for each in listing]
        while True:
            usable = [each for each in objects if each.key not in self._damaged]
            try:
                return lake.scan_objects(self._store, usable, window).select(columns).collect()
            except DamagedObjectError as error:
                if not self._skip or error.key in self._damaged:
                    raise
                self._damaged.append(error.key)

    def funding(self, symbol: str, window: Window) -> list[FundingRate]:
        """Return the stored funding rates of a window; a rate that is not stored is not returned.

        Raises:
            DamagedObjectError: an object is damaged, and none is to be left out.
            ObjectStoreError: the bucket cannot be read.
        """
        found: list[FundingRate] = []
        for month in month_windows(window):
            rates = lake.funding([symbol], month.start, month.end, store=self._store)
            try:
                frame = rates.select(
                    "funding_time", "funding_rate", "mark_price", "interval_hours"
                ).collect()
            except DamagedObjectError as error:
                if not self._skip:
                    raise
                self._damaged.append(error.key)
                continue
            found += (
                FundingRate(time, _exact(rate), None if mark is None else _exact(mark), hours)
                for time, rate, mark, hours in frame.iter_rows()
            )
        return found

    def listed(self) -> Mapping[str, Sequence[Window]]:
        """Return when each symbol was listed, by the memory of all listings."""
        found: dict[str, list[Window]] = {}
        for each in read_identities(self._store):
            ends = each.delivery_date
            if each.gone is not None:
                ends = min(ends, each.last_seen)
            start = _INTERVAL.floor(each.listed_at)
            if start < min(ends, _NO_END):
                found.setdefault(each.symbol, []).append(Window(start, min(ends, _NO_END)))
        return found


def lake_documents(store: ObjectStore) -> DocumentsReader:
    """Return the reader of the rules and fees on the lake."""
    return lambda symbols: read_trading_documents(store, symbols)


def _exact(value: float) -> Decimal:
    """Return a stored number as the decimal it was made from; the exchange gives eight decimals."""
    return round(Decimal(repr(value)), 8)
