"""The check that promotes: a strategy's newest model becomes current if it passed its tests. The tests are in
training.py, the document of the current model is in resources/current_models.py.
"""

from datetime import datetime

from pipeline_assets.collection.findings import Finding, Table
from pipeline_assets.research.model_registry import ModelRegistry, NotUsableError
from pipeline_assets.resources.current_models import Outcome, Promoter, UnfitModelError
from pipeline_assets.resources.model_objects import DamagedModelError, Manifest


def promote_newest(registry: ModelRegistry, strategy: str, at: datetime) -> Finding:
    """Promote a strategy's newest model and return the finding; may be repeated.

    The finding fails if the model failed its tests, cannot be used, or if there is none. The model that was
    current then stays so.

    Args:
        registry: the models.
        strategy: the strategy's name.
        at: the time of the promotion, UTC.

    Raises:
        ObjectStoreError: the store does not answer.
    """
    models, problems = registry.models(strategy)
    if not models:
        return Finding(
            passed=False,
            description=f"No model of {strategy} is stored. Materialize the partition first.",
            metadata=_unreadable(problems),
        )
    newest = max(models, key=lambda each: (each.trained_to, each.created_at))
    described = {"model": newest.model_id, **_unreadable(problems)}
    try:
        outcome = registry.promote(strategy, newest.model_id, Promoter.CHECK, at)
    except (UnfitModelError, NotUsableError, DamagedModelError) as error:
        return Finding(passed=False, description=str(error), metadata=described | _failures(newest))
    current = registry.history(strategy).current
    named = current.model_id if current else "none"
    return Finding(
        passed=True,
        description=_described(outcome, newest, named),
        metadata=described | {"outcome": outcome.value, "current": named},
    )


def _described(outcome: Outcome, newest: Manifest, current: str) -> str:
    if outcome in (Outcome.PROMOTED, Outcome.ALREADY):
        return f"{newest.model_id} passed and is current."
    return f"{newest.model_id} passed and is not promoted: {outcome.value}. Current is {current}."


def _failures(newest: Manifest) -> dict[str, object]:
    rows = [(each,) for each in newest.failures]
    return {"failures": Table.of({"failure": "string"}, rows)} if rows else {}


def _unreadable(problems: list[str]) -> dict[str, object]:
    rows = [(each,) for each in problems]
    return {"unreadable models": Table.of({"problem": "string"}, rows)} if rows else {}
