"""The indicators that the configured strategies need, as one: their columns, their history, one step.
The state that the steps move on is in indicator_states.py.
"""

from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline_assets.market.indicators.indicator import Candles, Indicator, IndicatorError

if TYPE_CHECKING:
    import polars as pl

    from pipeline_assets.market.indicators.indicator import Array, Counts

CANDLE_INPUTS = ("high", "low", "close", "volume")
# To be raised with every change by which the same candles give another state or another value; a
# test holds the values of this version, so that it is not forgotten.
STATE_VERSION = 1


class IndicatorSet:
    """Indicators without repetition, in an order that does not depend on the one they came in."""

    def __init__(self, indicators: Iterable[Indicator]) -> None:
        self.indicators: tuple[Indicator, ...] = tuple(
            sorted(set(indicators), key=lambda indicator: indicator.columns)
        )

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of all values."""
        return tuple(name for indicator in self.indicators for name in indicator.columns)

    @cached_property
    def candles_needed(self) -> int:
        """How many candles make every value independent of where the history began."""
        return max((indicator.candles_needed for indicator in self.indicators), default=1)

    @cached_property
    def height(self) -> int:
        """How many numbers the state of all indicators takes for each symbol."""
        return sum(indicator.height for indicator in self.indicators)

    @cached_property
    def fingerprint(self) -> str:
        """Another one whenever the code or the parameters would make another state."""
        named = f"{STATE_VERSION} {self.indicators!r}"
        return sha256(named.encode()).hexdigest()[:16]

    def history(self, candles: "pl.DataFrame") -> "pl.DataFrame":
        """Return all indicators along the candles of some symbols.

        A gap is skipped: the candle after the gap follows the candle before it, as in the states.

        Args:
            candles: a candle frame sorted by symbol and open time; needs `symbol`, `open_time`,
                `high`, `low`, `close`, `volume`.

        Returns:
            The frame with further columns: `candles_seen` Int64 (the number of candles of the symbol
            up to and including this one), `close_previous`, and for every column of the set that column
            and `{column}_previous` (of the candle before), Float64; null before the first value.

        Raises:
            IndicatorError: the frame is not sorted, repeats an open time, or holds a price or
                volume that is not a finite number.
        """
        import numpy as np
        import polars as pl

        starts = symbol_starts(candles)
        inputs = candle_inputs(candles)
        seen = np.arange(1, len(candles) + 1)
        by_symbol = []
        for start, end in pairwise([*starts, len(candles)]):
            by_symbol.append(Candles(*(each[start:end] for each in inputs)))
            seen[start:end] -= start
        added = [pl.Series("candles_seen", seen)]
        # One indicator after the other: the arrays of a year are freed for the next one's.
        for indicator in self.indicators:
            parts = [indicator.history(one_symbol) for one_symbol in by_symbol]
            for place, name in enumerate(indicator.columns):
                column = [part[place] for part in parts]
                added.append(
                    _after_null(name, column[0])
                    if len(column) == 1
                    else series(name, np.concatenate([np.empty(0), *column]))
                )
        whole = candles.hstack(added)
        names = ["close", *self.columns]
        if len(starts) == 1:
            previous = [_previous(whole[name]) for name in names]
        else:
            # One mask for all of many symbols: a window for each takes thrice as long.
            follows = np.ones(len(candles), bool)
            follows[starts] = False
            within = pl.when(pl.lit(pl.Series(follows)))
            previous = whole.select(
                within.then(pl.col(name).shift()).alias(f"{name}_previous") for name in names
            ).get_columns()
        paired = [each for name in self.columns for each in (name, f"{name}_previous")]
        return whole.hstack(previous).select(
            *candles.columns, "candles_seen", "close_previous", *paired
        )

    def step(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "list[Array]":
        """Move the state of all indicators on by one candle of each symbol, in place.

        Args:
            state: (height, symbols).
            candles: the new candle of each symbol.
            close_before: the close of the candle before it; NaN where there is none.
            seen: how many candles each symbol has had, this one included.

        Returns:
            One array for each of `columns`; NaN before the first value.
        """
        values: list[Array] = []
        row = 0
        for indicator in self.indicators:
            rows = state[row : row + indicator.height]
            values += indicator.advance(rows, candles, close_before, seen)
            row += indicator.height
        return values


# More than the look-back of an indicator with a period of some hundred.
_HEAD = 1024


def candle_inputs(candles: "pl.DataFrame") -> Candles:
    """Return the columns that indicators read, as arrays.

    Raises:
        IndicatorError: a price or volume is not a finite number, which would spoil every later value.
    """
    import numpy as np

    columns = [candles[name].to_numpy() for name in CANDLE_INPUTS]
    for name, values in zip(CANDLE_INPUTS, columns, strict=True):
        # The sum is quicker to look at than each, and finite only if each is.
        if not np.isfinite(values.sum()) and not np.isfinite(values).all():
            place = int(np.argmin(np.isfinite(values)))
            symbol, open_time = candles.select("symbol", "open_time").row(place)
            raise IndicatorError(
                f"The {name} of {symbol} at {open_time} is no finite number: clean the candles "
                "before indicators are made of them."
            )
    return Candles(*columns)


def series(name: str, values: "Array") -> "pl.Series":
    """Return a column of values in which NaN becomes null.

    Polars holds NaN for greater than any number: with NaN, an unknown RSI would be overbought.
    """
    import polars as pl

    return pl.Series(name, values, nan_to_null=True)


def microseconds(times: "pl.Series") -> "Counts":
    """Return times (Datetime(us, UTC)) as microseconds since the epoch."""
    return times.to_numpy().view("int64")


def symbol_starts(candles: "pl.DataFrame") -> list[int]:
    """Return the first row of each symbol.

    Raises:
        IndicatorError: the frame is not sorted by symbol and open time, or repeats one.
    """
    import numpy as np

    symbols = candles["symbol"]
    if len(symbols) and (symbols == symbols[0]).all():
        starts = np.zeros(1, np.int64)
    else:
        starts = (symbols != symbols.shift()).fill_null(value=True).arg_true().to_numpy()
    open_times = microseconds(candles["open_time"])
    wrong = np.zeros(len(candles), bool)
    wrong[1:] = open_times[1:] <= open_times[:-1]
    wrong[starts] = False
    wrong[starts[1:]] = symbols.gather(starts[1:]) <= symbols.gather(starts[:-1])
    if wrong.any():
        symbol, open_time = candles.select("symbol", "open_time").row(int(wrong.argmax()))
        raise IndicatorError(
            f"The candle of {symbol} at {open_time} does not come after the one before it: sort by "
            "symbol and open time, one row each."
        )
    return [int(start) for start in starts]


def _after_null(name: str, values: "Array") -> "pl.Series":
    """Return a column of one symbol's values, in which NaN is at the beginning only and becomes null.

    This is quicker than `series`, which checks each value: here the values are not copied.
    """
    import numpy as np
    import polars as pl

    known = ~np.isnan(values[:_HEAD])
    if not known.any():
        return series(name, values)
    first = int(known.argmax())
    nothing = pl.Series(name, [None] * first, pl.Float64())
    return nothing.append(pl.Series(name, values[first:]))


def _previous(values: "pl.Series") -> "pl.Series":
    """Return the value of the row before, null in the first row; the values stay where they are."""
    import polars as pl

    first = pl.Series(f"{values.name}_previous", [None], values.dtype)
    return first.append(values.head(len(values) - 1)) if len(values) else values.clear()
