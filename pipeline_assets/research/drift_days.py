"""The drift of all current models by the end of a UTC day: what is read, written and reported. Figures are
computed in drift.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline_assets.collection.findings import Finding
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import day_window
from pipeline_assets.research.candidate_model import ModelFacts, ModelInputError
from pipeline_assets.research.drift import DriftSubject, drift_report
from pipeline_assets.research.drift_documents import DriftReport, write_drift
from pipeline_assets.research.drift_picture import drift_picture
from pipeline_assets.research.drift_tables import finding, tables
from pipeline_assets.research.examples import FEATURES_BEFORE, INTERVALS
from pipeline_assets.research.model_inputs import model_inputs
from pipeline_assets.research.training_types import FeatureReader
from pipeline_assets.resources.current_models import read_current
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.model_objects import DamagedModelError, Manifest, read_manifest
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# Whole weeks, as hours and weekdays differ. Trades are few, and each takes a while to close.
CANDIDATE_DAYS, TRADE_DAYS = 7, 28
_KEPT = (
    *("id", "candidate_id", "strategy", "version", "symbol", "side", "open_time"),
    *("verdict", "reason", "by_model", "judged", "probability"),
)


# Rows, and by key what is wrong with an object that was left out.
ReadRecords = tuple["pl.DataFrame", Mapping[str, str]]


@dataclass(frozen=True)
class DriftSources:
    """Where drift reads.

    Attributes:
        store: the lake, with models and drift documents.
        features: the feature tables.
        decisions: the decisions of a day, with `by_model` (the inference service decided), `judged` (a model
            gave a probability) and `probability`.
        trades: `decision_id` and `net_return` of the trades that were opened within some days.
    """

    store: ObjectStore
    features: FeatureReader
    decisions: Callable[[date], ReadRecords]
    trades: Callable[[Sequence[date]], ReadRecords]


@dataclass(frozen=True)
class DriftOfDay:
    """The drift by the end of one day.

    Attributes:
        finding: fails if a model's inputs, decisions or results moved, or records of trading are damaged.
        values: what to report, by name: tables, text and addresses.
        picture: a PNG of the features that moved most; None if no model's features were compared.
    """

    finding: Finding
    values: dict[str, Any]
    picture: bytes | None


def keep_drift(sources: DriftSources, settings: Settings, day: date) -> DriftOfDay:
    """Measure the drift of each configured strategy's model, and write its document. May be repeated.

    The model is the one that was current at the day's end. A strategy that cannot be measured is reported
    with the reason, and the others go on. Records that are damaged are named and left out.

    Raises:
        ObjectStoreError: the lake does not answer.
        WarehouseError: candidates exist, and the warehouse does not answer.
        NewerVersionError: a newer release wrote the day's document.
    """
    reasons: dict[str, str] = {}
    subjects: list[DriftSubject] = []
    for name in dict.fromkeys(each.name for each in settings.strategies):
        found = _subject(sources.store, name, day)
        if isinstance(found, str):
            reasons[name] = found
        else:
            subjects.append(found)
    reports: list[DriftReport] = []
    damaged: dict[str, str] = {}
    if subjects:
        reports = _reports(sources, settings, subjects, day, reasons, damaged)
    keys = {each.strategy: write_drift(sources.store, each) for each in reports}
    values = tables(reports, reasons)
    values |= {name: sources.store.address(key) for name, key in keys.items()}
    picture = drift_picture(reports) if any(each.features for each in reports) else None
    return DriftOfDay(finding(reports, reasons, damaged), values, picture)


def _subject(store: ObjectStore, strategy: str, day: date) -> DriftSubject | str:
    """Return the model that was current at a day's end, or the reason why there is none."""
    end = day_window(day).end
    try:
        promotions = read_current(store, strategy).promotions
        earlier = [each for each in promotions if each.promoted_at < end]
        if not earlier:
            return "no model was promoted by then"
        manifest = read_manifest(store, strategy, earlier[-1].model_id)
        if manifest is None:
            return f"the manifest of {earlier[-1].model_id} is missing"
        described = _described(manifest, day)
    except (DamagedModelError, NewerVersionError) as error:
        return str(error)
    except ValidationError:
        return f"the manifest of {earlier[-1].model_id} has wrong facts"
    columns = set(described.facts.columns)
    if not described.facts.deciles.keys() & described.facts.missing.keys() >= columns:
        return f"the manifest of {described.model} is without deciles of some columns"
    return described


