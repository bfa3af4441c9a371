"""The catalogue of features: each is declared here once, with its unit, its history and its expression.

A feature of a candle reads that candle and earlier ones only. The same features are computed for every
interval; their windows count candles of the interval. All values are rounded to DECIMALS in the query.
"""

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


def _volatility_ratio(of: Windows) -> "Column":
    return ratio(of.deviation(RETURN, 16), of.deviation(RETURN, 96))


def _trend(of: Windows, candles: int) -> "Column":
    return ratio(of.total(RETURN, candles), of.path(RETURN, candles))


def _from_average(of: Windows, candles: int) -> "Column":
    return log_ratio(column(CLOSE)(of), of.mean(CLOSE, candles))


def _range_position(of: Windows, candles: int) -> "Column":
    low = of.lowest(LOW, candles)
    return ratio(column(CLOSE)(of) - low, of.highest(HIGH, candles) - low)


def _against_mean(of: Windows, name: str, candles: int) -> "Column":
    return ratio(column(name)(of), of.mean(name, candles))


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


FEATURES: tuple[Feature, ...] = (
    Feature("return_1", _LOG, 1, "Return of the candle, from close to close.", column(RETURN)),
    *(
        Feature(
            f"return_{n}", _LOG, n, f"Return of {n} candles.", partial(Windows.total, name=RETURN, candles=n)
        )
        for n in (4, 16, 96)
    ),
    *(
        Feature(
            *(f"volatility_{n}", _LOG, n, f"Standard deviation of the last {n} returns."),
            partial(Windows.deviation, name=RETURN, candles=n),
        )
        for n in (16, 96)
    ),
    Feature(
        *("volatility_ratio", _TIMES, 96, "Volatility of 16 candles against that of 96."),
        _volatility_ratio,
    ),
    *(
        Feature(
            f"trend_{n}", _SHARE, n,
            f"Return of {n} candles against the sum of their absolute returns: from -1 to 1.",
            partial(_trend, candles=n),
        )
        for n in (16, 96)
    ),
    *(
        Feature(
            f"average_distance_{n}", _LOG, n - 1,
            f"Close against the mean close of {n} candles.",
            partial(_from_average, candles=n),
        )
        for n in (16, 96)
    ),
    Feature(
        *("range_1", _LOG, 0, "High against low of the candle."),
        lambda of: log_ratio(column(HIGH)(of), column(LOW)(of)),
    ),
    Feature(
        *("range_16", _LOG, 15, "Highest high against lowest low of 16 candles."),
        lambda of: log_ratio(of.highest(HIGH, 16), of.lowest(LOW, 16)),
    ),
    *(
        Feature(
            f"range_position_{n}", _SHARE, n - 1,
            f"Place of the close between the lowest low (0) and the highest high (1) of {n} candles.",
            partial(_range_position, candles=n),
        )
        for n in (16, 96)
    ),
    *(
        Feature(
            f"volume_ratio_{n}", _TIMES, n - 1,
            f"Quote volume of the candle against the mean of {n} candles.",
            partial(_against_mean, name=VOLUME, candles=n),
        )
        for n in (16, 96)
    ),
    Feature(
        *("trades_ratio_96", _TIMES, 95, "Trades of the candle against the mean of 96 candles."),
        lambda of: _against_mean(of, TRADES, 96),
    ),
    Feature(
        *("taker_buy_share_1", _SHARE, 0, "Takers' buying in the quote volume of the candle."),
        lambda of: ratio(column(TAKER_BUY)(of), column(VOLUME)(of)),
    ),
    *(
        Feature(
            f"taker_buy_share_{n}", _SHARE, n - 1,
            f"Takers' buying in the quote volume of {n} candles.",
            partial(_taker_share, candles=n),
        )
        for n in (16, 96)
    ),
    Feature(
        *("btc_return_4", _LOG, 4, "Return of BTCUSDT of 4 candles."),
        lambda of: of.total(BTC_RETURN, 4),
    ),
    *(
        Feature(
            f"btc_relative_return_{n}", _LOG, n,
            f"Return of {n} candles less that of BTCUSDT.",
            partial(_against_btc, candles=n),
        )
        for n in (4, 16)
    ),
    Feature(
        "btc_beta_96", _TIMES, 96,
        "Beta: slope of the last 96 returns on those of BTCUSDT.", _btc_beta,
    ),
    Feature(
        "btc_correlation_96", "correlation", 96,
        "Correlation of the last 96 returns with those of BTCUSDT.", _btc_correlation,
    ),
    Feature(
        "market_return_4", _LOG, 4,
        "Market return: median over all stored symbols of their return of 4 candles.",
        lambda of: of.median("RETURN_4"), Stage.MARKET,
    ),
    *(
        Feature(
            f"market_relative_return_{n}", _LOG, n,
            f"Return of {n} candles less the median of all stored symbols.",
            partial(_against_market, candles=n), Stage.MARKET,
        )
        for n in (4, 16)
    ),
    Feature("hour_sin", "sine", 0, "Time of day of the candle's close, as a sine.", _hour_sin),
    Feature("hour_cos", "cosine", 0, "Time of day of the candle's close, as a cosine.", _hour_cos),
    Feature(
        "hours_since_funding", "hours", 0,
        "Time from the newest settlement of funding, at least an hour old, to the candle's close.",
        _hours_since_funding, Stage.FUNDING,
    ),
    Feature(
        "funding_rate", "rate", 0, "Funding rate of that settlement.",
        column("FUNDING_RATE_IN_FORCE"), Stage.FUNDING,
    ),
)  # fmt: skip


def feature_names() -> tuple[str, ...]:
    """Return the names of all features, in the order of the tables' columns. Imports no Snowpark."""
    return tuple(feature.name for feature in FEATURES)
