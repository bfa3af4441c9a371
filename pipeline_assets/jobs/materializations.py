"""The jobs that materialize assets: ingest runs of an interval, finalizing, backfills and repairs of days.
The schedules, the sensors and, for backfills, the commands start them.
"""

from dagster import AssetCheckKey, AssetKey, AssetSelection, define_asset_job

from pipeline_assets.assets import layer
from pipeline_assets.collection.fetch_plan import KIND_TAG, OPEN_DAY_TAG, RunKind
from pipeline_assets.collection.run_names import (
    BACKTEST_JOB,
    DAY_REPORT_JOB,
    DRIFT_JOB,
    FINALIZE_JOB,
    FUNDING_BACKFILL_JOB,
    FUNDING_JOB,
    LEDGER_JOB,
    MODEL_JOB,
    MONTH_REPORT_JOB,
    OUTCOMES_JOB,
    RECONCILIATION_JOB,
    TRADING_TABLES_JOB,
    WEEK_REPORT_JOB,
    backfill_job,
    ingest_job,
    repair_job,
)
from pipeline_assets.dagster_instance.private import UnresolvedAssetJobDefinition
from pipeline_assets.market.intervals import Interval

# The gap ledger of the days, written after everything that a job stores.
_LEDGER = AssetSelection.assets(layer.GAPS, layer.GAP_TABLE)
_FUNDING = AssetSelection.assets(layer.FUNDING_RATES, layer.FUNDING_TABLE)
# Dagster ends a run after this many seconds: the run waits for a system that hangs, and later runs wait
# for the run.
_MOST_SECONDS = "dagster/max_runtime"
_SECONDS_OF_MINUTES, _SECONDS_OF_LONGER = "900", "2700"
_SECONDS_OF_DAYS = {RunKind.FINALIZE: str(3 * 3600), RunKind.BACKFILL: str(24 * 3600)}
# The minute goes first: who trades waits for it.
_PRIORITY = {interval: str(-place) for place, interval in enumerate(Interval, -len(Interval))}


def ingest_run_job(interval: Interval) -> UnresolvedAssetJobDefinition:
    """Return the job of an ingest run: the assets of an interval, with the checks of their own rows."""
    objects = layer.key(layer.OBJECTS, interval)
    of_whole_days = AssetSelection.checks(
        *(AssetCheckKey(objects, name) for name in (layer.COMPLETE, layer.CONSISTENT, layer.FRESH))
    )
    return define_asset_job(
        ingest_job(interval),
        selection=_assets(interval) - of_whole_days,
        tags=_ingest_tags(interval.value, interval),
        description=f"Ingest the due candles of {interval}: fetch, format, upload, insert, and features.",
    )


def day_job(
    name: str, kind: RunKind, *intervals: Interval, more: AssetSelection | None = None
) -> UnresolvedAssetJobDefinition:
    """Build a job over whole days of some intervals, with every check of the stored candles."""
    selection = more or _assets(intervals[0])
    for interval in intervals:
        selection = selection | _assets(interval)
    fresh = [
        AssetCheckKey(layer.key(layer.OBJECTS, interval), layer.FRESH) for interval in intervals
    ]
    return define_asset_job(
        name,
        selection=selection - AssetSelection.checks(*fresh),
        tags={KIND_TAG: kind.value, _MOST_SECONDS: _SECONDS_OF_DAYS[kind]},
        description=(
            "Fetch whole days, of which backfills and repairs leave out what is stored complete (unless "
            "`refresh`), and store each finished one as one object."
        ),
    )


def finalize_job() -> UnresolvedAssetJobDefinition:
    """Return the job that finalizes a finished day: the listings, the candles of all intervals, the
    candidates, and the gap ledger.
    """
    more = AssetSelection.assets(layer.UNIVERSE, layer.CANDIDATE_OBJECTS) | _LEDGER
    return day_job(FINALIZE_JOB, RunKind.FINALIZE, *Interval, more=more)


def ledger_job() -> UnresolvedAssetJobDefinition:
    """Return the job that writes the gap ledger of days that have none, or one from before a backfill.

    The job fetches nothing, so it waits for no backfill. It skips the check `zero_volume`, as
    `_repair_job` does.
    """
    return define_asset_job(
        LEDGER_JOB,
        selection=_LEDGER - AssetSelection.checks(AssetCheckKey(layer.CANDLE_GAPS, "zero_volume")),
        tags={_MOST_SECONDS: _SECONDS_OF_LONGER},
        description="Write the gaps of whole days and their causes: candle_gaps and its table.",
    )


def _repair_job(interval: Interval) -> UnresolvedAssetJobDefinition:
    """Return the job that fetches the missing candles of an interval's days and writes their gap ledger.

    The job skips the ledger's check `zero_volume`: that check reads all symbols' candles of the days,
    while a repair is for a few symbols, and finalizing has checked them already.
    """
    ledger = _LEDGER - AssetSelection.checks(AssetCheckKey(layer.CANDLE_GAPS, "zero_volume"))
    return day_job(repair_job(interval), RunKind.BACKFILL, interval, more=ledger)


