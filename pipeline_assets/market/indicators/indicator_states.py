"""Indicator states of many symbols: advanced candle by candle, encoded as bytes.
resources/indicator_state.py stores them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self
from zlib import crc32

from pipeline_assets.market.indicators.indicator import Candles, IndicatorError
from pipeline_assets.market.indicators.indicator_set import (
    IndicatorSet,
    candle_inputs,
    microseconds,
    series,
    symbol_starts,
)
from pipeline_assets.market.intervals import EPOCH

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from pipeline_assets.market.indicators.indicator import Array, Counts

_MICROSECOND = timedelta(microseconds=1)
_CHECKSUM_BYTES = 4


class IndicatorStates:
    """The states of some symbols' indicators.

    Immutable: `advance` returns new states, so the old ones stay valid if a later step fails.
    """

    def __init__(
        self,
        indicator_set: IndicatorSet,
        symbols: Sequence[str],
        open_times: "Counts",
        seen: "Counts",
        numbers: "Array",
    ) -> None:
        self.indicator_set = indicator_set
        self.symbols = tuple(symbols)
        # The open time of each symbol's newest candle: microseconds since the epoch, UTC.
        self._open_times = open_times
        self._seen = seen
        # (1 + columns + the set's height, symbols): the newest close, the newest values, the states.
        self._numbers = numbers

    @property
    def open_times(self) -> dict[str, datetime]:
        """The open time (UTC) of the newest candle of each symbol."""
        return {
            symbol: EPOCH + value * _MICROSECOND
            for symbol, value in zip(self.symbols, self._open_times.tolist(), strict=True)
        }

    @property
    def candles_seen(self) -> dict[str, int]:
        """Candles each state was computed from, counted anew after a rebuild."""
        return dict(zip(self.symbols, self._seen.tolist(), strict=True))

    def ready(self, symbol: str) -> bool:
        """Return whether every indicator of the symbol is independent of where its history began."""
        return self.candles_seen[symbol] >= self.indicator_set.candles_needed

    @classmethod
    def from_history(cls, indicator_set: IndicatorSet, candles: "pl.DataFrame") -> Self:
        """Return the states after the candles of some symbols; only the last `candles_needed` count.

        Args:
            indicator_set: the indicators.
            candles: a candle frame sorted by symbol and open time, without repetition. Symbols may
                have different numbers of candles; one without any has no state.

        Raises:
            IndicatorError: the candles are not in order, or hold a value that is not a finite number.
        """
        import numpy as np
        import polars as pl

        symbol_starts(candles)
        recent = candles.group_by("symbol", maintain_order=True).tail(indicator_set.candles_needed)
        # Longest first, so that the symbols which have a candle at a step are the first columns.
        spans = (
            recent.with_row_index("row")
            .group_by("symbol")
            .agg(first=pl.col("row").min().cast(pl.Int64), count=pl.len().cast(pl.Int64))
            .sort(["count", "symbol"], descending=[True, False])
        )
        first, count = spans["first"].to_numpy(), spans["count"].to_numpy()
        inputs = candle_inputs(recent)
        numbers = _nothing_seen(indicator_set, len(spans))
        for number in range(count[0] if len(count) else 0):
            living = int(np.searchsorted(-count, -number, side="left"))
            rows = first[:living] + number
            newest = Candles(*(each[rows] for each in inputs))
            _move(indicator_set, numbers[:, :living], newest, np.full(living, number + 1))
        open_times = microseconds(recent["open_time"])[first + count - 1]
        states = cls(indicator_set, spans["symbol"].to_list(), open_times, count, numbers)
        return states.select(sorted(states.symbols))

    def advance(self, candles: "pl.DataFrame") -> tuple[Self, "pl.DataFrame"]:
        """Return the states after one more candle of some of the symbols.

        Args:
            candles: a candle frame of one newer candle a symbol, in any order of symbols; open times
                may differ from symbol to symbol, and a gap before them is skipped.

        Returns:
            All states, with those of the frame's symbols updated; and the frame as
            `IndicatorSet.history` would return these rows.

        Raises:
            IndicatorError: a symbol has no state or two rows, or a candle is not newer than its
                symbol's state or holds a value that is not a finite number.
        """
        import polars as pl

        places = self._places(candles["symbol"].to_list())
        open_times = microseconds(candles["open_time"])
        self._refuse_older(candles, open_times <= self._open_times[places])
        moved = self._numbers[:, places].copy()
        count = len(self.indicator_set.columns)
        close_previous, previous = moved[0].copy(), moved[1 : 1 + count].copy()
        seen = self._seen[places] + 1
        _move(self.indicator_set, moved, candle_inputs(candles), seen)
        added = [pl.Series("candles_seen", seen), series("close_previous", close_previous)]
        for row, name in enumerate(self.indicator_set.columns):
            added += [series(name, moved[1 + row]), series(f"{name}_previous", previous[row])]
        all_open_times, all_seen = self._open_times.copy(), self._seen.copy()
        all_open_times[places], all_seen[places] = open_times, seen
        numbers = moved
        if not isinstance(places, slice):
            numbers = self._numbers.copy()
            numbers[:, places] = moved
        states = type(self)(self.indicator_set, self.symbols, all_open_times, all_seen, numbers)
        return states, candles.hstack(added)

    def select(self, symbols: Iterable[str]) -> Self:
        """Return the states of these symbols, in their order.

        Raises:
            IndicatorError: a symbol has no state here, or is named twice.
        """
        import numpy as np

        wanted = list(symbols)
        places = self._places(wanted)
        return type(self)(
            self.indicator_set,
            wanted,
            self._open_times[places],
            self._seen[places],
            np.ascontiguousarray(self._numbers[:, places]),
        )

    def merge(self, others: Self) -> Self:
        """Return both; where both have a symbol, the other's state wins.

        Raises:
            IndicatorError: they are states of other indicators.
        """
        import numpy as np

        if others.indicator_set.fingerprint != self.indicator_set.fingerprint:
            raise IndicatorError(
                "States of other indicators cannot be merged: rebuild them from history."
            )
        replaced = set(others.symbols)
        kept = self.select(symbol for symbol in self.symbols if symbol not in replaced)
        return type(self)(
            self.indicator_set,
            kept.symbols + others.symbols,
            np.concatenate([kept._open_times, others._open_times]),
            np.concatenate([kept._seen, others._seen]),
            np.concatenate([kept._numbers, others._numbers], axis=1),
        )

    def encode(self) -> dict[str, bytes]:
        """Return one value a symbol, of which `decode` makes the same states, to the last bit."""
        import numpy as np

        records = np.zeros(len(self.symbols), _record(self.indicator_set))
        records["fingerprint"] = self.indicator_set.fingerprint.encode()
        records["open_time"], records["seen"] = self._open_times, self._seen
        records["numbers"] = self._numbers.T
        content, size = records.tobytes(), records.itemsize
        encoded = {}
        for number, symbol in enumerate(self.symbols):
            body = content[number * size : (number + 1) * size]
            encoded[symbol] = body + _checksum(symbol, body)
        return encoded

    @classmethod
    def decode(
        cls, indicator_set: IndicatorSet, encoded: Mapping[str, bytes]
    ) -> tuple[Self, dict[str, str]]:
        """Return the states in values of `encode`, and by symbol the reason for each refused value.

        A value is refused if it is of other indicators, of an older version of the code, of another
        symbol, or damaged: the symbol's state has to be rebuilt from history.
        """
        import numpy as np

        record = _record(indicator_set)
        fingerprint = indicator_set.fingerprint.encode()
        useless: dict[str, str] = {}
        bodies: dict[str, bytes] = {}
        for symbol, value in encoded.items():
            body = value[:-_CHECKSUM_BYTES]
            if value[-_CHECKSUM_BYTES:] != _checksum(symbol, body):
                useless[symbol] = "the state is damaged"
            elif not body.startswith(fingerprint) or len(body) != record.itemsize:
                useless[symbol] = "the state is of other indicators or an older version of the code"
            else:
                bodies[symbol] = body
        records = np.frombuffer(b"".join(bodies.values()), record)
        states = cls(
            indicator_set,
            tuple(bodies),
            records["open_time"].copy(),
            records["seen"].copy(),
            np.ascontiguousarray(records["numbers"].T),
        )
        return states, useless

    def _places(self, symbols: list[str]) -> "slice | NDArray[np.intp]":
        """Return the columns of these symbols; a slice, which is much quicker, if these are all."""
        import numpy as np

        if tuple(symbols) == self.symbols:
            return slice(None)
        place_of = {symbol: place for place, symbol in enumerate(self.symbols)}
        unknown = sorted(set(symbols) - place_of.keys())
        if unknown:
            raise IndicatorError(
                f"There is no state of {', '.join(unknown)}: make one with from_history first."
            )
        if len(set(symbols)) != len(symbols):
            raise IndicatorError("A symbol has two rows: give one candle of each at a time.")
        return np.array([place_of[symbol] for symbol in symbols], np.intp)

    def _refuse_older(self, candles: "pl.DataFrame", older: "NDArray[np.bool_]") -> None:
        if older.any():
            symbol, reported = candles.select("symbol", "open_time").row(int(older.argmax()))
            raise IndicatorError(
                f"The candle of {symbol} at {reported} is not newer than its state, which stands at "
                f"{self.open_times[symbol]}: give newer ones only, or rebuild with from_history."
            )


def _nothing_seen(indicator_set: IndicatorSet, symbols: int) -> "Array":
    import numpy as np

    numbers = np.zeros((1 + len(indicator_set.columns) + indicator_set.height, symbols))
    numbers[: 1 + len(indicator_set.columns)] = np.nan
    return numbers


def _move(indicator_set: IndicatorSet, numbers: "Array", candles: Candles, seen: "Counts") -> None:
    """Move the numbers of all these symbols on by one candle each, in place."""
    states = 1 + len(indicator_set.columns)
    values = indicator_set.step(numbers[states:], candles, numbers[0], seen)
    # Strategies may read candles alone: NumPy cannot assign an empty list.
    if values:
        numbers[1:states] = values
    numbers[0] = candles.close


def _record(indicator_set: IndicatorSet) -> "np.dtype[np.void]":
    """Return the layout of one encoded state; little-endian wherever it is read."""
    import numpy as np

    numbers = 1 + len(indicator_set.columns) + indicator_set.height
    return np.dtype(
        [
            ("fingerprint", "S16"),
            ("open_time", "<i8"),
            ("seen", "<i8"),
            ("numbers", "<f8", (numbers,)),
        ]
    )


def _checksum(symbol: str, body: bytes) -> bytes:
    """Return a checksum over symbol and body, so that a state is refused under another symbol."""
    return crc32(body, crc32(symbol.encode())).to_bytes(_CHECKSUM_BYTES, "little")
