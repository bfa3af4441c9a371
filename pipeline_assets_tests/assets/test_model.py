"""The asset `model`, its check `promotion`, the command that runs it and its weekly schedule. Training has
tests of its own.
"""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, DagsterInstance, build_schedule_context

from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.research import training
from pipeline_assets.research.training_types import (
    TooFewExamplesError,
    TrainingRequest,
    TrainingResult,
)
from pipeline_assets.resources.current_models import read_current
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings, StrategySettings
from pipeline_assets_tests.fixtures.models import DAY, NOON, STRATEGY, result, stored
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.shell import Shell

STRATEGIES = tuple(
    StrategySettings.model_validate(each)
    for each in (
        {"name": STRATEGY, "fast": 5, "slow": 10},
        {"name": STRATEGY},
        {"name": "rsi_reversal"},
    )
)


class Trainer:
    """Stands for training: returns the given result, and keeps the request."""

    def __init__(self) -> None:
        self.result: TrainingResult = result()
        self.request: TrainingRequest | None = None

    def __call__(self, request: TrainingRequest, sources: object) -> TrainingResult:
        self.request = request
        return self.result


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr(training, "train", made)
    return made


@pytest.fixture
def platform(minutes: Platform, trainer: Trainer) -> Platform:
    """Three finalized days; no candle is read, since training is not tested here."""
    made = minutes.with_settings(strategies=STRATEGIES)
    store = ObjectStore(made.settings.s3)
    for number in (12, 13, 14):
        marks = {"BTCUSDT": FinalizedDay("etag")}
        mark_finalized(store, Interval.ONE_MINUTE, date(2026, 11, number), marks)
    return made


def check(ended: Any) -> AssetCheckEvaluation:
    [found] = ended.get_asset_check_evaluations()
    return found


def current(platform: Platform) -> str | None:
    held = read_current(ObjectStore(platform.settings.s3), STRATEGY).current
    return None if held is None else held.model_id


def test_passing_model_becomes_current(platform: Platform, trainer: Trainer) -> None:
    """A repeated run stores and changes nothing."""
    ended = platform.run("models", STRATEGY)
    [event] = ended.asset_materializations_for_node("model")
    shown = event.metadata
    assert current(platform) == shown["model"].value
    assert check(ended).passed
    assert str(shown["model card"].value).endswith(f"{current(platform)}/card.html")
    assert str(shown["calibration"].value).startswith("![calibration](data:image/png")
    figures = {row.data["figure"]: row.data["value"] for row in shown["figures"].value.records}
    assert figures == {"net per candidate": 0.001}
    written = platform.objects("models/")
    assert len(written) == 4
    assert check(platform.run("models", STRATEGY)).description.endswith("is current.")
    assert platform.objects("models/") == written


def test_command_reports_the_verdict(platform: Platform, shell: Shell, trainer: Trainer) -> None:
    """The command trains and promotes; its exit status says whether the model passed."""
    done = shell.call("inference", "train", STRATEGY, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["passed"]) == (current(platform), True)
    failures = ("worse than never trading",)
    trainer.result = result(trained_to=NOON + 7 * DAY, passes=False, failures=failures)
    failed = shell.call("inference", "train", STRATEGY)
    assert failed.returncode == 1
    assert "worse than never trading" in failed.stdout


def test_command_says_why_nothing_was_trained(
    platform: Platform, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few candidates are one message, and an unknown strategy starts no run."""

    def train(*_: object) -> TrainingResult:
        raise TooFewExamplesError("macd_cross has 12 candidates.")

    monkeypatch.setattr(training, "train", train)
    failed = shell.call("inference", "train", STRATEGY)
    assert failed.returncode == 1
    assert "model failed: macd_cross has 12 candidates." in failed.stderr
    unknown = shell.call("inference", "train", "mean_cross")
    assert unknown.returncode == 2
    assert "mean_cross" in unknown.stderr


def test_training_takes_the_settings(platform: Platform, trainer: Trainer) -> None:
    """The span are the newest finalized days; of two entries the first is trained."""
    platform.with_settings(training={"days": 2}).run("models", STRATEGY)
    request = trainer.request
    assert request is not None
    assert (request.start, request.end) == (
        datetime(2026, 11, 13, tzinfo=UTC),
        datetime(2026, 11, 15, tzinfo=UTC),
    )
    assert request.symbols == sorted(platform.settings.symbols)
    assert request.strategy.version == configured_strategies(STRATEGIES)[0].version


def test_failing_model_is_not_promoted(platform: Platform, trainer: Trainer) -> None:
    """The check fails and names why; the current model stays."""
    platform.run("models", STRATEGY)
    before = current(platform)
    failures = ("worse than never trading",)
    trainer.result = result(trained_to=NOON + 7 * DAY, passes=False, failures=failures)
    ended = platform.run("models", STRATEGY)
    assert not check(ended).passed
    assert "worse than never trading" in str(check(ended).description)
    assert current(platform) == before


def test_check_alone_promotes(platform: Platform, trainer: Trainer) -> None:
    """Executed by itself, the check promotes what is stored, without a training."""
    assert "No model" in str(check(platform.materialize("model:promotion", STRATEGY)).description)
    manifest = stored(ObjectStore(platform.settings.s3))
    assert current(platform) is None
    assert check(platform.materialize("model:promotion", STRATEGY)).passed
    assert current(platform) == manifest.model_id
    assert trainer.request is None


def test_unlisted_type_fails_the_run(platform: Platform, trainer: Trainer) -> None:
    """Training fails where inference would have to refuse the file; nothing is stored."""
    from sklearn.neighbors import KNeighborsClassifier

    trainer.result = result(estimator=KNeighborsClassifier())
    with pytest.raises(Exception, match="KNeighborsClassifier"):
        platform.run("models", STRATEGY)
    assert platform.objects("models/") == {}


def test_empty_lake_says_what_to_do(minutes: Platform) -> None:
    with pytest.raises(Exception, match="No day of 1m candles is finalized yet"):
        minutes.run("models", STRATEGY)


def test_schedule_requests_each_strategy_weekly() -> None:
    """A strategy that is configured twice is trained once."""
    settings = Settings(strategies=STRATEGIES)
    definitions = build_definitions(settings)
    with (
        DagsterInstance.ephemeral() as instance,
        build_schedule_context(
            instance=instance,
            scheduled_execution_time=NOON,
            resources={"settings": settings},
            repository_def=definitions.get_repository_def(),
        ) as context,
    ):
        found = definitions.resolve_schedule_def("models").evaluate_tick(context).run_requests
    assert [each.partition_key for each in found or ()] == [STRATEGY, "rsi_reversal"]
    assert len({each.run_key for each in found or ()}) == 2
