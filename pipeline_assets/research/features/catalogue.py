"""The catalogue of features: each is declared here once, with its unit, its history and its expression.

A feature of a candle reads that candle and earlier ones only. The same features are computed for every
interval; their windows count candles of the interval. All values are rounded to DECIMALS in the query.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline_assets.research.features.feature import Feature, Stage
from pipeline_assets.research.features.windows import (
    BTC_RETURN,
    CLOSE,
    HIGH,
    LOW,
    RETURN,
    TAKER_BUY,
    TRADES,
    VOLUME,
    Windows,
    column,
    log_ratio,
    ratio,
)

if TYPE_CHECKING:
    from snowflake.snowpark import Column

_LOG, _SHARE, _TIMES = "log return", "share", "times"
_TREND = "Return of {n} candles against the sum of their absolute returns: from -1 to 1."
_POSITION = "Place of the close between the lowest low (0) and the highest high (1) of {n} candles."
_VOLUME = "Quote volume of the candle against the mean of {n} candles."
_TAKER = "Takers' buying in the quote volume of {}."
_BETA = "Beta: slope of the last 96 returns on those of BTCUSDT."
_CORRELATION = "Correlation of the last 96 returns with those of BTCUSDT."
_MARKET = "Market return: median over all stored symbols of their return of 4 candles."
_RELATIVE = "Return of {n} candles less the median of all stored symbols."
_SETTLED = (
    "Time from the newest settlement of funding, at least an hour old, to the candle's close."
)


def _volatility_ratio(of: Windows) -> "Column":
    return ratio(of.deviation(RETURN, 16), of.deviation(RETURN, 96))


def _trend(of: Windows, candles: int) -> "Column":
    return ratio(of.total(RETURN, candles), of.path(RETURN, candles))


def _from_average(of: Windows, candles: int) -> "Column":
    return log_ratio(column(CLOSE)(of), of.mean(CLOSE, candles))


def _range(of: Windows) -> "Column":
    return log_ratio(column(HIGH)(of), column(LOW)(of))


def _longer_range(of: Windows) -> "Column":
    return log_ratio(of.highest(HIGH, 16), of.lowest(LOW, 16))


def _range_position(of: Windows, candles: int) -> "Column":
    low = of.lowest(LOW, candles)
    return ratio(column(CLOSE)(of) - low, of.highest(HIGH, candles) - low)


def _against_mean(of: Windows, name: str, candles: int) -> "Column":
    return ratio(column(name)(of), of.mean(name, candles))


def _own_taker_share(of: Windows) -> "Column":
    return ratio(column(TAKER_BUY)(of), column(VOLUME)(of))


def _taker_share(of: Windows, candles: int) -> "Column":
    return ratio(of.total(TAKER_BUY, candles), of.total(VOLUME, candles))


def _against_btc(of: Windows, candles: int) -> "Column":
    return of.total(RETURN, candles) - of.total(BTC_RETURN, candles)


def _btc_beta(of: Windows) -> "Column":
    return of.covariance(RETURN, BTC_RETURN, 96) / of.variance(BTC_RETURN, 96)


def _btc_correlation(of: Windows) -> "Column":
    from snowflake.snowpark.functions import sqrt

    both = of.variance(RETURN, 96) * of.variance(BTC_RETURN, 96)
    return of.covariance(RETURN, BTC_RETURN, 96) / sqrt(both)


def _market_return(of: Windows) -> "Column":
    return of.median("RETURN_4")


def _against_market(of: Windows, candles: int) -> "Column":
    return column(f"RETURN_{candles}")(of) - of.median(f"RETURN_{candles}")


def _angle() -> "Column":
    """Return the time of day of the candle's close as an angle, midnight being 0."""
    from snowflake.snowpark.functions import col, hour, lit, minute

    hours = hour(col("CLOSES_AT")) + minute(col("CLOSES_AT")) / lit(60.0)
    return hours * lit(0.2617993877991494)


def _hour_sin(_: Windows) -> "Column":
    from snowflake.snowpark.functions import sin

    return sin(_angle())


def _hour_cos(_: Windows) -> "Column":
    from snowflake.snowpark.functions import cos

    return cos(_angle())


