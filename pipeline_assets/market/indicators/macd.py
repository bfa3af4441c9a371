"""MACD: the distance of two EMAs of closes, its own EMA (the signal), and what is between them."""

from typing import TYPE_CHECKING, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from pipeline_assets.market.indicators.ema import ema_weight
from pipeline_assets.market.indicators.indicator import (
    Candles,
    Period,
    candles_to_forget,
    known,
    move_mean,
)

if TYPE_CHECKING:
    from pipeline_assets.market.indicators.indicator import Array, Counts


@dataclass(frozen=True)
class Macd:
    """TA-Lib's MACD: both EMAs have their first value, the mean of their last closes, when the slow
    one has; all three columns begin with the signal. In the quote asset.
    """

    fast: Period
    slow: Period
    signal: Period

    @model_validator(mode="after")
    def _fast_before_slow(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast ({self.fast}) must be less than slow ({self.slow})")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """`macd_{fast}_{slow}_{signal}`, `macd_signal_…` and `macd_histogram_…`."""
        parameters = f"{self.fast}_{self.slow}_{self.signal}"
        return tuple(f"{name}_{parameters}" for name in ("macd", "macd_signal", "macd_histogram"))

    @property
    def candles_needed(self) -> int:
        """One after the other, for the signal's seed is made of what the slow EMA's seed left."""
        seeds = self.slow + self.signal
        return seeds + sum(
            candles_to_forget(ema_weight(period)) for period in (self.slow, self.signal)
        )

    @property
    def height(self) -> int:
        """The two means and the signal."""
        return 3

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Compute the values by TA-Lib."""
        import talib

        macd, signal, histogram = talib.MACD(candles.close, self.fast, self.slow, self.signal)
        return macd, signal, histogram

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """One step."""
        fast, slow, signal = state
        aligned = seen - (self.slow - self.fast)
        move_mean(fast, candles.close, ema_weight(self.fast), self.fast, aligned)
        move_mean(slow, candles.close, ema_weight(self.slow), self.slow, seen)
        macd = fast - slow
        started = seen - (self.slow - 1)
        move_mean(signal, macd, ema_weight(self.signal), self.signal, started)
        values = (macd, signal, macd - signal)
        return tuple(known(each, started, self.signal) for each in values)