def funding_job() -> UnresolvedAssetJobDefinition:
    """Return the job of an ingest run of funding rates: what settled since the last one."""
    return define_asset_job(
        FUNDING_JOB,
        selection=_FUNDING,
        tags=_ingest_tags(FUNDING_JOB, Interval.ONE_HOUR),
        description="Store the funding rates that settled, and load them into the table.",
    )


def funding_backfill_job() -> UnresolvedAssetJobDefinition:
    """Return the job that completes the funding rates of whole days, and the features that use them.

    An hourly run merges no features: the next load of candles merges those of its day again.
    """
    kind = RunKind.BACKFILL
    features = AssetSelection.assets(
        *(layer.key(layer.FEATURES, each) for each in Interval if each.has_table)
    )
    return define_asset_job(
        FUNDING_BACKFILL_JOB,
        selection=_FUNDING | features,
        tags={KIND_TAG: kind.value, _MOST_SECONDS: _SECONDS_OF_DAYS[kind]},
        description=(
            "Fetch the funding rates that are missing in whole days, by months, and merge the features of "
            "these months again."
        ),
    )


def _trading_tables_job() -> UnresolvedAssetJobDefinition:
    """Return the job that loads trading records into the warehouse, and keeps the views as declared."""
    return define_asset_job(
        TRADING_TABLES_JOB,
        selection=AssetSelection.assets(*layer.TRADING_TABLES, layer.VIEWS),
        tags=_ingest_tags(TRADING_TABLES_JOB, Interval.ONE_HOUR),
        description="Load candidates, decisions, intents, orders and fills that changed into their tables.",
    )


def _job_of(name: str, *assets: AssetKey, description: str) -> UnresolvedAssetJobDefinition:
    """Return a job that materializes these assets, and is neither an ingest run nor a backfill."""
    return define_asset_job(
        name,
        selection=AssetSelection.assets(*assets),
        tags={_MOST_SECONDS: _SECONDS_OF_LONGER},
        description=description,
    )


def _ingest_tags(open_day: str, as_urgent_as: Interval) -> dict[str, str]:
    """Return the tags of an ingest run.

    Args:
        open_day: names the open day that the run writes; one such run at a time.
        as_urgent_as: the interval whose priority and longest duration the run has.
    """
    is_minute = as_urgent_as is Interval.ONE_MINUTE
    return {
        KIND_TAG: RunKind.INGEST.value,
        OPEN_DAY_TAG: open_day,
        "dagster/priority": _PRIORITY[as_urgent_as],
        _MOST_SECONDS: _SECONDS_OF_MINUTES if is_minute else _SECONDS_OF_LONGER,
    }


def _assets(interval: Interval) -> AssetSelection:
    return AssetSelection.assets(*(layer.key(name, interval) for name in layer.layers(interval)))


ingest_jobs = {interval: ingest_run_job(interval) for interval in Interval}
gap_ledger_job = ledger_job()
backfill_jobs = {
    interval: day_job(backfill_job(interval), RunKind.BACKFILL, interval) for interval in Interval
}
repair_jobs = {interval: _repair_job(interval) for interval in Interval}
backtest_job = _job_of(
    BACKTEST_JOB,
    layer.BACKTEST_REPORT,
    description="Run a strategy over the newest finalized days and store the report.",
)
jobs = [
    *ingest_jobs.values(),
    finalize_job(),
    gap_ledger_job,
    *backfill_jobs.values(),
    *repair_jobs.values(),
    funding_job(),
    funding_backfill_job(),
    _trading_tables_job(),
    _job_of(
        OUTCOMES_JOB,
        *(layer.OUTCOMES, layer.OUTCOME_TABLE),
        description="Compute the outcomes of a day's candidates from the 1m candles, and load the table.",
    ),
    backtest_job,
    _job_of(
        MODEL_JOB,
        layer.MODEL,
        description="Train the model of a strategy, and make it current if it passes its tests.",
    ),
    _job_of(
        DRIFT_JOB,
        layer.DRIFT,
        description="Measure by a day's end how far the current models' inputs and results have moved.",
    ),
    _job_of(
        RECONCILIATION_JOB,
        layer.RECONCILIATION,
        description="Compare the ledger of a day with the exchange's trade and income history.",
    ),
    *(
        _job_of(name, asset, description=f"Make the report of a {span}, and send its summary.")
        for name, asset, span in (
            (DAY_REPORT_JOB, layer.DAY_REPORT, "day"),
            (WEEK_REPORT_JOB, layer.WEEK_REPORT, "week"),
            (MONTH_REPORT_JOB, layer.MONTH_REPORT, "month"),
        )
    ),
]
