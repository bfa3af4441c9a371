"""Checks of what is stored of whole days: nothing missing, nothing contradictory. Checks of the rows that a
run has in hand are in upload_findings.py.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.collection.coverage import Known, closed_spans, coverage_of, fetchable
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.findings import MISSING_COLUMNS, Finding, Table, moment
from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.aggregation import aggregate, differences
from pipeline_assets.market.candles import KEY_COLUMNS, PRICE_COLUMNS
from pipeline_assets.market.gap_causes import NOT_DUE
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window, without
from pipeline_assets.resources.candle_objects import objects_by_day
from pipeline_assets.resources.finalized_days import FinalizedDay, read_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl


def check_days(step: Step) -> dict[str, dict[date, Finding]]:
    """Return what the checks `complete` and `consistent` find in each day of a step.

    Raises:
        StagingError: nothing says what a run has stored of these days.
        ObjectStoreError: the lake does not answer.
    """
    store, interval, plan = step.store, step.own.interval, step.plan_of_stored()
    span = Window(day_window(plan.days[0]).start, day_window(plan.days[-1]).end)
    objects = objects_by_day(store, interval, list(plan.listed), span)
    # A day's marks are written once it is in every sink, such as the table: here the run's own count.
    own = step.stored().finalized

    def judge(day: date) -> tuple[Finding, Finding]:
        symbols = _symbols(plan, day)
        listed = {symbol: objects[symbol].get(day, []) for symbol in symbols}
        marks = own.get(day, {})
        if plan.finished(day) and not marks.keys() >= set(symbols):
            marks = {**read_finalized(store, interval, day), **marks}
        unread = _unread(step, plan, day, listed, own.get(day, {}))
        held = [each for symbol in symbols if symbol not in unread for each in listed[symbol]]
        rows = lake.scan_objects(store, held, day_window(day))
        if interval is Interval.ONE_MINUTE:
            # Nothing is compared with their volumes, which are half of what there is to decode.
            rows = rows.select(*KEY_COLUMNS, *PRICE_COLUMNS)
        stored = rows.collect()
        known = Known({day: marks}, pauses=plan.pauses)
        absences = {symbol: [span for span, _ in marks[symbol].missing] for symbol in unread}
        return (
            _completeness(plan, day, symbols, stored, known, absences),
            _consistency(store, interval, day, symbols, stored, sum(unread.values())),
        )

    # One day is judged while another's objects are waited for; more at once would hold more rows.
    with ThreadPoolExecutor(2) as pool:
        findings = dict(zip(plan.days, pool.map(judge, plan.days), strict=True))
    return {
        "complete": {day: complete for day, (complete, _) in findings.items()},
        "consistent": {day: consistent for day, (_, consistent) in findings.items()},
    }


def _unread(
    step: Step,
    plan: FetchPlan,
    day: date,
    listed: Mapping[str, Sequence[StoredObject]],
    marks: Mapping[str, FinalizedDay],
) -> dict[str, int]:
    """Return the symbols whose day need not be read back, with how many candles each has.

    The run has itself written the day's object from rows that it had cleaned, S3 lists that very object
    by its ETag, and nothing else of the day. The object's mark says which candles are missing from it.
    """
    if plan.interval is not Interval.ONE_MINUTE:
        return {}  # compared with the minutes
    found = {}
    for symbol, objects in listed.items():
        mark = marks.get(symbol)
        if mark is None or len(objects) != 1 or objects[0].etag != mark.etag:
            continue
        written = step.handover.written.get(objects[0].key)
        each = plan.listed[symbol]
        due = closed_spans(
            plan.interval,
            day_window(day),
            (each.listed_at, each.delisted_at),
            plan.newest,
            plan.pauses.get(symbol, ()),
        )
        if written and written.etag == mark.etag and all(map(mark.covers, due)):
            found[symbol] = written.rows
    return found


def _symbols(plan: FetchPlan, day: date) -> list[str]:
    """Return the symbols of the plan that traded on a day, sorted."""
    window = day_window(day)
    clipped = {s: each.clip(plan.interval, window) for s, each in plan.listed.items()}
    return sorted(
        symbol
        for symbol, part in clipped.items()
        if part is not None and without(part, plan.pauses.get(symbol, ()))
    )


def _completeness(
    plan: FetchPlan,
    day: date,
    symbols: Sequence[str],
    stored: "pl.DataFrame",
    known: Known,
    absences: Mapping[str, Sequence[Window]],
) -> Finding:
    window = day_window(day)
    lifetimes = {
        symbol: (plan.listed[symbol].listed_at, plan.listed[symbol].delisted_at)
        for symbol in symbols
    }
    ledger = coverage_of(
        stored,
        plan.interval,
        window,
        lifetimes,
        plan.newest,
        known,
        # Symbols that a person chose cannot prove an outage: others may have candles then.
        witnesses=not plan.asked,
        absences=absences,
    )
    lacking = fetchable(ledger)
    not_due = ledger.filter(ledger["cause"].is_in([str(cause) for cause in NOT_DUE]))
    due = window.candles(plan.interval) * len(symbols) - int(not_due["count"].sum())
    records = [
        (symbol, moment(first), moment(last + plan.interval.span), count)
        for symbol, first, last, count in lacking.select("symbol", "first", "last", "count").rows()
    ]
    if records:
        symbol, start, end, _ = records[0]
        return Finding(
            passed=False,
            description=(
                f"{lacking['count'].sum():,} of {due:,} candles are missing, the first of "
                f"{symbol} from {start} until {end}. Materialize this partition again."
            ),
            metadata={"missing": Table.of(MISSING_COLUMNS, records)},
        )
    never = int(ledger["count"].sum()) - int(not_due["count"].sum())
    whose = symbols[0] if len(symbols) == 1 else counted(len(symbols), "symbol")
    message = f"All {due - never:,} candles of {whose} are there."
    if never:
        message += f" {never:,} more do not exist: the check `outages` of candle_gaps names them."
    return Finding(passed=True, description=message)


def _consistency(
    store: ObjectStore,
    interval: Interval,
    day: date,
    symbols: Sequence[str],
    stored: "pl.DataFrame",
    unread: int,
) -> Finding:
    import polars as pl

    prices = [pl.col(column) for column in PRICE_COLUMNS]
    wrong = stored.filter(
        (pl.max_horizontal(prices) > pl.col("high")) | (pl.min_horizontal(prices) < pl.col("low"))
    )
    if wrong.height:
        first = wrong.row(0, named=True)
        return Finding(
            passed=False,
            description=(
                f"{counted(wrong.height, 'candle')} with a price outside high and low, the first "
                f"{first['symbol']} at {moment(first['open_time'])}."
            ),
        )
    if interval is Interval.ONE_MINUTE:
        return Finding(
            passed=True, description=f"{stored.height + unread} candles enclose their prices."
        )
    window = day_window(day)
    minutes = lake.scan("1m", symbols, window.start, window.end, store=store).collect()
    aggregated = aggregate(minutes, interval)
    found = differences(stored, aggregated)
    compared = stored.join(aggregated, on=["symbol", "open_time"], how="semi").height
    columns = {
        "symbol": "string",
        "open time": "string",
        "column": "string",
        "stored": "float",
        "from 1m": "float",
    }
    records = [
        (symbol, moment(opened), column, ours, theirs)
        for symbol, opened, column, ours, theirs in found.head(20).rows()
    ]
    return Finding(
        passed=found.is_empty(),
        description=f"{compared} of {stored.height} candles compared with 1m, {found.height} differences.",
        metadata={"differences": Table.of(columns, records)} if records else {},
    )
