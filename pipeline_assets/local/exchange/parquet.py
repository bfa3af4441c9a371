"""A person's own Parquet files as a candle source. Files are read, never written.

File names are `SYMBOL-INTERVAL-anything.parquet`, anywhere below one directory. How candles become
replies is in market.py.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline_assets.local.exchange.candles import Block, Decimals, empty_block
from pipeline_assets.local.exchange.contracts import Contract
from pipeline_assets.local.exchange.intervals import DAY, INTERVALS
from pipeline_assets.local.exchange.moments import format_moment

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = re.compile(r"^(?P<symbol>[^-]+)-(?P<interval>\d+[a-zA-Z])-.*\.parquet$")

FUNDING_FILE = re.compile(r"^(?P<symbol>[^-]+)-funding(Rate)?-.*\.parquet$")
"""Names of the files that funding_files.py reads."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "open_time": ("timestamp", "date", "time"),
    "open": (),
    "high": (),
    "low": (),
    "close": (),
    "volume": (),
    "quote_volume": ("quote_asset_volume",),
    "trades": ("count", "number_of_trades", "trade_count"),
    "taker_buy_volume": ("taker_buy_base", "taker_buy_base_volume", "taker_buy_base_asset_volume"),
    "taker_buy_quote_volume": ("taker_buy_quote", "taker_buy_quote_asset_volume"),
}
"""The columns of a candle and the other names that files give them."""

NECESSARY = ("open_time", "open", "high", "low", "close")

CANDLES_KEPT = 8_000_000
"""Candles of files in memory, some 640 MB at most; those not asked for longest go first."""

MOST_PLACES = 12
LATEST_MS = 4133404800000
LARGEST_EXACT = 1 << 52
LARGEST_SUM = (1 << 62) // 1440


@dataclass(frozen=True)
class CandleFile:
    """One file: what its name says, and which column holds what."""

    path: Path
    symbol: str
    interval: str
    columns: dict[str, str]
    first_ms: int
    last_ms: int

    def absent(self) -> list[str]:
        """Return the columns that the file does not have; they are served as 0."""
        return [name for name in COLUMNS if name not in self.columns]


