"""The upload: formatted candles to candle objects. How an object is written is in
resources/candle_objects.py, how a finished day is marked in finalize.py, the checks on what a run stored
in upload_findings.py.
"""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.collection.coverage import missing_candles
from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.finalize import finalized_days
from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.aggregation import zero_volume_share
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.intervals import DAY
from pipeline_assets.market.windows import Window, day_window, object_window
from pipeline_assets.resources.candle_objects import (
    WrittenObject,
    by_day,
    finalize_day,
    list_objects,
    object_key,
    write_candles,
)
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.ingest_state import (
    IngestState,
    read_ingest_state,
    write_ingest_state,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import StoredObject

if TYPE_CHECKING:
    import polars as pl


@dataclass
class UploadReport:
    """The result of an upload.

    Attributes:
        plan: of the run's fetch.
        written: the objects.
        missing: by symbol the spans of its window of which no row came.
        zero_volume: rows and rows without volume by symbol, a frame for each frame of rows.
        seen: the symbols of which a row came.
        newest_day: the day of the newest row.
        finalized: the marks of the finalized days, by day and symbol.
        waiting: the symbols whose open object waits for the next upload.
    """

    plan: FetchPlan
    written: list[WrittenObject] = field(default_factory=list)
    missing: dict[str, list[Window]] = field(default_factory=dict)
    zero_volume: "list[pl.DataFrame]" = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    newest_day: date | None = None
    finalized: dict[date, dict[str, FinalizedDay]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)

    @property
    def incomplete(self) -> int:
        """Return how many symbol-days may miss candles that the exchange has."""
        return sum(
            not mark.complete for marks in self.finalized.values() for mark in marks.values()
        )

    def newest(self) -> dict[str, datetime]:
        """Return by symbol the newest open time that is stored."""
        found: dict[str, datetime] = {}
        for each in self.written:
            found[each.symbol] = max(each.newest, found.get(each.symbol, each.newest))
        return found

    def lag(self) -> timedelta | None:
        """Return the time since the newest stored candle closed, for a run of what is due now."""
        newest = max(self.newest().values(), default=None)
        if newest is None or not self.plan.is_ingest_run:
            return None
        return self.plan.now() - newest - self.plan.interval.span

    def rows(self) -> dict[str, int]:
        """Return by symbol how many rows the objects hold."""
        found: Counter[str] = Counter()
        for each in self.written:
            found[each.symbol] += each.rows
        return found

    def observe(self, frame: "pl.DataFrame") -> None:
        """Note which candles a frame of whole symbols has, and which are missing from it."""
        runs = frame["symbol"].rle().struct.unnest()
        counts = dict(zip(runs["value"], runs["len"], strict=True))
        self.seen.update(counts)
        newest = frame["open_time"].max()
        if isinstance(newest, datetime):
            self.newest_day = max(newest.date(), self.newest_day or newest.date())
        # Rows are one for each open time of the grid within the window: so many are all of them.
        windows, interval = self.plan.windows, self.plan.interval
        short = [s for s, count in counts.items() if count < windows[s].candles(interval)]
        if short:
            self.missing |= missing_candles(frame, interval, {s: windows[s] for s in short})
        self.zero_volume.append(zero_volume_share(frame))


def upload(step: Step, upload_minutes: int) -> UploadReport:
    """Store the formatted candles of a step, and what the steps that follow need to know.

    An ingest run leaves a symbol's open object alone until its upload is due: once a candle before the
    last due time is not stored. So a run that comes after a crash stores all since the last upload.

    Args:
        step: the upload.
        upload_minutes: as in the settings, `ingest.upload_minutes`.

    Raises:
        StagingError: no formatted candles of these days are retained.
        ObjectStoreError: the lake does not answer.
    """
    store, interval = step.store, step.own.interval
    with step.candles(last=True) as formatted:
        plan = formatted.plan
        report = UploadReport(plan)
        state = (
            read_ingest_state(store, interval, plan.listed, plan.newest)
            if plan.is_ingest_run
            else IngestState()
        )
        due = newest_due(interval, plan.newest, upload_minutes)
        # A run at the due time writes in any case: its rows may correct those of an earlier run.
        if due < plan.newest:
            report.waiting = {symbol for symbol, at in state.newest.items() if at >= due}
        for frame in formatted.frames:
            report.observe(frame)
            symbols = frame["symbol"].unique(maintain_order=True).to_list()
            report.written += store_objects(store, plan, state, frame, symbols, report.waiting)
    without_rows = plan.windows.keys() - report.seen
    report.missing |= {symbol: [plan.windows[symbol]] for symbol in without_rows}
    # No row came of these symbols; what is stored of their days is put together all the same.
    absent = sorted(without_rows - plan.failures.keys())
    report.written += store_objects(store, plan, state, empty_candles(), absent)
    if not plan.is_ingest_run:
        report.finalized = finalized_days(
            store, plan, formatted.source, report.written, report.newest_day
        )
        step.handover.written |= {each.key: each for each in report.written if not each.joined}
    step.keep_plan(plan, formatted.source)
    step.keep_stored([each.key for each in report.written], report.finalized)
    # A day that goes on into other sinks is marked once it is there (sinks.py): a day that is marked
    # and complete is not fetched again, and so not loaded again either.
    if not interval.lasting_sinks:
        store.each(lambda each: mark_finalized(store, interval, *each), report.finalized.items())
    if plan.is_ingest_run:
        # A tick of a few symbols that a person asked for says nothing about the others.
        collected = {*plan.listed, *(state.newest if plan.asked else ())}
        after = state.after(report.written, collected)
        if after != state:
            write_ingest_state(store, interval, after)
    return report


def store_objects(
    store: ObjectStore,
    plan: FetchPlan,
    state: IngestState,
    frame: "pl.DataFrame",
    symbols: Sequence[str],
    waiting: Container[str] = (),
) -> list[WrittenObject]:
    """Write the objects of whole symbols, and join what is stored of them; all are tried first.

    A symbol in `waiting` gets only the objects of hours that have ended.
    """
    pieces, nothing = dict(_pieces(plan, frame)), frame.clear()
    existing = _existing(store, plan, symbols)
    end = plan.newest + plan.interval.span
    pieces = {
        piece: rows
        for piece, rows in pieces.items()
        if not (piece[0] in waiting and piece[1].end >= end)
    }
    wanted = sorted(pieces.keys() | {(symbol, day_window(day)) for symbol, day in existing})

    def write(piece: tuple[str, Window]) -> WrittenObject:
        symbol, window = piece
        candles = pieces.get(piece, nothing)
        day = window.start.date()
        if plan.finished(day) and not plan.is_ingest_run:
            return finalize_day(store, plan.interval, day, candles, existing.get((symbol, day), ()))
        etag = _replaceable(plan, state, window, candles)
        # The hour that has just ended is fetched twice more, and rarely differs.
        ended = window.end < end
        return write_candles(store, plan.interval, window, candles, etag, skip_unchanged=ended)

    # A symbol's objects of the open day are written in order of time: when a run dies in between,
    # the newest object still says how far the day is stored (lake_state rebuilds its state by it).
    rows: dict[tuple[str, date], list[tuple[str, Window]]] = {}
    for symbol, window in wanted:
        rows.setdefault((symbol, window.start.date()), []).append((symbol, window))
    written = store.each(lambda row: [write(piece) for piece in row], list(rows.values()))
    return [each for row in written for each in row]


def _existing(
    store: ObjectStore, plan: FetchPlan, symbols: Sequence[str]
) -> dict[tuple[str, date], list[StoredObject]]:
    """The stored objects of the finished days that a run fetches whole, by symbol and day."""
    finished = [day for day in plan.days if plan.finished(day)]
    if not finished or plan.is_ingest_run:
        return {}
    span = Window(day_window(finished[0]).start, day_window(finished[-1]).end)
    listings = store.each(
        lambda symbol: list_objects(store, plan.interval, symbol, span.start, span.end), symbols
    )
    return {
        (symbol, day): objects
        for symbol, listing in zip(symbols, listings, strict=True)
        for day, objects in by_day(listing).items()
        if day not in plan.complete.get(symbol, ())
    }


def _replaceable(
    plan: FetchPlan, state: IngestState, window: Window, candles: "pl.DataFrame"
) -> str | None:
    """The ETag of the stored object that these rows may replace unread; None: join the stored rows.

    They may if they hold every candle that ticks have stored in it. A reply with a hole does not,
    nor does an older fetch whose upload is executed again after newer ticks.
    """
    symbol = str(candles["symbol"][0])
    fetched = plan.windows[symbol]
    due = Window(max(window.start, fetched.start), min(window.end, fetched.end))
    newest = state.newest.get(symbol)
    if candles.height < due.candles(plan.interval) or (newest and newest >= fetched.end):
        return None
    return state.etags.get(object_key(plan.interval, symbol, window.start))


def _pieces(
    plan: FetchPlan, frame: "pl.DataFrame"
) -> Iterator[tuple[tuple[str, Window], "pl.DataFrame"]]:
    """The rows of a candle frame by symbol and object window, as slices: partition_by copies each."""
    import polars as pl

    piece = plan.interval.definition.open_object
    open_day = day_window(plan.newest.date()).start
    opens = pl.col("open_time")
    start = opens.dt.truncate("1d")
    if piece < DAY:
        start = pl.when(opens < open_day).then(start).otherwise(opens.dt.truncate(piece))
    # Rows are sorted, so a piece is a run of them.
    runs = frame.select(pl.struct("symbol", start.alias("start")).rle().alias("run")).unnest("run")
    first = 0
    for count, value in runs.rows():
        symbol, begins = value["symbol"], value["start"]
        window = object_window(plan.interval, begins, finished=plan.finished(begins.date()))
        yield (symbol, window), frame.slice(first, count)
        first += count
