"""The record of which minutes the strategies were evaluated on. Candidates are in candidate_objects.py; how
a document is read and checked is in lake_documents.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import TypeAdapter

from pipeline_assets.market.windows import Window
from pipeline_assets.resources.lake_documents import (
    Span,
    Symbol,
    UtcTime,
    left_out_alone,
    read_document,
    update_document,
)
from pipeline_assets.resources.object_store import ObjectStore

_KEY = "state/candidates.json"


@dataclass(frozen=True)
class Evaluation:
    """Which minutes the candidate sensor has evaluated, as far as it is not all of them.

    Attributes:
        since: by symbol, the first minute that was evaluated.
        strategies: by name and version of a strategy, the first minute it was evaluated on.
        skipped: by symbol, spans of minutes that were never evaluated, because they were too old
            when the sensor came to them.
    """

    since: Annotated[Mapping[Symbol, UtcTime], left_out_alone("since of")]
    strategies: Annotated[Mapping[str, UtcTime], left_out_alone("strategy")]
    skipped: Annotated[Mapping[Symbol, list[Span]], left_out_alone("skipped of")]


_DOCUMENT = TypeAdapter(Evaluation)


def read_evaluation(store: ObjectStore) -> Evaluation:
    """Return what `note_evaluation` has noted."""
    return read_document(store, _KEY, _DOCUMENT) or Evaluation({}, {}, {})


def note_evaluation(
    store: ObjectStore,
    *,
    since: Mapping[str, datetime] | None = None,
    strategies: Mapping[str, datetime] | None = None,
    skipped: Mapping[str, Window] | None = None,
) -> None:
    """Note the first minute of symbols and strategies, where none is noted, and skipped minutes.

    Idempotent, and safe beside another sensor: written only upon what was read.
    """

    def change(held: Evaluation | None) -> Evaluation:
        held = held or Evaluation({}, {}, {})
        spans = {symbol: list(each) for symbol, each in held.skipped.items()}
        for symbol, window in (skipped or {}).items():
            # Nothing is skipped before a symbol's first minute.
            if symbol in held.since and window not in spans.get(symbol, []):
                spans.setdefault(symbol, []).append(window)
        return Evaluation(
            {**(since or {}), **held.since}, {**(strategies or {}), **held.strategies}, spans
        )

    update_document(store, _KEY, _DOCUMENT, change)