class ParquetCandles:
    """A candle source over the files below a directory.

    A day within the span of an interval's own files is served from them, holes included. Any other
    day, and any interval without files, is aggregated from the 1m files.

    Raises:
        ValueError: the directory holds no file of candles.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.skipped: dict[str, str] = {}
        self.files: dict[str, dict[str, list[CandleFile]]] = {}
        for path in sorted(directory.rglob("*.parquet")):
            if not FUNDING_FILE.match(path.name):
                self._add(path)
        if not self.files:
            raise ValueError(
                f"No candle files below {directory}: expected Parquet files named like "
                f"BTCUSDT-1m-2025-05.parquet with the columns {', '.join(NECESSARY)}"
                + "".join(f"; {name}: {why}" for name, why in self.skipped.items())
            )
        self._loaded: OrderedDict[tuple[str, str], tuple[Block, Decimals]] = OrderedDict()
        self.contracts = {symbol: self._contract(symbol) for symbol in self.files}

    def _add(self, path: Path) -> None:
        """Take a file in, or note why not."""
        match = FILE_NAME.match(path.name)
        if match is None or match["interval"] not in INTERVALS:
            self.skipped[path.name] = "its name is not SYMBOL-INTERVAL-….parquet"
            return
        try:
            file = open_candle_file(path, match["symbol"], match["interval"])
        except ValueError as error:
            self.skipped[path.name] = str(error)
            return
        self.files.setdefault(file.symbol, {}).setdefault(file.interval, []).append(file)

    def _contract(self, symbol: str) -> Contract:
        """Return a contract derived from the files: listed with the oldest, precision from its first rows."""
        files = self._of(symbol)
        block, decimals = read_candles(files[:1], most_rows=1440)
        quote = next((name for name in ("USDT", "USDC", "BUSD") if symbol.endswith(name)), "USDT")
        return Contract(
            symbol=symbol,
            base=symbol.removesuffix(quote),
            quote=quote,
            price_units=int(block.values[0, 0]),
            price_precision=decimals.price,
            tick_units=1,
            quantity_precision=decimals.volume,
            turnover=0,
            onboard_ms=min(file.first_ms for file in files),
        )

    def _of(self, symbol: str) -> list[CandleFile]:
        """Return all files of a symbol."""
        return [file for files in self.files[symbol].values() for file in files]

    def _covers(self, symbol: str, interval: str, day: int) -> bool:
        """Return whether the interval's own files have a candle in this day or on both sides of it."""
        files = self.files[symbol].get(interval, [])
        return any(file.first_ms < day + DAY for file in files) and any(
            file.last_ms >= day for file in files
        )

    def lifetime(self, symbol: str) -> tuple[int, int]:
        """From the first candle of any interval to the end of the last."""
        files = self._of(symbol)
        end = max(file.last_ms + INTERVALS[file.interval] for file in files)
        return min(file.first_ms for file in files), end

    def decimals(self, symbol: str, interval: str, day: int) -> Decimals:
        """Return the places that the numbers of the files of that day need."""
        source = interval if self._covers(symbol, interval, day) else "1m"
        return self._load(symbol, source)[1]

    def candles(self, symbol: str, interval: str, day: int) -> Block | None:
        """Return the day's candles of the interval's own files, or None: aggregate the 1m files."""
        if interval != "1m" and not self._covers(symbol, interval, day):
            return None
        return self._load(symbol, interval)[0].between(day, day + DAY)

    def _load(self, symbol: str, interval: str) -> tuple[Block, Decimals]:
        """Return all candles of one symbol and interval, from memory or from the files."""
        key = (symbol, interval)
        if key not in self._loaded:
            self._loaded[key] = read_candles(self.files[symbol].get(interval, []))
        self._loaded.move_to_end(key)
        while len(self._loaded) > 1 and self._rows_loaded() > CANDLES_KEPT:
            self._loaded.popitem(last=False)
        return self._loaded[key]

    def _rows_loaded(self) -> int:
        """Return how many candles are in memory."""
        return sum(len(block.open_times) for block, _ in self._loaded.values())

    def description(self) -> dict[str, object]:
        """Return the directory, what is held, and what was made up or left out."""
        return {
            "source": "parquet",
            "directory": str(self.directory),
            "held": {
                symbol: {
                    interval: [
                        format_moment(min(file.first_ms for file in files)),
                        format_moment(max(file.last_ms for file in files)),
                    ]
                    for interval, files in held.items()
                }
                for symbol, held in self.files.items()
            },
            "aggregated_from_1m": {
                symbol: [name for name in INTERVALS if name not in held]
                for symbol, held in self.files.items()
            },
            "columns_served_as_0": self.absent_columns(),
            "skipped_files": self.skipped,
        }

    def absent_columns(self) -> dict[str, list[str]]:
        """Return the columns that are missing, by file name."""
        return {
            file.path.name: file.absent()
            for symbol in self.files
            for file in self._of(symbol)
            if file.absent()
        }

    def newest_ms(self) -> int:
        """Return the end of the newest candle of all files."""
        return max(self.lifetime(symbol)[1] for symbol in self.files)


def open_candle_file(path: Path, symbol: str, interval: str) -> CandleFile:
    """Return what a file holds, from its schema and its open times.

    Raises:
        ValueError: a necessary column is absent, there is no row, or open times are not in ms.
    """
    import pyarrow.parquet as pq

    # Not pq.read_table: it imports pyarrow.dataset and pandas, two seconds at the start.
    with pq.ParquetFile(path) as opened:
        present = {name.lower().replace(" ", "_"): name for name in opened.schema_arrow.names}
        columns = {}
        for name, others in COLUMNS.items():
            found = next((present[one] for one in (name, *others) if one in present), None)
            if found is not None:
                columns[name] = found
        missing = [name for name in NECESSARY if name not in columns]
        if missing:
            raise ValueError(f"the columns {', '.join(missing)} are absent")
        open_times = milliseconds(opened.read(columns=[columns["open_time"]]))
    if not len(open_times):
        raise ValueError("it holds no rows")
    first, last = int(open_times.min()), int(open_times.max())
    if not 0 < first <= last < LATEST_MS:
        raise ValueError(f"its open times are not milliseconds since 1970: {first} to {last}")
    return CandleFile(path, symbol, interval, columns, first, last)


