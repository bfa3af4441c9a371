"""Training: a pattern is found, chance stays chance, and the same data give the same model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research import training
from pipeline_assets.research.backtest_types import NoCandlesError
from pipeline_assets.research.baselines import failures
from pipeline_assets.research.candidate_model import CandidateModel
from pipeline_assets.research.estimators import KINDS
from pipeline_assets.research.examples import Examples, examples
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets.research.training import learn, train
from pipeline_assets.research.training_types import (
    TooFewExamplesError,
    TrainingRequest,
    TrainingResult,
    TrainingSources,
)
from pipeline_assets.research.walk_forward import Fold, LeakError, Times
from pipeline_assets_tests.research.held_candles import (
    BTC_RULES,
    DAY,
    END,
    EVERY_EIGHT_HOURS,
    FIRST,
    TWO,
    HeldCandles,
    documents,
    minutes_of,
    strategies,
)
from pipeline_assets_tests.research.made_examples import PATTERN, made, request
from pipeline_assets_tests.research.made_features import feature_frame

pytestmark = pytest.mark.xdist_group("compiled")
SYMBOLS = ["BTCUSDT", "ETHUSDT"]


@pytest.fixture(scope="module")
def by_chance() -> TrainingResult:
    """A model of outcomes that nothing tells."""
    return learn(request(), made(2500, 0.0))


@pytest.fixture(scope="module")
def with_pattern() -> TrainingResult:
    """A model of outcomes that a column tells."""
    return learn(request(), made(2500, 2.0))


def test_random_labels_score_at_chance(by_chance: TrainingResult) -> None:
    """Without a pattern nothing is predicted better than by the share of winners, and the model fails."""
    metrics = by_chance.metrics
    assert abs(metrics["roc_auc"] - 0.5) < 0.04
    assert metrics["edge_base_rate"] < 0.001
    assert metrics["net_return"] <= metrics["net_return_high"] < 0.0002
    assert not by_chance.passes
    assert any("share of winners" in each for each in by_chance.failures)


def test_pattern_is_found(with_pattern: TrainingResult) -> None:
    metrics = with_pattern.metrics
    assert with_pattern.failures == ()
    assert with_pattern.passes
    assert metrics["roc_auc"] > 0.75
    assert metrics["edge_never_low"] > 0
    assert with_pattern.baselines["always"] < 0 < metrics["net_return"]
    assert metrics["calibration_error"] < 0.05
    assert (
        min(metrics[f"log_loss_{kind.replace(' ', '_')}"] for kind in KINDS) <= metrics["log_loss"]
    )


def test_model_knows_the_side(with_pattern: TrainingResult) -> None:
    """The pattern speaks for longs and against shorts; the reasons name its column."""
    model = CandidateModel(with_pattern.estimator, with_pattern.facts)
    row = dict.fromkeys(input_columns(), 0.0) | {PATTERN: 2.0}
    inputs = pl.DataFrame([row | {"id": "long", "side": 1.0}, row | {"id": "short", "side": -1.0}])
    long, short = model.judge(inputs)
    assert long.probability > 0.7
    assert short.probability < 0.3
    assert long.expected_value > 0 > short.expected_value
    assert long.reasons[0].column == short.reasons[0].column == PATTERN


def test_training_ends_with_its_span(with_pattern: TrainingResult) -> None:
    """Two trainings over one span end at once, whichever strategy version found the last candidate.

    By the time of the last candidate, a model of new parameters was older than the one before it, which the
    check then called the newest.
    """
    assert made(2500, 2.0).frame["open_time"][-1] < request().end
    assert with_pattern.trained_to == request().end


def test_facts_describe_the_data(with_pattern: TrainingResult) -> None:
    facts, frame = with_pattern.facts, made(2500, 2.0).frame
    net = frame["net_return"]
    assert facts.columns == input_columns()
    assert facts.medians[PATTERN] == pytest.approx(frame[PATTERN].median())
    assert facts.payoff.winner == pytest.approx(net.filter(net > 0).mean())
    assert facts.payoff.loser == pytest.approx(net.filter(net <= 0).mean())
    assert facts.base_rate == pytest.approx((net > 0).mean())
    assert len(facts.deciles[PATTERN]) == 9


def test_same_data_give_the_same_model(by_chance: TrainingResult) -> None:
    again = learn(request(), made(2500, 0.0))
    assert again.metrics == by_chance.metrics
    assert again.card == by_chance.card
    assert again.data_checksum == by_chance.data_checksum
    matrix = np.random.default_rng(1).normal(size=(50, len(input_columns())))
    ours, theirs = (each.estimator.predict_proba(matrix) for each in (again, by_chance))
    assert np.array_equal(ours, theirs)


def test_checksum_covers_inputs_and_labels() -> None:
    held = made(50, 0.0)
    changed = [
        held.frame.with_columns(pl.col(name) + (pl.int_range(pl.len()) == 7).cast(pl.Float64))
        for name in (PATTERN, "net_return")
    ]
    checksums = {held.checksum, *(Examples(each, {}, 50, ()).checksum for each in changed)}
    assert len(checksums) == 3


def test_leaking_folds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds without purging stop the training: a trade reaches into the predicted time."""

    def unpurged(times: Times, folds: int, embargo: int) -> list[Fold]:
        rows = np.arange(len(times.closed))
        return [Fold(rows[:1000], rows[1000:1500], rows[1500:])]

    monkeypatch.setattr(training, "walk_forward", unpurged)
    with pytest.raises(LeakError):
        learn(request(), made(2000, 0.0))


