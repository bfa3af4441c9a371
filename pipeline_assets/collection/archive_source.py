"""The archive as a source of a backfill's fetch: which symbol-days it gives, and what comes from the
exchange instead. Downloading is in resources/archive.py, judging a day in market/archive_comparison.py.

A day is taken from the archive where its file is there, verified, complete, and adds up to the
exchange's own hours, which cost a fiftieth of the weight of its minutes. Any other day is fetched
from the exchange, and what the archive said otherwise is recorded.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.archive_report import ArchiveReport
from pipeline_assets.collection.coverage import missing_candles
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind
from pipeline_assets.collection.handover import Received
from pipeline_assets.collection.progress import Progress
from pipeline_assets.market.archive import ArchiveFile, archive_files
from pipeline_assets.market.archive_comparison import disagreements, distrusted_days
from pipeline_assets.market.candles import empty_raw
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.replies import raw_candles as rows_of
from pipeline_assets.market.windows import Window, day_window, days_of, joined, without
from pipeline_assets.resources.archive import Downloaded, downloads
from pipeline_assets.resources.day_findings import UNFILLED_HOLE
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.settings import BinanceSettings

if TYPE_CHECKING:
    import polars as pl

REFUSED = "file refused"
_HOUR = Interval.ONE_HOUR
_SYMBOL = itemgetter(0)


@dataclass
class _Batch:
    """Symbols whose files have all come: their finished windows, and the archive's rows."""

    windows: dict[str, Window] = field(default_factory=dict)
    frames: "list[pl.DataFrame]" = field(default_factory=list)

    def archived(self) -> "pl.DataFrame":
        """Return the archive's rows, by symbol and file."""
        import polars as pl

        # Files came as they were done. In order, their rows need no sorting by who cleans them.
        ordered = sorted(self.frames, key=lambda rows: (rows["symbol"][0], rows["open_time"][0]))
        return pl.concat([empty_raw(), *ordered])


def uses_archive(plan: FetchPlan, settings: BinanceSettings) -> bool:
    """Return whether the archive is asked for this plan's finished days.

    False for the daily finalize run, which comes before the day's file is published. False also for
    intervals that the registry excludes, such as 1h: checking its rows would mean to fetch its hours.
    """
    return (
        settings.archive
        and plan.kind is RunKind.BACKFILL
        and plan.interval.definition.archive
        and plan.finished(plan.days[0])
    )


def archived_frames(
    client: ExchangeClient,
    plan: FetchPlan,
    settings: BinanceSettings,
    progress: Progress,
    report: ArchiveReport,
    rows_per_frame: int,
) -> Generator[Received, None, None]:
    """Yield the plan's rows as raw frames of whole symbols, from the archive where the exchange confirms it.

    A symbol that fails is noted in the plan and has no rows at all.

    Args:
        client: of the exchange.
        plan: what to fetch.
        settings: of the archive.
        progress: receives the rows of each symbol that is done.
        report: is filled in.
        rows_per_frame: how many rows a frame has at least, except the last.
    """
    progress.start(f"{plan.interval} candles", sum(map(plan.due, plan.windows)))
    with closing(_batches(plan, settings, report, rows_per_frame)) as batches:
        for batch in batches:
            received = _checked(client, plan, batch, report)
            progress.weight(client.weight_now.used, client.weight_now.allowed)
            progress.advance(received.rows.height, sum(map(plan.due, batch.windows)))
            if received.rows.height:
                yield received
    fresh = {
        symbol: [window] for symbol, window in plan.windows.items() if not _finished(plan, window)
    }
    frame = _served(client, plan, fresh)
    progress.advance(frame.height, sum(map(plan.due, fresh)))
    if frame.height:
        yield Received(frame.sort("symbol", maintain_order=True))
    progress.finish()


def _finished(plan: FetchPlan, window: Window) -> Window | None:
    """Return the part of a window that lies in finished days: the archive has no others."""
    end = min(window.end, day_window(plan.newest.date()).start)
    return Window(window.start, end) if window.start < end else None


