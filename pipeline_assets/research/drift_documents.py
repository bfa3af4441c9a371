"""The drift of a strategy's model as a document on the lake, one a day: `drift/{strategy}/{yyyyMMdd}.json`.
Figures are computed in drift.py.
"""

from datetime import date
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FiniteFloat,
    PlainSerializer,
    TypeAdapter,
)

from pipeline_assets.resources.lake_documents import DEFERRED, read_document, update_document
from pipeline_assets.resources.object_store import ObjectStore

PREFIX = "drift/"
_Day = Annotated[
    date,
    BeforeValidator(lambda held: date.fromisoformat(held) if isinstance(held, str) else held),
    PlainSerializer(date.isoformat),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, **DEFERRED)


class Interval(_Part):
    """A mean, and the limits that hold the true value nine times in ten."""

    mean: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class FeatureDrift(_Part):
    """A model input: its population stability index, and its share of nulls, live and in the training."""

    name: str
    index: FiniteFloat
    missing: FiniteFloat
    trained_missing: FiniteFloat


class OutcomeShare(_Part):
    """How many decisions ended in an outcome: `accepted`, or the reason of the decline."""

    outcome: str
    number: int


class DecisionDrift(_Part):
    """The decisions of the inference service about a model's candidates.

    Attributes:
        outcomes: the most frequent first.
        judged: how many the model judged.
        accepted: the share of these that were accepted.
        trained_accepted: the share that the model traded out of sample; None if the manifest does not say.
        index: the population stability index of accepted, declined and not judged; None if too few.
    """

    outcomes: tuple[OutcomeShare, ...]
    judged: int
    accepted: Interval | None
    trained_accepted: FiniteFloat | None
    index: FiniteFloat | None


class ProbabilityGroup(_Part):
    """Closed trades of similar probability: the mean probability, and the share that won."""

    trades: int
    probability: FiniteFloat
    won: Interval


class CalibrationDrift(_Part):
    """The closed trades of accepted candidates against their probabilities.

    Attributes:
        trades: how many there are.
        days: on how many days they were decided.
        unfinished: trades that are open, or that a person or the exchange closed; not counted.
        probability: the mean.
        won: the share that earned money.
        gap: that share less the mean probability.
        net_return: a trade's, after fees and without funding.
        trained_return: the same out of sample, with funding; None if the manifest does not say.
        groups: the trades by probability, the least likely first.
    """

    trades: int
    days: int
    unfinished: int
    probability: FiniteFloat
    won: Interval
    gap: Interval
    net_return: Interval
    trained_return: FiniteFloat | None
    groups: tuple[ProbabilityGroup, ...]


class DriftReport(_Part):
    """The drift of one model by the end of a day.

    Attributes:
        strategy: whose candidates.
        version: of the strategy.
        model: the model's id.
        day: the last day that counts.
        first_day: of the candidates and their decisions.
        first_trade_day: of the closed trades.
        candidates: how many had a decision.
        features: the largest index first; empty if these were not compared.
        decisions: None if the inference service made none.
        calibration: None without a closed trade.
        warnings: what moved, one sentence each.
        notes: what could not be compared, and why.
        damaged: keys of the records of trading that were left out, because the objects are damaged.
    """

    strategy: str
    version: str
    model: str
    day: _Day
    first_day: _Day
    first_trade_day: _Day
    candidates: int
    features: tuple[FeatureDrift, ...]
    decisions: DecisionDrift | None
    calibration: CalibrationDrift | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    damaged: tuple[str, ...] = ()


_DOCUMENT: TypeAdapter[DriftReport] = TypeAdapter(DriftReport, config=None)


def drift_key(strategy: str, day: date) -> str:
    """Return the key of a day's document."""
    return f"{PREFIX}{strategy}/{day:%Y%m%d}.json"


def write_drift(store: ObjectStore, report: DriftReport) -> str:
    """Make the day's document hold a report, whatever stood there; return its key. May be repeated.

    Raises:
        NewerVersionError: a newer release wrote the document.
        ObjectStoreError: the store does not answer.
    """
    key = drift_key(report.strategy, report.day)
    update_document(store, key, _DOCUMENT, lambda _: report)
    return key


def read_drift(
    store: ObjectStore, strategy: str, day: date, damage: list[str] | None = None
) -> DriftReport | None:
    """Return a day's report; None if there is none, or it is damaged.

    Args:
        store: the lake.
        strategy: whose model.
        day: of the report.
        damage: takes what is wrong with a damaged document.

    Raises:
        NewerVersionError: a newer release wrote the document.
        ObjectStoreError: the store does not answer.
    """
    return read_document(store, drift_key(strategy, day), _DOCUMENT, left_out=damage)
