"""The reader of the lake: candles and funding rates of many symbols and any span as one Polars frame. Writing
is in resources/candle_objects.py and funding_objects.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline_assets.market.aggregation import without_zero_volume
from pipeline_assets.market.candles import KEY_COLUMNS, candle_schema, empty_candles
from pipeline_assets.market.funding import funding_schema
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candle_objects import foreign_contents, list_objects, window_start
from pipeline_assets.resources.funding_objects import read_rates
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.resources.scan_arguments import interval_of, symbols_of, window_of
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets.settings import settings

if TYPE_CHECKING:
    import polars as pl

# Symbol-days that are read, verified and decoded at once: some 10 MB of bytes, 50 MB of rows.
_DAYS_AT_ONCE = 128
_ATTEMPTS = 5


def scan(
    interval: str,
    symbols: Iterable[str],
    start: datetime,
    end: datetime,
    *,
    zero_volume: bool = True,
    verify: bool = True,
    store: ObjectStore | None = None,
) -> "pl.LazyFrame":
    """Return the stored candles of `symbols` with start <= open time < end, one row per open time.

    Objects are listed now and read when the frame is collected; only objects that can hold such rows
    are opened. A day may be finalized in between: a symbol-day whose objects were replaced is listed
    again. Filters and column selections on the result are applied while reading the objects.
    `.collect()` gives a frame, `.collect().to_pandas()` one for pandas.

    Example:
        >>> from datetime import datetime, UTC
        >>> from pipeline_assets import lake
        >>> day = datetime(2026, 11, 1, tzinfo=UTC)
        >>> lake.scan("15m", ["BTCUSDT"], day, day.replace(day=8)).collect()  # doctest: +SKIP

    Args:
        interval: "1m", "15m" or "1h".
        symbols: the symbols, in any order.
        start: first open time, an aware datetime.
        end: the open time before which to stop, an aware datetime.
        zero_volume: False leaves out candles without a trade. They are stored all the same.
        verify: False does not compare the bytes with their SHA-256. For a caller that measured
            that the comparison is too slow (1 GB/s of one core).
        store: the bucket; by default that of the settings.

    Returns:
        A lazy frame with the columns and dtypes of `market.candles.candle_schema`, sorted by
        symbol and open time; without rows if nothing is stored. Collecting it raises
        DamagedObjectError if an object is damaged, and ObjectStoreError if the bucket cannot be read.

    Raises:
        TypeError: an argument is of another type, such as one text for a list of symbols.
        ValueError: the interval or a symbol cannot exist, a time has no zone, or `end` is not after
            `start`.
        ObjectStoreError: the bucket cannot be listed.
    """
    wanted, names, window = interval_of(interval), symbols_of(symbols), window_of(start, end)
    store = store or ObjectStore(settings().s3)
    listings = store.each(
        lambda symbol: list_objects(store, wanted, symbol, window.start, window.end), names
    )
    objects = [each for listing in listings for each in listing]
    frame = scan_objects(store, objects, window, verify=verify)
    return frame if zero_volume else without_zero_volume(frame)


def funding(
    symbols: Iterable[str], start: datetime, end: datetime, *, store: ObjectStore | None = None
) -> "pl.LazyFrame":
    """Return the stored funding rates of `symbols` with start <= funding time < end, one row a settlement.

    Objects are listed and read when the frame is collected, each compared with its SHA-256. A missing rate is
    no row: `market.funding_intervals.missing_times` names the settlements without one.

    Args:
        symbols: the symbols, in any order.
        start: first funding time, an aware datetime.
        end: the time before which to stop, an aware datetime.
        store: the bucket; by default that of the settings.

    Returns:
        A lazy frame with the columns of `market.funding.funding_schema`, sorted by symbol and time.
        `mark_price` is null where the archive was the source. Collecting it raises as `scan`.

    Raises:
        TypeError, ValueError: as `scan`.
    """
    import polars as pl

    names, window = symbols_of(symbols), window_of(start, end)
    read = partial(read_rates, store or ObjectStore(settings().s3), names, window)
    return pl.defer(read, schema=funding_schema())


def scan_objects(
    store: ObjectStore, objects: Sequence[StoredObject], window: Window, *, verify: bool = True
) -> "pl.LazyFrame":
    """Return the same as `scan`, over candle objects that the caller has listed already."""
    from polars.io.plugins import register_io_source

    if not objects:
        return empty_candles().lazy()
    reader = _Reader(store, window, verify)
    days = _by_symbol_day(objects)

    def read(
        columns: list[str] | None, predicate: "pl.Expr | None", rows: int | None, _: int | None
    ) -> "Iterator[pl.DataFrame]":
        shown = candle_schema().names() if columns is None else columns
        used = {*shown, *(predicate.meta.root_names() if predicate is not None else ())}
        left = rows
        for first in range(0, len(days), _DAYS_AT_ONCE):
            if left == 0:
                return
            frame = reader.frame(days[first : first + _DAYS_AT_ONCE], used)
            if left is not None:
                frame = frame[:left]
                left -= frame.height
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame.select(shown)

    return register_io_source(read, schema=candle_schema())


@dataclass(frozen=True)
class _SymbolDay:
    """The objects of one symbol and UTC day, in window order."""

    interval: Interval
    symbol: str
    day: date
    keys: tuple[str, ...]


def _by_symbol_day(objects: Iterable[StoredObject]) -> list[_SymbolDay]:
    """Group objects by symbol and day, in the order of the rows that `scan` returns."""
    found: dict[tuple[str, date, Interval], list[str]] = {}
    for each in objects:
        _, interval, symbol, _ = each.key.split("/")
        starts = window_start(each.key)
        if starts is None:
            raise ValueError(f"{each.key} is not the key of a candle object")
        found.setdefault((symbol, starts.date(), Interval(interval)), []).append(each.key)
    return [
        _SymbolDay(interval, symbol, day, tuple(sorted(keys)))
        for (symbol, day, interval), keys in sorted(found.items())
    ]


@dataclass(frozen=True)
class _Reader:
    """Reads symbol-days: their bytes on threads of the store, their rows on Polars' own threads."""

    store: ObjectStore
    window: Window
    verify: bool

    def frame(self, days: Sequence[_SymbolDay], columns: Iterable[str]) -> "pl.DataFrame":
        """The rows of these days within the window, with at least these columns."""
        import polars as pl

        # Threads only fetch. Polars calls this function from one of its own threads, which would
        # wait for a thread that decodes, which would wait for Polars' threads.
        bodies = {
            key: body
            for found in self.store.each(self._bodies, days)
            for key, body in found.items()
        }
        used = {*columns, *KEY_COLUMNS}
        frame = self._decoded(bodies, used)
        if not _ascends(frame):
            # An hour object may overlap the finalized day that absorbs it. The row with more trades
            # is the complete candle, as in the warehouse's MERGE.
            frame = (
                self._decoded(bodies, {*used, "trades"})
                .sort(
                    *("symbol", "open_time", "trades"),
                    descending=[False, False, True],
                    maintain_order=True,
                )
                .unique(KEY_COLUMNS, keep="first", maintain_order=True)
            )
        within = pl.col("open_time").is_between(self.window.start, self.window.end, closed="left")
        return frame.filter(within)

    def _bodies(self, day: _SymbolDay) -> dict[str, bytes]:
        """The bytes of a day's objects by key; listed again while a finalize removes some of them."""
        keys = day.keys
        for _ in range(_ATTEMPTS):
            found = {key: self._body(key) for key in keys}
            present = {key: body for key, body in found.items() if body is not None}
            if len(present) == len(found):
                return present
            span = day_window(day.day)
            listed = list_objects(self.store, day.interval, day.symbol, span.start, span.end)
            keys = tuple(each.key for each in listed)
        raise ObjectStoreError(
            f"The {day.interval} objects of {day.symbol} of {day.day} were removed {_ATTEMPTS} times "
            "between listing and reading them. Find out which runs write this symbol (Dagster's Runs "
            "page), then read again."
        )

    def _body(self, key: str) -> bytes | None:
        if self.verify:
            body = self.store.get(key)
            if body is not None and (foreign := self._foreign(key, body)):
                raise self.store.damaged(key, foreign)
            return body
        found = self.store.find(key)
        return found.body if found else None

    def _foreign(self, key: str, body: bytes) -> str | None:
        from pipeline_assets.market.encoding import MalformedObjectError

        try:
            return foreign_contents(key, body)
        except MalformedObjectError as error:
            return str(error)

    def _decoded(self, bodies: dict[str, bytes], columns: Iterable[str]) -> "pl.DataFrame":
        from pipeline_assets.market.encoding import MalformedObjectError, decode_columns

        wanted = [name for name in candle_schema().names() if name in set(columns)]
        try:
            # At once, which takes a quarter of the CPU of one after the other.
            return decode_columns(list(bodies.values()), wanted)
        except MalformedObjectError:
            frames = [self._decoded_alone(key, body, wanted) for key, body in bodies.items()]
        import polars as pl

        return pl.concat(frames)

    def _decoded_alone(self, key: str, body: bytes, columns: Sequence[str]) -> "pl.DataFrame":
        from pipeline_assets.market.encoding import MalformedObjectError, decode_columns

        try:
            return decode_columns([body], columns)
        except MalformedObjectError as error:
            raise self.store.damaged(key, str(error)) from error


def _ascends(frame: "pl.DataFrame") -> bool:
    """Return whether each row is of a later open time than the one before, or of another symbol."""
    import polars as pl

    stays = pl.col("symbol") == pl.col("symbol").shift()
    falls = pl.col("open_time") <= pl.col("open_time").shift()
    return not frame.select((stays & falls).any()).item()
