"""EMA trend: the close crosses the fast EMA in the direction of the trend, with volume.

The trend is up while the fast EMA is above the slow one. The cross counts when the candle's volume is
well above its average, for a cross without trade is noise.
"""

from typing import Self

from pydantic import Field, model_validator

from pipeline_assets.market.indicators import Ema, VolumeAverage
from pipeline_assets.market.strategy import (
    Declaration,
    StrategyParameters,
    above,
    below,
    crosses_above,
    crosses_below,
)

VERSION = "1"


class Parameters(StrategyParameters):
    """The periods of the EMAs and of the volume average, and by how much volume must exceed it."""

    fast: int = Field(50, ge=2, le=500)
    slow: int = Field(200, ge=2, le=500)
    volume_period: int = Field(20, ge=2, le=500)
    volume_factor: float = Field(1.5, ge=0, le=100)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast ({self.fast}) must be less than slow ({self.slow})")
        return self


def declare(parameters: Parameters) -> Declaration:
    """Declare the strategy."""
    import polars as pl

    fast, slow = Ema(parameters.fast), Ema(parameters.slow)
    average = VolumeAverage(parameters.volume_period)
    (fast_column,), (slow_column,), (average_column,) = fast.columns, slow.columns, average.columns
    confirmed = above("volume", parameters.volume_factor * pl.col(average_column))
    return Declaration(
        indicators=(fast, slow, average),
        long=crosses_above("close", fast_column) + above(fast_column, slow_column) + confirmed,
        short=crosses_below("close", fast_column) + below(fast_column, slow_column) + confirmed,
    )