def _hours_since_funding(_: Windows) -> "Column":
    from snowflake.snowpark.functions import col, datediff, lit

    return datediff("minute", col("FUNDING_TIME"), col("CLOSES_AT")) / lit(60.0)


_rate = column("FUNDING_RATE_IN_FORCE")


def _each(
    name: str,
    unit: str,
    description: str,
    expression: "Callable[..., Column]",
    lengths: Sequence[int] = (16, 96),
    stage: Stage = Stage.CANDLES,
) -> Iterator[Feature]:
    """Yield a feature of returns for each length, which is the place of `{n}` in the description."""
    for n in lengths:
        made = partial(expression, candles=n)
        yield Feature(f"{name}_{n}", unit, n, description.format(n=n), made, stage)


def _within(
    name: str, unit: str, description: str, expression: "Callable[..., Column]"
) -> Iterator[Feature]:
    """Yield a feature of the candles in a window; unlike returns, these need no candle before the window."""
    for each in _each(name, unit, description, expression):
        yield replace(each, candles=each.candles - 1)


_RETURNS = (
    Feature("return_1", _LOG, 1, "Return of the candle, from close to close.", column(RETURN)),
    *_each(
        *("return", _LOG, "Return of {n} candles."),
        *(partial(Windows.total, name=RETURN), (4, 16, 96)),
    ),
    *_each(
        *("volatility", _LOG, "Standard deviation of the last {n} returns."),
        partial(Windows.deviation, name=RETURN),
    ),
    Feature(
        *("volatility_ratio", _TIMES, 96, "Volatility of 16 candles against that of 96."),
        _volatility_ratio,
    ),
    *_each("trend", _SHARE, _TREND, _trend),
)
_CANDLES = (
    *_within(
        "average_distance", _LOG, "Close against the mean close of {n} candles.", _from_average
    ),
    Feature("range_1", _LOG, 0, "High against low of the candle.", _range),
    Feature("range_16", _LOG, 15, "Highest high against lowest low of 16 candles.", _longer_range),
    *_within("range_position", _SHARE, _POSITION, _range_position),
    *_within("volume_ratio", _TIMES, _VOLUME, partial(_against_mean, name=VOLUME)),
    Feature(
        *("trades_ratio_96", _TIMES, 95, "Trades of the candle against the mean of 96 candles."),
        partial(_against_mean, name=TRADES, candles=96),
    ),
    Feature("taker_buy_share_1", _SHARE, 0, _TAKER.format("the candle"), _own_taker_share),
    *_within("taker_buy_share", _SHARE, _TAKER.format("{n} candles"), _taker_share),
)
_OTHERS = (
    Feature(
        *("btc_return_4", _LOG, 4, "Return of BTCUSDT of 4 candles."),
        partial(Windows.total, name=BTC_RETURN, candles=4),
    ),
    *_each(
        *("btc_relative_return", _LOG, "Return of {n} candles less that of BTCUSDT."),
        *(_against_btc, (4, 16)),
    ),
    Feature("btc_beta_96", _TIMES, 96, _BETA, _btc_beta),
    Feature("btc_correlation_96", "correlation", 96, _CORRELATION, _btc_correlation),
    Feature("market_return_4", _LOG, 4, _MARKET, _market_return, Stage.MARKET),
    *_each("market_relative_return", _LOG, _RELATIVE, _against_market, (4, 16), Stage.MARKET),
)
_TIMES_OF_DAY = (
    Feature("hour_sin", "sine", 0, "Time of day of the candle's close, as a sine.", _hour_sin),
    Feature("hour_cos", "cosine", 0, "Time of day of the candle's close, as a cosine.", _hour_cos),
    Feature("hours_since_funding", "hours", 0, _SETTLED, _hours_since_funding, Stage.FUNDING),
    Feature("funding_rate", "rate", 0, "Funding rate of that settlement.", _rate, Stage.FUNDING),
)
FEATURES: tuple[Feature, ...] = (*_RETURNS, *_CANDLES, *_OTHERS, *_TIMES_OF_DAY)


def feature_names() -> tuple[str, ...]:
    """Return the names of all features, in the order of the tables' columns. Imports no Snowpark."""
    return tuple(feature.name for feature in FEATURES)
