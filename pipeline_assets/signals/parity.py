"""Parity of a finished day: the published candidates against those recomputed from its stored candles. How
candidates are found live is in evaluation.py.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pipeline_assets import lake
from pipeline_assets.collection.findings import Finding, Table, moment
from pipeline_assets.market.candidates import candidate_schema
from pipeline_assets.market.evaluation import evaluate, tied_ids
from pipeline_assets.market.indicators import IndicatorSet
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import indicators_of
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candidate_objects import read_candidates
from pipeline_assets.resources.evaluation_record import Evaluation, read_evaluation
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.signals.warm_up import history_window

if TYPE_CHECKING:
    import polars as pl

# Batch size: a day's minutes of so many symbols, with the days needed for warm-up, fit into memory.
_BATCH = 50
# As far as indicators of the two forms may differ (market/indicators); those in prices, of the price.
_TOLERANCE = 1e-9
_EXPLAINED = (
    " A candle that was corrected or came after it was evaluated explains an extra or different one: "
    "what is published stays published. A missing one of a symbol without late candles is an error."
)


@dataclass(frozen=True)
class Recomputed:
    """The candidates of a day, computed again from stored candles.

    Attributes:
        candidates: a candidates frame.
        tied: ids of candidates that exist or not depending on rounding.
        judged: `symbol`, `strategy`, `version` and `from_time` of the candidates that can be judged: the
            lake holds enough candles before that time.
    """

    candidates: "pl.DataFrame"
    tied: frozenset[str]
    judged: "pl.DataFrame"


@dataclass(frozen=True)
class Parity:
    """The comparison of published with recomputed candidates: frames of candidates, sorted by time.

    `ties` differ, or are on one side only, and lie at a threshold. `not_judged` were published and
    cannot be checked: their strategy is not configured any more, or earlier candles are missing on the
    lake.
    """

    matched: int
    missing: "pl.DataFrame"
    extra: "pl.DataFrame"
    different: "pl.DataFrame"
    ties: "pl.DataFrame"
    not_judged: "pl.DataFrame"

    @property
    def passed(self) -> bool:
        """Whether nothing is missing, extra or different."""
        return not (self.missing.height or self.extra.height or self.different.height)


def recompute(
    store: ObjectStore, strategies: Sequence[Strategy], symbols: Sequence[str], window: Window
) -> Recomputed:
    """Return the candidates of a span from the lake's 1m candles, with those before it as warm-up."""
    import polars as pl

    indicators = indicators_of(strategies)
    found, ties, judged = [candidate_schema().to_frame()], set[str](), []
    for first in range(0, len(symbols), _BATCH):
        frame = _with_indicators(store, indicators, symbols[first : first + _BATCH], window)
        result = evaluate(strategies, frame, window.end)
        found.append(result.candidates)
        ties |= tied_ids(strategies, frame)
        judged += [
            frame.filter(pl.col("candles_seen") >= each.warm_up)
            .group_by("symbol")
            .agg(pl.col("open_time").min().alias("from_time"))
            .select(
                "symbol",
                pl.lit(each.name).alias("strategy"),
                pl.lit(each.version).alias("version"),
                "from_time",
            )
            for each in strategies
            if f"{each.name} {each.version}" not in result.failures
        ]
    schema = {name: candidate_schema()[name] for name in ("symbol", "strategy", "version")}
    nothing = pl.DataFrame(schema=schema | {"from_time": candidate_schema()["open_time"]})
    return Recomputed(pl.concat(found), frozenset(ties), pl.concat([nothing, *judged]))


def _with_indicators(
    store: ObjectStore, indicators: IndicatorSet, symbols: Sequence[str], window: Window
) -> "pl.DataFrame":
    import polars as pl

    start = history_window(indicators, window.start).start
    candles = lake.scan(Interval.ONE_MINUTE, symbols, start, window.end, store=store).collect()
    return indicators.history(candles).filter(pl.col("open_time") >= window.start)


