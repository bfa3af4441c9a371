"""The rows that the steps of a run pass to each other in one process, so that no step reads back from S3 what
another has just written. The copies on S3, for a step that is executed alone, are in resources/staging.py;
step_inputs.py decides which input a step takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from pipeline_assets.resources.candle_objects import WrittenObject
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Staged

if TYPE_CHECKING:
    import polars as pl

    from pipeline_assets.market.cleaning import Cleaned

T = TypeVar("T")

# A million candles have 100 MB. A run that has more reads them from S3 again, a row group at a time.
_MOST_ROWS = 1_200_000


class Received(NamedTuple):
    """Rows of whole symbols as they came, and the same rows cleaned if the source had to clean them."""

    rows: "pl.DataFrame"
    cleaned: "Cleaned | None" = None


class Gathered(Generic[T]):
    """Parts of an output on their way to S3, kept as well while they have few enough rows."""

    def __init__(self) -> None:
        self._parts: list[T] | None = []
        self._rows = 0

    def add(self, part: T, rows: int) -> None:
        """Keep a part; beyond the limit keep none at all."""
        self._rows += rows
        if self._rows > _MOST_ROWS:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(part)

    @property
    def parts(self) -> list[T] | None:
        """All parts in order; None if they have too many rows."""
        return self._parts


@dataclass
class Handover:
    """The rows and documents that the steps of one run left for each other, by where they are staged.

    Invariant: what is held is what the run has written to S3 itself. A re-execution is another run: it
    reads S3, where a third process may have written since. A new run replaces all that is held.

    Attributes:
        run: the run's own id.
        documents: the JSON documents that the run has written, by key.
        written: by key the objects of finished days whose rows are all the run's own, checked ones.
    """

    run: str = ""
    documents: dict[str, Any] = field(default_factory=dict)
    written: dict[str, WrittenObject] = field(default_factory=dict)
    _replies: "dict[Staged, list[Cleaned]]" = field(default_factory=dict)
    _candles: "dict[Staged, list[pl.DataFrame]]" = field(default_factory=dict)

    def keep_replies(self, own: Staged, gathered: "Gathered[Cleaned]") -> None:
        """Keep the cleaned replies of the fetch."""
        if gathered.parts is not None:
            self._replies[own] = gathered.parts

    def take_replies(self, own: Staged) -> "Iterator[Cleaned] | None":
        """Return the cleaned replies of the fetch, or None; they are not held any longer."""
        return _emptied(self._replies.pop(own, None))

    def keep_candles(self, own: Staged, gathered: "Gathered[pl.DataFrame]") -> None:
        """Keep the formatted candles."""
        if gathered.parts is not None:
            self._candles[own] = gathered.parts

    def candles(self, own: Staged) -> "Iterator[pl.DataFrame] | None":
        """Return the formatted candles, or None."""
        held = self._candles.get(own)
        return None if held is None else iter(held)

    def take_candles(self, own: Staged) -> "Iterator[pl.DataFrame] | None":
        """Return the formatted candles, or None; each frame is held until the next one is asked for."""
        return _emptied(self._candles.pop(own, None))


def _emptied(parts: list[T] | None) -> Iterator[T] | None:
    """Return the parts, each of which is let go once it is taken; None stays None."""
    return None if parts is None else _popped(parts[::-1])


def _popped(parts: list[T]) -> Iterator[T]:
    while parts:
        yield parts.pop()


_HANDOVERS: WeakKeyDictionary[ObjectStore, Handover] = WeakKeyDictionary()


def handover(store: ObjectStore, run: str) -> Handover:
    """Return what the steps of a run left for each other; the steps of one process share the store.

    Args:
        store: the lake.
        run: the run's own id, not that of the run which it repeats.
    """
    held = _HANDOVERS.get(store)
    if held is None or held.run != run:
        held = _HANDOVERS[store] = Handover(run)
    return held
