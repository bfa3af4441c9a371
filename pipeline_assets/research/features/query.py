"""The one query of all features, as a Snowpark DataFrame. Its SQL is the source of the MERGE in
resources/warehouse_sql/features_merge.sql: `make generate` writes that file, a test compares.

A session is needed to make the query, and nothing is asked of the server. So the query is made while
developing: Snowpark costs a process a second of import, and a checked-in statement is one that people review.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline_assets.research.features.catalogue import FEATURES
from pipeline_assets.research.features.feature import Stage
from pipeline_assets.research.features.windows import (
    BTC_RETURN,
    COUNTS,
    LENGTHS,
    RETURN,
    Windows,
    log_ratio,
)

if TYPE_CHECKING:
    from snowflake.snowpark import Column, DataFrame, Session

# Values are near one. Two scans may add the same numbers in another order; without rounding their
# last bits would differ, a repeated MERGE would change rows, and live rows would not equal later ones.
DECIMALS = 10
BITCOIN = "BTCUSDT"
# Rates are stored some minutes after they settled: one that is younger is not used, neither live nor later.
FUNDING_DELAY_MINUTES = 60
# The longest time between two settlements, in minutes: a rate is in force no longer.
FUNDING_MINUTES = 8 * 60
LOOK_BACK = max(feature.candles for feature in FEATURES)
_CANDLE = ("SYMBOL", "OPEN_TIME", "HIGH", "LOW", "CLOSE", "QUOTE_VOLUME")
_COLUMNS = (*_CANDLE, "TAKER_BUY_QUOTE_VOLUME", "TRADES")


@dataclass(frozen=True)
class Span:
    """The tables of a query, the interval's minutes, and the open times that a load changed."""

    schema: str
    table: str
    minutes: int
    start: datetime
    end: datetime
    load_lag_seconds: int


def feature_query(session: "Session", span: Span) -> "DataFrame":
    """Return the rows that a load of the span can have changed: symbol, open_time, available_at, features.

    These are the candles of the span and those after it that look back into it.
    """
    from snowflake.snowpark.functions import col, round

    of = Windows(span.minutes)
    rows = _with(_prepared(session, span), of, Stage.CANDLES)
    wanted = rows.filter(col("OPEN_TIME") >= _naive(span.start))
    priced = _with_funding(session, span, _with(wanted, of, Stage.MARKET))
    found = _with(priced, of, Stage.FUNDING)
    names = [feature.name.upper() for feature in FEATURES]
    values = [round(col(each), DECIMALS).alias(each) for each in names]
    return found.select("SYMBOL", "OPEN_TIME", "AVAILABLE_AT", *values)


def _prepared(session: "Session", span: Span) -> "DataFrame":
    """Return the candles in reach with their returns, Bitcoin's, and how many a window has of each."""
    from snowflake.snowpark import Window
    from snowflake.snowpark.functions import col, count, dateadd, iff, lag, lit, max

    reach = span.minutes * LOOK_BACK
    first = dateadd("minute", lit(-reach), _naive(span.start))
    end = dateadd("minute", lit(reach), _naive(span.end))
    opened = col("OPEN_TIME")
    # A quotient of two of Snowflake's NUMBERs has six decimals.
    trades = col("TRADES").cast("double").alias("TRADES")
    candles = session.table(f"{span.schema}.{span.table}").select(*_COLUMNS[:-1], trades)
    ordered = Window.partition_by("SYMBOL").order_by("OPEN_TIME")
    before = dateadd("minute", lit(-span.minutes), opened)
    adjacent = lag("OPEN_TIME").over(ordered) == before
    closes_at = dateadd("minute", lit(span.minutes), opened)
    returns = candles.filter((opened >= first) & (opened < end)).select(
        *_COLUMNS,
        iff(adjacent, log_ratio(col("CLOSE"), lag("CLOSE").over(ordered)), lit(None)).alias(RETURN),
        closes_at.alias("CLOSES_AT"),
        dateadd("second", lit(span.load_lag_seconds), closes_at).alias("AVAILABLE_AT"),
    )
    bitcoin = iff(col("SYMBOL") == lit(BITCOIN), col(RETURN), lit(None))
    both = returns.select(
        "*", max(bitcoin).over(Window.partition_by("OPEN_TIME")).alias(BTC_RETURN)
    )
    of = Windows(span.minutes)
    counts = [
        of.over(count(col(counted)), candles).alias(f"{name}_{candles}")
        for counted, name in COUNTS.items()
        for candles in LENGTHS
    ]
    return both.select("*", *counts)


def _with_funding(session: "Session", span: Span, rows: "DataFrame") -> "DataFrame":
    """Add the newest rate that was known at each candle's close: FUNDING_TIME, FUNDING_RATE_IN_FORCE."""
    from snowflake.snowpark import Window
    from snowflake.snowpark.functions import coalesce, col, dateadd, iff, lead, lit

    settled = col("FUNDING_TIME")
    following = lead("FUNDING_TIME").over(Window.partition_by("SYMBOL").order_by("FUNDING_TIME"))
    longest = dateadd("minute", lit(FUNDING_MINUTES), settled)
    until = coalesce(iff(following < longest, following, longest), longest)
    reach = -(FUNDING_MINUTES + FUNDING_DELAY_MINUTES)
    rates = (
        session.table(f"{span.schema}.FUNDING_RATES")
        .filter(settled >= dateadd("minute", lit(reach), _naive(span.start)))
        .filter(settled < dateadd("minute", lit(span.minutes * LOOK_BACK), _naive(span.end)))
        .select(
            col("SYMBOL").alias("RATE_SYMBOL"),
            settled,
            col("FUNDING_RATE").alias("FUNDING_RATE_IN_FORCE"),
            dateadd("minute", lit(FUNDING_DELAY_MINUTES), settled).alias("KNOWN_FROM"),
            dateadd("minute", lit(FUNDING_DELAY_MINUTES), until).alias("KNOWN_UNTIL"),
        )
    )
    closes_at = col("CLOSES_AT")
    known = (closes_at >= col("KNOWN_FROM")) & (closes_at < col("KNOWN_UNTIL"))
    return rows.join(rates, (col("SYMBOL") == col("RATE_SYMBOL")) & known, "left")


def _with(rows: "DataFrame", of: Windows, stage: Stage) -> "DataFrame":
    """Add the features of a stage, after the aggregates that they use."""
    staged = [feature for feature in FEATURES if feature.stage is stage]
    named = [feature.expression(of).alias(feature.name.upper()) for feature in staged]
    needed = {Stage.CANDLES: of.aggregates, Stage.MARKET: of.medians}.get(stage, {})
    if needed:
        rows = rows.select("*", *(value.alias(name) for name, value in needed.items()))
    return rows.select("*", *named)


def _naive(moment: datetime) -> "Column":
    """Return a time as the tables have it: UTC without a zone."""
    from snowflake.snowpark.functions import lit

    return lit(moment.replace(tzinfo=None))
