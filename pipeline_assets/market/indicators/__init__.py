"""Indicators by TA-Lib's conventions, each over a whole history and one candle at a time.

An indicator is one module here. indicator.py has the code that many indicators share, indicator_set.py
the set of configured ones, and indicator_states.py their state. Signals are in strategies/.
"""

from pipeline_assets.market.indicators.atr import Atr
from pipeline_assets.market.indicators.bollinger import BollingerBands
from pipeline_assets.market.indicators.ema import Ema
from pipeline_assets.market.indicators.indicator import Indicator, IndicatorError
from pipeline_assets.market.indicators.indicator_set import IndicatorSet
from pipeline_assets.market.indicators.indicator_states import IndicatorStates
from pipeline_assets.market.indicators.macd import Macd
from pipeline_assets.market.indicators.rsi import Rsi
from pipeline_assets.market.indicators.volume_average import VolumeAverage

__all__ = [
    "Atr",
    "BollingerBands",
    "Ema",
    "Indicator",
    "IndicatorError",
    "IndicatorSet",
    "IndicatorStates",
    "Macd",
    "Rsi",
    "VolumeAverage",
]
