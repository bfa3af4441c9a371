"""Candidates from frames with indicator columns: the newest minute of all symbols, or years of history.
strategy.py defines what a strategy is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from pipeline_assets.market.candidates import candidate_id, candidate_schema, indicators_text
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategy import Strategy

if TYPE_CHECKING:
    import polars as pl


Result = TypeVar("Result")


@dataclass(frozen=True)
class Evaluation:
    """The result of all strategies. `candidates` is a frame of `candidate_schema`, sorted by open time,
    symbol and strategy. `failures` has the error of each strategy that raised, by `name version`.
    """

    candidates: "pl.DataFrame"
    failures: dict[str, str]


def evaluate(
    strategies: Sequence[Strategy],
    frame: "pl.DataFrame",
    created_at: datetime,
    interval: Interval = Interval.ONE_MINUTE,
) -> Evaluation:
    """Return every candidate in the frame. One strategy that raises does not stop the others.

    Args:
        strategies: the strategies.
        frame: the result of `IndicatorSet.history` or `IndicatorStates.advance`, of a set that has
            the indicators of all strategies.
        created_at: the time of this evaluation, UTC.
        interval: the interval of the candles.
    """
    import polars as pl

    def candidates(strategy: Strategy) -> pl.DataFrame:
        return _candidates(strategy, frame, created_at, interval)

    found, failures = _each(strategies, candidates)
    ordered = pl.concat([candidate_schema().to_frame(), *found]).sort(
        "open_time", "symbol", "strategy", "version"
    )
    return Evaluation(ordered, failures)


def tied_ids(
    strategies: Sequence[Strategy],
    frame: "pl.DataFrame",
    interval: Interval = Interval.ONE_MINUTE,
) -> set[str]:
    """Return the ids of candidates that exist or not depending on rounding.

    At least one of their conditions lies within 1e-9 of its threshold, relative to the size of the
    compared values (prices for differences of prices), and all others are met or as near. A strategy
    that raises has no such ids: `evaluate` reports its error.
    """

    def tied(strategy: Strategy) -> list[str]:
        near = frame.filter(strategy.tie())
        return _ids(strategy, near, interval)

    found, _ = _each(strategies, tied)
    return {each for ids in found for each in ids}


def _each(
    strategies: Sequence[Strategy], run: Callable[[Strategy], Result]
) -> tuple[list[Result], dict[str, str]]:
    import polars as pl

    results: list[Result] = []
    failures: dict[str, str] = {}
    for strategy in strategies:
        try:
            results.append(run(strategy))
        # A strategy may raise any error: the others go on, and the error is returned to be reported.
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001
            failures[f"{strategy.name} {strategy.version}"] = f"{type(error).__name__}: {error}"
    return results, failures


def _candidates(
    strategy: Strategy, frame: "pl.DataFrame", created_at: datetime, interval: Interval
) -> "pl.DataFrame":
    import polars as pl

    found = frame.with_columns(side=strategy.side()).filter(pl.col("side").is_not_null())
    if found.is_empty():
        return candidate_schema().to_frame()
    texts = [
        indicators_text(dict(zip(strategy.columns, values, strict=True)))
        for _, *values in found.select("symbol", *strategy.columns).iter_rows()
    ]
    return found.select(
        pl.Series("id", _ids(strategy, found, interval), pl.String),
        pl.lit(strategy.name).alias("strategy"),
        pl.lit(strategy.version).alias("version"),
        "symbol",
        pl.lit(interval.value).alias("interval"),
        "side",
        "open_time",
        pl.col("close").alias("price"),
        pl.Series("indicators", texts, pl.String),
        pl.lit(created_at).dt.cast_time_unit("us").alias("created_at"),
    ).match_to_schema(candidate_schema())


def _ids(strategy: Strategy, frame: "pl.DataFrame", interval: Interval) -> list[str]:
    return [
        candidate_id(strategy.name, strategy.version, symbol, interval, open_time)
        for symbol, open_time in frame.select("symbol", "open_time").iter_rows()
    ]
