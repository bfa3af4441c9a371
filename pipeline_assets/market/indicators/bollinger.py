"""Bollinger bands: the moving average of closes, and as many standard deviations above and below."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline_assets.market.indicators.indicator import Candles, Period, known, window_mean

if TYPE_CHECKING:
    from pipeline_assets.market.indicators.indicator import Array, Counts


@dataclass(frozen=True)
class BollingerBands:
    """TA-Lib's BBANDS with a simple average: population standard deviation. In the quote asset.

    On flat prices the three are the close, but for rounding.
    """

    period: Period
    deviations: Annotated[float, Field(gt=0, le=10)] = 2.0

    @property
    def columns(self) -> tuple[str, ...]:
        """`bollinger_upper_{period}_{deviations}`, `bollinger_middle_…` and `bollinger_lower_…`."""
        parameters = f"{self.period}_{str(self.deviations).removesuffix('.0')}"
        return tuple(f"bollinger_{name}_{parameters}" for name in ("upper", "middle", "lower"))

    @property
    def candles_needed(self) -> int:
        """The window."""
        return self.period

    @property
    def height(self) -> int:
        """The closes of the window, oldest first."""
        return self.period

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Compute the values by TA-Lib."""
        import talib

        upper, middle, lower = talib.BBANDS(
            candles.close, self.period, self.deviations, self.deviations
        )
        return upper, middle, lower

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """One step. Distances from the newest close, not squares of prices, lose no digits."""
        import numpy as np

        state[:-1] = state[1:]
        state[-1] = candles.close
        distances = state - candles.close
        mean = window_mean(distances)
        distances -= mean
        width = self.deviations * np.sqrt(window_mean(distances * distances))
        middle = candles.close + mean
        bands = (middle + width, middle, middle - width)
        return tuple(known(each, seen, self.period) for each in bands)
