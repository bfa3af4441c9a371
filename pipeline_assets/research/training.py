"""Training of a strategy's model: walk-forward predictions, the choice between the kinds of models, and the
final model. Examples are made in examples.py, models in estimators.py, figures in model_metrics.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.research.baselines import failures
from pipeline_assets.research.candidate_model import ModelFacts, Payoff, input_matrix
from pipeline_assets.research.estimators import BOOSTING, KINDS, fitted, one_thread
from pipeline_assets.research.examples import Examples, examples
from pipeline_assets.research.importance import Importance, importances
from pipeline_assets.research.model_card import CardContent, model_card
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets.research.model_metrics import figures, log_losses
from pipeline_assets.research.training_types import (
    TooFewExamplesError,
    TrainingRequest,
    TrainingResult,
    TrainingSources,
)
from pipeline_assets.research.walk_forward import Fold, Times, check_no_leak, walk_forward, whole

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

# Below that, the first fold would fit a handful of candidates.
FEWEST_EXAMPLES = 300
_MINUTE, _MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
_DECILES = np.arange(0.1, 0.95, 0.1)


def train(
    request: TrainingRequest,
    sources: TrainingSources,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainingResult:
    """Train a model and measure its worth out of sample.

    Args:
        request: what is trained.
        sources: where candles, rates, rules and features are read.
        progress: is called with the number of symbols read, and of all.

    Raises:
        TooFewExamplesError: the span has too few candidates with an outcome, or no winner, or no loser.
        NoCandlesError: no candle is stored of any symbol in the span.
        DamagedObjectError: an object is damaged, and the reader of candles leaves none out.
    """
    return learn(request, examples(request, sources, progress))


def learn(request: TrainingRequest, held: Examples) -> TrainingResult:
    """Train on examples at hand, as `train` does.

    Raises:
        TooFewExamplesError: there are too few, or no winner, or no loser.
    """
    with one_thread():
        return _learn(request, held)


def _learn(request: TrainingRequest, held: Examples) -> TrainingResult:
    data = _Data.of(held.frame, request.embargo)
    if len(data.net) < FEWEST_EXAMPLES:
        raise TooFewExamplesError(
            f"{request.strategy.name} has {len(data.net):,} candidates with an outcome from "
            f"{request.start:%Y-%m-%d} to {request.end:%Y-%m-%d}, and a model needs {FEWEST_EXAMPLES}. Take "
            "a longer span or more symbols."
        )
    folds = walk_forward(data.times, request.folds, data.embargo)
    check_no_leak(data.times, folds, data.embargo)
    for fold in folds:
        data.require_both(request, fold)
    walked = _walk(data, folds, request.seed)
    predictions = held.frame[walked.rows].with_columns(**walked.columns)
    found = figures(predictions, request.seed)
    final = whole(data.times, data.embargo)
    data.require_both(request, final)
    estimator = fitted(walked.best, data.matrix, data.won, final, request.seed)
    metrics = found.metrics | walked.losses
    metrics["gradient_boosting"] = float(walked.best == BOOSTING)
    reasons = failures(metrics)
    first, last = held.frame["open_time"][0], held.frame["open_time"][-1]
    content = CardContent(
        request=request,
        kind=walked.best,
        figures=found,
        metrics=metrics,
        failures=reasons,
        importances=walked.importances,
        outcomes=held.outcomes,
        found=held.found,
        used=len(data.net),
        span=(first, last),
        predicted=(predictions["open_time"][0], predictions["open_time"][-1]),
        assumptions=held.assumptions,
        checksum=held.checksum,
    )
    return TrainingResult(
        estimator=estimator,
        facts=data.facts(),
        metrics=metrics,
        baselines=found.baselines,
        passes=not reasons,
        failures=reasons,
        card=model_card(content),
        trained_from=_utc(first),
        trained_to=_utc(request.end),
        data_checksum=held.checksum,
        assumptions=held.assumptions,
    )


@dataclass(frozen=True)
class _Data:
    """The examples as arrays, in the order of time."""

    matrix: "Array"
    net: "Array"
    won: "Whole"
    times: Times
    embargo: int

    @classmethod
    def of(cls, frame: "pl.DataFrame", embargo: timedelta) -> "_Data":
        """Return the arrays of examples."""
        net: Array = frame["net_return"].to_numpy()
        closed = (frame["open_time"] + _MINUTE).to_physical().to_numpy()
        return cls(
            matrix=input_matrix(frame, input_columns()),
            net=net,
            won=(net > 0).astype(np.int64),
            times=Times(closed, frame["known_at"].to_physical().to_numpy()),
            embargo=embargo // _MICROSECOND,
        )

    def require_both(self, request: TrainingRequest, fold: Fold) -> None:
        """Refuse a fold without winners or without losers, on which no probability can be learned."""
        for rows in (fold.fit, fold.calibrate):
            if len(np.unique(self.won[rows])) < 2:
                raise TooFewExamplesError(
                    f"{request.strategy.name}: {len(rows):,} candidates of a part of the training all won, "
                    "or all lost. Take a longer span or more symbols, or change the strategy's "
                    "stop and target."
                )

    def payoff(self, rows: "Whole") -> Payoff:
        """Return what winners and losers among some examples earned."""
        net = self.net[rows]
        return Payoff(winner=float(net[net > 0].mean()), loser=float(net[net <= 0].mean()))

    def facts(self) -> ModelFacts:
        """Return the plain data of a model trained on all examples."""
        medians: dict[str, float | None] = {}
        deciles: dict[str, tuple[float, ...]] = {}
        missing: dict[str, float] = {}
        for place, name in enumerate(input_columns()):
            values = self.matrix[:, place]
            known = values[~np.isnan(values)]
            missing[name] = 1 - len(known) / len(values)
            medians[name] = float(np.median(known)) if len(known) else None
            cuts = np.quantile(known, _DECILES).tolist() if len(known) else []
            deciles[name] = tuple(cuts)
        return ModelFacts(
            columns=input_columns(),
            medians=medians,
            deciles=deciles,
            missing=missing,
            base_rate=float(self.won.mean()),
            payoff=self.payoff(np.arange(len(self.net))),
        )


@dataclass(frozen=True)
class _Walked:
    """The result of all folds.

    Attributes:
        rows: the examples that were predicted, in the order of time.
        columns: what was predicted of them.
        best: the kind of model with the lower log loss over all folds.
        losses: the log loss of each kind.
        importances: of the last fold's model, on examples that it has not seen.
    """

    rows: "Whole"
    columns: "dict[str, pl.Series]"
    best: str
    losses: dict[str, float]
    importances: Sequence[Importance]


def _walk(data: _Data, folds: Sequence[Fold], seed: int) -> _Walked:
    """Predict each fold's test part by models of the time before.

    The kind of model is chosen by the folds before as well: choosing the better one of two by the very
    predictions that are reported would make the report too good.
    """
    import polars as pl

    losses: dict[str, list[Array]] = {kind: [] for kind in KINDS}
    parts: dict[str, list[Array]] = {"probability": [], "base_rate": [], "expected": []}
    for fold in folds:
        chosen = _best(losses)
        train = np.concatenate([fold.fit, fold.calibrate])
        payoff, test = data.payoff(train), data.matrix[fold.test]
        for kind in KINDS:
            estimator = fitted(kind, data.matrix, data.won, fold, seed)
            probability: Array = estimator.predict_proba(test)[:, 1]
            losses[kind].append(log_losses(data.won[fold.test].astype(float), probability))
            if kind == chosen:
                newest = estimator
                parts["probability"].append(probability)
                parts["expected"].append(
                    probability * payoff.winner + (1 - probability) * payoff.loser
                )
        parts["base_rate"].append(np.full(len(test), data.won[train].mean()))
    rows = np.concatenate([each.test for each in folds])
    columns = {name: pl.Series(np.concatenate(values)) for name, values in parts.items()}
    columns["traded"] = columns.pop("expected") > 0
    entered, known = data.times.closed[rows], data.times.known[rows]
    columns["minutes"] = pl.Series((known - entered) / 60e6)
    last = folds[-1].test
    return _Walked(
        rows=rows,
        columns=columns,
        best=_best(losses),
        losses={
            f"log_loss_{kind.replace(' ', '_')}": float(np.concatenate(held).mean())
            for kind, held in losses.items()
        },
        importances=importances(newest, data.matrix[last], data.won[last], input_columns(), seed),
    )


def _best(losses: "dict[str, list[Array]]") -> str:
    """Return the kind with the lowest log loss so far; the simplest one at first."""
    if not losses[KINDS[0]]:
        return KINDS[0]
    return min(KINDS, key=lambda kind: float(np.concatenate(losses[kind]).mean()))


def _utc(moment: datetime) -> datetime:
    from datetime import UTC

    return moment.astimezone(UTC)
