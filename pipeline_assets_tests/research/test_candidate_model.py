"""A model's judgement: probability, expected value, and the columns that matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipeline_assets.research.candidate_model import (
    CandidateModel,
    ModelFacts,
    ModelInputError,
    Payoff,
)

COLUMNS = ("side", "trend", "volume", "funding", "noise")
PAYOFF = Payoff(winner=0.004, loser=-0.002)


class Linear:
    """An estimator with known weights; NaN counts as nothing."""

    weights = np.array([0.01, 0.2, -0.1, 0.05, 0.0])

    def predict_proba(self, matrix: Any) -> Any:
        """Return the probabilities of both classes."""
        won = 0.5 + np.nan_to_num(matrix) @ self.weights
        return np.column_stack([1 - won, won])


def model(**medians: float | None) -> CandidateModel:
    known = dict.fromkeys(COLUMNS, 0.0) | medians
    facts = ModelFacts(
        columns=COLUMNS,
        medians=known,
        deciles=dict.fromkeys(COLUMNS, ()),
        missing=dict.fromkeys(COLUMNS, 0.0),
        base_rate=0.5,
        payoff=PAYOFF,
    )
    return CandidateModel(Linear(), facts)


def inputs(**columns: list[float | None]) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    values: dict[str, Any] = {name: [0.0] * rows for name in COLUMNS} | columns
    return pl.DataFrame({"id": [f"id {row}" for row in range(rows)]}).with_columns(
        **{name: pl.Series(each, dtype=pl.Float64) for name, each in values.items()}
    )


def test_probability_and_expected_value() -> None:
    first, second = model().judge(inputs(trend=[1.0, -1.0]))
    assert (first.id, second.id) == ("id 0", "id 1")
    assert first.probability == pytest.approx(0.7)
    assert first.expected_value == pytest.approx(0.7 * 0.004 - 0.3 * 0.002)
    assert second.expected_value == pytest.approx(0.3 * 0.004 - 0.7 * 0.002)


def test_reasons_are_the_strongest_effects() -> None:
    """Each effect is the change against the column's median; the side is no reason."""
    (found,) = model(funding=3.0).judge(
        inputs(side=[1.0], trend=[0.1], volume=[2.0], funding=[1.0], noise=[9.0])
    )
    assert [each.column for each in found.reasons] == ["volume", "funding", "trend"]
    assert [each.effect for each in found.reasons] == pytest.approx([-0.2, -0.1, 0.02])
    assert found.reasons[0].value == 2.0


def test_null_is_a_reason_without_value() -> None:
    """A missing feature counts against what its median would have given."""
    (found,) = model(trend=1.0).judge(inputs(trend=[None]))
    reason = found.reasons[0]
    assert (reason.column, reason.value) == ("trend", None)
    assert reason.effect == pytest.approx(-0.2)


def test_column_without_median_is_judged() -> None:
    """A column that was always null in the training data has no median to compare with."""
    (found,) = model(trend=None).judge(inputs(trend=[1.0]))
    assert found.reasons[0].effect == pytest.approx(0.2)


def test_infinite_values_count_as_null() -> None:
    (infinite, null) = model().judge(inputs(trend=[float("inf"), None]))
    assert infinite.probability == null.probability


def test_judgements_do_not_depend_on_company() -> None:
    """A candidate is judged alike alone and among others, in any order: after a restart, too."""
    drawn = np.random.default_rng(5)
    frame = inputs(**{name: drawn.normal(size=20).tolist() for name in COLUMNS})
    together = {each.id: each for each in model().judge(frame)}
    alone = {each.id: each for row in frame.iter_slices(1) for each in model().judge(row)}
    reverse = {each.id: each for each in model().judge(frame.reverse())}
    for name, each in together.items():
        assert each.probability == pytest.approx(alone[name].probability, abs=1e-12)
        assert [r.column for r in each.reasons] == [r.column for r in reverse[name].reasons]


def test_no_inputs_give_no_judgements() -> None:
    assert model().judge(inputs(trend=[1.0]).clear()) == []


def test_renamed_feature_is_named() -> None:
    with pytest.raises(ModelInputError, match="trend"):
        model().judge(inputs(trend=[1.0]).rename({"trend": "slope"}))


def test_facts_survive_their_text() -> None:
    """The registry stores them as JSON."""
    facts = model(trend=None).facts
    assert ModelFacts.model_validate_json(facts.model_dump_json()) == facts


@pytest.mark.parametrize("values", [{"winner": -0.1, "loser": -0.1}, {"winner": 0.1, "loser": 0.1}])
def test_payoff_signs_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Payoff(**values)
