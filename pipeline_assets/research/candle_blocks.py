"""Stored candles as the step's tables: ticks, flags and signals, month by month. Objects are read in
readers.py; the loop over months is in backtest.py.

Indicators begin anew each calendar month, after as many candles as they need to forget where their history
began. So their last bits depend on the calendar, and not on how much is read at once or on the workers.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.candles import CANDLE_COLUMNS, PRICE_COLUMNS
from pipeline_assets.market.indicators import Atr
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.market.strategies import indicators_of
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import UNIT, Grid
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_types import BacktestInputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Flags = NDArray[np.uint8]

# The step reads prices, indicators read prices and volumes; a strategy may ask for more.
COLUMNS = ("symbol", "open_time", *PRICE_COLUMNS, "volume")
_MINUTE = timedelta(minutes=1)
_MICROSECONDS = 60_000_000
# A price this far off its tick, in ticks, does not lie on the grid.
_OFF_GRID = 1e-3


@dataclass
class Block:
    """The candles and signals of one month, or of a part of it.

    Attributes:
        window: the span.
        candles: open, high, low, close in ticks; each (symbols, minutes), 0 in a gap.
        flags: of the step, (symbols, minutes).
        signals: rows of the step.
    """

    window: Window
    candles: "tuple[Whole, Whole, Whole, Whole]"
    flags: "Flags"
    signals: "Whole"


@dataclass
class SymbolCounts:
    """The number of a symbol's candles, of those off its grid, and of minutes without one."""

    candles: int = 0
    off_grid: int = 0
    gap_minutes: int = 0
    last_minute: int | None = None


