"""Bollinger breakout: long when the close leaves the bands upwards, short when downwards."""

from pydantic import Field

from pipeline_assets.market.indicators import BollingerBands
from pipeline_assets.market.strategy import (
    Declaration,
    StrategyParameters,
    crosses_above,
    crosses_below,
)

VERSION = "1"


class Parameters(StrategyParameters):
    """The bands' period, and their distance from the middle in standard deviations."""

    period: int = Field(20, ge=2, le=500)
    deviations: float = Field(2.0, gt=0, le=10)


def declare(parameters: Parameters) -> Declaration:
    """Declare the strategy."""
    bands = BollingerBands(parameters.period, parameters.deviations)
    upper, _, lower = bands.columns
    return Declaration(
        indicators=(bands,),
        long=crosses_above("close", upper),
        short=crosses_below("close", lower),
    )
