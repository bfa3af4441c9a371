"""Decision records: their JSON stays readable by, and equal to, that of other releases."""

import json
from datetime import timedelta

from pipeline_assets.trading.decider import AUTHOR
from pipeline_assets.trading.decisions import (
    INFERENCE_REASONS,
    REASONS,
    Decision,
    DecisionReason,
    decided,
)
from pipeline_assets.trading.reason_texts import REASON_TEXTS, explained
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates


def _decision() -> Decision:
    (found,) = decided(candidates(), "stale", AUTHOR, MIDNIGHT + timedelta(seconds=90))
    return found


def test_pass_through_decision_keeps_its_fields() -> None:
    """No field of a model appears in a decision without one."""
    written = json.loads(_decision().model_dump_json())
    assert list(written) == [
        *("schema_version", "id", "candidate", "verdict", "reason", "author", "decided_at"),
    ]


def test_judged_decision_survives_json() -> None:
    """A reason without a value says so by null."""
    reasons = (
        DecisionReason(input="f15_return", value=0.25, effect=0.1),
        DecisionReason(input="f1h_range", value=None, effect=-0.01),
    )
    judged = _decision().model_copy(
        update={"model": "m-1", "probability": 0.5, "expected_value": 0.001, "reasons": reasons}
    )
    written = judged.model_dump_json()
    assert json.loads(written)["reasons"][1] == {
        "input": "f1h_range",
        "value": None,
        "effect": -0.01,
    }
    assert Decision.model_validate_json(written) == judged


def test_each_reason_is_explained() -> None:
    """`pipeline-assets decisions` says what each reason means, and leaves out those of other releases."""
    assert {*REASON_TEXTS} == {*REASONS, *INFERENCE_REASONS}
    (line,) = explained(["no_model", "no_model", "of another release"])
    assert line.startswith("no_model: no model of its strategy is promoted")