def _batches(
    plan: FetchPlan, settings: BinanceSettings, report: ArchiveReport, rows_per_batch: int
) -> Generator[_Batch, None, None]:
    finished = {symbol: _finished(plan, window) for symbol, window in sorted(plan.windows.items())}
    windows = {symbol: window for symbol, window in finished.items() if window is not None}
    days = {
        symbol: sorted(plan.due_days(symbol).intersection(days_of(window)))
        for symbol, window in windows.items()
    }
    files = [each for symbol in days for each in archive_files(symbol, plan.interval, days[symbol])]
    left = {symbol: len(held) for symbol, held in days.items()}
    frames: dict[str, list[pl.DataFrame]] = {symbol: [] for symbol in days}
    batch, rows = _Batch(), 0
    with closing(downloads(settings, files)) as results:
        for found in results:
            symbol = found.file.symbol
            _take(found, windows[symbol], report)
            if found.split:
                continue
            if found.rows is not None:
                frames[symbol].append(found.rows)
            left[symbol] -= len(found.file.days)
            if left[symbol] == 0:
                batch.windows[symbol] = windows[symbol]
                batch.frames += frames.pop(symbol)
                rows += plan.due(symbol)
            if rows >= rows_per_batch:
                yield batch
                batch, rows = _Batch(), 0
    if batch.windows:
        yield batch


def _take(found: Downloaded[ArchiveFile], window: Window, report: ArchiveReport) -> None:
    """Note the result of one file."""
    file = found.file
    if found.problem is not None:
        report.refused[f"{file.name}.zip"] = found.problem
    if found.split or (found.problem is not None and not found.damaged):
        return
    for day in file.days:
        report.looked_at.setdefault(day, set()).add(file.symbol)
        if found.problem is not None:
            part = _part(window, day)
            count = part.candles(file.interval)
            first, last = part.start, part.end - file.interval.span
            report.note(day, file.symbol, _record(REFUSED, first, last, count, found.problem))
        elif found.rows is None:
            report.absent += 1


def _checked(
    client: ExchangeClient, plan: FetchPlan, batch: _Batch, report: ArchiveReport
) -> Received:
    """Return the rows of a batch: archived days that the exchange confirms, other days from the exchange."""
    import polars as pl

    hours = _hours(client, plan, batch.windows)
    everything = batch.archived()
    windows = {s: window for s, window in batch.windows.items() if s not in plan.failures}
    day = pl.from_epoch("open_time", "ms").dt.date().alias("day")
    archived = everything
    if len(windows) < len(batch.windows):
        archived = everything.filter(pl.col("symbol").is_in(list(windows)))
    cleaned = clean(archived, plan.interval, windows)
    distrusted = distrusted_days(cleaned.candles, hours, plan.interval, windows)
    # No file was requested for a day that the lake holds complete, or on which the symbol did not
    # trade.
    due = [(symbol, day) for symbol in windows for day in plan.due_days(symbol)]
    wanted = pl.DataFrame(due, schema={"symbol": pl.String, "day": pl.Date}, orient="row")
    distrusted = distrusted.join(wanted, on=("symbol", "day"), how="semi")
    doubted, taken = archived.clear(), archived
    # In most months nothing is distrusted, and to join all rows costs a tenth of the fetch.
    if distrusted.height:
        by_day = archived.with_columns(day)
        doubted = by_day.join(distrusted, on=("symbol", "day"), how="semi").drop("day")
        taken = by_day.join(distrusted, on=("symbol", "day"), how="anti").drop("day")
    served = _served(client, plan, _missing(plan, windows, distrusted))
    # Rows of a symbol that failed later would pass for all rows of its days.
    whole = ~pl.col("symbol").is_in(list(plan.failures))
    if plan.failures:
        taken, served = taken.filter(whole), served.filter(whole)
    report.rows += taken.height
    _compare(plan.interval, distrusted, doubted.filter(whole), served, report)
    _note_unfilled(plan, batch.windows, everything, report)
    if served.height:
        both = pl.concat([taken, served])
        return Received(both.sort("symbol", "open_time", maintain_order=True))
    same = taken is archived and all(plan.windows[s] == each for s, each in windows.items())
    return Received(taken, cleaned if same else None)


