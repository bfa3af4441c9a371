"""The gap ledger by UTC day: judged for the days of a run, written, and what it says of each. How a gap is
judged is in coverage.py, where the ledger is kept in resources/gap_objects.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.completeness_picture import completeness_picture
from pipeline_assets.collection.coverage import fetchable
from pipeline_assets.collection.findings import Finding, Table, moment
from pipeline_assets.collection.lake_coverage import gap_ledger
from pipeline_assets.collection.listings import collected_lifetimes, forgotten
from pipeline_assets.collection.zero_volume_runs import false_runs
from pipeline_assets.market.completeness import split_by_day
from pipeline_assets.market.gap_causes import NOT_DUE, Cause
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, bounding_window, day_window, days_of
from pipeline_assets.resources.day_findings import keep_zero_volume
from pipeline_assets.resources.finalized_days import finalized_days
from pipeline_assets.resources.gap_objects import write_gaps
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_PICTURED = timedelta(days=30)
_COLUMNS = dict.fromkeys(("symbol", "interval", "from", "to"), "string") | {
    "candles": "int",
    "cause": "string",
}
_CAUSES = {"interval": "string", "cause": "string"} | dict.fromkeys(
    ("symbols", "gaps", "candles"), "int"
)


@dataclass(frozen=True)
class LedgerReport:
    """The gaps of a run's days.

    Attributes:
        by_day: the gaps of each day, none of which reaches beyond it.
        gone: the symbols that the exchange does not name any more.
        picture: a PNG of the month that ends with these days.
        values: what to report, by name: numbers and tables.
    """

    by_day: "dict[date, pl.DataFrame]"
    gone: set[str]
    picture: bytes
    values: dict[str, Any]


def keep_ledger(
    store: ObjectStore, settings: Settings, days: Sequence[date], server_time: datetime
) -> LedgerReport:
    """Judge what is missing of these days, and keep the ledger of each.

    Raises:
        NothingListedError: the exchange's list of symbols has not been stored yet.
        ObjectStoreError: the lake does not answer.
    """
    gaps, picture = _judged(store, settings, days, server_time)
    by_day = {day: gaps.filter(day=day) for day in days}
    store.each(lambda day: write_gaps(store, day, by_day[day]), days)
    gone = forgotten(read_identities(store))
    return LedgerReport(by_day, gone, picture, _values(gaps, gone))


def _values(gaps: "pl.DataFrame", gone: Collection[str]) -> dict[str, Any]:
    import polars as pl

    due = gaps.filter(~pl.col("cause").is_in(NOT_DUE))
    to_fetch = fetchable(due).filter(~pl.col("symbol").is_in(list(gone)))
    values: dict[str, Any] = {
        "candles missing": due["count"].sum(),
        "candles to fetch": to_fetch["count"].sum(),
    }
    counted = (
        gaps.group_by("interval", "cause")
        .agg(pl.col("symbol").n_unique(), pl.len().alias("gaps"), pl.col("count").sum())
        .sort("interval", "cause")
    )
    if counted.height:
        values["by cause"] = Table.of(_CAUSES, counted.rows())
    if due.height:
        values["largest gaps"] = Table.of(_COLUMNS, _records(due))
    return values


def _judged(
    store: ObjectStore, settings: Settings, days: Sequence[date], server_time: datetime
) -> "tuple[pl.DataFrame, bytes]":
    """Return the gaps of these days, cut at midnight, and the picture of the month that ends with them."""
    import polars as pl

    asked = bounding_window([day_window(day) for day in days])
    pictured = Window(min(asked.start, asked.end - _PICTURED), asked.end)
    minutes = Interval.ONE_MINUTE
    lifetimes = collected_lifetimes(store, settings, pictured, server_time)
    ledgers = {
        interval: gap_ledger(
            store,
            settings,
            interval,
            pictured if interval is minutes else asked,
            lifetimes,
            server_time,
        )
        for interval in Interval
    }
    kept = finalized_days(store, minutes)
    first = min(kept[0], days[0]) if kept else days[0]
    looked_at = [day for day in days_of(pictured) if day >= first]
    parts = [split_by_day(ledger, interval) for interval, ledger in ledgers.items()]
    # A symbol that did not trade on a day has no gap in it; whether the ledger names it depends on the
    # run's other days.
    whole = pl.col("interval").replace_strict(
        {each.value: each.per_day for each in Interval}, return_dtype=pl.Int64
    )
    unlisted = (pl.col("cause") == Cause.NOT_LISTED) & (pl.col("count") == whole)
    return (
        pl.concat(parts).filter(pl.col("day").is_in(days) & ~unlisted),
        completeness_picture(ledgers[minutes], lifetimes, minutes, pictured, looked_at),
    )


def nothing_to_fetch(gaps: "pl.DataFrame", gone: Collection[str]) -> Finding:
    """Return whether no gap of a day can be filled by a fetch."""
    import polars as pl

    fillable = fetchable(gaps)
    lost = fillable.filter(pl.col("symbol").is_in(list(gone)))
    beside = (
        f" {counted(int(lost['count'].sum()), 'candle')} cannot be fetched, {_of_symbols(lost)}, which "
        "the exchange does not name any more."
        if lost.height
        else ""
    )
    return _finding(
        fillable.filter(~pl.col("symbol").is_in(list(gone))),
        f"Nothing is missing that could be fetched.{beside}",
        " can be fetched, {symbols}. The sensor gap_repair asks for it, `pipeline-assets gaps "
        f"--repair` does it now.{beside}",
    )


def outages(gaps: "pl.DataFrame") -> Finding:
    """Return whether the exchange had every candle of a day."""
    import polars as pl

    return _finding(
        gaps.filter(pl.col("cause") == Cause.EXCHANGE_OUTAGE),
        "The exchange had every candle.",
        " missing on the exchange, {symbols}.",
    )


def _finding(gaps: "pl.DataFrame", none: str, reported: str) -> Finding:
    if gaps.is_empty():
        return Finding(passed=True, description=none)
    description = counted(int(gaps["count"].sum()), "candle") + reported.format(
        symbols=_of_symbols(gaps)
    )
    metadata = {"gaps": Table.of(_COLUMNS, _records(gaps))}
    return Finding(passed=False, description=description, metadata=metadata)


def _of_symbols(gaps: "pl.DataFrame") -> str:
    symbols = gaps["symbol"].n_unique()
    return f"of {gaps['symbol'][0]}" if symbols == 1 else f"of {symbols} symbols"


def false_volume(
    store: ObjectStore, settings: Settings, day: date, server_time: datetime
) -> Finding:
    """Return whether a stored run without volume looks false; remember the symbols that have one."""
    symbols = collected_lifetimes(store, settings, day_window(day), server_time)
    found = false_runs(store, symbols, day)
    keep_zero_volume(store, day, set(found["symbol"]))
    if found.is_empty():
        return Finding(passed=True, description="No run without volume looks false.")
    columns = dict.fromkeys(("symbol", "interval", "from", "to"), "string")
    counts = dict.fromkeys(("candles", "contradicted"), "int")
    records = [
        (symbol, interval, moment(first), moment(last), count, contradicted, why)
        for symbol, interval, first, last, count, contradicted, why in found.rows()
    ]
    symbol, interval, first, last, *_, why = records[0]
    return Finding(
        passed=False,
        description=(
            f"{found['count'].sum()} candles without volume look false, the first {interval} of "
            f"{symbol} from {first} to {last}: {why}."
        ),
        metadata={"runs": Table.of(columns | counts | {"why": "string"}, records)},
    )


def _records(gaps: "pl.DataFrame") -> list[tuple[str, str, str, str, int, str]]:
    """Return gaps as rows of `_COLUMNS`, the longest first."""
    import polars as pl

    length = pl.col("last") - pl.col("first")
    return [
        (symbol, interval, moment(first), moment(last), count, cause)
        for _, symbol, interval, first, last, count, cause in gaps.sort(
            length, "symbol", "interval", "first", descending=[True, False, False, False]
        ).rows()
    ]
