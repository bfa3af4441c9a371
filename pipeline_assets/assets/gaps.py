"""The gap ledger as an asset, a UTC day a partition, and the checks on it. How it is judged is in
collection/coverage.py, where it is kept in resources/gap_objects.py.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
    asset_check,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import Finding, report
from pipeline_assets.assets.partitions import backfill_policy, daily_partitions
from pipeline_assets.assets.presentation import moment, picture_metadata, table
from pipeline_assets.collection.completeness_picture import completeness_picture
from pipeline_assets.collection.coverage import FILLABLE, gap_ledger
from pipeline_assets.collection.listings import collected_lifetimes, forgotten
from pipeline_assets.collection.zero_volume_runs import false_runs
from pipeline_assets.market.completeness import split_by_day
from pipeline_assets.market.gap_causes import NOT_DUE, Cause
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.market.windows import Window, day_window, hull
from pipeline_assets.resources.day_findings import keep_zero_volume
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import sealed_days
from pipeline_assets.resources.gap_objects import PREFIX, write_gaps
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

CANDLE_GAPS = layer.CANDLE_GAPS
_PICTURED = timedelta(days=30)
_COLUMNS = {
    "symbol": "string",
    "interval": "string",
    "from": "string",
    "to": "string",
    "candles": "int",
    "cause": "string",
}


def candle_gaps() -> AssetsDefinition:
    """The asset of the ledger, with the checks `nothing_to_fetch` and `outages`."""

    @asset(
        key=CANDLE_GAPS,
        deps=[layer.key(layer.OBJECTS, interval) for interval in Interval],
        # Of 15m and 1h a day is sealed, with what is known of its holes, once it is in the table: so it
        # comes after the tables, but does not depend on them, or nothing would be told on a night on
        # which the warehouse is down. The order is of what is ready: a table that waits for another run's
        # loader comes later, and until it has been loaded its day's confirmed holes pass for unfetched.
        op_tags={"dagster/priority": "-1"},
        kinds={"polars", "parquet", "s3"},
        check_specs=[
            AssetCheckSpec(
                "nothing_to_fetch",
                asset=CANDLE_GAPS,
                partitions_def=daily_partitions,
                description="No closed candle is missing that a backfill might bring.",
            ),
            AssetCheckSpec(
                "outages",
                asset=CANDLE_GAPS,
                partitions_def=daily_partitions,
                description="The exchange had a candle of every minute, of every symbol that traded.",
            ),
        ],
        description=(
            "Every candle of the day that should exist and is not stored, of all symbols and intervals, "
            f"with its cause: `{PREFIX}{{yyyyMMdd}}.parquet`. Not fetched, set aside as invalid and holes "
            "of the archive can be filled; outages are the exchange's own."
        ),
        group_name=layer.GAPS_GROUP,
        partitions_def=daily_partitions,
        backfill_policy=backfill_policy,
        owners=layer.OWNERS,
        # Of two at once the one that looked first could write last.
        pool="candle_gaps",
    )
    def judge(
        context: AssetExecutionContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        server_time = exchange.server_time()
        days = partition_days(context.partition_keys, server_time.date())
        found = _ledger(store, settings, days, server_time)
        by_day = {day: found.gaps.filter(day=day) for day in days}
        store.each(lambda day: write_gaps(store, day, by_day[day]), days)
        gone = forgotten(read_identities(store))
        yield MaterializeResult(metadata=_metadata(store, found, gone))
        findings = {day: _nothing_to_fetch(gaps, gone) for day, gaps in by_day.items()}
        yield report(context, CANDLE_GAPS, "nothing_to_fetch", findings)
        findings = {day: _outages(gaps) for day, gaps in by_day.items()}
        yield report(context, CANDLE_GAPS, "outages", findings, severity=AssetCheckSeverity.WARN)

    return judge


def zero_volume_check() -> AssetChecksDefinition:
    """The check `zero_volume` on the ledger: by itself, because it reads the days' candles."""

    @asset_check(
        asset=CANDLE_GAPS,
        name="zero_volume",
        partitions_def=daily_partitions,
        description=(
            "No quarter of an hour or more without volume that another interval contradicts: such "
            "candles are stored, and false. Materialize their day with `refresh` to fetch it again."
        ),
    )
    def zero_volume(
        context: AssetCheckExecutionContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> AssetCheckResult:
        server_time = exchange.server_time()
        days = partition_days(context.op_execution_context.partition_keys, server_time.date())
        findings = {day: _false_volume(store, settings, day, server_time) for day in days}
        warn = AssetCheckSeverity.WARN
        return report(context, CANDLE_GAPS, "zero_volume", findings, severity=warn)

    return zero_volume


@dataclass(frozen=True)
class _Found:
    """The gaps of the run's days, each within one day, and the picture of the month that ends with them."""

    gaps: "pl.DataFrame"
    picture: bytes


def _ledger(
    store: ObjectStore, settings: Settings, days: Sequence[date], server_time: datetime
) -> _Found:
    import polars as pl

    asked = hull([day_window(day) for day in days])
    pictured = Window(min(asked.start, asked.end - _PICTURED), asked.end)
    lifetimes = collected_lifetimes(store, settings, pictured, server_time)
    ledgers = {
        interval: gap_ledger(
            store,
            settings,
            interval,
            pictured if interval is Interval.ONE_MINUTE else asked,
            lifetimes,
            server_time,
        )
        for interval in Interval
    }
    minutes = ledgers[Interval.ONE_MINUTE]
    kept = sealed_days(store, Interval.ONE_MINUTE)
    first = min(kept[0], days[0]) if kept else days[0]
    looked_at = [
        day
        for n in range((pictured.end - pictured.start).days)
        if (day := pictured.start.date() + timedelta(days=n)) >= first
    ]
    parts = [split_by_day(ledger, interval) for interval, ledger in ledgers.items()]
    # What did not trade on a day at all has no gap in it; whether it is in the ledger depends on the
    # run's other days.
    whole = pl.col("interval").replace_strict(
        {each.value: each.per_day for each in Interval}, return_dtype=pl.Int64
    )
    unlisted = (pl.col("cause") == Cause.NOT_LISTED) & (pl.col("count") == whole)
    return _Found(
        pl.concat(parts).filter(pl.col("day").is_in(days) & ~unlisted),
        completeness_picture(minutes, lifetimes, Interval.ONE_MINUTE, pictured, looked_at),
    )


def _metadata(store: ObjectStore, found: _Found, gone: Collection[str]) -> dict[str, Any]:
    import polars as pl

    counted = (
        found.gaps.group_by("interval", "cause")
        .agg(pl.col("symbol").n_unique(), pl.len().alias("gaps"), pl.col("count").sum())
        .sort("interval", "cause")
    )
    causes = {"interval": "string", "cause": "string", "symbols": "int", "gaps": "int"}
    due = found.gaps.filter(~pl.col("cause").is_in(NOT_DUE))
    fillable = due.filter(pl.col("cause").is_in(FILLABLE), ~pl.col("symbol").is_in(list(gone)))
    metadata: dict[str, Any] = {
        "candles missing": due["count"].sum(),
        "candles to fetch": fillable["count"].sum(),
        "S3 prefix": store.address(PREFIX),
        "completeness of 1m": picture_metadata(found.picture),
    }
    if counted.height:
        metadata["by cause"] = table(causes | {"candles": "int"}, counted.rows())
    if due.height:
        metadata["largest gaps"] = table(_COLUMNS, _records(due))
    return metadata


def _records(gaps: "pl.DataFrame") -> list[tuple[str, str, str, str, int, str]]:
    """Gaps as rows of `_COLUMNS`, those of the most time first."""
    import polars as pl

    length = pl.col("last") - pl.col("first")
    return [
        (symbol, interval, moment(first), moment(last), count, cause)
        for _, symbol, interval, first, last, count, cause in gaps.sort(
            length, "symbol", "interval", "first", descending=[True, False, False, False]
        ).rows()
    ]


def _nothing_to_fetch(gaps: "pl.DataFrame", gone: Collection[str]) -> Finding:
    import polars as pl

    fillable = gaps.filter(pl.col("cause").is_in(FILLABLE))
    lost = fillable.filter(pl.col("symbol").is_in(list(gone)))
    beside = (
        f" {lost['count'].sum()} candles cannot be fetched, {_of_symbols(lost)}, which the exchange does "
        "not name any more."
        if lost.height
        else ""
    )
    return _finding(
        fillable.filter(~pl.col("symbol").is_in(list(gone))),
        f"Nothing is missing that could be fetched.{beside}",
        " can be fetched, {symbols}. The sensor gap_repair asks for it, `pipeline-assets gaps "
        f"--repair` does it now.{beside}",
    )


def _outages(gaps: "pl.DataFrame") -> Finding:
    import polars as pl

    return _finding(
        gaps.filter(pl.col("cause") == Cause.EXCHANGE_OUTAGE),
        "The exchange had every candle.",
        " do not exist on the exchange, {symbols}.",
    )


def _finding(gaps: "pl.DataFrame", none: str, told: str) -> Finding:
    if gaps.is_empty():
        return Finding(passed=True, description=none)
    description = f"{gaps['count'].sum()} candles" + told.format(symbols=_of_symbols(gaps))
    metadata = {"gaps": table(_COLUMNS, _records(gaps))}
    return Finding(passed=False, description=description, metadata=metadata)


def _of_symbols(gaps: "pl.DataFrame") -> str:
    symbols = gaps["symbol"].n_unique()
    return f"of {gaps['symbol'][0]}" if symbols == 1 else f"of {symbols} symbols"


def _false_volume(
    store: ObjectStore, settings: Settings, day: date, server_time: datetime
) -> Finding:
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
        metadata={"runs": table(columns | counts | {"why": "string"}, records)},
    )
