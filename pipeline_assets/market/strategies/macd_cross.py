"""MACD cross: long when the MACD crosses above its signal, short when it crosses below."""

from typing import Self

from pydantic import Field, model_validator

from pipeline_assets.market.indicators import Macd
from pipeline_assets.market.strategy import (
    Declaration,
    StrategyParameters,
    crosses_above,
    crosses_below,
)

VERSION = "1"


class Parameters(StrategyParameters):
    """The periods of the MACD."""

    fast: int = Field(12, ge=2, le=200)
    slow: int = Field(26, ge=2, le=500)
    signal: int = Field(9, ge=2, le=200)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast ({self.fast}) must be less than slow ({self.slow})")
        return self


def declare(parameters: Parameters) -> Declaration:
    """Declare the strategy."""
    macd = Macd(parameters.fast, parameters.slow, parameters.signal)
    line, signal, _ = macd.columns
    return Declaration(
        indicators=(macd,),
        long=crosses_above(line, signal, scale="close"),
        short=crosses_below(line, signal, scale="close"),
    )
