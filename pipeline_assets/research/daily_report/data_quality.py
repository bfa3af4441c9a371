"""The section about the data: completeness, gaps with their causes, latency, request weight and the
warehouse. Completeness is counted in completeness.py, figures of runs are made in run_figures.py.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline_assets.market.gap_causes import NOT_DUE
from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.completeness import (
    completeness_of,
    doubtful_candles,
    finalized_candles,
)
from pipeline_assets.research.daily_report.composing import (
    bars,
    empty_section,
    most_frequent,
    section_of,
)
from pipeline_assets.research.daily_report.parts import (
    NO_VALUE,
    Chart,
    Edition,
    Figure,
    Section,
    Source,
    Table,
)
from pipeline_assets.research.daily_report.readers import (
    Answered,
    Readers,
    RunRecord,
    ask,
    nothing,
)
from pipeline_assets.research.daily_report.run_figures import (
    NOT_READ,
    SLOT_RUNS,
    SLOTS,
    kept_since,
    quantiles,
    run_figures,
    slot_lags,
)
from pipeline_assets.resources.gap_objects import judged_days
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_SECTION = "data", "Data"
_LARGEST = 10
_STEPS = {"candidate": "close to candidate", "decision": "close to decision"}


@dataclass(frozen=True)
class _Data:
    """The data of an edition.

    Attributes:
        edition: the span.
        counted: candles by interval and day, as `completeness_of` returns them.
        judged: how many days of the edition have a gap ledger.
        gaps: those of candles that should exist.
        doubtful: candles that are missing only if the ledger is newer than their finalize.
        latency: quantiles by step.
        runs: records of runs; None if these were not read.
        source: of completeness.
    """

    edition: Edition
    counted: "pl.DataFrame"
    judged: int
    gaps: Answered
    doubtful: int
    latency: Answered
    runs: tuple[RunRecord, ...] | None
    source: Source


def data_section(readers: Readers, edition: Edition) -> Section:
    """Return how complete and how early the data of an edition were.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
        ObjectStoreError: the lake does not answer.
    """
    import polars as pl

    days = edition.days()
    asked = ask(readers, edition, "gaps", "gap ledger in the warehouse")
    # Without the table, no row would look as if nothing were missing.
    known = set(judged_days(readers.store)) if asked.exists else set()
    judged = [day for day in days if day in known]
    finalized = finalized_candles(readers.store, days)
    due = ~pl.col("cause").is_in([each.value for each in NOT_DUE])
    data = _Data(
        edition=edition,
        counted=completeness_of(finalized, asked.frame, judged),
        judged=len(judged),
        gaps=Answered(asked.frame.filter(due), asked.source, asked.exists),
        doubtful=doubtful_candles(finalized, asked.frame),
        latency=ask(readers, edition, "latency", "candidates and decisions in the warehouse"),
        runs=readers.runs,
        source=Source("marks of finalized days and gap ledger", asset=_ledger(edition)),
    )
    if data.counted.is_empty() and data.latency.frame.is_empty() and not data.runs:
        why = (
            "No day of this span has a gap ledger. Materialize candle_gaps and candle_gap_table of its days."
            if not judged
            else "No symbol of this span is finalized, and no candle is known to be missing."
        )
        return empty_section(_SECTION, "Nothing is known about the data of this span.", why)
    charts = (_missing_chart(data) if edition.kind == "day" else _daily_chart(data),)
    tables = (_by_interval(data), _causes(data), _gaps(data), _latency(data))
    return section_of(
        _SECTION,
        _headline(data),
        (*_completeness(data), _lag(data), *run_figures(data.runs, edition.start)),
        charts,
        tables,
    )


def stored_share(expected: int, missing: int) -> str:
    """Return the stored share in percent, rounded down: 100 % only where nothing is missing."""
    if not expected:
        return NO_VALUE
    return f"{(expected - missing) * 10_000 // expected / 100:.2f} %"


def _ledger(edition: Edition) -> str:
    first, last = edition.days()[0], edition.days()[-1]
    return f"candle_gaps {first}" if first == last else f"candle_gaps {first} to {last}"


def _headline(data: _Data) -> str:
    if data.counted.is_empty():
        return "Completeness is not known: no day of this span is finalized and judged."
    total = int(data.counted["missing"].sum())
    if not total:
        return f"Nothing is missing of {counted(int(data.counted['expected'].sum()), 'candle')}."
    verb = "is" if total == 1 else "are"
    of_all = f"{total:,} of {counted(int(data.counted['expected'].sum()), 'candle')} {verb} missing"
    causes = _causes_of(data)
    if causes.is_empty():
        return f"{of_all}."
    worst = causes.row(0, named=True)
    number = f"{counted(worst['candles'], 'candle')} of {worst['width']}"
    return f"{of_all}; the most frequent cause is {worst['cause']} ({number}){_doubt(data)}."


def _doubt(data: _Data) -> str:
    if not data.doubtful:
        return ""
    number = counted(data.doubtful, "missing candle")
    return f"; the gap ledger may be too old for {number}: materialize candle_gaps"


def _totals(data: _Data) -> "pl.DataFrame":
    import polars as pl

    return data.counted.group_by("width", maintain_order=True).agg(
        pl.col("symbols").max(), pl.col("expected", "missing").sum()
    )


def _completeness(data: _Data) -> list[Figure]:
    held = {each["width"]: each for each in _totals(data).iter_rows(named=True)}
    days = len(data.edition.days())
    figures = []
    for interval in Interval:
        label, found = f"Stored, {interval.value}", held.get(interval.value)
        if found is None:
            why = "No day of this span is finalized and judged."
            figures.append(nothing(label, why, data.source))
            continue
        share = stored_share(found["expected"], found["missing"])
        detail = f"{found['missing']:,} of {found['expected']:,} missing"
        if data.judged < days:
            detail += f"; {data.judged} of {days} days are judged"
        figures.append(Figure(label, share, detail, data.source))
    return figures


def _lag(data: _Data) -> Figure:
    label, lags = "Close to slots, 95 %", slot_lags(data.runs)
    if not lags:
        why = NOT_READ if data.runs is None else f"Dagster keeps no run of {SLOTS} of this span."
        return nothing(label, why, SLOT_RUNS)
    half, most, _, longest = quantiles(lags)
    detail = (
        f"half within {formats.seconds(half)}, at most {formats.seconds(longest)}; "
        f"{counted(len(lags), 'minute')}{kept_since(data.runs, data.edition.start)}"
    )
    return Figure(label, formats.seconds(most), detail, SLOT_RUNS)


def _causes_of(data: _Data) -> "pl.DataFrame":
    import polars as pl

    return (
        data.gaps.frame.group_by("width", "cause")
        .agg(symbols=pl.col("symbol").n_unique(), gaps=pl.len(), candles=pl.col("candles").sum())
        .sort("candles", "width", "cause", descending=[True, False, False])
    )


def _missing_chart(data: _Data) -> Chart | None:
    found = _causes_of(data).filter(width=Interval.ONE_MINUTE.value)
    if found.is_empty():
        return None
    counts = found.select("cause", "candles")
    return bars(
        most_frequent(
            "The most frequent cause of missing minutes is",
            "The most frequent causes of missing minutes are",
            counts,
        ),
        counts,
        data.gaps.source,
        "candles",
        "Candles of 1m that should exist and are not stored.",
    )


def _daily_chart(data: _Data) -> Chart | None:
    import polars as pl

    due = data.counted.filter(pl.col("expected") > 0)
    if due.is_empty():
        return None
    midnight = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    share = 100 * (1 - pl.col("missing") / pl.col("expected"))
    shown = due.select(midnight.alias("time"), share.alias("stored"), interval="width")
    worst = due.sort(share, "day").row(0, named=True)
    stored = stored_share(worst["expected"], worst["missing"])
    title = f"The least complete day was {worst['day']}, with {stored} of {worst['width']}"
    return Chart(
        title if worst["missing"] else "No candle is missing on any day",
        *("lines", shown, "time", "stored", "interval", "%", data.source),
        note="Share of the candles that should exist, by day.",
    )


def _by_interval(data: _Data) -> Table:
    rows = [
        (
            each["width"],
            formats.count(each["symbols"]),
            formats.count(each["expected"]),
            formats.count(each["missing"]),
            stored_share(each["expected"], each["missing"]),
        )
        for each in _totals(data).iter_rows(named=True)
    ]
    columns = "interval, symbols >, expected >, missing >, stored >"
    note = "Counts finalized days that have a gap ledger, and only candles that are due."
    return formats.table("Completeness", columns, rows, data.source, note)


def _causes(data: _Data) -> Table:
    rows = [
        (width, cause, *map(formats.count, numbers))
        for width, cause, *numbers in _causes_of(data).iter_rows()
    ]
    columns = "interval, cause, symbols >, gaps >, candles >"
    return formats.table("Missing candles by cause", columns, rows, data.gaps.source)


def _gaps(data: _Data) -> Table:
    rows = [
        (
            each["symbol"],
            each["width"],
            formats.minute(each["first_open_time"]),
            formats.minute(each["last_open_time"]),
            formats.count(each["candles"]),
            each["cause"],
        )
        for each in data.gaps.frame.head(_LARGEST).iter_rows(named=True)
    ]
    columns = "symbol, interval, from, to, candles >, cause"
    note = f"The {_LARGEST} largest. Both times are open times, UTC."
    return formats.table("Largest gaps", columns, rows, data.gaps.source, note)


def _latency(data: _Data) -> Table:
    rows, source = [], data.latency.source
    if lags := slot_lags(data.runs):
        shown = map(formats.seconds, quantiles(lags))
        rows.append(("close to slots", formats.count(len(lags)), *shown))
        source = replace(source, text=f"{source.text}; {SLOT_RUNS.text}", asset=SLOTS)
    for step, cases, *found in data.latency.frame.iter_rows():
        rows.append((_STEPS[step], formats.count(cases), *map(formats.seconds, found)))
    return formats.table(
        "Time from the close of a minute",
        "step, cases >, half within >, 95 % within >, 99 % within >, longest >",
        rows,
        source,
        "The time to the slots is from runs that Dagster keeps, the other times are from rows in the "
        "warehouse. The time of each upload is not recorded.",
    )
