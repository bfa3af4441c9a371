"""The sweep of the lake: read every object, compare it with its digest, and name what is damaged. A finished
day with damaged candles loses its mark, so that it is fetched again. Who shows the report is in cli/verify.py
and jobs/housekeeping.py.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from itertools import islice
from typing import Any

from pipeline_assets.market.intervals import Interval
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.candle_objects import foreign_contents, prefix, window_start
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.finalized_days import finalized_symbols, withdraw_marks
from pipeline_assets.resources.gap_objects import forget_gaps
from pipeline_assets.resources.lake_documents import keep_damaged
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import FoundObject, StoredObject

# Data that runs pass on (raw/, staging/) is verified when it is read, and kept for days only.
_OTHERS = ("candidates/", "funding/", "gaps/", "models/", "set_aside/", "state/")
_AT_ONCE = 256
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Which objects are swept; by default all of the lake.

    Attributes:
        intervals: candles of these intervals.
        symbols: candles of these symbols; None: of every symbol.
        start: candles from this UTC day on; None: from the first.
        end: candles before this UTC day; None: all.
    """

    intervals: Sequence[Interval] = tuple(Interval)
    symbols: Sequence[str] | None = None
    start: date | None = None
    end: date | None = None

    @property
    def everything(self) -> bool:
        """Whether candidates, gaps, set-aside rows and documents are swept, too."""
        return self == Selection()


@dataclass(frozen=True)
class Damage:
    """One damaged object.

    Attributes:
        key: the object's key.
        why: what is wrong with its bytes.
        kept: the key of a copy, if the object was quarantined.
    """

    key: str
    why: str
    kept: str | None = None

    @property
    def whereabouts(self) -> str:
        """Where the damaged bytes are now, in words."""
        return f"kept as {self.kept}" if self.kept else "left in place"


@dataclass
class SweepReport:
    """The result of a sweep.

    Attributes:
        objects: how many objects were read.
        size: their bytes.
        without_digest: how many of them have no digest, because an earlier version wrote them.
        damaged: the damaged ones, by key.
        refused: why a damaged day keeps its marks and objects: a newer release wrote its marks.
    """

    objects: int = 0
    size: int = 0
    without_digest: int = 0
    damaged: list[Damage] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        return asdict(self)


def sweep(
    store: ObjectStore,
    selection: Selection,
    *,
    quarantine: bool = False,
    progress: Callable[[SweepReport], None] = lambda report: None,
) -> SweepReport:
    """Read the selected objects and compare each with its digest, or decode it if it has none.

    A finished day with damaged candles loses its mark and its gap ledger: the next ledger reads its
    objects, and a repair fetches it. Writes nothing else, unless `quarantine` is given; may be repeated and
    runs beside writers.

    Args:
        store: the bucket.
        selection: which objects.
        quarantine: move each damaged object below `damaged/`. A document then counts as not written, and
            is made again.
        progress: called after every few hundred objects.

    Raises:
        ObjectStoreError: the store does not answer.
    """
    report = SweepReport()
    objects = _selected(store, selection)
    while batch := list(islice(objects, _AT_ONCE)):
        damaged: list[tuple[str, str, FoundObject]] = []
        for key, found, why in store.each(lambda each: _look(store, each.key), batch):
            if found is None:
                continue
            report.objects += 1
            report.size += len(found.body)
            report.without_digest += found.digest is None
            if why is not None:
                damaged.append((key, why, found))
        # Before anything is moved: a sweep that dies in between finds the same damage again.
        refused = _withdraw(store, [key for key, _, _ in damaged], moved=quarantine)
        report.refused += [each for each in refused.values() if each not in report.refused]
        report.damaged += [
            Damage(
                key,
                why,
                _quarantine(store, key, found)
                if quarantine and _day_of(key) not in refused
                else None,
            )
            for key, why, found in damaged
        ]
        progress(report)
    report.damaged.sort(key=lambda each: each.key)
    return report


def _selected(store: ObjectStore, selection: Selection) -> Iterator[StoredObject]:
    first = selection.start or date.min
    last = (selection.end - timedelta(days=1)) if selection.end else date.max
    for interval in selection.intervals:
        for each in _candle_objects(store, interval, selection):
            starts = window_start(each.key)
            if starts is not None and first <= starts.date() <= last:
                yield each
    if selection.everything:
        for other in _OTHERS:
            yield from store.objects(other)


def _candle_objects(
    store: ObjectStore, interval: Interval, selection: Selection
) -> Iterator[StoredObject]:
    if selection.symbols is None:
        yield from store.objects(prefix(interval))
        return
    for symbol in selection.symbols:
        yield from store.objects(prefix(interval, symbol))


def _look(store: ObjectStore, key: str) -> tuple[str, FoundObject | None, str | None]:
    """Return the key, the object unless it was removed meanwhile, and what is wrong with it."""
    found = store.find(key)
    why = _damage(key, found) if found else None
    if why is not None:
        # Once more: the reply may have been damaged on its way, or the object is replaced by now.
        found = store.find(key)
        why = _damage(key, found) if found else None
    return key, found, why


def _day_of(key: str) -> tuple[Interval, date] | None:
    """Return interval and day of a candle object; None for another object."""
    starts = window_start(key)
    return (Interval(key.split("/")[1]), starts.date()) if starts else None


def _withdraw(
    store: ObjectStore, keys: Iterable[str], *, moved: bool
) -> dict[tuple[Interval, date] | None, str]:
    """Remove marks and ledgers of the days of damaged candle objects.

    A mark says that an object of this ETag was sound. Damage on a disk leaves the ETag as it is. The ledger
    goes first: without it the reconciler requests the day's next one. The ledger of a day without a mark
    stays until the object is moved, since each sweep finds the same damage until then.

    Returns:
        The days of which nothing was changed, since a newer release wrote the marks, with the reason.
    """
    damaged: dict[tuple[Interval, date], set[str]] = {}
    for key in keys:
        if (of := _day_of(key)) is not None:
            damaged.setdefault(of, set()).add(key.split("/")[2])
    refused: dict[tuple[Interval, date] | None, str] = {}
    for (interval, day), symbols in damaged.items():
        try:
            marked = symbols & finalized_symbols(store, interval, day)
        except NewerVersionError as error:
            refused[interval, day] = str(error)
            continue
        if marked or moved:
            forget_gaps(store, [day])
        if marked:
            withdraw_marks(store, interval, day, marked)
    return refused


def _damage(key: str, found: FoundObject) -> str | None:
    """Return what is wrong with the bytes, or None."""
    from pipeline_assets.market.encoding import MalformedObjectError, decode_candles, decode_parquet

    if found.digest is not None and not found.intact:
        return "its bytes do not match the SHA-256 in its metadata"
    try:
        if window_start(key) is not None:
            if foreign := foreign_contents(key, found.body):
                return foreign
            if found.digest is None:
                decode_candles(found.body)
        elif found.digest is not None:
            return None
        elif key.endswith(".parquet"):
            decode_parquet(found.body)
        elif key.endswith(".json"):
            json.loads(found.body)
    except (MalformedObjectError, ValueError, RecursionError) as error:
        return printable(error)
    return None


def _quarantine(store: ObjectStore, key: str, found: FoundObject) -> str:
    """Move a damaged object below `damaged/`; one that was written anew meanwhile stays."""
    kept = keep_damaged(store, key, found.body)
    now = store.find(key)
    if now is not None and now.etag == found.etag and now.body == found.body:
        store.delete([key])
        _LOG.warning("%s is damaged and was moved to %s.", store.address(key), kept)
    return kept
