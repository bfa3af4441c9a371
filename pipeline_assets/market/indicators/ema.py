"""EMA: the exponential moving average of closes."""

from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from pipeline_assets.market.indicators.indicator import (
    Candles,
    Period,
    candles_to_forget,
    known,
    move_mean,
)

if TYPE_CHECKING:
    from pipeline_assets.market.indicators.indicator import Array, Counts


def ema_weight(period: int) -> float:
    """Return the weight of a new value."""
    return 2 / (period + 1)


@dataclass(frozen=True)
class Ema:
    """TA-Lib's EMA: seeded by the mean of the first closes. In the quote asset."""

    period: Period

    @property
    def columns(self) -> tuple[str, ...]:
        """`ema_{period}`."""
        return (f"ema_{self.period}",)

    @property
    def candles_needed(self) -> int:
        """The seed, and what it takes to forget it."""
        return self.period + candles_to_forget(ema_weight(self.period))

    @property
    def height(self) -> int:
        """The mean."""
        return 1

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Compute the values by TA-Lib."""
        import talib

        return (talib.EMA(candles.close, self.period),)

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """One step."""
        move_mean(state[0], candles.close, ema_weight(self.period), self.period, seen)
        return (known(state[0], seen, self.period),)
