"""The fetch: candles as the exchange or its archive replied, decimal strings and all, in one object of the
run. A run in one process gets them cleaned as well, by market/cleaning.py, for the format step (format.py).
Deciding what to fetch is in planning.py.
"""

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from pipeline_assets.collection.archive_report import ArchiveReport
from pipeline_assets.collection.archive_source import archived_frames, uses_archive
from pipeline_assets.collection.chosen_symbols import Request
from pipeline_assets.collection.empty_days import believed_empty_days
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind
from pipeline_assets.collection.handover import Gathered, Received, handover
from pipeline_assets.collection.planning import make_plan
from pipeline_assets.collection.progress import Progress
from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.candles import empty_raw
from pipeline_assets.market.cleaning import Cleaned, clean
from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds
from pipeline_assets.market.replies import raw_candles as rows_of
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_pages import weight_of_ingest_run
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output, Staged, write_document, write_frames
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

# A row group of the staged Parquet holds at least so many rows, and whole symbols: some 30 MB while it
# is decoded, cleaned and encoded, whatever the range. At 250,000 a run took 800 MB at its peak.
_ROWS_PER_GROUP = 40_000
# An ingest run's weight beside its candles: the universe, the clock, asked by itself and by three schedules.
# Without it others left 900 for 900 symbols at a full hour, and the last symbol waited for a minute.
_OTHER_WEIGHT = 10
# Replies come as symbols complete; cleaning would have to sort rows that are not by symbol.
_SYMBOL = itemgetter(0)


class NothingFetchedError(OutsideSystemError):
    """Every symbol failed, and nothing of the run's was there. The message carries the first reason."""


@dataclass(frozen=True)
class FetchReport:
    """The result of a fetch.

    Attributes:
        plan: the days and symbols fetched, with the outcome of each symbol.
        replies: the address of the rows.
        rows: how many there are.
        rows_per_second: of the fetch, without planning.
        weight_allowed: request weight that the exchange allows a minute.
        archive: what the archive gave; None if it was not asked.
    """

    plan: FetchPlan
    replies: str
    rows: int
    rows_per_second: int
    weight_allowed: int
    archive: ArchiveReport | None


def fetch(
    exchange: Exchange,
    store: ObjectStore,
    settings: Settings,
    request: Request,
    run: str,
    progress: Progress,
    repeated: str | None = None,
) -> FetchReport:
    """Plan and fetch what a run was launched for; keep the rows, then the plan.

    Args:
        exchange: asked for the candles.
        store: the lake.
        settings: of the archive.
        request: what the run was launched for.
        run: the run's id.
        progress: receives the number of rows as they come.
        repeated: the id of the first run that this one repeats, which addresses the outputs.

    Raises:
        NothingFetchedError: every symbol failed.
        PartitionError, SymbolError: as `make_plan`.
        ExchangeUnreachableError, ExchangeBannedError: as `ExchangeClient.klines`.
        ObjectStoreError: the lake does not answer.
    """
    first, is_ingest_run = priority(request.kind, request.interval), request.kind is RunKind.INGEST
    with exchange.client(first, patient=not is_ingest_run) as client:
        plan = make_plan(client, store, request, exchange.settle)
        own = Staged(plan.interval, plan.days[0], plan.days[-1], repeated or run)
        if repeated:
            # The plan of the first time must not stand beside the rows of this one.
            store.delete([own.plan])
        if is_ingest_run:
            weight = len(plan.windows) * weight_of_ingest_run(plan.interval) + _OTHER_WEIGHT
            exchange.expect_ingest_run(first, plan.interval, weight, plan.now())
        began = time.monotonic()
        archive = ArchiveReport() if uses_archive(plan, settings.binance) else None
        received = _Received(plan)
        frames = (
            archived_frames(client, plan, settings.binance, progress, archive, _ROWS_PER_GROUP)
            if archive
            else _frames(client, plan, progress)
        )
        with closing(frames):
            watched = received.watch(frames)
            rows = write_frames(store, own.key(Output.RAW), empty_raw(), watched)
        seconds = time.monotonic() - began
        if not plan.is_ingest_run:
            plan.witnessed = believed_empty_days(client, store, plan, received.newest, own.run)
        plan.weight = client.weight_spent
        if archive is not None:
            archive.keep(store, plan)
        allowed = client.weight_now.allowed
    _require_any(plan)
    # After the rows: a plan without rows would be taken for the newest by a later run of a single step.
    facts = plan.to_dict()
    write_document(store, own.plan, facts)
    steps = handover(store, run)
    steps.documents[own.plan] = facts
    steps.keep_replies(own, received.cleaned)
    replies = store.address(own.key(Output.RAW))
    return FetchReport(plan, replies, rows, round(rows / seconds), allowed, archive)


