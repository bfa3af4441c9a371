"""The asset `drift`, its check `model_drift` and its schedule, over real servers."""

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity

from pipeline_assets.research.candidate_model import ModelFacts
from pipeline_assets.research.drift_documents import read_drift
from pipeline_assets.research.features import feature_names
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import StrategySettings
from pipeline_assets.trading.decider import AUTHOR as TRADER
from pipeline_assets_tests.fixtures.drifting import DAY, STRATEGY, decide, promoted
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT
from pipeline_assets_tests.fixtures.live_inference import fill_features
from pipeline_assets_tests.fixtures.models import facts
from pipeline_assets_tests.fixtures.platform import Platform

KEY = f"drift/{STRATEGY}/20261119.json"
SYMBOLS = [f"COIN{number}USDT" for number in range(20)]
AS_TRAINED = ["", "low_value", "low_value", "", "low_value"]


@pytest.fixture
def measured(platform: Platform) -> Platform:
    """Provide a platform with one strategy."""
    return platform.with_settings(strategies=(StrategySettings(name=STRATEGY),))


def trained_on_these() -> ModelFacts:
    """Return facts of a training whose features were those of `fill_features`."""
    names = [
        (prefix, place) for prefix in ("f15_", "f1h_") for place in range(len(feature_names()))
    ]
    shares = np.arange(0.1, 0.95, 0.1)
    held: dict[str, Any] = facts().model_dump()
    for prefix, place in names:
        values = [number / 7 + place for number in range(len(SYMBOLS))]
        column = f"{prefix}{feature_names()[place]}"
        held["deciles"][column] = tuple(np.quantile(values, shares).tolist())
        if place == len(feature_names()) - 1:
            held["deciles"][column], held["missing"][column] = (), 1.0
    held["deciles"]["side"] = (-1.0,) * 5 + (1.0,) * 4
    return ModelFacts.model_validate(held)


def run(platform: Platform) -> tuple[dict[str, Any], AssetCheckEvaluation]:
    """Execute the job; return the metadata and the check's result."""
    ended = platform.run("model_drift", str(DAY))
    [event] = ended.asset_materializations_for_node("drift")
    [check] = ended.get_asset_check_evaluations()
    assert check.severity is AssetCheckSeverity.WARN
    return {name: value.value for name, value in event.metadata.items()}, check


def fill(platform: Platform) -> ObjectStore:
    """Fill the tables of features for the candidates; return the lake."""
    settings = cast(SimpleNamespace, platform.settings)
    at = MIDNIGHT + timedelta(hours=12, minutes=1)
    fill_features(platform.snowflake, settings, SYMBOLS, at)
    return ObjectStore(platform.settings.s3)


def test_unmoved_model_passes(measured: Platform) -> None:
    """Features and outcomes are the training's; a repeated run writes the same document."""
    store = fill(measured)
    model = promoted(store, trained_on_these())
    decide(store, AS_TRAINED)
    shown, check = run(measured)
    assert check.passed, check.description
    assert "Calibration is not judged: 0 closed trades" in str(check.description)
    report = read_drift(store, STRATEGY, DAY)
    assert report is not None
    assert (report.model, report.candidates, len(report.features)) == (model, 240, 67)
    assert max(each.index for each in report.features) < 0.1
    assert report.decisions is not None
    assert report.decisions.accepted is not None
    assert report.decisions.accepted.mean == report.decisions.trained_accepted == 0.4
    assert str(shown["drift of features"]).startswith("![drift of features](data:image/png")
    assert shown[STRATEGY].endswith(KEY)
    before = measured.objects("drift/")
    run(measured)
    assert measured.objects("drift/") == before


def test_moved_features_are_named(measured: Platform) -> None:
    """The check warns and names the features; the table has the largest first."""
    store = fill(measured)
    promoted(store)
    decide(store, AS_TRAINED)
    shown, check = run(measured)
    assert not check.passed
    described = str(check.description)
    assert f"{STRATEGY}: " in described
    assert "features moved: f15_" in described
    assert "Decisions moved" not in described
    rows = [row.data for row in shown["features"].records]
    indexes = [float(row["index"]) for row in rows]
    assert indexes == sorted(indexes, reverse=True)
    # The fixture leaves the last feature null.
    assert rows[0]["missing"] == 1.0
    [row] = shown["models"].records
    assert "features moved" in str(row.data["result"])


def test_other_outcomes_warn(measured: Platform) -> None:
    """The training accepted 40 %; now most candidates are not judged at all."""
    store = fill(measured)
    promoted(store, trained_on_these())
    decide(store, ["", "features_old", "warehouse_down"])
    shown, check = run(measured)
    assert not check.passed
    assert "33% accepted, 67% not judged; the training accepted 40%" in str(check.description)
    counts = {row.data["outcome"]: row.data["number"] for row in shown["decisions"].records}
    assert counts == {"accepted": 80, "features_old": 80, "warehouse_down": 80}


def test_absence_is_said_and_passes(measured: Platform) -> None:
    """No model, no decision, few decisions, no features, and the trader's own decisions."""
    store = ObjectStore(measured.settings.s3)

    def described() -> str:
        _, check = run(measured)
        assert check.passed
        return str(check.description)

    assert described() == f"{STRATEGY}: not compared, no model was promoted by then."
    assert measured.objects("drift/") == {}
    promoted(store)
    assert "Features are not compared: 0 decisions, and 200 are needed." in described()
    decide(store, AS_TRAINED, count=24)
    assert "24 decisions of the inference service, and 200 are needed" in described()
    decide(store, AS_TRAINED)
    assert "Features are not compared: the tables have none" in described()
    store.delete([f"decisions/{DAY:%Y%m%d}.parquet"])
    decide(store, ["", "position_held"], TRADER)
    assert "Decisions are not compared: the inference service made none." in described()


def test_damaged_model_stops_no_other(measured: Platform) -> None:
    """A strategy whose model cannot be read is named; the others are measured."""
    both = measured.with_settings(
        strategies=(StrategySettings(name="macd_cross"), StrategySettings(name=STRATEGY))
    )
    store = ObjectStore(both.settings.s3)
    promoted(store)
    store.put("models/macd_cross/current.json", b"nonsense")
    _, check = run(both)
    assert "macd_cross: not compared," in str(check.description)
    assert "current.json is damaged" in str(check.description)
    assert set(both.objects("drift/")) == {KEY}


def test_newer_document_is_kept(measured: Platform) -> None:
    store = ObjectStore(measured.settings.s3)
    promoted(store)
    store.put(KEY, json.dumps({"version": 2}).encode())
    with pytest.raises(NewerVersionError, match="update this installation"):
        run(measured)
    assert measured.objects("drift/")[KEY] == b'{"version": 2}'
    assert len(input_columns()) == 67