class BlockBuilder:
    """Makes blocks of frames, one after the other."""

    def __init__(
        self,
        strategies: Sequence[Strategy],
        symbols: Sequence[str],
        listed: Mapping[str, Sequence[Window]],
        settled: Mapping[str, Sequence[int]],
        workers: int,
        evaluated: "Callable[[pl.DataFrame], None]" = lambda _: None,
    ) -> None:
        """Make a builder.

        Args:
            strategies: in the order of the settings.
            symbols: in the order that breaks ties.
            listed: when each symbol was listed; one that is not named, always.
            settled: the minutes of the candles at which positions of a delisted symbol are settled.
            workers: the number of threads.
            evaluated: is called with each symbol's candles and indicators of a block, from any thread.
        """
        self._evaluated = evaluated
        self._strategies, self.symbols = strategies, symbols
        self._listed, self._settled, self._workers = listed, settled, workers
        self._indicators = indicators_of(strategies)
        self.columns = _columns_read(strategies)
        self._tails: dict[str, pl.DataFrame] = {}
        self.counts = {symbol: SymbolCounts() for symbol in symbols}

    @property
    def warm_up(self) -> timedelta:
        """How long before its start a backtest reads candles; outages are allowed for."""
        return timedelta(minutes=self._indicators.candles_needed, hours=6)

    def warm(self, frame: "pl.DataFrame") -> None:
        """Take the candles before the first block."""
        self._tails = {
            symbol: held.tail(self._indicators.candles_needed)
            for symbol, held in by_symbol(frame).items()
        }

    def block(self, frame: "pl.DataFrame", window: Window, grids: Mapping[str, Grid]) -> Block:
        """Return the block of a window. Windows follow each other.

        Args:
            frame: the window's candles of any symbols, sorted by symbol and open time.
            window: the span.
            grids: by symbol, of all symbols in the frame.
        """
        import numpy as np

        held = by_symbol(frame)
        shape = (len(self.symbols), (window.end - window.start) // _MINUTE)
        prices = np.zeros((len(PRICE_COLUMNS), *shape), np.int64)
        flags = np.zeros(shape, np.uint8)

        def fill(place: int) -> "Whole":
            symbol = self.symbols[place]
            if symbol not in held:
                return np.empty((0, 5), np.int64)
            candles = held[symbol]
            at = _minutes_of(candles) - to_minute(window.start)
            self._fill(symbol, candles, at, grids[symbol], prices[:, place], flags[place])
            self._flag(symbol, window, at, flags[place])
            return self._signals(place, candles, window)

        with ThreadPoolExecutor(self._workers) as pool:
            tables = list(pool.map(fill, range(len(self.symbols))))
        signals = np.concatenate([np.empty((0, 5), np.int64), *tables])
        order = np.lexsort((signals[:, 2], signals[:, 1], signals[:, 0]))
        opens, highs, lows, closes = prices
        return Block(window, (opens, highs, lows, closes), flags, signals[order])

    def _fill(
        self,
        symbol: str,
        candles: "pl.DataFrame",
        at: "Whole",
        grid: Grid,
        prices: "Whole",
        flags: "Flags",
    ) -> None:
        """Put a symbol's candles into the tables, and count them."""
        import numpy as np

        from pipeline_assets.market.position_step import PRESENT

        counts, off = self.counts[symbol], np.zeros(len(at), bool)
        for row, name in enumerate(PRICE_COLUMNS):
            ticks = candles[name].to_numpy() * (UNIT / grid.tick)
            whole = np.rint(ticks)
            off |= np.abs(ticks - whole) > _OFF_GRID
            prices[row, at] = whole.astype(np.int64)
        flags[at] = PRESENT
        minutes = _minutes_of(candles)
        first = int(minutes[0])
        before = first - 1 if counts.last_minute is None else counts.last_minute
        counts.candles += len(at)
        counts.off_grid += int(off.sum())
        counts.gap_minutes += int(minutes[-1]) - before - len(at)
        counts.last_minute = int(minutes[-1])

    def _flag(self, symbol: str, window: Window, at: "Whole", flags: "Flags") -> None:
        """Mark the candles in which a symbol may be traded, and those at which positions are settled."""
        from pipeline_assets.market.position_step import SETTLED, TRADABLE

        if symbol not in self._listed:
            flags[at] |= TRADABLE
            return
        begin = to_minute(window.start)
        for listing in self._listed[symbol]:
            # Clipped first: a listing without an end ends in the year 2100.
            start, end = max(listing.start, window.start), min(listing.end, window.end)
            if start >= end:
                continue
            inside = at[(at >= to_minute(start) - begin) & (at < to_minute(end) - begin)]
            flags[inside] |= TRADABLE
        for minute in self._settled.get(symbol, ()):
            if 0 <= minute - begin < len(flags):
                flags[minute - begin] |= SETTLED

    def _signals(self, place: int, candles: "pl.DataFrame", window: Window) -> "Whole":
        """Return a symbol's signals as rows of the step; its newest candles become the next warm-up."""
        import numpy as np
        import polars as pl

        symbol, needed = self.symbols[place], self._indicators.candles_needed
        whole = candles
        if symbol in self._tails:
            whole = pl.concat([self._tails[symbol], candles])
        self._tails[symbol] = whole.tail(needed)
        frame = self._indicators.history(whole).tail(len(candles))
        minutes = _minutes_of(frame)
        tables = [np.empty((0, 5), np.int64)]
        for number, strategy in enumerate(self._strategies):
            sides = _sides(strategy, frame)
            found = np.flatnonzero(sides)
            table = np.zeros((len(found), 5), np.int64)
            table[:, 0], table[:, 1], table[:, 2] = minutes[found], number, place
            table[:, 3] = sides[found]
            if period := strategy.rules.atr_period:
                (name,) = Atr(period).columns
                atr = frame[name].fill_null(0).to_numpy()[found]
                table[:, 4] = np.rint(atr * UNIT).astype(np.int64)
            tables.append(table)
        self._evaluated(frame)
        return np.concatenate(tables)


def by_symbol(frame: "pl.DataFrame") -> "dict[str, pl.DataFrame]":
    """Return the rows of each symbol of a frame sorted by symbol: slices, which copy nothing."""
    if frame.is_empty():
        return {}
    symbols = frame["symbol"].rle().struct.unnest()
    found, first = {}, 0
    for length, symbol in symbols.iter_rows():
        found[str(symbol)] = frame.slice(first, length)
        first += length
    return found


def _minutes_of(frame: "pl.DataFrame") -> "Whole":
    minutes: Whole = frame["open_time"].to_physical().to_numpy() // _MICROSECONDS
    return minutes


def _sides(strategy: Strategy, frame: "pl.DataFrame") -> "NDArray[np.int8]":
    """Return 1, -1 or 0 for each row, by the expression that live evaluation uses.

    Raises:
        BacktestInputError: the strategy fails.
    """
    import polars as pl

    try:
        side = frame.select(side=strategy.side())["side"]
        number = pl.when(side == "long").then(1).when(side == "short").then(-1).otherwise(0)
        found: NDArray[np.int8] = pl.select(number.cast(pl.Int8)).to_series().to_numpy()
    # A strategy may raise any error, as in market/evaluation.py: the person who wrote it reads it.
    except (Exception, pl.exceptions.PanicException) as error:
        raise _failure(strategy, error) from error
    return found


def _columns_read(strategies: Sequence[Strategy]) -> tuple[str, ...]:
    """Return the columns of candles that a backtest of these strategies needs, in their usual order.

    Raises:
        BacktestInputError: a strategy fails.
    """
    found = set(COLUMNS)
    for strategy in strategies:
        try:
            found |= strategy.candle_columns
        # As in _sides.
        except Exception as error:
            raise _failure(strategy, error) from error
    return tuple(name for name in CANDLE_COLUMNS if name in found)


def _failure(strategy: Strategy, error: BaseException) -> BacktestInputError:
    return BacktestInputError(
        f"strategies: {strategy.name} {strategy.version} fails: {type(error).__name__}: {error}. "
        "Mend its file in market/strategies."
    )