def milliseconds(table: "pa.Table") -> NDArray[np.int64]:
    """Return a table's first column, integers or timestamps, as int64 ms since the epoch."""
    import pyarrow as pa

    column = table.column(0)
    if pa.types.is_timestamp(column.type):
        # A zone changes how a timestamp prints, not which moment it is.
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False)
    return plain(column, pa.int64())


def plain(column: "pa.ChunkedArray", kind: "pa.DataType") -> NDArray[Any]:
    """Return a column as a NumPy array of `kind`, without pyarrow's to_numpy: that imports pandas.

    Raises:
        ValueError: a value is missing, or is no number.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} values are missing: remove those rows")
    chunks = [np.from_dlpack(chunk) for chunk in column.cast(kind).chunks if len(chunk)]
    return np.concatenate(chunks) if chunks else np.empty(0)


def read_candles(files: list[CandleFile], most_rows: int | None = None) -> tuple[Block, Decimals]:
    """Return the candles of files of one symbol and interval, ascending, one an open time.

    Where files overlap, the last by name wins.

    Raises:
        ValueError: a number is missing or not finite, which no reply could carry.
    """
    if not files:
        return empty_block(), Decimals(0, 0, 0)
    open_times, columns = zip(*(read_columns(file, most_rows) for file in files), strict=True)
    times, numbers = np.concatenate(open_times), np.concatenate(columns, axis=1)
    if not np.isfinite(numbers).all():
        names = ", ".join(file.path.name for file in files)
        raise ValueError(f"Numbers that are not finite in {names}: remove those rows")
    order = np.argsort(times, kind="stable")
    kept = order[np.append(np.diff(times[order]) > 0, True)]
    prices, price = whole_units(numbers[:4, kept])
    volumes, volume = whole_units(numbers[[4, 7]][:, kept])
    quotes, quote = whole_units(numbers[[5, 8]][:, kept])
    trades = numbers[6:7, kept].astype(np.int64)
    values = np.concatenate(
        (prices, volumes[:1], quotes[:1], trades, volumes[1:], quotes[1:]), axis=0
    )
    return Block(times[kept], values), Decimals(price, volume, quote)


def read_columns(
    file: CandleFile, most_rows: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a file's open times and its nine columns of numbers, shape (9, n), absent ones 0.

    Raises:
        ValueError: a column does not hold what its name says; the message names file and column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(file.columns.values())
    with pq.ParquetFile(file.path) as opened:
        if most_rows is None:
            table = opened.read(columns=names)
        else:
            batches = opened.iter_batches(batch_size=most_rows, columns=names)
            table = pa.Table.from_batches([next(batches)])
    open_times = milliseconds(table.select([file.columns["open_time"]]))
    numbers = np.zeros((9, len(open_times)))
    for position, name in enumerate(list(COLUMNS)[1:]):
        if name in file.columns:
            try:
                numbers[position] = plain(table.column(file.columns[name]), pa.float64())
            except ValueError as error:
                raise ValueError(f"{file.path.name}, column {name}: {error}") from error
    return open_times, numbers


def whole_units(numbers: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """Return the shortest decimals that read back as these numbers, as whole units of 10^-places.

    Returns:
        The units, int64, or Python integers (dtype object) where a day's sum would not fit; and
        the places.
    """
    largest = float(np.abs(numbers).max(initial=0))
    for places in range(MOST_PLACES + 1):
        scale = 10.0**places
        if largest * scale > LARGEST_EXACT:
            break
        units = np.rint(numbers * scale)
        # Division rounds correctly, so equality means that the shortest decimal has these places.
        if np.array_equal(units / scale, numbers):
            exact = units.astype(np.int64)
            return exact if largest * scale < LARGEST_SUM else exact.astype(object), places
    decimals = [Decimal(repr(number)) for number in numbers.ravel().tolist()]
    places = max(0, *(-int(number.as_tuple().exponent) for number in decimals))
    objects = np.array([int(number.scaleb(places)) for number in decimals], object)
    return objects.reshape(numbers.shape), places