@pytest.mark.parametrize("problem", ["few", "winners"])
def test_too_few_examples_are_refused(problem: str) -> None:
    held = made(200 if problem == "few" else 2000, 0.0)
    if problem == "winners":
        held = Examples(held.frame.with_columns(net_return=pl.lit(0.001)), {}, 2000, ())
    with pytest.raises(TooFewExamplesError, match=r"by_volume.*longer span"):
        learn(request(), held)


def made_features(
    interval: Interval, symbols: Sequence[str], start: datetime, end: datetime
) -> pl.DataFrame:
    """Features with nulls, as after a hole in the candles."""
    found = feature_frame(interval, symbols, start, end)
    return found.with_columns(
        pl.when(pl.int_range(pl.len()) % 9 == 0)
        .then(None)
        .otherwise(pl.col(PATTERN[4:]))
        .alias(PATTERN[4:])
    )


def stored(candles: pl.DataFrame) -> TrainingSources:
    return TrainingSources(
        HeldCandles(candles), EVERY_EIGHT_HOURS, documents((FIRST, BTC_RULES)), made_features
    )


def of_candles(**values: object) -> TrainingRequest:
    (strategy,) = strategies(TWO[0])
    return request(
        **{"strategy": strategy, "start": FIRST + 2 * DAY, "end": END, "folds": 2} | values
    )


@pytest.fixture(scope="module")
def sources() -> TrainingSources:
    return stored(minutes_of(SYMBOLS))


def test_candles_become_a_model(sources: TrainingSources) -> None:
    """Real candles, funding and made-up features: every part at once, nulls included."""
    done: list[tuple[int, int]] = []
    asked = of_candles(most_candidates=1200, embargo=timedelta(hours=2))
    result = train(asked, sources, lambda *each: done.append(each))
    assert done == [(1, 2), (2, 2)]
    assert FIRST + 2 * DAY <= result.trained_from < result.trained_to == END
    assert not result.passes
    assert result.facts.missing[PATTERN] == pytest.approx(1 / 9, abs=0.05)
    assert 0.3 < result.metrics["roc_auc"] < 0.7
    assert set(result.baselines) == {"always", "never", "buy_and_hold", "base_rate"}


def test_thinning_keeps_labels_and_order(sources: TrainingSources) -> None:
    """Fewer candidates have the very labels and inputs that all of them have."""
    many = examples(of_candles(), sources)
    few = examples(of_candles(most_candidates=400), sources)
    assert few.frame.height == sum(few.outcomes.values()) == 400
    assert many.found == few.found > 1000
    assert few.frame["open_time"].is_sorted()
    both = few.frame.join(many.frame, on="id", maintain_order="left").select(few.frame.columns)
    assert both.equals(few.frame)


def test_symbols_without_candles_are_left_out(sources: TrainingSources) -> None:
    found = examples(of_candles(symbols=["BTCUSDT", "XRPUSDT"]), sources)
    assert found.frame["symbol"].unique().to_list() == ["BTCUSDT"]
    with pytest.raises(NoCandlesError, match="XRPUSDT"):
        examples(of_candles(symbols=["XRPUSDT"]), sources)


def test_missing_funding_is_an_assumption(sources: TrainingSources) -> None:
    """Rates that are not stored are counted; without any reader the result says so."""
    without = TrainingSources(sources.candles, None, sources.documents, sources.features)
    (last,) = examples(of_candles(symbols=["BTCUSDT"]), without).assumptions[-1:]
    assert "funding is left out" in last
    none = TrainingSources(sources.candles, lambda *_: [], sources.documents, sources.features)
    found = examples(of_candles(symbols=["BTCUSDT"]), none).assumptions
    assert any(each.endswith("funding rates are not stored and are left out.") for each in found)


def test_card_is_one_safe_file(with_pattern: TrainingResult) -> None:
    """The page fetches nothing and runs nothing; every picture is in it."""
    html = with_pattern.card.html.decode()
    assert html.startswith("<!DOCTYPE html>")
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("data:image/png;base64,") == len(with_pattern.card.pictures) == 5
    assert "better than every baseline" in html
    for name in ("2026-04", "BTCUSDT", PATTERN):
        assert name in html


def test_card_names_the_failures(by_chance: TrainingResult) -> None:
    html = by_chance.card.html.decode()
    assert "does not pass" in html
    assert "of 1 day<" in html
    edge = {
        "traded": 60,
        "edge_never": -0.0001,
        "edge_never_low": -0.0002,
        "edge_never_high": 0.00005,
    }
    said = " ".join(failures(by_chance.metrics | edge))
    assert "better by -1.00 basis points a candidate, interval -2.00 to +0.50." in said
    assert "log loss better by -" in said
    assert html.count("<li>") >= len(by_chance.failures) >= 1


def test_late_features_do_not_stop_training() -> None:
    """A feature whose history begins within the span, and one that never has a value."""
    held = made(900, 2.0)
    late, never = input_columns()[-1], input_columns()[-2]
    frame = held.frame.with_columns(
        pl.when(pl.int_range(pl.len()) > 400).then(pl.col(late)).alias(late),
        pl.lit(None, pl.Float64).alias(never),
    )
    facts = learn(request(), Examples(frame, held.outcomes, held.found, ())).facts
    assert facts.missing[late] == pytest.approx(401 / 900)
    assert facts.medians[never] is None
    assert facts.deciles[never] == ()
