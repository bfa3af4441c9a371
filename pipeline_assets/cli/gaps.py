"""What is missing and why, as a person or a program asks for it, and filling what can be filled. How a
gap is judged is in collection/coverage.py; the command's options are in cli.py.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_assets.cli.backfill import BackfillError, backfill
from pipeline_assets.collection.completeness_picture import completeness_picture
from pipeline_assets.collection.coverage import FILLABLE, gap_ledger
from pipeline_assets.collection.fetch_plan import SymbolError
from pipeline_assets.collection.listings import collected_lifetimes, forgotten, look
from pipeline_assets.collection.zero_volume_runs import false_runs
from pipeline_assets.market.completeness import split_by_day
from pipeline_assets.market.gap_causes import NOT_DUE, Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import FIRST_DAY
from pipeline_assets.market.windows import Window, day_window, days_of, joined
from pipeline_assets.resources.candle_objects import prefix, window_start
from pipeline_assets.resources.day_findings import (
    disagreement_days,
    read_disagreements,
    read_zero_volume,
    zero_volume_days,
)
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from pipeline_assets.collection.progress import Progress

_TO_DO = {
    Cause.NOT_FETCHED: "--repair fetches them",
    Cause.SET_ASIDE: "--repair fetches them again; the rows that came are under set_aside/",
    Cause.ARCHIVE_HOLE: "--repair asks the exchange for them",
    Cause.INVALID: "nothing: the exchange gives the same row each time; see set_aside/",
    Cause.EXCHANGE_OUTAGE: "nothing: the exchange has none",
    Cause.NOT_LISTED: "nothing: the symbol did not trade",
    Cause.STILL_OPEN: "nothing: they are not closed yet",
}
# A candle that closed just now is the running tick's: nothing is wrong if it is not there yet.
_TICKS_OWN = timedelta(minutes=2)
_ROWS = 50
_NAMED = 3
Life = tuple[datetime, datetime | None]


@dataclass(frozen=True)
class Asked:
    """What of the ledger somebody wants to see.

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
class ZeroVolume:
    """Runs of stored candles without volume that another interval contradicts.

    Attributes:
        runs: one entry a run, by symbol, first open time and interval.
        checked: how many finished days of the windows the asset check `zero_volume` has judged.
        unchecked: how many it has not judged: nothing is known of these.
    """

    runs: list[dict[str, Any]]
    checked: int
    unchecked: int


@dataclass(frozen=True)
class Report:
    """What was found.

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
    """

    at: datetime
    windows: dict[Interval, Window]
    lifetimes: dict[str, Life]
    gone: Collection[str]
    ledger: "pl.DataFrame"
    gaps: "pl.DataFrame"
    disagreements: list[dict[str, Any]]
    zero_volume: "ZeroVolume"
    unknown: dict[str, str | None]

    def fillable(self) -> "pl.DataFrame":
        """The gaps that a repair may fill and no tick is about to."""
        import polars as pl

        span = pl.col("interval").replace_strict(
            {each.value: each.span for each in Interval}, return_dtype=pl.Duration("us")
        )
        return self.gaps.filter(
            pl.col("cause").is_in([str(cause) for cause in FILLABLE]),
            pl.col("first") + span <= self.at - _TICKS_OWN,
            ~pl.col("symbol").is_in(list(self.gone)),
        )

    def left(self, repaired: "Repaired | None") -> "pl.DataFrame":
        """The gaps that another repair may fill, after this one if there was one.

        What a repair asked for of the open day and did not get is not among them: nobody can say why
        before the day is sealed, when the exchange is asked again for what it lacks.
        """
        import polars as pl

        if repaired is None or repaired.problems:
            return self.fillable()
        return self.fillable().filter(pl.col("first") < day_window(self.at.date()).start)


