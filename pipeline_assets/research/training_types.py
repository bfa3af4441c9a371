"""Request, sources and result of a training. The work is in training.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.errors import DataError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import Fees
from pipeline_assets.research.backtest_types import CandleReader, DocumentsReader, FundingReader
from pipeline_assets.research.candidate_model import Estimator, ModelFacts
from pipeline_assets.research.model_inputs import LOAD_LAG

if TYPE_CHECKING:
    import polars as pl

# The feature rows of an interval and some symbols with start <= available_at < end.
FeatureReader = Callable[[Interval, Sequence[str], datetime, datetime], "pl.DataFrame"]


class TooFewExamplesError(DataError):
    """Too few candidates have an outcome, or all won, or all lost. The message says what to do."""


@dataclass(frozen=True)
class TrainingRequest:
    """One training.

    Attributes:
        strategy: its candidates are judged; its position rules make the labels.
        symbols: whose candidates.
        start: the first open time of candidates, UTC; candles before it are warm-up.
        end: the open time before which to stop, UTC. Candidates whose trade is still open then are left out.
        model: how orders are filled.
        fees: commission; None takes the documents' of each date.
        load_lag: the time from a candle's close until its features are available.
        folds: how many parts of the span, one after the other, are predicted by models of the time before.
        embargo: the time between the end of a training label and the first candidate predicted.
        most_candidates: more are thinned to this number by chance that depends on their ids alone.
        seed: of everything that is drawn: the same request over the same data gives the same result.
    """

    strategy: Strategy
    symbols: Sequence[str]
    start: datetime
    end: datetime
    model: FillModel = field(default_factory=FillModel)
    fees: Fees | None = None
    load_lag: timedelta = LOAD_LAG
    folds: int = 5
    embargo: timedelta = timedelta(hours=1)
    most_candidates: int = 200_000
    seed: int = 0


@dataclass(frozen=True)
class TrainingSources:
    """Where a training reads: candles, funding rates (None leaves funding out), rules and fees, features."""

    candles: CandleReader
    funding: FundingReader | None
    documents: DocumentsReader
    features: FeatureReader


@dataclass(frozen=True)
class ModelCard:
    """A page about a model for a person: one HTML file that fetches nothing, and its pictures as PNG."""

    html: bytes
    pictures: Mapping[str, bytes]


@dataclass(frozen=True)
class TrainingResult:
    """A model and what is known of its worth.

    Attributes:
        estimator: fitted on all candidates; scikit-learn's own classes only.
        facts: the plain data that belongs to it.
        metrics: figures out of sample, by name; `model_metrics.py` says what each is.
        baselines: the mean net return a candidate of each baseline, out of sample.
        passes: whether the model may be used: no failure.
        failures: why not, one sentence each.
        card: the page about it.
        trained_from: the first open time of the candidates used, UTC.
        trained_to: the end of the span of the candidates, exclusive, UTC.
        data_checksum: SHA-256 of inputs and labels. The same request and checksum give the same model.
        assumptions: what had to be assumed, one sentence each.
    """

    estimator: Estimator
    facts: ModelFacts
    metrics: Mapping[str, float]
    baselines: Mapping[str, float]
    passes: bool
    failures: tuple[str, ...]
    card: ModelCard
    trained_from: datetime
    trained_to: datetime
    data_checksum: str
    assumptions: tuple[str, ...] = ()
