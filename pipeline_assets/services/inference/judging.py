"""The judge of the inference service: live features and current models say what candidates are worth.
Accepting and fixing decisions is in trading/model_decider.py.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline_assets.market.candidates import Candidate, candidate_schema, indicators_text
from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.candidate_model import Judgement, ModelInputError
from pipeline_assets.research.model_inputs import model_inputs
from pipeline_assets.research.model_registry import LoadedModel, NoModel
from pipeline_assets.services.inference.live_features import LiveFeatures
from pipeline_assets.services.inference.live_models import LiveModels
from pipeline_assets.trading.decisions import FEATURES_MISSING, MODEL_UNFIT, DecisionReason
from pipeline_assets.trading.model_decider import JudgedCandidate

if TYPE_CHECKING:
    import polars as pl

MakeInputs = Callable[["pl.DataFrame", "Mapping[Interval, pl.DataFrame]"], "pl.DataFrame"]
_logger = logging.getLogger(__name__)


class ModelJudge:
    """Judges candidates by the model of each one's strategy."""

    def __init__(
        self, models: LiveModels, features: LiveFeatures, make_inputs: MakeInputs = model_inputs
    ) -> None:
        """Keep the arguments; `make_inputs` joins candidates and features as training does."""
        self._models, self._features, self._make_inputs = models, features, make_inputs

    def judge(self, candidates: Sequence[Candidate]) -> dict[str, JudgedCandidate]:
        """Return an answer for each candidate, by its id."""
        found: dict[str, JudgedCandidate] = {}
        groups: dict[str, tuple[LoadedModel, list[Candidate]]] = {}
        for each in candidates:
            model = self._models.current(each.strategy, each.version)
            if isinstance(model, NoModel):
                found[each.id] = JudgedCandidate(str(model.reason))
                continue
            close = each.open_time + Interval.ONE_MINUTE.span
            refusal = self._features.refusal(each.symbol, close)
            if refusal:
                found[each.id] = JudgedCandidate(refusal, model.manifest.model_id)
            else:
                groups.setdefault(model.manifest.model_id, (model, []))[1].append(each)
        for model, group in groups.values():
            found |= self._judged(model, group)
        return found

    def _judged(
        self, model: LoadedModel, candidates: Sequence[Candidate]
    ) -> dict[str, JudgedCandidate]:
        name, frames = model.manifest.model_id, self._features.frames
        if frames is None:
            return {each.id: JudgedCandidate(FEATURES_MISSING, name) for each in candidates}
        try:
            held = _of_symbols(frames, {each.symbol for each in candidates})
            judgements = model.model.judge(self._make_inputs(_frame(candidates), held))
        except (ModelInputError, ValueError) as error:
            # A feature that was renamed, or a model of other inputs: both stay until a person acts.
            _logger.warning("Model %s cannot judge: %s", name, error)
            return {each.id: JudgedCandidate(MODEL_UNFIT, name) for each in candidates}
        return {each.id: _answer(name, each) for each in judgements}


def _answer(model: str, judgement: Judgement) -> JudgedCandidate:
    numbers = (judgement.probability, judgement.expected_value)
    if not all(map(math.isfinite, numbers)) or not 0 <= judgement.probability <= 1:
        return JudgedCandidate(MODEL_UNFIT, model)
    reasons = tuple(
        DecisionReason(input=each.column, value=each.value, effect=each.effect)
        for each in judgement.reasons
    )
    return JudgedCandidate("", model, *numbers, reasons)


def _of_symbols(
    frames: "Mapping[Interval, pl.DataFrame]", symbols: set[str]
) -> "dict[Interval, pl.DataFrame]":
    """Return the rows of these symbols: to join those of all symbols takes three times as long."""
    import polars as pl

    wanted = pl.col("symbol").is_in(sorted(symbols))
    return {interval: frame.filter(wanted) for interval, frame in frames.items()}


def _frame(candidates: Sequence[Candidate]) -> "pl.DataFrame":
    """Return candidates as a frame, as those that training reads."""
    import polars as pl

    rows = [
        each.model_dump() | {"indicators": indicators_text(each.indicators)} for each in candidates
    ]
    return pl.DataFrame(rows, schema=candidate_schema())
