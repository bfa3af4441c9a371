"""The ingest state: what the ingest runs of an interval have stored, kept so that the next one need not list.

Marks of finished days are in finalized_days.py; documents are read and checked in lake_documents.py.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, TypeAdapter

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import day_window
from pipeline_assets.resources.candle_objects import WrittenObject, list_objects, window_start
from pipeline_assets.resources.lake_documents import (
    Symbol,
    UtcTime,
    left_out_alone,
    read_document,
    write_document,
)
from pipeline_assets.resources.object_store import ObjectStore


def _possible(moment: datetime, info: Any) -> datetime:
    """Return an open time that the interval's state can hold when it is read.

    A later one would count as stored: no run would fetch the candles before it.
    """
    interval, now = info.context["about"]
    if interval.floor(moment) != moment:
        raise ValueError(f"{moment} is no open time of {interval}")
    # Another process may have stored the candle that closed since the reader asked for the time.
    if moment > now + interval.span:
        latest = now + interval.span
        raise ValueError(
            f"newest open time {moment:%Y-%m-%d %H:%M} lies after {latest:%Y-%m-%d %H:%M}, the latest "
            "possible by the exchange's clock"
        )
    return moment


def _object_key(key: str) -> str:
    if window_start(key) is None:
        raise ValueError("it is not the key of a candle object")
    return key


OpenTime = Annotated[UtcTime, AfterValidator(_possible)]
ObjectKey = Annotated[str, AfterValidator(_object_key)]


@dataclass(frozen=True)
class IngestState:
    """The progress of an interval's ingest runs: per symbol the newest open time, and the ETags of
    the objects that the next run will write again.
    """

    newest: Annotated[Mapping[Symbol, OpenTime], left_out_alone("newest of")] = field(
        default_factory=dict
    )
    etags: Annotated[Mapping[ObjectKey, str], left_out_alone("ETag of")] = field(
        default_factory=dict
    )

    def after(self, written: Iterable[WrittenObject], collected: Container[str]) -> "IngestState":
        """Return the state after an ingest run stored these objects, without symbols no longer collected."""
        rewritten = list(written)
        newest = {symbol: at for symbol, at in self.newest.items() if symbol in collected}
        for each in rewritten:
            newest[each.symbol] = max(each.newest, newest.get(each.symbol, each.newest))
        # The next ingest run writes these objects again or new ones; ETags of older ones only take room. A
        # newer one than these waits for its upload.
        latest: dict[str, str] = {}
        for each in rewritten:
            latest[each.symbol] = max(each.key, latest.get(each.symbol, each.key))
        kept = {
            key: etag
            for key, etag in self.etags.items()
            if (symbol := key.split("/")[2]) in collected and key > latest.get(symbol, "")
        }
        return IngestState(newest, kept | {each.key: each.etag for each in rewritten})


def _whole(held: Any) -> Any:
    """Refuse a document without one of the two, which Python code may leave out."""
    return {"newest": held["newest"], "etags": held["etags"]}


_DOCUMENT: TypeAdapter[IngestState] = TypeAdapter(Annotated[IngestState, BeforeValidator(_whole)])


def _state_key(interval: Interval) -> str:
    return f"state/{interval}.json"


def read_ingest_state(
    store: ObjectStore, interval: Interval, symbols: Iterable[str], now: datetime
) -> IngestState:
    """Return the state that the last ingest run left.

    If the document is missing or wrong, the state is rebuilt by listing the open day; if it is wrong
    for some symbols, only these are rebuilt.

    Args:
        store: the lake.
        interval: of the ingest runs.
        symbols: to rebuild where the state is missing.
        now: the exchange's time, or the open time of the newest closed candle, UTC.
    """
    left_out: list[str] = []
    held = read_document(store, _state_key(interval), _DOCUMENT, (interval, now), left_out)
    if held is None:
        return _rebuilt(store, interval, symbols, now.date())
    # An object may be replaced unread only if it is known how far it is stored.
    etags = {key: etag for key, etag in held.etags.items() if key.split("/")[2] in held.newest}
    lost = [symbol for symbol in symbols if symbol in left_out]
    rebuilt = _rebuilt(store, interval, lost, now.date()).newest if lost else {}
    return IngestState({**held.newest, **rebuilt}, etags)


def write_ingest_state(store: ObjectStore, interval: Interval, state: IngestState) -> None:
    """Keep the state; the last write of an ingest run, so a crash before it only makes the next read more."""
    ordered = IngestState(dict(sorted(state.newest.items())), dict(sorted(state.etags.items())))
    write_document(store, _state_key(interval), _DOCUMENT, ordered)


def _rebuilt(
    store: ObjectStore, interval: Interval, symbols: Iterable[str], today: date
) -> IngestState:
    window = day_window(today)

    def look(symbol: str) -> tuple[str, list[datetime]]:
        stored = list_objects(store, interval, symbol, window.start, window.end)
        return symbol, [window_start(each.key) or window.start for each in stored]

    # How far the newest object reaches is unknown without opening it: it is read once more whole,
    # and joined, for which no ETag is needed.
    return IngestState(
        {
            symbol: max(starts) - interval.span
            for symbol, starts in store.each(look, list(symbols))
            if starts
        }
    )
