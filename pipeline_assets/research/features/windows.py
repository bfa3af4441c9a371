"""Windows over a symbol's candles, by time: aggregates that are null where a candle of the window is missing.
A frame of rows would reach over a gap and take another candle's value. To make any of these imports Snowpark.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snowflake.snowpark import Column

# The columns that the query prepares: by each, the column that counts its values in a window.
CLOSE, HIGH, LOW, TRADES = "CLOSE", "HIGH", "LOW", "TRADES"
VOLUME, TAKER_BUY = "QUOTE_VOLUME", "TAKER_BUY_QUOTE_VOLUME"
RETURN, BTC_RETURN = "LOG_RETURN", "BTC_LOG_RETURN"
COUNTS = {CLOSE: "CANDLES", RETURN: "RETURNS", BTC_RETURN: "BTC_RETURNS"}
# The lengths of windows, in candles.
LENGTHS = (4, 16, 96)
# A variance below this (a deviation of 1e-7 a candle) is that of a frozen price: rounding, not movement.
LEAST_VARIANCE = 1e-14


@dataclass
class Windows:
    """The windows of an interval, and the aggregates over these that were asked for.

    Several features use one aggregate. Each method returns the column that will hold its aggregate, and the
    query computes every one once, in a stage before the features.

    Attributes:
        minutes: the interval's span.
        aggregates: over a symbol's candles, by column.
        medians: over all symbols at one time, by column.
    """

    minutes: int
    aggregates: "dict[str, Column]" = field(default_factory=dict)
    medians: "dict[str, Column]" = field(default_factory=dict)

    def over(self, value: "Column", candles: int) -> "Column":
        """Return an aggregate over the candle and those before it, `candles` in all, whatever is missing."""
        from snowflake.snowpark import Window
        from snowflake.snowpark.functions import make_interval

        past = make_interval(minutes=self.minutes * (candles - 1))
        return value.over(
            Window.partition_by("SYMBOL")
            .order_by("OPEN_TIME")
            .range_between(-past, Window.CURRENT_ROW)
        )

    def total(self, name: str, candles: int) -> "Column":
        """Return the sum of a column."""
        from snowflake.snowpark.functions import col, sum

        return self._whole("TOTAL", sum(col(name)), name, candles)

    def path(self, name: str, candles: int) -> "Column":
        """Return the sum of a column's absolute values."""
        from snowflake.snowpark.functions import abs, col, sum

        return self._whole("PATH", sum(abs(col(name))), name, candles)

    def mean(self, name: str, candles: int) -> "Column":
        """Return the mean of a column."""
        from snowflake.snowpark.functions import avg, col

        return self._whole("MEAN", avg(col(name)), name, candles)

    def highest(self, name: str, candles: int) -> "Column":
        """Return the largest value of a column."""
        from snowflake.snowpark.functions import col, max

        return self._whole("HIGHEST", max(col(name)), name, candles)

    def lowest(self, name: str, candles: int) -> "Column":
        """Return the smallest value of a column."""
        from snowflake.snowpark.functions import col, min

        return self._whole("LOWEST", min(col(name)), name, candles)

    def deviation(self, name: str, candles: int) -> "Column":
        """Return the sample standard deviation of a column."""
        from snowflake.snowpark.functions import col, stddev_samp

        return self._whole("DEVIATION", stddev_samp(col(name)), name, candles)

    def covariance(self, first: str, second: str, candles: int) -> "Column":
        """Return the covariance of two columns, by means of products: CORR takes no frame in Snowflake."""
        from snowflake.snowpark.functions import avg, col

        products = avg(col(first) * col(second))
        product = self._whole(f"MEAN_{first}_TIMES", products, second, candles)
        return product - self.mean(first, candles) * self.mean(second, candles)

    def variance(self, name: str, candles: int) -> "Column":
        """Return the variance of a column; null where it is that of a price that did not move."""
        from snowflake.snowpark.functions import iff, lit

        found = self.covariance(name, name, candles)
        return iff(found > lit(LEAST_VARIANCE), found, lit(None))

    def median(self, name: str) -> "Column":
        """Return the median of a column over all symbols that have a value at this time."""
        from snowflake.snowpark import Window
        from snowflake.snowpark.functions import col, median

        self.medians[f"MEDIAN_{name}"] = median(col(name)).over(Window.partition_by("OPEN_TIME"))
        return col(f"MEDIAN_{name}")

    def _whole(self, kind: str, value: "Column", name: str, candles: int) -> "Column":
        from snowflake.snowpark.functions import col, iff, lit

        counted = f"{COUNTS.get(name, COUNTS[CLOSE])}_{candles}"
        found = f"{kind}_{name}_{candles}"
        whole = col(counted) == candles
        self.aggregates[found] = iff(whole, self.over(value, candles), lit(None))
        return col(found)


def ratio(dividend: "Column", divisor: "Column") -> "Column":
    """Return a quotient; null where the divisor is zero, which Snowflake refuses to divide by."""
    from snowflake.snowpark.functions import call_function, lit

    return dividend / call_function("NULLIF", divisor, lit(0))


def log_ratio(dividend: "Column", divisor: "Column") -> "Column":
    """Return the natural logarithm of a quotient of prices."""
    from snowflake.snowpark.functions import ln

    return ln(ratio(dividend, divisor))


def column(name: str) -> "Callable[[Windows], Column]":
    """Return the expression that is a prepared column itself."""

    def expression(_: Windows) -> "Column":
        from snowflake.snowpark.functions import col

        return col(name)

    return expression