@dataclass
class Repaired:
    """What a repair did.

    Attributes:
        runs: its Dagster runs.
        rows: fetched.
        problems: what could not be done, and why.
        remarks: what the checks found. Of use where something is still missing that can be filled;
            else they tell of outages, as the ledger does.
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
    unknown = _unknown(settings, store, asked.symbols)
    windows = _windows(settings, store, asked, at)
    lifetimes: dict[str, Life] = {}
    ledgers = []
    for interval, window in windows.items():
        # All that are collected, though a few were asked for: what all lack is an outage.
        lives = collected_lifetimes(store, settings, window, at)
        if asked.symbols is not None:
            wanted = settings.model_copy(update={"symbols": list(asked.symbols)})
            own = collected_lifetimes(store, wanted, window, at)
            lives |= own
        else:
            own = lives
        ledger = gap_ledger(store, settings, interval, window, lives, at)
        ledgers.append(ledger.filter(pl.col("symbol").is_in(list(own))))
        lifetimes |= own
    ledger = pl.concat(ledgers)
    causes = asked.causes or [cause for cause in Cause if cause not in NOT_DUE]
    return Report(
        at,
        windows,
        lifetimes,
        forgotten(read_identities(store)),
        ledger,
        ledger.filter(pl.col("cause").is_in([str(cause) for cause in causes])),
        [
            record
            for interval, window in windows.items()
            for record in _disagreements(store, interval, window, lifetimes)
        ],
        _zero_volume(store, windows, lifetimes, at),
        unknown,
    )


def repair(settings: Settings, report: Report, progress: "Progress | None" = None) -> Repaired:
    """Fetch what can be filled of a report's gaps, by the jobs that the sensor gap_repair asks for.

    So the ledger on the lake and the table of gaps follow. May be repeated: what is stored and complete
    is left out. A range that fails is told, and does not keep the others from being fetched.

    Raises:
        ExchangeUnreachableError, WeightBudgetError: a system does not answer.
    """
    import polars as pl

    done = Repaired()
    fillable = report.fillable()
    listed = _listed_now(settings)
    gone = sorted(set(fillable["symbol"].unique()) - listed)
    if gone:
        done.problems.append(
            f"The exchange does not list {', '.join(gone)} any more, and serves no candles of them."
        )
    left = fillable.filter(~pl.col("symbol").is_in(gone))
    for interval, symbols, start, end in repairs(left):
        try:
            ran = backfill(settings, interval, symbols, start, end, progress, judge=True)
        except BackfillError as error:
            done.problems.append(f"{interval} from {start} until {end}: {error}")
        else:
            done.runs += ran.runs
            done.rows += ran.rows
            done.remarks += ran.problems
    return done


def repairs(gaps: "pl.DataFrame") -> Iterator[tuple[Interval, list[str], date, date]]:
    """What to backfill for gaps: neighbouring days together, of the symbols that lack something then.

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


