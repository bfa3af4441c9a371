"""Outcomes of candidates from the lake to the lake: which minutes are read, what is stored and reported. The
outcomes are computed in outcomes.py.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets import lake
from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.findings import Table
from pipeline_assets.collection.listings import lifetimes
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window, newest_closed
from pipeline_assets.research.outcomes import LONGEST, outcomes_of
from pipeline_assets.resources.candidate_objects import read_candidates
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.outcome_objects import HORIZONS, outcomes_key, write_outcomes
from pipeline_assets.settings import is_symbol

if TYPE_CHECKING:
    import polars as pl

_MINUTE = Interval.ONE_MINUTE


def stored_until(server_time: datetime, settle: timedelta, upload_minutes: int) -> datetime:
    """Return the end of the minutes that the lake should hold.

    Args:
        server_time: the exchange's time, UTC.
        settle: how long after its close a candle is final.
        upload_minutes: as in the settings, `ingest.upload_minutes`.
    """
    newest = newest_closed(_MINUTE, server_time, settle)
    return newest_due(_MINUTE, newest, upload_minutes) + _MINUTE.span


def update_outcomes(store: ObjectStore, day: date, until: datetime) -> Mapping[str, Any]:
    """Compute and store the outcomes of a day's candidates; return the values to report.

    May be repeated, after a crash at any point too: the same candidates and minutes give the same object. A
    day without candidates has no object.

    Args:
        store: the lake.
        day: UTC day of the candidates.
        until: end of the minutes that are used, UTC; see `stored_until`.

    Raises:
        ObjectStoreError: S3 refuses, or an object is damaged.
    """
    candidates = read_candidates(store, day)
    if candidates.is_empty():
        return {"candidates": 0}
    minutes = _minutes(store, candidates["symbol"], day)
    outcomes = outcomes_of(candidates, minutes, until, _delisted(store, day, until))
    changed = write_outcomes(store, day, outcomes)
    return {
        "candidates": candidates.height,
        "object changed": changed,
        "S3 object": store.address(outcomes_key(day)),
        **{f"known after {name}": outcomes[f"return_{name}"].count() for name in HORIZONS},
        "delisted": outcomes["delisted_at"].count(),
        "by strategy": _by_strategy(outcomes),
    }


def _minutes(store: ObjectStore, symbols: Iterable[str], day: date) -> "pl.DataFrame":
    """Return the minutes that outcomes of a day's candidates are computed from."""
    span = _span(day)
    # A name that cannot be a symbol has no candles.
    names = sorted({each for each in symbols if is_symbol(each)})
    columns = ("symbol", "open_time", "open", "high", "low", "close")
    return lake.scan("1m", names, span.start, span.end, store=store).select(columns).collect()


def _delisted(store: ObjectStore, day: date, until: datetime) -> dict[str, datetime]:
    """Return by symbol when its trading ended; symbols that traded on at `until` are left out."""
    lives = lifetimes(read_identities(store), _span(day), until)
    return {symbol: ended for symbol, (_, ended) in lives.items() if ended is not None}


def _span(day: date) -> Window:
    """Return the minutes in which outcomes of a day's candidates can begin and end."""
    span = day_window(day)
    return Window(span.start + _MINUTE.span, span.end + _MINUTE.span + LONGEST)


def _by_strategy(outcomes: "pl.DataFrame") -> Table:
    """Return by strategy the share of candidates that were right, and the mean return, for each horizon."""
    import polars as pl

    figures = []
    for name in HORIZONS:
        change = pl.col(f"return_{name}")
        figures += [
            (change > 0).mean().alias(f"right after {name}"),
            change.mean().alias(f"return after {name}"),
        ]
    found = outcomes.group_by("strategy").agg(pl.len().alias("candidates"), *figures)
    columns = {"strategy": "string", "candidates": "int"}
    columns |= {each.meta.output_name(): "float" for each in figures}
    return Table.of(columns, found.sort("strategy").rows())
