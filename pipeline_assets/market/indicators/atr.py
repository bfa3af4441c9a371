"""ATR: the average true range."""

from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from pipeline_assets.market.indicators.indicator import (
    DECAYING_SEED_WEIGHT,
    Candles,
    Period,
    candles_to_forget,
    known,
    move_mean,
)

if TYPE_CHECKING:
    from pipeline_assets.market.indicators.indicator import Array, Counts


@dataclass(frozen=True)
class Atr:
    """TA-Lib's ATR: Wilder's smoothing of the true range from the second candle on, seeded by the
    mean of the first ones. In the quote asset.
    """

    period: Period

    @property
    def columns(self) -> tuple[str, ...]:
        """`atr_{period}`."""
        return (f"atr_{self.period}",)

    @property
    def candles_needed(self) -> int:
        """The seed, and what it takes to forget it."""
        return self.period + 1 + candles_to_forget(1 / self.period, DECAYING_SEED_WEIGHT)

    @property
    def height(self) -> int:
        """The mean."""
        return 1

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Compute the values by TA-Lib."""
        import talib

        return (talib.ATR(candles.high, candles.low, candles.close, self.period),)

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """One step. The first candle has no true range."""
        import numpy as np

        highest = np.maximum(candles.high, close_before)
        lowest = np.minimum(candles.low, close_before)
        move_mean(state[0], highest - lowest, 1 / self.period, self.period, seen - 1)
        return (known(state[0], seen, self.period + 1),)