def draw(report: Report, interval: Interval, path: Path) -> None:
    """Write the picture of completeness of an interval as a PNG; OSError where that cannot be."""
    window = report.windows[interval]
    days = [
        window.start.date() + number * DAY for number in range((window.end - window.start) // DAY)
    ]
    path.write_bytes(completeness_picture(report.ledger, report.lifetimes, interval, window, days))


def as_document(report: Report, repaired: Repaired | None) -> dict[str, Any]:
    """The report as JSON-serialisable values, times in ISO 8601, UTC."""
    return {
        "at": report.at.isoformat(),
        "windows": {
            interval: {"start": window.start.isoformat(), "end": window.end.isoformat()}
            for interval, window in report.windows.items()
        },
        "gaps": [
            gap | {"first": gap["first"].isoformat(), "last": gap["last"].isoformat()}
            for gap in report.gaps.iter_rows(named=True)
        ],
        "causes": {cause: candles for cause, _, _, candles in _by_cause(report)},
        "fillable": int(report.fillable()["count"].sum()),
        "disagreements": report.disagreements,
        "zero_volume": {
            "runs": [
                run | {"first": run["first"].isoformat(), "last": run["last"].isoformat()}
                for run in report.zero_volume.runs
            ],
            "days_checked": report.zero_volume.checked,
            "days_unchecked": report.zero_volume.unchecked,
        },
        "unknown_symbols": report.unknown,
        **(
            {
                "repair": {
                    "runs": repaired.runs,
                    "rows": repaired.rows,
                    "problems": repaired.problems,
                }
            }
            if repaired
            else {}
        ),
    }


def print_report(console: "Console", report: Report) -> None:
    """The gaps as a table, a summary by cause with what to do, and what the archive says otherwise."""
    spans = {
        f"{interval} from {window.start:%Y-%m-%d} until {window.end:%Y-%m-%d}"
        for interval, window in report.windows.items()
    }
    looked = f"{len(report.lifetimes)} symbols, {', '.join(sorted(spans))}"
    if report.unknown and not report.lifetimes:
        console.print("Nothing was looked at.", style="red")
    elif report.gaps.is_empty():
        console.print(f"Nothing is missing: {looked}.", style="green")
    else:
        _print_gaps(console, report, looked)
        _print_causes(console, report)
    _print_disagreements(console, report)
    _print_zero_volume(console, report)


def _print_gaps(console: "Console", report: Report, looked: str) -> None:
    found = report.gaps
    shown = found.sort("count", descending=True, maintain_order=True).head(_ROWS)
    table = _table(f"Missing, of {looked}", "symbol", "interval", "first", "last", "", "cause")
    for symbol, interval, first, last, count, cause in shown.sort(
        "symbol", "interval", "first"
    ).rows():
        colour = "red" if cause in FILLABLE else "default"
        table.add_row(
            symbol, interval, _short(first), _short(last), f"{count:,}", f"[{colour}]{cause}"
        )
    console.print(table)
    if found.height > _ROWS:
        console.print(
            f"These are the {_ROWS} longest of {found.height:,} gaps; --json prints all of them."
        )


def _print_causes(console: "Console", report: Report) -> None:
    table = _table("By cause", "cause", "gaps", "symbols", "candles", "to do")
    for cause, gaps, symbols, candles in _by_cause(report):
        table.add_row(cause, f"{gaps:,}", f"{symbols:,}", f"{candles:,}", _to_do(report, cause))
    console.print(table)


def _to_do(report: Report, cause: str) -> str:
    advice = _TO_DO[Cause(cause)]
    if cause not in FILLABLE:
        return advice
    found = report.gaps.filter(cause=cause)
    symbols = set(found["symbol"])
    if any(found["last"] >= day_window(report.at.date()).start):
        advice += "; what it does not bring of today is judged when the day is sealed"
    gone = sorted(symbols.intersection(report.gone))
    if not gone:
        return advice
    names = ", ".join(gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" if gone[_NAMED:] else "")
    why = f"the exchange does not name {names} any more"
    return f"nothing: {why}" if len(gone) == len(symbols) else f"{advice}, but {why}"


def _print_disagreements(console: "Console", report: Report) -> None:
    if not report.disagreements:
        return
    title = "Where the archive says otherwise than the exchange (the exchange's candles are stored)"
    table = _table(title, "symbol", "interval", "first", "last", "", "what")
    for each in report.disagreements[:_ROWS]:
        first, last = (datetime.fromisoformat(each[name]) for name in ("first", "last"))
        table.add_row(
            *(each["symbol"], each["interval"], _short(first), _short(last)),
            f"{each['count']:,}",
            each["kind"],
        )
    console.print(table)
    if len(report.disagreements) > _ROWS:
        console.print(f"The first {_ROWS} of {len(report.disagreements):,}; --json prints all.")


def _print_zero_volume(console: "Console", report: Report) -> None:
    runs = report.zero_volume.runs
    if not runs:
        return
    title = "Stored without volume, which another interval contradicts (backfill --refresh fetches the days)"
    table = _table(title, "symbol", "interval", "first", "last", "", "why")
    for run in runs[:_ROWS]:
        table.add_row(
            *(run["symbol"], run["interval"], _short(run["first"]), _short(run["last"])),
            f"{run['count']:,}",
            run["why"],
        )
    console.print(table)
    if len(runs) > _ROWS:
        console.print(f"The first {_ROWS} of {len(runs):,}; --json prints all.")


def _table(title: str, *columns: str) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title=title)
    for name in columns:
        numbers = name in ("", "gaps", "symbols", "candles")
        header = name or "candles"
        table.add_column(header, justify="right" if numbers else "left", no_wrap=name != "to do")
    return table


def _short(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _by_cause(report: Report) -> list[tuple[str, int, int, int]]:
    """Cause, gaps, symbols, candles; in the order of judgement."""
    import polars as pl

    counted = report.gaps.group_by("cause").agg(
        pl.len(), pl.col("symbol").n_unique(), pl.col("count").sum().alias("candles")
    )
    order = list(Cause)
    return sorted(counted.rows(), key=lambda row: order.index(Cause(row[0])))


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
    """The first day that an object is stored of, of any symbol; the latest where there is none."""
    ever = Window(day_window(FIRST_DAY).start, latest + DAY)
    symbols = asked.symbols or list(collected_lifetimes(store, settings, ever, latest + DAY))

    def first(symbol: str) -> datetime | None:
        oldest = next(iter(store.objects(prefix(interval, symbol))), None)
        return window_start(oldest.key) if oldest else None

    starts = [day_window(start.date()).start for start in store.each(first, symbols) if start]
    return min([latest, *starts])


def _unknown(
    settings: Settings, store: ObjectStore, symbols: Sequence[str] | None
) -> dict[str, str | None]:
    """Symbols of the settings that the exchange never listed; those that were asked for are refused.

    It is asked where nobody has looked yet, or not since they were listed.
    """
    known = {each.symbol for each in read_identities(store)}
    configured = () if settings.symbols == "all" else settings.symbols
    asked = set(configured if symbols is None else symbols)
    if not known or not asked <= known:
        known |= _listed_now(settings)
    unknown = {
        symbol: next(iter(difflib.get_close_matches(symbol.upper(), known, n=1)), None)
        for symbol in sorted(asked - known)
    }
    if unknown and symbols is not None:
        raise SymbolError(" ".join(never_listed(unknown, "--symbols")))
    return unknown


def never_listed(unknown: Mapping[str, str | None], where: str) -> list[str]:
    """What to tell of symbols that were never on the exchange, by what may have been meant."""
    return [
        f"{symbol} was never on the exchange"
        + (f"; did you mean {near}?" if near else ".")
        + f" Correct {where}."
        for symbol, near in unknown.items()
    ]


def _listed_now(settings: Settings) -> set[str]:
    with Exchange(settings).client(Priority.BACKFILL, patient=False) as client:
        universe, _ = look(client, ObjectStore(settings.s3, PERSON_PATIENCE), client.server_time())
    return set(universe["symbols"])


def _zero_volume(
    store: ObjectStore,
    windows: Mapping[Interval, Window],
    symbols: Collection[str],
    at: datetime,
) -> ZeroVolume:
    """Judge again what the check found: a day may have been fetched again since."""
    spans = joined([window for window in windows.values() if window.start < window.end])
    finished = {day for span in spans for day in days_of(span) if day < at.date()}
    recorded = sorted(finished.intersection(zero_volume_days(store)))
    records = store.each(lambda day: read_zero_volume(store, day), recorded)
    # A day whose record is damaged counts as not checked: it may have had false runs.
    checked = {
        day: found for day, found in zip(recorded, records, strict=True) if found is not None
    }

    def judge(day: date) -> list[dict[str, Any]]:
        found = set(symbols).intersection(checked[day])
        return list(false_runs(store, found, day).iter_rows(named=True)) if found else []

    # A run across midnight is found on both days.
    runs = {
        (run["symbol"], run["first"], run["interval"]): run
        for held in map(judge, checked)
        for run in held
        if run["interval"] in windows
    }
    ordered = [run for _, run in sorted(runs.items())]
    return ZeroVolume(ordered, len(checked), len(finished) - len(checked))


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
