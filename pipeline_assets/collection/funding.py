"""Funding rates to the lake: fetched from the exchange, or by months from its archive, and stored by symbol
and month. Which are due is planned in funding_plan.py; what is reported is in funding_report.py; the
warehouse's table is funding_table.py's.

Each write may be repeated. Rates are stored batch by batch, so that a run which is stopped loses one batch
of requests at most, and its repetition goes on from there.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from pipeline_assets.collection.chosen_symbols import Request
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.funding_plan import FundingUnit, plan_funding
from pipeline_assets.collection.funding_report import FundingReport
from pipeline_assets.collection.progress import Progress
from pipeline_assets.market.funding_archive import FundingArchiveFile
from pipeline_assets.resources.archive import downloads
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_funding import FundingClient
from pipeline_assets.resources.funding_objects import StoredMonth, note_stored, write_month
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# Requests whose rates are stored together: what a stopped run loses.
_BATCH = 100
# A request to the exchange, with the rates of the archive's file where it has a hole.
_Left = tuple[FundingUnit, "pl.DataFrame | None"]


def collect_funding(
    exchange: Exchange,
    store: ObjectStore,
    settings: Settings,
    request: Request,
    progress: Progress,
) -> FundingReport:
    """Store the funding rates of a run's days that are missing on the lake.

    Args:
        exchange: where rates come from.
        store: the lake.
        settings: of the archive.
        request: the run's days, symbols and kind; its interval does not count.
        progress: receives the rates of each batch that is stored.

    Raises:
        SymbolError, PartitionError: the request names a symbol or day that cannot be.
        ExchangeUnreachableError, ExchangeBannedError: the exchange answers no request. Rates that were stored
            before stay.
    """
    ingest = request.kind is RunKind.INGEST
    priority = Priority.INGEST_OTHER if ingest else Priority.BACKFILL
    with exchange.funding_client(priority, patient=not ingest) as client:
        plan = plan_funding(client, store, request, archive=settings.binance.archive)
        report = FundingReport(plan)
        progress.start("funding rates", len(plan.units))
        left = list(_from_archive(store, settings, report, progress))
        _from_exchange(client, store, left, report, progress)
        report.requests = client.funding_requests
    # After the objects, for all that is stored: a run that died in between left this to the next one.
    months: dict[date, dict[str, str]] = {}
    for symbol, held in plan.held.items():
        for month, stored in held.items():
            if stored.etag is not None:
                months.setdefault(month, {})[symbol] = stored.etag
    for month, etags in months.items():
        note_stored(store, month, etags)
    progress.finish()
    return report


def _from_archive(
    store: ObjectStore, settings: Settings, report: FundingReport, progress: Progress
) -> Iterator[_Left]:
    """Store the months that the archive has whole; yields what the exchange is asked for."""
    plan = report.plan
    by_file = {
        FundingArchiveFile(unit.symbol, unit.month): unit for unit in plan.units if unit.archive
    }
    yield from ((unit, None) for unit in plan.units if not unit.archive)
    with closing(downloads(settings.binance, list(by_file))) as found:
        for each in found:
            unit = by_file[each.file]
            if each.problem is not None:
                report.refused[f"{each.file.name}.zip"] = each.problem
            # A month with a hole is not believed: the exchange may have what the file has not.
            if each.rows is None or plan.missing(unit.symbol, unit.window, each.rows):
                yield unit, each.rows
                continue
            rows = _store(store, report, unit, each.rows)
            report.archive_files += 1
            progress.advance(rows, 1)


def _from_exchange(
    client: FundingClient,
    store: ObjectStore,
    units: Sequence[_Left],
    report: FundingReport,
    progress: Progress,
) -> None:
    """Request and store units, batch by batch. A symbol that fails harms no other one."""
    for batch in _batched(units):
        replies = client.funding_rates([(unit.symbol, unit.window) for unit, _ in batch])
        received = []
        for (unit, rates), reply in zip(batch, replies, strict=True):
            if reply.found is None:
                report.plan.failures[unit.symbol] = reply.error or "no usable answer"
                received.append((unit, rates))
                continue
            report.rejected += reply.found.rejected
            received.append((unit, _joined(unit, rates, reply.found.rates)))
        rows = store.each(lambda each: _store(store, report, *each), received)
        progress.advance(sum(rows), len(batch))


def _joined(
    unit: FundingUnit, archived: "pl.DataFrame | None", served: "pl.DataFrame"
) -> "pl.DataFrame":
    """Return a unit's rates: the exchange's, and those of the archive's file where the exchange has none."""
    from pipeline_assets.market.funding_encoding import merge_funding

    times = served["funding_time"]
    own = served.filter((times >= unit.window.start) & (times < unit.window.end))
    return own if archived is None else merge_funding(archived, own)


def _store(
    store: ObjectStore, report: FundingReport, unit: FundingUnit, rates: "pl.DataFrame | None"
) -> int:
    """Store the rates of a unit; returns how many came new."""
    if rates is None or rates.is_empty():
        return 0
    held = report.plan.held[unit.symbol]
    before = held[unit.month].rates.height if unit.month in held else 0
    written = write_month(store, unit.symbol, unit.month, rates)
    held[unit.month] = StoredMonth(written.rates, written.etag)
    new = max(written.rates.height - before, 0)
    report.stored(new, changed=written.changed)
    return new


def _batched(units: Iterable[_Left]) -> Iterator[list[_Left]]:
    left = iter(units)
    while batch := list(islice(left, _BATCH)):
        yield batch
