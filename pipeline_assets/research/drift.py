"""The drift of a model: live inputs, decisions and results against those of its training. Pure; reading and
writing are in drift_days.py, the index in stability.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.research.block_bootstrap import DAY, Blocks, Estimate
from pipeline_assets.research.candidate_model import SIDE, ModelFacts, input_matrix
from pipeline_assets.research.drift_documents import (
    CalibrationDrift,
    DecisionDrift,
    DriftReport,
    FeatureDrift,
    Interval,
    OutcomeShare,
    ProbabilityGroup,
)
from pipeline_assets.research.stability import (
    SHIFTED,
    column_index,
    smallest_share,
    stability_index,
)
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Among 200 values that did not move, none of 70 columns reaches an index of 0.25 by chance, if these do not
# depend on each other: the index times their number has about a chi-squared distribution.
LEAST_CANDIDATES = 200
# As training asks of a model: the interval of fewer days is too narrow.
LEAST_TRADES, LEAST_DAYS = 50, 10
# A gap of calibration that is surely there may still be too small to matter.
LARGEST_GAP = 0.05
# The check is daily: the limits of an interval of nine times in ten would be passed by chance every month.
_SURE = (0.005, 0.995)
ACCEPTED = "accepted"
_GROUPS, _LEAST_OF_GROUP = 5, 10
_NAMED = 10
_SEED = 19


@dataclass(frozen=True)
class DriftSubject:
    """The model, and the days that are compared with its training.

    Attributes:
        strategy, version: whose candidates the model judges.
        model: its id.
        facts: the training's deciles and shares of nulls.
        metrics: its figures out of sample, by name.
        first_day, day: the days of the candidates.
        first_trade_day: the first day of the trades, which end with `day`, too.
    """

    strategy: str
    version: str
    model: str
    facts: ModelFacts
    metrics: Mapping[str, float]
    first_day: date
    day: date
    first_trade_day: date


def drift_report(
    subject: DriftSubject,
    inputs: "pl.DataFrame",
    decisions: "pl.DataFrame",
    trades: "pl.DataFrame",
) -> DriftReport:
    """Return the drift of a model, in figures and in sentences.

    Args:
        subject: the model and the days.
        inputs: the model inputs of all candidates that had a decision.
        decisions: `open_time`, `verdict`, `reason` and `judged` (by the model) of the decisions that the
            inference service made about these candidates.
        trades: `open_time`, `probability` and `net_return` of the accepted decisions that became a trade;
            a null return of one that is not closed.

    Raises:
        ModelInputError: the inputs are without a column of the model.
    """
    warnings: list[str] = []
    notes: list[str] = []
    features = _features(subject.facts, inputs, warnings, notes)
    decided = _decisions(subject, decisions, warnings, notes)
    calibration = _calibration(subject, trades, warnings, notes) if decided else None
    return DriftReport(
        strategy=subject.strategy,
        version=subject.version,
        model=subject.model,
        day=subject.day,
        first_day=subject.first_day,
        first_trade_day=subject.first_trade_day,
        candidates=inputs.height,
        features=tuple(features),
        decisions=decided,
        calibration=calibration,
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def moved(features: Sequence[FeatureDrift]) -> list[FeatureDrift]:
    """Return the features whose index says that they moved."""
    return [each for each in features if each.index >= SHIFTED]


def _features(
    facts: ModelFacts, inputs: "pl.DataFrame", warnings: list[str], notes: list[str]
) -> list[FeatureDrift]:
    if inputs.height < LEAST_CANDIDATES:
        notes.append(
            f"Features are not compared: {counted(inputs.height, 'decision')}, and "
            f"{LEAST_CANDIDATES} are needed."
        )
        return []
    matrix = input_matrix(inputs, facts.columns)
    # The side is the candidate's own, so it is there without any features.
    computed = [name != SIDE for name in facts.columns]
    if np.isnan(matrix[:, computed]).all():
        notes.append(
            "Features are not compared: the tables have none for these candidates. Materialize features_15m "
            "and features_1h over these days."
        )
        return []
    found = [
        FeatureDrift(
            name=name,
            index=column_index(matrix[:, place], facts.deciles[name], facts.missing[name]),
            missing=float(np.isnan(matrix[:, place]).mean()),
            trained_missing=facts.missing[name],
        )
        for place, name in enumerate(facts.columns)
    ]
    found.sort(key=lambda each: (-each.index, each.name))
    if shifted := moved(found):
        named = ", ".join(f"{each.name} ({each.index:.2f})" for each in shifted[:_NAMED])
        more = f" and {len(shifted) - _NAMED} more" if len(shifted) > _NAMED else ""
        warnings.append(f"{counted(len(shifted), 'feature')} moved: {named}{more}.")
    return found


def _decisions(
    subject: DriftSubject, decisions: "pl.DataFrame", warnings: list[str], notes: list[str]
) -> DecisionDrift | None:
    if decisions.is_empty():
        notes.append("Decisions are not compared: the inference service made none.")
        return None
    import polars as pl

    outcome = pl.when(pl.col("verdict") == "accept").then(pl.lit(ACCEPTED)).otherwise("reason")
    counts = decisions.group_by(outcome.alias("outcome")).len()
    counts = counts.sort("len", "outcome", descending=[True, False])
    judged = decisions.filter("judged")
    accepted = (judged["verdict"] == "accept").cast(pl.Float64).to_numpy()
    trained = _trained_share(subject.metrics)
    index = None
    if decisions.height < LEAST_CANDIDATES:
        notes.append(
            f"Outcomes are not compared: {counted(decisions.height, 'decision')} of the inference service, "
            f"and {LEAST_CANDIDATES} are needed."
        )
    elif trained is not None:
        parts = (accepted.sum(), judged.height - accepted.sum(), decisions.height - judged.height)
        live = [float(each) / decisions.height for each in parts]
        index = stability_index(live, [trained, 1 - trained, 0.0], smallest_share(decisions.height))
        if index >= SHIFTED:
            warnings.append(
                f"Decisions moved ({index:.2f}): {live[0]:.0%} accepted, {live[2]:.0%} not judged; the "
                f"training accepted {trained:.0%}."
            )
    return DecisionDrift(
        outcomes=tuple(OutcomeShare(outcome=name, number=number) for name, number in counts.rows()),
        judged=judged.height,
        accepted=_interval(_blocks(judged).estimate(accepted)) if judged.height else None,
        trained_accepted=trained,
        index=index,
    )


def _calibration(
    subject: DriftSubject, trades: "pl.DataFrame", warnings: list[str], notes: list[str]
) -> CalibrationDrift | None:
    closed = trades.drop_nulls("net_return").sort("open_time")
    days = closed["open_time"].dt.date().n_unique()
    enough = closed.height >= LEAST_TRADES and days >= LEAST_DAYS
    if not enough:
        notes.append(
            f"Calibration is not judged: {counted(closed.height, 'closed trade')} of {counted(days, 'day')}, "
            f"and {LEAST_TRADES} of {LEAST_DAYS} days are needed."
        )
    if closed.is_empty():
        return None
    blocks, probability = _blocks(closed), closed["probability"].to_numpy()
    net = closed["net_return"].to_numpy()
    won = (net > 0).astype(np.float64)
    gap = blocks.estimate(won - probability)
    low, high = np.quantile(blocks.draws(won - probability, np.ones(len(won), bool)), _SURE)
    if enough and abs(gap.mean) > LARGEST_GAP and not low <= 0 <= high:
        warnings.append(
            f"Calibration moved: {won.mean():.0%} of {closed.height} trades won, and the model said "
            f"{probability.mean():.0%}. The difference is {gap.low:+.0%} to {gap.high:+.0%} (9 in 10)."
        )
    return CalibrationDrift(
        trades=closed.height,
        days=days,
        unfinished=trades.height - closed.height,
        probability=float(probability.mean()),
        won=_interval(blocks.estimate(won)),
        gap=_interval(gap),
        net_return=_interval(blocks.estimate(net)),
        trained_return=subject.metrics.get("traded_return"),
        groups=tuple(_groups(blocks, probability, won)),
    )


def _groups(blocks: Blocks, probability: "Array", won: "Array") -> list[ProbabilityGroup]:
    """Return at most five equal parts by probability, each of ten trades and more."""
    number = min(_GROUPS, max(1, len(won) // _LEAST_OF_GROUP))
    place = np.empty(len(won), np.int64)
    place[np.argsort(probability, kind="stable")] = np.arange(len(won)) * number // len(won)
    return [
        ProbabilityGroup(
            trades=int(inside.sum()),
            probability=float(probability[inside].mean()),
            won=_interval(blocks.estimate(won, inside)),
        )
        for inside in (place == group for group in range(number))
    ]


def _blocks(rows: "pl.DataFrame") -> Blocks:
    return Blocks(rows["open_time"].dt.cast_time_unit("us").to_physical().to_numpy(), DAY, _SEED)


def _interval(estimate: Estimate) -> Interval:
    return Interval(mean=estimate.mean, low=estimate.low, high=estimate.high)


def _trained_share(metrics: Mapping[str, float]) -> float | None:
    """Return the share of candidates that the model traded out of sample; None without these figures."""
    candidates = metrics.get("candidates", 0.0)
    return metrics["traded"] / candidates if candidates and "traded" in metrics else None
