"""The training of one strategy's model over the newest finalized days, and its place in the registry.
Training itself is in training.py; whether the model becomes current is decided in model_promotion.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from pipeline_assets.collection.findings import Table, moment
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.research import model_files
from pipeline_assets.research.backtest_request import universe
from pipeline_assets.research.readers import LakeCandles, lake_documents
from pipeline_assets.research.stored_backtest import newest_request
from pipeline_assets.research.strategy_choice import chosen_strategies
from pipeline_assets.research.training_types import (
    FeatureReader,
    TrainingRequest,
    TrainingResult,
    TrainingSources,
)
from pipeline_assets.resources.current_models import read_current
from pipeline_assets.resources.model_objects import (
    CARD,
    DamagedModelError,
    Manifest,
    Training,
    model_key,
    write_model,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.workers import code_fingerprint
from pipeline_assets.settings import Settings

Trainer = Callable[[TrainingRequest, TrainingSources], TrainingResult]


@dataclass(frozen=True)
class StoredModel:
    """A model in the registry.

    Attributes:
        manifest: as stored.
        card: the key of the page about it.
        values: figures by name; a Table is shown as a table.
        pictures: the pictures of the card as PNG, by name.
    """

    manifest: Manifest
    card: str
    values: dict[str, Any]
    pictures: Mapping[str, bytes]


def train_and_store(
    store: ObjectStore,
    settings: Settings,
    features: FeatureReader,
    name: str,
    now: datetime,
    trainer: Trainer | None = None,
) -> StoredModel:
    """Train a strategy's model over the newest finalized days and store it; may be repeated.

    A repeat over the same data, code and settings stores nothing new. Several entries of the settings may
    have the strategy's name: the model is the first one's, and is unfit for candidates of the others.

    Args:
        store: the lake.
        settings: how many days, which symbols, the strategy's parameters and rules, fills.
        features: the feature tables.
        name: the strategy's name.
        now: the time of storing, UTC.
        trainer: in place of `training.train`.

    Raises:
        StrategyError: there is no such strategy.
        NoCandlesError: no day of 1m candles is finalized.
        TooFewExamplesError: the days have too few candidates with an outcome.
        ModelFileError: the estimator holds a type that no model file may hold.
    """
    strategy = chosen_strategies(settings, [name])[0]
    request, sources = _request(store, settings, strategy, features)
    # Read before the training: its end may be minutes later, and the model is this one's child.
    parent = _parent(store, name)
    made = (trainer or _train)(request, sources)
    training = Training(
        strategy=strategy.name,
        strategy_version=strategy.version,
        trained_from=made.trained_from,
        trained_to=made.trained_to,
        data_checksum=made.data_checksum,
        columns=made.facts.columns,
        facts=made.facts.model_dump(mode="json"),
        metrics=_finite(made.metrics),
        baselines=_finite(made.baselines),
        passes=made.passes,
        failures=made.failures,
        code_version=f"{version('pipeline-assets')} {code_fingerprint(settings)}",
        libraries=model_files.libraries(),
    )
    body = model_files.dump(made.estimator)
    manifest = write_model(store, training, body, made.card.html, parent=parent, created_at=now)
    key = model_key(name, manifest.model_id, CARD)
    return StoredModel(manifest, key, _values(manifest, made), made.card.pictures)


def _request(
    store: ObjectStore, settings: Settings, strategy: Strategy, features: FeatureReader
) -> tuple[TrainingRequest, TrainingSources]:
    candles = LakeCandles(store, skip_damaged=True)
    traded = newest_request(store, settings, [strategy], settings.training.days)
    request = TrainingRequest(
        strategy=strategy,
        symbols=universe(traded, candles.listed()),
        start=traded.start,
        end=traded.end,
        model=traded.model,
        load_lag=timedelta(seconds=settings.features.load_lag_seconds),
    )
    return request, TrainingSources(candles, candles.funding, lake_documents(store), features)


def _train(request: TrainingRequest, sources: TrainingSources) -> TrainingResult:
    # Imported here: scikit-learn takes a second and a hundred megabytes.
    from pipeline_assets.research.training import train

    return train(request, sources)


def _parent(store: ObjectStore, name: str) -> str | None:
    """Return the id of the current model; None where there is none or the document is damaged."""
    try:
        held = read_current(store, name).current
    except DamagedModelError:
        return None
    return None if held is None else held.model_id


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that are numbers: of too few candidates some cannot be computed."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _values(manifest: Manifest, made: TrainingResult) -> dict[str, Any]:
    columns = {"figure": "string", "value": "float"}
    return {
        "model": manifest.model_id,
        "passes": manifest.passes,
        "failures": Table.of({"failure": "string"}, [(each,) for each in manifest.failures]),
        "trained": f"{moment(manifest.trained_from)} to {moment(manifest.trained_to)}",
        "figures": Table.of(columns, sorted(manifest.metrics.items())),
        "baselines": Table.of(columns, sorted(manifest.baselines.items())),
        "assumed": Table.of({"assumption": "string"}, [(each,) for each in made.assumptions]),
        "strategy version": manifest.strategy_version,
        "data (SHA-256)": manifest.data_checksum,
        "file (SHA-256)": manifest.sha256,
        "parent": manifest.parent or "none",
    }