def _require_any(plan: FetchPlan) -> None:
    """Raise NothingFetchedError if every symbol failed and nothing of the run's is stored."""
    # Beside others that are stored already, a symbol that fails again does not fail the run.
    if plan.windows and plan.failures.keys() >= plan.windows.keys() and not plan.complete:
        raise NothingFetchedError(
            f"Nothing could be fetched of {counted(len(plan.windows), 'symbol')}. The first: "
            f"{next(iter(plan.failures.values()))}"
        )


@dataclass
class _Received:
    """The rows that the run received of its days.

    Attributes:
        plan: of the run.
        newest: the newest open time; None while there is no row.
        cleaned: the rows for the format step.
    """

    plan: FetchPlan
    newest: datetime | None = None
    cleaned: Gathered[Cleaned] = field(default_factory=Gathered)

    def watch(self, received: Iterable[Received]) -> Generator["pl.DataFrame", None, None]:
        """Pass raw frames through; keep their rows cleaned, and the newest open time of the plan's days."""
        import polars as pl

        plan = self.plan
        window = Window(day_window(plan.days[0]).start, day_window(plan.days[-1]).end)
        # A row may have any time: the exchange's oddest rows are staged as they came.
        within = pl.col("open_time").is_between(
            to_milliseconds(window.start), to_milliseconds(window.end), closed="left"
        )
        for frame, cleaned in received:
            newest = frame.select(pl.col("open_time").filter(within).max()).item()
            if newest is not None:
                opened = from_milliseconds(newest)
                self.newest = max(opened, self.newest or opened)
            yield frame
            # While the frame is being written.
            found = cleaned or clean(frame, plan.interval, plan.windows)
            self.cleaned.add(found, frame.height)


def priority(kind: RunKind, interval: Interval) -> Priority:
    """Return whose requests go first: new minutes, other new candles, finished days, then backfills."""
    if kind is RunKind.INGEST:
        return Priority.INGEST_1M if interval is Interval.ONE_MINUTE else Priority.INGEST_OTHER
    return Priority.FINALIZE if kind is RunKind.FINALIZE else Priority.BACKFILL


def _frames(
    client: ExchangeClient, plan: FetchPlan, progress: Progress
) -> Generator[Received, None, None]:
    """Yield the replies as raw frames of a row group each; a symbol that fails is noted in the plan."""
    spans = {symbol: plan.spans(symbol) for symbol in plan.windows}
    due = {symbol: plan.due(symbol) for symbol in plan.windows}
    progress.start(f"{plan.interval} candles", sum(due.values()))
    replies: list[tuple[str, bytes]] = []
    rows = 0
    # The next ingest run fetches a hole again, so this one must not spend more weight than planned.
    for fetched in client.klines(plan.interval, spans, confirm=not plan.is_ingest_run):
        plan.note(fetched)
        progress.weight(client.weight_now.used, client.weight_now.allowed)
        progress.advance(fetched.rows, due[fetched.symbol])
        replies += [(fetched.symbol, body) for body in fetched.replies]
        rows += due[fetched.symbol]
        if rows >= _ROWS_PER_GROUP:
            yield Received(rows_of(sorted(replies, key=_SYMBOL)))
            replies, rows = [], 0
    progress.finish()
    if replies:
        yield Received(rows_of(sorted(replies, key=_SYMBOL)))
