"""Checks of what is stored of whole days: nothing missing, nothing contradictory. Checks of the rows
that a run has in hand are in objects.py.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    ResourceParam,
    multi_asset_check,
)

from pipeline_assets import lake
from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import Finding, report
from pipeline_assets.assets.inputs import Step
from pipeline_assets.assets.objects import GAP_COLUMNS
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.assets.presentation import moment, table
from pipeline_assets.collection.coverage import Known, coverage_of, fetchable
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.aggregation import aggregate, differences
from pipeline_assets.market.candles import KEY_COLUMNS, PRICE_COLUMNS
from pipeline_assets.market.gap_causes import NOT_DUE
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import day_window, without
from pipeline_assets.resources.candle_objects import by_day, list_objects
from pipeline_assets.resources.finalized_days import SealedDay, read_sealed
from pipeline_assets.resources.object_store import ObjectStore, StoredObject

if TYPE_CHECKING:
    import polars as pl


def day_checks(interval: Interval) -> AssetChecksDefinition:
    """The checks `complete` and `consistent` on the candle objects of one interval."""
    key = layer.key(layer.OBJECTS, interval)
    # In a run of all intervals the minutes have to be stored before they are compared with.
    after = (
        [] if interval is Interval.ONE_MINUTE else [layer.key(layer.OBJECTS, Interval.ONE_MINUTE)]
    )

    @multi_asset_check(
        name=f"day_checks_{interval}",
        can_subset=True,
        specs=[
            AssetCheckSpec(
                "complete",
                asset=key,
                partitions_def=daily_partitions,
                description=(
                    "No candle is missing on the lake, from listing to the newest closed one."
                ),
            ),
            AssetCheckSpec(
                "consistent",
                asset=key,
                additional_deps=after,
                partitions_def=daily_partitions,
                description=(
                    "High and low enclose open and close; 15m and 1h candles equal the aggregates of "
                    "1m: prices and trades exactly, volumes to 1e-9 relative."
                ),
            ),
        ],
    )
    def check_days(
        context: AssetCheckExecutionContext, store: ResourceParam[ObjectStore]
    ) -> Iterator[AssetCheckResult]:
        step = Step.of(context, store, interval, f"day_checks_{interval}")
        plan = step.plan_of_stored()
        objects = _objects(plan, store)
        # Of 15m and 1h a day's marks are written once it is in the table: here they are the run's own.
        own = step.stored()["sealed"]

        def known(day: date) -> Known:
            marks = read_sealed(store, interval, day) if plan.finished(day) else {}
            new = {s: SealedDay.from_dict(f) for s, f in own.get(day.isoformat(), {}).items()}
            return Known({day: {**marks, **new}}, pauses=plan.pauses)

        def judge(day: date) -> tuple[Finding, Finding]:
            symbols = _symbols(plan, day)
            held = [each for symbol in symbols for each in objects[symbol].get(day, ())]
            rows = lake.scan_objects(store, held, day_window(day))
            if interval is Interval.ONE_MINUTE:
                # Nothing is compared with their volumes, which are half of what there is to decode.
                rows = rows.select(*KEY_COLUMNS, *PRICE_COLUMNS)
            stored = rows.collect()
            return (
                _completeness(plan, day, symbols, stored, known(day)),
                _consistency(store, interval, day, symbols, stored),
            )

        # One day is judged while another's objects are waited for; more at once would hold more rows.
        with ThreadPoolExecutor(2) as pool:
            findings = dict(zip(plan.days, pool.map(judge, plan.days), strict=True))
        complete = {day: finding for day, (finding, _) in findings.items()}
        consistent = {day: finding for day, (_, finding) in findings.items()}
        # In the UI each check can be executed by itself.
        selected = {each.name for each in context.selected_asset_check_keys}
        for name, found in (("complete", complete), ("consistent", consistent)):
            if name in selected:
                yield report(context, key, name, found)

    return check_days


def _objects(plan: FetchPlan, store: ObjectStore) -> dict[str, dict[date, list[StoredObject]]]:
    """The objects of the plan's days by symbol and day: a listing a symbol, not one a day too."""
    start, end = day_window(plan.days[0]).start, day_window(plan.days[-1]).end
    symbols = list(plan.listed)
    listings = store.each(
        lambda symbol: by_day(list_objects(store, plan.interval, symbol, start, end)), symbols
    )
    return dict(zip(symbols, listings, strict=True))


def _symbols(plan: FetchPlan, day: date) -> list[str]:
    window = day_window(day)
    clipped = {s: each.clip(plan.interval, window) for s, each in plan.listed.items()}
    return sorted(
        symbol
        for symbol, part in clipped.items()
        if part is not None and without(part, plan.pauses.get(symbol, ()))
    )


def _completeness(
    plan: FetchPlan, day: date, symbols: Sequence[str], stored: "pl.DataFrame", known: Known
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
        # Of symbols that a person asked for it cannot be told that what all lack is an outage.
        witnesses=not plan.asked,
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
                f"{lacking['count'].sum()} of {due} candles are missing, the first of "
                f"{symbol} from {start} until {end}. Materialize this partition again."
            ),
            metadata={"missing": table(GAP_COLUMNS, records)},
        )
    never = int(ledger["count"].sum()) - int(not_due["count"].sum())
    told = f"All {due - never} candles of {len(symbols)} symbols are there."
    if never:
        told += f" {never} more do not exist: the check `outages` of candle_gaps names them."
    return Finding(passed=True, description=told)


def _consistency(
    store: ObjectStore,
    interval: Interval,
    day: date,
    symbols: Sequence[str],
    stored: "pl.DataFrame",
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
                f"{wrong.height} candles have a price outside high and low, the first "
                f"{first['symbol']} at {moment(first['open_time'])}."
            ),
        )
    if interval is Interval.ONE_MINUTE:
        return Finding(passed=True, description=f"{stored.height} candles enclose their prices.")
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
        metadata={"differences": table(columns, records)} if records else {},
    )
