"""The examples of a training: past candidates with their inputs and labels, one symbol after the other."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.step_tables import funding_table
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_types import NoCandlesError
from pipeline_assets.research.candidate_history import HistoryReader, SymbolHistory
from pipeline_assets.research.funding_times import listed_rates
from pipeline_assets.research.labels import TRADED, Labeller
from pipeline_assets.research.model_inputs import input_columns, model_inputs
from pipeline_assets.research.rules_in_effect import RulesInEffect
from pipeline_assets.research.training_types import TrainingRequest, TrainingSources

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

INTERVALS = (Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR)
# The oldest features that a candidate may have are an hour, the load lag and a minute old. Rows that were
# merged with another lag, which has an hour at most, are read by the `available_at` of then.
FEATURES_BEFORE = timedelta(hours=4)


@dataclass(frozen=True)
class Examples:
    """Candidates with a known outcome.

    Attributes:
        frame: `id`, `symbol`, `open_time`, `price`, the input columns, `net_return`, `entry_time`,
            `exit_time` and `known_at`; in the order of time and symbol.
        outcomes: how many candidates had each outcome, those left out by chance not counted.
        found: how many candidates there were before these were thinned.
        assumptions: what had to be assumed, one sentence each.
    """

    frame: "pl.DataFrame"
    outcomes: Mapping[str, int]
    found: int
    assumptions: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """The SHA-256 of inputs and labels."""
        digest = sha256("\n".join(self.frame["id"]).encode())
        for name in (*input_columns(), "net_return"):
            # A null is hashed as NaN: the bytes below a null are of no meaning.
            values = self.frame[name].fill_null(float("nan")).to_numpy()
            digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()


def examples(
    request: TrainingRequest,
    sources: TrainingSources,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Return the examples of a request.

    Args:
        request: what is trained.
        sources: where candles, rates, rules and features are read.
        progress: is called with the number of symbols done, and of all.

    Raises:
        NoCandlesError: no candle is stored of any symbol in the span.
        DamagedObjectError: an object is damaged, and the reader of candles leaves none out.
    """
    import polars as pl

    symbols = sorted(set(request.symbols))
    window = Window(request.start, request.end)
    rules = RulesInEffect(sources.documents(symbols), request.fees, [request.strategy], window)
    reader = HistoryReader(request.strategy, sources.candles, rules, sources.candles.listed())
    made = _Maker(request, sources, rules, request.most_candidates // max(len(symbols), 1))
    frames = []
    for number, symbol in enumerate(symbols, 1):
        history = reader.read(symbol)
        if history is not None:
            frames.append(made.examples(history, reader.listed.get(symbol, [window])))
        progress(number, len(symbols))
    if not frames:
        raise NoCandlesError(
            f"No 1m candle of {', '.join(symbols[:5])} is stored from {request.start:%Y-%m-%d} to "
            f"{request.end:%Y-%m-%d}. Fetch them: pipeline-assets backfill --interval 1m."
        )
    frame = pl.concat(frames).sort("open_time", "symbol")
    missing = (f"{made.missing} funding rates are not stored and are left out.",)
    assumptions = (*rules.assumptions, *(missing if made.missing else ()))
    if sources.funding is None:
        assumptions += ("No funding rates were given: funding is left out.",)
    return Examples(frame, made.outcomes, made.found, assumptions)


class _Maker:
    """Makes the examples of one symbol after the other, and counts."""

    def __init__(
        self, request: TrainingRequest, sources: TrainingSources, rules: RulesInEffect, most: int
    ) -> None:
        self._request, self._sources, self._most = request, sources, most
        self._labeller = Labeller(rules, request.strategy.rules, request.model)
        self.outcomes: Counter[str] = Counter()
        self.found = self.missing = 0

    def examples(self, history: SymbolHistory, listings: Sequence[Window]) -> "pl.DataFrame":
        """Return the examples of a symbol."""
        import polars as pl

        candidates = history.candidates
        self.found += candidates.height
        if candidates.height > self._most:
            # An id is a digest: the smallest ones are a fair choice, and the same one each time.
            candidates = candidates.sort("id").head(self._most).sort("open_time")
        labels = self._labeller.labels(history, candidates, self._funding(history, listings))
        self.outcomes.update(labels["outcome"].to_list())
        inputs = model_inputs(candidates, self._features(history.symbol), self._request.load_lag)
        known = labels.filter(pl.col("outcome") == TRADED).drop("outcome", "exit_reason")
        return (
            inputs.join(candidates.select("id", "price"), on="id")
            .join(known, on="id", maintain_order="left")
            .sort("open_time")
        )

    def _funding(self, history: SymbolHistory, listings: Sequence[Window]) -> "NDArray[np.int64]":
        reader = self._sources.funding
        if reader is None:
            return funding_table({})
        found = listed_rates(history.symbol, reader, listings, history.block.window)
        self.missing += sum(each.rates for each in found.missing)
        return funding_table({0: found.rates})

    def _features(self, symbol: str) -> "dict[Interval, pl.DataFrame]":
        start, end = self._request.start - FEATURES_BEFORE, self._request.end + FEATURES_BEFORE
        return {
            interval: self._sources.features(interval, [symbol], start, end)
            for interval in INTERVALS
        }
