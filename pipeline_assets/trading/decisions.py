"""Decisions and intents: what was decided about a candidate, once and for all, and what the trader then did.

The lake holds the decisions of one minute as one document, written only if there is none. A candidate that is
not in this document has a document of its own. So no candidate has two decisions, even if a trader and the
inference service crash, or two of either run.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from pipeline_assets.market.candidates import Candidate, UtcTime
from pipeline_assets.market.step_tables import OUTCOMES

DECISIONS_TOPIC, DECISION_SCHEMA = "decisions", "decision.schema.json"
# Ids are compared over years and between programs: this never changes.
_NAMESPACE = UUID("5a0a3a2c-1f0e-5c5e-9b53-0d5f7d3f2b77")
# Reasons of a decline beside the outcomes of the position rules.
STALE, NO_CANDLE, NOT_CLOSED = "stale", "no_candle", "not_closed"
UNKNOWN_STRATEGY, UNKNOWN_SYMBOL, OTHER_INTERVAL = (
    "unknown_strategy",
    "unknown_symbol",
    "other_interval",
)
# Why an intent is skipped: an earlier trade of the symbol is not closed at the venue.
EARLIER_TRADE_OPEN = "earlier_trade_open"
# Reasons of the inference service beside these.
LOW_VALUE = "low_value"
NO_MODEL, MODEL_DAMAGED, MODEL_UNFIT = "no_model", "model_damaged", "model_unfit"
FEATURES_OLD, FEATURES_MISSING, WAREHOUSE_DOWN = (
    "features_old",
    "features_missing",
    "warehouse_down",
)
REASONS = (*OUTCOMES[1:], STALE, NO_CANDLE, UNKNOWN_STRATEGY, UNKNOWN_SYMBOL, OTHER_INTERVAL)
INFERENCE_REASONS = (
    *(LOW_VALUE, NO_MODEL, MODEL_DAMAGED, MODEL_UNFIT),
    *(FEATURES_OLD, FEATURES_MISSING, WAREHOUSE_DOWN),
    *(STALE, NOT_CLOSED, UNKNOWN_STRATEGY, OTHER_INTERVAL),
)


def _absent(value: object) -> bool:
    return value is None


class DecisionReason(BaseModel):
    """One input of a model, and its part in a decision.

    `value` is null where the input has none. `effect` is the change of the probability when the input's
    median of the training is replaced by this value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(min_length=1, max_length=80)
    value: FiniteFloat | None
    effect: FiniteFloat


class Decision(BaseModel):
    """The decision about one candidate. There is exactly one for each candidate.

    `id` follows from the candidate's id alone. `reason` is empty for an accepted candidate; otherwise an
    outcome of the position rules, such as `position_held`, or `stale`, `no_candle`, `unknown_strategy`,
    `unknown_symbol`, `other_interval`. `author` names the program that decided.

    The last four fields are the inference service's: the id of the strategy's model, if there is one; and if
    the model judged the candidate, the probability of a winning trade, the expected result after costs as a
    part of the value, and the strongest reasons first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, title="Decision")

    schema_version: Literal[1] = 1
    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    candidate: Candidate
    verdict: Literal["accept", "decline"]
    reason: str = Field("", max_length=40)
    author: str = Field(min_length=1, max_length=80)
    decided_at: UtcTime
    # Left out where absent: a document is compared byte for byte, also with those of earlier releases.
    model: str | None = Field(None, min_length=1, max_length=200, exclude_if=_absent)
    probability: float | None = Field(None, ge=0, le=1, exclude_if=_absent)
    expected_value: FiniteFloat | None = Field(None, exclude_if=_absent)
    reasons: tuple[DecisionReason, ...] | None = Field(None, max_length=10, exclude_if=_absent)

    @property
    def symbol(self) -> str:
        """The candidate's symbol, by which the topic is partitioned."""
        return self.candidate.symbol


class MinuteDecisions(BaseModel):
    """The decisions about the candidates of one minute, as one document on the lake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decisions: tuple[Decision, ...]

    def of(self, candidate_id: str) -> Decision | None:
        """Return the decision about a candidate, or None."""
        return next((each for each in self.decisions if each.candidate.id == candidate_id), None)


class Intent(BaseModel):
    """The trader's action after an accepted decision.

    `action` is `open`, `close` (an opposite signal that closes a position) or `reverse`. `order_id` is the
    client id of the order; empty if nothing was sent. `reason` says why an intent was skipped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, title="Intent")

    schema_version: Literal[1] = 1
    decision_id: str
    action: Literal["open", "close", "reverse"]
    outcome: Literal["sent", "skipped"]
    order_id: str = ""
    reason: str = ""


class MinuteIntents(BaseModel):
    """The intents of one minute, as one document on the lake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intents: tuple[Intent, ...]


def decision_id(candidate_id: str) -> str:
    """Return the id of the decision about a candidate."""
    return str(uuid5(_NAMESPACE, candidate_id))


def decided(
    candidates: Iterable[Candidate], reason: str, author: str, now: datetime
) -> list[Decision]:
    """Return one decision each: accepted if `reason` is empty, otherwise declined."""
    return [
        Decision(
            id=decision_id(each.id),
            candidate=each,
            verdict="decline" if reason else "accept",
            reason=reason,
            author=author,
            decided_at=now,
        )
        for each in candidates
    ]
