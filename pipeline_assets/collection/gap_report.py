"""The report of missing candles and their causes, over several intervals, for a person or a program. Gaps are
judged in coverage.py; the command line prints and fills them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.coverage import FILLABLE
from pipeline_assets.collection.lake_coverage import UnreadDays, gap_ledger, unread_lines
from pipeline_assets.collection.listings import collected_lifetimes, forgotten
from pipeline_assets.collection.symbol_names import unknown_symbols
from pipeline_assets.collection.zero_volume_runs import ZeroVolume, zero_volume_of
from pipeline_assets.market.completeness import split_by_day
from pipeline_assets.market.gap_causes import NOT_DUE, Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import FIRST_DAY
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candle_objects import first_stored_day
from pipeline_assets.resources.day_findings import disagreement_days, read_disagreements
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# The running ingest run stores a candle that closed just now: nothing is wrong before that.
_INGEST_OWN = timedelta(minutes=2)
Life = tuple[datetime, datetime | None]


@dataclass(frozen=True)
class Asked:
    """The part of the ledger to report.

    Attributes:
        intervals: of these.
        symbols: of these only; None: all of the settings.
        start: the first UTC day; None: the first that is stored, of each interval by itself.
        end: the UTC day before which to stop; None: after today.
        causes: gaps of these causes only; None: of all that are of interest.
    """

    intervals: Sequence[Interval] = tuple(Interval)
    symbols: Sequence[str] | None = None
    start: date | None = None
    end: date | None = None
    causes: Collection[Cause] | None = None


@dataclass(frozen=True)
class Report:
    """The gaps that were found.

    Attributes:
        at: the exchange's time that it was judged by, UTC.
        windows: by interval the days that were looked at.
        lifetimes: by symbol when it traded.
        gone: the symbols that the exchange does not name any more: it serves no candle of them.
        ledger: every gap of these symbols and windows, as `gap_ledger` gives them.
        gaps: those of them that were asked for.
        disagreements: where the archive says otherwise than the exchange, one entry a run of candles.
        zero_volume: the stored candles without volume that look false.
        unknown: symbols of the settings that were never on the exchange, and so are not judged, with
            what may have been meant.
        unread: the days that are not judged, because a newer release wrote their marks: why, in words.
    """

    at: datetime
    windows: dict[Interval, Window]
    lifetimes: dict[str, Life]
    gone: Collection[str]
    ledger: "pl.DataFrame"
    gaps: "pl.DataFrame"
    disagreements: list[dict[str, Any]]
    zero_volume: ZeroVolume
    unknown: dict[str, str | None]
    unread: list[str] = field(default_factory=list)

    def fillable(self) -> "pl.DataFrame":
        """Return the gaps that a repair may fill and no ingest run is about to."""
        import polars as pl

        span = pl.col("interval").replace_strict(
            {each.value: each.span for each in Interval}, return_dtype=pl.Duration("us")
        )
        return self.gaps.filter(
            pl.col("cause").is_in([str(cause) for cause in FILLABLE]),
            pl.col("first") + span <= self.at - _INGEST_OWN,
            ~pl.col("symbol").is_in(list(self.gone)),
        )

    def left(self, repaired: "Repaired | None") -> "pl.DataFrame":
        """Return the gaps that another repair may fill, after this one if there was one.

        Excludes gaps of the open day that a repair requested and did not get. Their cause is unknown
        until the day is finalized, when the exchange is asked for them again.
        """
        import polars as pl

        if repaired is None or repaired.problems:
            return self.fillable()
        return self.fillable().filter(pl.col("first") < day_window(self.at.date()).start)


@dataclass
class Repaired:
    """The result of a repair.

    Attributes:
        runs: its Dagster runs.
        rows: fetched.
        problems: what could not be done, and why.
        remarks: the findings of the checks. Useful if a gap that can be filled is left; otherwise they
            report outages, as the ledger does.
    """

    runs: list[str] = field(default_factory=list)
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_gaps(settings: Settings, asked: Asked) -> Report:
    """Judge what is missing, as it stands now.

    Raises:
        SymbolError: a symbol that was asked for was never on the exchange.
        ExchangeUnreachableError, ObjectStoreError, WeightBudgetError: a system does not answer.
    """
    import polars as pl

    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    at = Exchange(settings).server_time()
    unknown = unknown_symbols(settings, store, asked.symbols)
    windows = _windows(settings, store, asked, at)
    lifetimes: dict[str, Life] = {}
    ledgers = []
    unread: list[str] = []
    for interval, window in windows.items():
        # Judge all collected symbols, even if a few were requested: candles missing from all are an outage.
        lives = collected_lifetimes(store, settings, window, at)
        if asked.symbols is not None:
            wanted = settings.model_copy(update={"symbols": list(asked.symbols)})
            own = collected_lifetimes(store, wanted, window, at)
            lives |= own
        else:
            own = lives
        days: UnreadDays = {}
        ledger = gap_ledger(store, settings, interval, window, lives, at, days)
        unread += unread_lines(interval, days)
        ledgers.append(ledger.filter(pl.col("symbol").is_in(list(own))))
        lifetimes |= own
    ledger = pl.concat(ledgers)
    causes = asked.causes or [cause for cause in Cause if cause not in NOT_DUE]
    return Report(
        at=at,
        windows=windows,
        lifetimes=lifetimes,
        gone=forgotten(read_identities(store)),
        ledger=ledger,
        gaps=ledger.filter(pl.col("cause").is_in([str(cause) for cause in causes])),
        disagreements=[
            record
            for interval, window in windows.items()
            for record in _disagreements(store, interval, window, lifetimes)
        ],
        zero_volume=zero_volume_of(store, windows, lifetimes, at),
        unknown=unknown,
        unread=unread,
    )


def repairs(gaps: "pl.DataFrame") -> Iterator[tuple[Interval, list[str], date, date]]:
    """Yield the days to backfill for gaps: neighbouring days together, with the symbols that have gaps then.

    Args:
        gaps: of any intervals, as `gap_ledger` gives them.

    Yields:
        Interval, symbols, first day, and the day before which to stop; in order of interval and time.
    """
    import polars as pl

    for interval in Interval:
        cut = split_by_day(gaps.filter(interval=interval.value), interval)
        days = cut.group_by("day").agg(pl.col("symbol").unique()).sort("day")
        begins = (pl.col("day").diff() > DAY).fill_null(True)
        ranges = (
            days.with_columns(run=begins.cum_sum())
            .group_by("run", maintain_order=True)
            .agg(
                pl.col("symbol").explode().unique().sort(),
                pl.col("day").first().alias("start"),
                pl.col("day").last().alias("last"),
            )
        )
        for _, symbols, start, last in ranges.rows():
            yield interval, symbols, start, last + DAY


def _windows(
    settings: Settings, store: ObjectStore, asked: Asked, at: datetime
) -> dict[Interval, Window]:
    end = day_window(at.date()).end if asked.end is None else day_window(asked.end).start
    found = {}
    for interval in asked.intervals:
        if asked.start is None:
            start = _first_stored(settings, store, interval, asked, end - DAY)
        else:
            start = day_window(asked.start).start
        found[interval] = Window(start, end)
    return found


def _first_stored(
    settings: Settings, store: ObjectStore, interval: Interval, asked: Asked, latest: datetime
) -> datetime:
    """Return the first day of which any symbol has a stored object, or `latest` if none has."""
    ever = Window(day_window(FIRST_DAY).start, latest + DAY)
    symbols = asked.symbols or list(collected_lifetimes(store, settings, ever, latest + DAY))
    days = store.each(lambda symbol: first_stored_day(store, interval, symbol), symbols)
    return min([latest, *(day_window(day).start for day in days if day)])


def _disagreements(
    store: ObjectStore, interval: Interval, window: Window, symbols: Collection[str]
) -> list[dict[str, Any]]:
    days = [
        day
        for day in disagreement_days(store, interval)
        if window.start <= day_window(day).start < window.end
    ]
    documents = store.each(lambda day: read_disagreements(store, interval, day), days)
    return [
        {"symbol": symbol, "interval": interval.value, **record}
        for held in documents
        for symbol, records in held.items()
        if symbol in symbols
        for record in records
    ]