def _described(manifest: Manifest, day: date) -> DriftSubject:
    return DriftSubject(
        strategy=manifest.strategy,
        version=manifest.strategy_version,
        model=manifest.model_id,
        facts=ModelFacts.model_validate(manifest.facts),
        metrics=manifest.metrics,
        first_day=day - (CANDIDATE_DAYS - 1) * DAY,
        day=day,
        first_trade_day=day - (TRADE_DAYS - 1) * DAY,
    )


def _reports(
    sources: DriftSources,
    settings: Settings,
    subjects: Sequence[DriftSubject],
    day: date,
    reasons: dict[str, str],
    damaged: dict[str, str],
) -> list[DriftReport]:
    """Return the report of each model; a model that cannot be compared gets a reason instead.

    Objects that are damaged are added to `damaged`.
    """
    import polars as pl

    days = [day - ago * DAY for ago in reversed(range(TRADE_DAYS))]
    versions = [(each.strategy, each.version) for each in subjects]
    judged = pl.DataFrame(versions, ["strategy", "version"], orient="row")

    def chosen(each: date) -> ReadRecords:
        rows, wrong = sources.decisions(each)
        return _chosen(rows, judged), wrong

    decided, (trades, wrong) = sources.store.each(chosen, days), sources.trades(days)
    for each in (*(each for _, each in decided), wrong):
        damaged.update(each)
    by_day = [rows for rows, _ in decided]
    traded = pl.concat(each.filter(verdict="accept") for each in by_day).join(
        trades, left_on="id", right_on="decision_id"
    )
    recent = dict(zip(days[-CANDIDATE_DAYS:], by_day[-CANDIDATE_DAYS:], strict=True))
    lag = timedelta(seconds=settings.features.load_lag_seconds)
    inputs = pl.concat(_inputs(sources.features, *each, lag) for each in recent.items())
    decisions = pl.concat(recent.values())
    reports = []
    for subject in subjects:
        own = decisions.filter(strategy=subject.strategy)
        try:
            report = drift_report(
                subject,
                inputs.join(own, left_on="id", right_on="candidate_id", how="semi"),
                own.filter("by_model"),
                traded.filter(strategy=subject.strategy).drop_nulls("probability"),
            )
            reports.append(report.model_copy(update={"damaged": tuple(damaged)}))
        except ModelInputError as error:
            reasons[subject.strategy] = str(error)
    return reports


def _chosen(decisions: "pl.DataFrame", judged: "pl.DataFrame") -> "pl.DataFrame":
    """Return the decisions about candidates that a model's training would have had."""
    minutes = decisions.filter(interval=Interval.ONE_MINUTE.value)
    return minutes.select(_KEPT).join(
        judged, on=["strategy", "version"], how="semi", maintain_order="left"
    )


def _inputs(
    features: FeatureReader, day: date, decisions: "pl.DataFrame", load_lag: timedelta
) -> "pl.DataFrame":
    """Return the model inputs of a day's candidates as training makes these.

    Features are read by the day: those of a week of 500 symbols would take hundreds of megabytes.
    """
    import polars as pl

    candidates = decisions.select(pl.col("candidate_id").alias("id"), "symbol", "open_time", "side")
    symbols = candidates["symbol"].unique().sort().to_list()
    window = day_window(day)
    span = (window.start - FEATURES_BEFORE, window.end + FEATURES_BEFORE)
    held = {interval: features(interval, symbols, *span) for interval in INTERVALS}
    return model_inputs(candidates, held, load_lag)
