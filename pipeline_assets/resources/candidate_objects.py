"""Candidates on the lake: Parquet by UTC day of their open time. Holds published candidates and those that
were evaluated too late to be published. Publishing is in broker.py.
"""

import hashlib
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from typing import TYPE_CHECKING

from pipeline_assets.market.candidates import CANDIDATE_COLUMNS, candidate_schema
from pipeline_assets.resources.day_frames import encode_frame
from pipeline_assets.resources.lake_documents import documented_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError, PreconditionFailedError

if TYPE_CHECKING:
    import polars as pl

PREFIX = "candidates/1m/"
# Column of a stored row: whether it was too old to be published when it was evaluated. Objects written
# before this column existed hold published candidates only.
LATE = "evaluated_late"
_ATTEMPTS = 10
_REMEDY = "Remove it; the candidates of its minutes can be computed again from the lake."


@dataclass(frozen=True)
class FinalizedCandidates:
    """A day's one object: its key, its rows, and how many part objects it took in."""

    key: str
    rows: int
    absorbed: int


def day_key(day: date) -> str:
    """Return the key of the object that holds a finalized day."""
    return f"{PREFIX}{day:%Y%m%d}.parquet"


def finalized_candidate_days(store: ObjectStore) -> list[date]:
    """Return the finalized days that have candidates, ascending."""
    return documented_days(store, PREFIX, ".parquet")


def stored_schema() -> "pl.Schema":
    """Return the columns of an object: those of a candidate, and whether it was evaluated late."""
    import polars as pl

    return pl.Schema({**candidate_schema(), LATE: pl.Boolean()})


def part_key(candidates: "pl.DataFrame", *, late: bool = False) -> str:
    """Return the key of an object of these candidates, which are of one day: the same ids, the same key.

    Late ones have a key of their own. A minute that was published is evaluated again after a crash,
    when it may be too old by then: that must not replace the object of what was published.
    """
    first = min(candidates["open_time"])
    digest = hashlib.sha256("\n".join(sorted(candidates["id"])).encode()).hexdigest()[:16]
    return f"{PREFIX}{first:%Y%m%d/%H%M}-{digest}{'-late' if late else ''}.parquet"


def store_candidates(
    store: ObjectStore, candidates: "pl.DataFrame", *, late: bool = False
) -> list[str]:
    """Write candidates, one object for each UTC day of open times among them; returns the keys.

    Idempotent: the key is made of the ids, so that a repeat of the same set replaces its object, and
    another set never does. A set that overlaps an earlier one is stored beside it; readers keep one
    row an id. The same rows, in whatever order, give the same bytes.

    Args:
        store: the bucket.
        candidates: a candidates frame; without rows nothing is written.
        late: whether they were evaluated too late to be published.
    """
    import polars as pl

    keys = []
    days = candidates.group_by(pl.col("open_time").dt.date()).agg().to_series().sort()
    for day in days:
        of_day = candidates.filter(pl.col("open_time").dt.date() == day)
        key = part_key(of_day, late=late)
        store.put(key, _encoded(of_day.with_columns(pl.lit(late).alias(LATE))))
        keys.append(key)
    return keys


def read_candidates(store: ObjectStore, day: date) -> "pl.DataFrame":
    """Return what was found on one UTC day of open times, published or evaluated late: one row an id, by open
    time, strategy, symbol.

    If several rows have one id, the one created first is returned, because consumers saw it first.
    Returns an empty candidates frame if nothing is stored.

    Raises:
        ObjectStoreError: S3 refuses, or an object is damaged.
    """
    return read_stored(store, day).select(CANDIDATE_COLUMNS)


def read_stored(store: ObjectStore, day: date) -> "pl.DataFrame":
    """Return the rows of `read_candidates`, with the column `evaluated_late`.

    An id of which one row is not late was published, and counts as published.
    """
    return _read(store, day)[0]


def finalize_candidates(store: ObjectStore, day: date) -> FinalizedCandidates | None:
    """Merge a day's objects into one; None if the day has none.

    Idempotent after a crash at any point: the day's object is written, with all rows, before the
    absorbed parts are removed, and readers keep one row per id meanwhile. A part that is written after
    the listing stays for the next call. If two runs finalize a day at once, one of them starts over.

    Raises:
        ObjectStoreError: S3 refuses, or an object is damaged.
    """
    key = day_key(day)
    for _ in range(_ATTEMPTS):
        candidates, etags = _read(store, day)
        if not etags:
            return None
        parts = [each for each in etags if each != key]
        if parts:
            try:
                store.put_if(key, _encoded(candidates), etags.get(key))
            except PreconditionFailedError:
                continue
            store.delete(parts)
        return FinalizedCandidates(key, candidates.height, len(parts))
    raise ObjectStoreError(
        f"{store.address(key)} was changed by other writers {_ATTEMPTS} times in a row. Find out "
        "which runs finalize this day at the same time (Dagster's Runs page), then repeat this run."
    )


def _read(store: ObjectStore, day: date) -> "tuple[pl.DataFrame, dict[str, str]]":
    """Return a day's rows, and the ETag of each object that they were read from, by key."""
    import polars as pl

    first = f"{PREFIX}{day:%Y%m%d}"
    for _ in range(_ATTEMPTS):
        following = (stored.key for stored in store.objects(PREFIX, start_after=first))
        keys = list(takewhile(lambda key: key.startswith(first), following))
        found = dict(zip(keys, store.each(store.get_with_etag, keys), strict=True))
        # A part that is gone was absorbed since the listing, which may not have the day's object yet.
        if None not in found.values():
            break
    else:
        raise ObjectStoreError(
            f"Objects of {store.address(first)} went away {_ATTEMPTS} times while they were read. "
            "Find out what removes them, then repeat."
        )
    present = {key: each for key, each in found.items() if each is not None}
    frames = [_decoded(store, key, body) for key, (body, _) in present.items()]
    rows = pl.concat([stored_schema().to_frame(), *frames])
    return _ordered(rows), {key: etag for key, (_, etag) in present.items()}


def _ordered(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Return one row an id, the first created of the published ones, in the order of the object."""
    return (
        # All columns, so that two rows of one id that differ are kept alike by every reader.
        rows.sort(LATE, "created_at", *(c for c in CANDIDATE_COLUMNS if c != "created_at"))
        .unique("id", keep="first", maintain_order=True)
        .sort("open_time", "strategy", "symbol", "id")
    )


def _encoded(candidates: "pl.DataFrame") -> bytes:
    return encode_frame(_ordered(candidates.select(*CANDIDATE_COLUMNS, LATE)))


def _decoded(store: ObjectStore, key: str, body: bytes) -> "pl.DataFrame":
    import polars as pl

    from pipeline_assets.market.encoding import MalformedObjectError, decode_parquet

    try:
        candidates = decode_parquet(body)
        if LATE not in candidates.columns:
            candidates = candidates.with_columns(pl.lit(value=False).alias(LATE))
        candidates = candidates.select(*CANDIDATE_COLUMNS, LATE)
    except (MalformedObjectError, pl.exceptions.PolarsError) as error:
        raise store.damaged(key, f"{error} {_REMEDY}") from error
    if candidates.schema != stored_schema():
        raise store.damaged(
            key, f"it has the columns {candidates.schema}, not {stored_schema()}. {_REMEDY}"
        )
    return candidates
