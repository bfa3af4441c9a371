"""RSI: the relative strength index of closes."""

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
class Rsi:
    """TA-Lib's RSI: Wilder's smoothing of gains and losses, seeded by their first means; 0 to 100.

    Prices that never moved have RSI 0, not 50. Prices that stand still keep the RSI of their last
    move permanently, since gains and losses decay alike. If prices stood still in all candles needed,
    a rebuilt state has RSI 0 until the next move.
    """

    period: Period

    @property
    def columns(self) -> tuple[str, ...]:
        """`rsi_{period}`."""
        return (f"rsi_{self.period}",)

    @property
    def candles_needed(self) -> int:
        """The seed, and what it takes to forget it."""
        return self.period + 1 + candles_to_forget(1 / self.period, DECAYING_SEED_WEIGHT)

    @property
    def height(self) -> int:
        """The mean gain and the mean loss."""
        return 2

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Compute the values by TA-Lib."""
        import talib

        return (talib.RSI(candles.close, self.period),)

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """One step. The first candle has no change."""
        import numpy as np

        gain, loss = state
        change = candles.close - close_before
        move_mean(gain, np.maximum(change, 0.0), 1 / self.period, self.period, seen - 1)
        move_mean(loss, np.maximum(-change, 0.0), 1 / self.period, self.period, seen - 1)
        movement = gain + loss
        still = movement == 0
        index = np.where(still, 0.0, 100 * (gain / np.where(still, 1.0, movement)))
        return (known(index, seen, self.period + 1),)
