"""The judge: models of a real registry, live features, and a reason for whatever cannot be judged."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.candidate_model import ModelInputError
from pipeline_assets.research.model_registry import ModelRegistry
from pipeline_assets.resources.current_models import Promoter
from pipeline_assets.resources.model_objects import FILE, model_key
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.inference.judging import ModelJudge
from pipeline_assets.services.inference.live_features import LiveFeatures
from pipeline_assets.services.inference.live_models import LiveModels
from pipeline_assets.trading.model_decider import JudgedCandidate
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.models import COLUMNS, NOON, VERSION, facts, stored
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.services.inference.held_features import LAG, SYMBOLS, HeldFeatures
from pipeline_assets_tests.services.inference.held_features import NOON as NOW

STRATEGY = "rsi_reversal"
# The input that decides in the tests' models.
CHANGE = COLUMNS[1]
CLOSE = NOW + timedelta(minutes=5)


def _inputs(found: pl.DataFrame, features: Mapping[Interval, pl.DataFrame]) -> pl.DataFrame:
    """Return one input that follows from the features, and others that are null."""
    changes = features[Interval.FIFTEEN_MINUTES].select("symbol", pl.col("change").alias(CHANGE))
    nulls = [pl.lit(None, pl.Float64).alias(name) for name in COLUMNS[2:]]
    return found.join(changes, on="symbol", how="left", maintain_order="left").with_columns(
        pl.lit(1.0).alias("side"), *nulls
    )


class Bench:
    """A registry on a lake, and live features."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.store = ObjectStore(bucket.settings())
        self.registry = ModelRegistry(self.store)
        self.models = LiveModels(ModelRegistry(self.store), [(STRATEGY, VERSION)])
        self.table = HeldFeatures()
        self.features = LiveFeatures(self.table, lambda: SYMBOLS, LAG)
        self.features.refresh(CLOSE)

    def promoted(self, **changes: Any) -> str:
        model = stored(self.store, strategy=STRATEGY, **changes).model_id
        self.registry.promote(STRATEGY, model, Promoter.PERSON, NOON)
        self.models.refresh()
        return model

    def judge(self, *found: Candidate, make_inputs: Any = _inputs) -> list[JudgedCandidate]:
        judged = ModelJudge(self.models, self.features, make_inputs).judge(found)
        assert set(judged) == {each.id for each in found}
        return [judged[each.id] for each in found]


@pytest.fixture
def bench(s3_bucket: S3Bucket) -> Bench:
    return Bench(s3_bucket)


def _candidates(count: int = 3) -> list[Candidate]:
    start = CLOSE - timedelta(minutes=1)
    held = candidates(symbols=count, start=start)
    return [each.model_copy(update={"version": VERSION}) for each in held]


def test_judgement_is_the_models_own(bench: Bench) -> None:
    """Probability, value and reasons equal those of the estimator and of the plain data, a null included."""
    model = bench.promoted()
    found = bench.judge(*_candidates())
    current = bench.registry.current(STRATEGY)
    unknown = [np.nan] * (len(COLUMNS) - 2)
    matrix = np.array([[1.0, change, *unknown] for change in (np.nan, 1.0, 2.0)])
    expected = current.model.estimator.predict_proba(matrix)[:, 1]  # type: ignore[union-attr]
    assert [each.probability for each in found] == expected.tolist()
    assert {(each.refusal, each.model) for each in found} == {("", model)}
    for each in found:
        assert each.expected_value == pytest.approx(facts().payoff.expected(each.probability))
        assert len(each.reasons) == 3
        assert {reason.input for reason in each.reasons} <= set(COLUMNS)
    values = [reason.value for reason in found[2].reasons if reason.input == CHANGE]
    assert values in ([], [2.0])


def test_no_model_declines(bench: Bench) -> None:
    bench.models.refresh()
    assert {each.refusal for each in bench.judge(*_candidates())} == {"no_model"}


def test_new_model_is_used_after_a_refresh(bench: Bench) -> None:
    first = bench.promoted()
    second = bench.promoted(trained_to=NOON + timedelta(days=7))
    assert first != second
    assert {each.model for each in bench.judge(*_candidates())} == {second}


def test_back_works_while_running(bench: Bench) -> None:
    """The withdrawn model judges until the next refresh; the one before follows, and then none."""
    first = bench.promoted()
    second = bench.promoted(trained_to=NOON + timedelta(days=7))
    bench.registry.go_back(STRATEGY, second, NOON)
    assert {each.model for each in bench.judge(*_candidates())} == {second}
    bench.models.refresh()
    assert {each.model for each in bench.judge(*_candidates())} == {first}
    bench.registry.go_back(STRATEGY, first, NOON)
    bench.models.refresh()
    assert {each.refusal for each in bench.judge(*_candidates())} == {"no_model"}


def test_damaged_model_declines(bench: Bench) -> None:
    """A file whose bytes were changed after the promotion, met by a service that starts."""
    model = bench.promoted()
    body = bytearray(bench.store.get(model_key(STRATEGY, model, FILE)) or b"")
    body[len(body) // 2] ^= 1
    bench.store.put(model_key(STRATEGY, model, FILE), bytes(body))
    bench.models = LiveModels(ModelRegistry(bench.store), [(STRATEGY, VERSION)])
    bench.models.refresh()
    assert {each.refusal for each in bench.judge(*_candidates())} == {"model_damaged"}


def test_model_of_another_version_declines(bench: Bench) -> None:
    bench.promoted(strategy_version="9-other")
    assert {each.refusal for each in bench.judge(*_candidates())} == {"model_unfit"}


def test_renamed_feature_declines(bench: Bench) -> None:
    """The table has another feature than the model: every candidate is declined, and none is lost."""
    model = bench.promoted()

    def renamed(*_: Any) -> pl.DataFrame:
        raise ModelInputError("The inputs are without f15_return.")

    found = bench.judge(*_candidates(), make_inputs=renamed)
    assert {(each.refusal, each.model) for each in found} == {("model_unfit", model)}


def test_symbol_without_history_declines_alone(bench: Bench) -> None:
    """The others of its minute are judged."""
    bench.promoted()
    new, *others = _candidates()
    bench.table.symbols = SYMBOLS[1:]
    bench.features = LiveFeatures(bench.table, lambda: SYMBOLS, LAG)
    bench.features.refresh(CLOSE)
    reasons = [each.refusal for each in bench.judge(new, *others)]
    assert reasons == ["features_missing", "", ""]


def test_warehouse_that_is_down_declines(bench: Bench) -> None:
    bench.promoted()
    bench.table.down = True
    bench.features = LiveFeatures(bench.table, lambda: SYMBOLS, LAG)
    bench.features.refresh(CLOSE)
    assert {each.refusal for each in bench.judge(*_candidates())} == {"warehouse_down"}
