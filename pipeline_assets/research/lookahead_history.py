"""The stored candles that the look-ahead check judges. The check itself is in lookahead.py."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.windows import day_window
from pipeline_assets.research.backtest_types import NoCandlesError
from pipeline_assets.research.lookahead import candles_needed
from pipeline_assets.resources.finalized_days import finalized_days, finalized_symbols
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl

_SYMBOLS = 3
# Candles after those that are judged: a strategy that reads up to a day ahead is found.
FUTURE = 24 * 60
# Days before those that the candles fill: an outage of the exchange must not end the check.
_SPARE = timedelta(days=1)


def stored_history(
    store: ObjectStore,
    strategies: Sequence[Strategy],
    symbols: Sequence[str] | None,
    day: date | None,
    minutes: int,
) -> "Mapping[str, pl.DataFrame]":
    """Return, by symbol, the stored candles up to the end of a day that the check needs.

    Args:
        store: the lake.
        strategies: the strategies to judge.
        symbols: None takes the first three that are finalized on the day.
        day: a UTC day; None takes the newest finalized one.
        minutes: how many candles are judged; `FUTURE` more follow these.

    Raises:
        NoCandlesError: no day is finalized, or no candle of a symbol is stored.
    """
    finalized = finalized_days(store, Interval.ONE_MINUTE)
    if day is None and not finalized:
        raise NoCandlesError(
            "No day of 1m candles is finalized. Fetch some: pipeline-assets backfill --interval 1m."
        )
    chosen = day or finalized[-1]
    names = symbols or sorted(finalized_symbols(store, Interval.ONE_MINUTE, chosen))[:_SYMBOLS]
    end = day_window(chosen).end
    start = end - candles_needed(strategies, minutes, FUTURE) * Interval.ONE_MINUTE.span - _SPARE
    # All columns: a strategy may read any of them live.
    frame = lake.scan("1m", names, start, end, store=store).collect() if names else None
    found = {} if frame is None else frame.partition_by("symbol", as_dict=True)
    absent = sorted(set(names) - {str(symbol) for (symbol,) in found})
    if absent or not names:
        raise NoCandlesError(
            f"No 1m candle of {', '.join(absent) or 'any symbol'} is stored in the days up to {chosen}. Name "
            "another --day or other --symbols, or fetch them: pipeline-assets backfill --interval 1m."
        )
    return {str(symbol): each for (symbol,), each in found.items()}