def _note_unfilled(
    plan: FetchPlan, windows: Mapping[str, Window], archived: "pl.DataFrame", report: ArchiveReport
) -> None:
    """Note the holes in the archive's days of symbols that failed: nothing of them is stored."""
    import polars as pl

    failed = {s: window for s, window in windows.items() if s in plan.failures}
    if not failed:
        return
    rows = archived.filter(pl.col("symbol").is_in(list(failed)))
    candles = clean(rows, plan.interval, failed).candles
    days = candles.select("symbol", pl.col("open_time").dt.date().alias("day")).unique(
        maintain_order=True
    )
    # Without the archive's file of a day it is unknown whether a missing candle is a hole.
    for symbol, day in days.rows():
        part = _part(failed[symbol], day)
        own = candles.filter(symbol=symbol)
        for hole in missing_candles(own, plan.interval, {symbol: part}).get(symbol, ()):
            last, count = hole.end - plan.interval.span, hole.candles(plan.interval)
            record = _record(UNFILLED_HOLE, hole.start, last, count)
            report.unfilled.setdefault(day, {}).setdefault(symbol, []).append(record)


def _compare(
    interval: Interval,
    distrusted: "pl.DataFrame",
    doubted: "pl.DataFrame",
    served: "pl.DataFrame",
    report: ArchiveReport,
) -> None:
    """Note what the archive says otherwise than the exchange, of the days that it has."""
    import polars as pl

    day = pl.from_epoch("open_time", "ms").dt.date().alias("day")
    if doubted.is_empty():
        return  # as in most months; what follows costs a tenth of the fetch, without rows too
    there = doubted.select("symbol", day).unique()
    report.distrusted += distrusted.join(there, on=("symbol", "day"), how="semi").rows()
    own = served.with_columns(day).join(there, on=("symbol", "day"), how="semi").drop("day")
    for symbol, kind, first, last, count in disagreements(doubted, own, interval).rows():
        report.note(first.date(), symbol, _record(kind, first, last, count))


def _record(
    kind: str, first: datetime, last: datetime, count: int, why: str | None = None
) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": kind, "count": count}
    record |= {"first": first.isoformat(), "last": last.isoformat()}
    return record | ({"why": why} if why else {})


def _hours(
    client: ExchangeClient, plan: FetchPlan, windows: Mapping[str, Window]
) -> "pl.DataFrame":
    """Return the exchange's own hours over these windows; a symbol that fails is noted in the plan."""
    last = timedelta(microseconds=1)
    asked = {
        symbol: Window(_HOUR.floor(window.start), _HOUR.floor(window.end - last) + _HOUR.span)
        for symbol, window in windows.items()
    }
    listed = {symbol: [window] for symbol, window in asked.items()}
    return clean(_fetched(client, plan, _HOUR, listed), _HOUR, asked).candles


def _missing(
    plan: FetchPlan, windows: Mapping[str, Window], distrusted: "pl.DataFrame"
) -> dict[str, list[Window]]:
    """Return what has to be fetched from the exchange, by symbol in order of time."""
    bad: dict[str, list[date]] = {symbol: [] for symbol in windows}
    for symbol, day, _ in distrusted.rows():
        bad[symbol].append(day)
    missing = {
        symbol: joined(
            [*(_part(window, day) for day in bad[symbol]), *without(plan.windows[symbol], [window])]
        )
        for symbol, window in windows.items()
    }
    return {symbol: held for symbol, held in missing.items() if held}


def _served(
    client: ExchangeClient, plan: FetchPlan, windows: Mapping[str, Sequence[Window]]
) -> "pl.DataFrame":
    """Return the exchange's own rows, of the symbols that have not failed."""
    asked = {symbol: held for symbol, held in windows.items() if symbol not in plan.failures}
    return _fetched(client, plan, plan.interval, asked)


def _fetched(
    client: ExchangeClient,
    plan: FetchPlan,
    interval: Interval,
    windows: Mapping[str, Sequence[Window]],
) -> "pl.DataFrame":
    replies: list[tuple[str, bytes]] = []
    # A hole in the hours only sends its day to the exchange's own candles, which are confirmed.
    for fetched in client.klines(interval, windows, confirm=interval is plan.interval):
        plan.note(fetched)
        if fetched.error is not None and interval is not plan.interval:
            # Who backfills 15m does not expect an error of 1h.
            plan.failures[fetched.symbol] = (
                f"{fetched.symbol} {plan.interval} candles: the archive's cannot be checked without the "
                f"exchange's {interval} candles. {fetched.error}"
            )
        replies += [(fetched.symbol, body) for body in fetched.replies]
    return rows_of(sorted(replies, key=_SYMBOL))


def _part(window: Window, day: date) -> Window:
    whole = day_window(day)
    return Window(max(whole.start, window.start), min(whole.end, window.end))
