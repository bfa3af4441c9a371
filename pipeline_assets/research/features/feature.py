"""The declaration of one feature: its name, its unit, the history it reads, and its expression. Which
features exist is in catalogue.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval

if TYPE_CHECKING:
    from snowflake.snowpark import Column

    from pipeline_assets.research.features.windows import Windows


class Stage(StrEnum):
    """The part of the query that computes a feature, in order: a later one sees the features before it.

    CANDLES reads the symbol's and Bitcoin's candles, MARKET the features of all symbols at one time, and
    FUNDING the funding rate in force.
    """

    CANDLES = "candles"
    MARKET = "market"
    FUNDING = "funding"


@dataclass(frozen=True)
class Feature:
    """One feature: a column of the tables `FEATURES_…`.

    Attributes:
        name: the column's name in frames; the table has it in upper case.
        unit: what a value counts in.
        candles: how many candles before its own a value reads. If one of them is missing, the value is null.
        description: what the feature says, for people.
        expression: makes the Snowpark expression over the windows of an interval. Needs Snowpark.
        stage: the part of the query that computes it.
    """

    name: str
    unit: str
    candles: int
    description: str
    expression: "Callable[[Windows], Column]"
    stage: Stage = Stage.CANDLES

    def look_back(self, interval: Interval) -> timedelta:
        """Return the time from the open of the oldest candle that a value reads to the open of its own."""
        return self.candles * interval.span