def compare(recomputed: Recomputed, published: "pl.DataFrame", evaluation: Evaluation) -> Parity:
    """Compare candidates of the same span, both frames of `candidate_schema`, one row an id.

    Left out are recomputed candidates of minutes that the sensor has never evaluated, as `evaluation`
    says: before it began with a symbol or strategy, or too old when it came to them.
    """
    import polars as pl

    expected = _evaluated(recomputed.candidates, evaluation)
    order = ["open_time", "symbol", "strategy"]
    judged = published.join(recomputed.judged, on=["symbol", "strategy", "version"], how="left")
    known = pl.col("from_time").is_not_null() & (pl.col("open_time") >= pl.col("from_time"))
    unjudged = judged.filter(~known).join(expected, on="id", how="anti").drop("from_time")
    ours = published.join(unjudged, on="id", how="anti")
    both = expected.join(ours, on="id", how="inner", suffix="_published")
    unequal = both.filter(~_equal(both)).select("id")
    tied = pl.col("id").is_in(list(recomputed.tied))
    missing = expected.join(ours, on="id", how="anti")
    extra = ours.join(recomputed.candidates, on="id", how="anti")
    different = ours.join(unequal, on="id", how="semi")
    ties = pl.concat([each.filter(tied) for each in (missing, extra, different)])
    return Parity(
        matched=both.height - unequal.height,
        missing=missing.filter(~tied).sort(order),
        extra=extra.filter(~tied).sort(order),
        different=different.filter(~tied).sort(order),
        ties=ties.sort(order),
        not_judged=unjudged.sort(order),
    )


def _evaluated(candidates: "pl.DataFrame", evaluation: Evaluation) -> "pl.DataFrame":
    """Return the candidates of minutes that the sensor has evaluated."""
    import polars as pl

    def spans(moments: Any, name: str) -> pl.DataFrame:
        schema = {name: pl.String(), f"{name}_since": candidate_schema()["open_time"]}
        return pl.DataFrame(list(moments.items()), schema=schema, orient="row")

    opened = pl.col("open_time")
    found = (
        candidates.with_columns(named=pl.format("{} {}", "strategy", "version"))
        .join(spans(evaluation.since, "symbol"), on="symbol", how="inner")
        .join(spans(evaluation.strategies, "named"), on="named", how="inner")
        .filter(opened >= pl.col("symbol_since"), opened >= pl.col("named_since"))
        .select(candidates.columns)
    )
    for symbol, windows in evaluation.skipped.items():
        for window in windows:
            inside = opened.is_between(window.start, window.end, closed="left")
            found = found.filter(~((pl.col("symbol") == symbol) & inside))
    return found


def _equal(both: "pl.DataFrame") -> "pl.Series":
    """Return whether side, price and indicator values of joined rows agree, as nearly as they can."""
    import polars as pl

    def near(row: tuple[str, str, str, str, float, float]) -> bool:
        side, other_side, ours, theirs, price, other_price = row
        first, second = json.loads(ours), json.loads(theirs)
        return (
            side == other_side
            and price == other_price
            and first.keys() == second.keys()
            and all(
                abs(first[name] - second[name])
                <= _TOLERANCE * max(abs(first[name]), abs(second[name]), price)
                for name in first
            )
        )

    columns = [
        *("side", "side_published", "indicators", "indicators_published"),
        *("price", "price_published"),
    ]
    return pl.Series([near(row) for row in both.select(columns).iter_rows()], dtype=pl.Boolean())


def judge_day(
    store: ObjectStore, strategies: Sequence[Strategy], day: date, published: "pl.DataFrame"
) -> Finding:
    """Return what the check says of one day."""
    evaluation = read_evaluation(store)
    window = day_window(day)
    if min(evaluation.since.values(), default=window.end) >= window.end and published.is_empty():
        return Finding(passed=True, description=f"The sensor has evaluated no minute of {day}.")
    symbols = sorted(evaluation.since.keys() | set(published["symbol"]))
    parity = compare(recompute(store, strategies, symbols, window), published, evaluation)
    counts = {
        "missing": parity.missing,
        "extra": parity.extra,
        "different": parity.different,
        "ties": parity.ties,
        "not judged": parity.not_judged,
    }
    return Finding(
        passed=parity.passed,
        description=(
            f"{parity.matched} candidates as recomputed from the lake; "
            + ", ".join(f"{frame.height} {name}" for name, frame in counts.items())
            + "."
            + ("" if parity.passed else _EXPLAINED)
        ),
        metadata={"matched": parity.matched}
        | {name: _table(frame) for name, frame in counts.items() if frame.height},
    )


def _table(candidates: "pl.DataFrame") -> Table:
    columns = ["open_time", "symbol", "strategy", "side", "price", "indicators"]
    kinds = dict.fromkeys(columns, "string") | {"price": "float"}
    rows = candidates.select(columns).iter_rows()
    return Table.of(kinds, ((moment(opened), *others) for opened, *others in rows))


def judge_days(
    store: ObjectStore, strategies: Sequence[Strategy], days: Sequence[date], today: date
) -> dict[date, Finding]:
    """Return by day whether what was published is right; a day that is not over passes.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    return {
        day: judge_day(store, strategies, day, read_candidates(store, day))
        if day < today
        else Finding(passed=True, description=f"{day} is not over yet.")
        for day in days
    }
