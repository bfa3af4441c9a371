"""RSI reversal: long when the RSI comes up from oversold, short when it comes down from overbought."""

from typing import Self

from pydantic import Field, model_validator

from pipeline_assets.market.indicators import Rsi
from pipeline_assets.market.strategy import (
    Declaration,
    StrategyParameters,
    above,
    crosses_above,
    crosses_below,
)

VERSION = "1"


class Parameters(StrategyParameters):
    """The RSI's period, and where oversold ends and overbought begins."""

    period: int = Field(14, ge=2, le=200)
    oversold: float = Field(30, gt=0, lt=100)
    overbought: float = Field(70, gt=0, lt=100)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.oversold >= self.overbought:
            raise ValueError(
                f"oversold ({self.oversold:g}) must be less than overbought ({self.overbought:g})"
            )
        return self


def declare(parameters: Parameters) -> Declaration:
    """Declare the strategy."""
    rsi = Rsi(parameters.period)
    (column,) = rsi.columns
    return Declaration(
        indicators=(rsi,),
        # TA-Lib's RSI is 0 where prices stand still: that is not oversold.
        long=crosses_above(column, parameters.oversold) + above(f"{column}_previous", 0),
        short=crosses_below(column, parameters.overbought),
    )
