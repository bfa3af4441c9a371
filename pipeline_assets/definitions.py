"""The definitions that Dagster loads. This module only assembles assets, jobs, schedules and sensors."""

import gc
import warnings
from functools import cache
from typing import Any

from dagster import (
    AssetChecksDefinition,
    AssetsDefinition,
    AssetSpec,
    BetaWarning,
    Definitions,
    PreviewWarning,
    SensorDefinition,
)

from pipeline_assets.assets.backtests import backtest_report
from pipeline_assets.assets.candidates import candidate_objects, candidates
from pipeline_assets.assets.candles import candles
from pipeline_assets.assets.checks import day_checks, freshness_check
from pipeline_assets.assets.daily_reports import report_assets
from pipeline_assets.assets.drift import drift
from pipeline_assets.assets.features import features
from pipeline_assets.assets.funding import funding_rates, funding_table
from pipeline_assets.assets.gaps import candle_gaps, zero_volume_check
from pipeline_assets.assets.models import model, promotion_check
from pipeline_assets.assets.objects import candle_objects
from pipeline_assets.assets.outcomes import outcome_assets
from pipeline_assets.assets.parity import parity_check
from pipeline_assets.assets.raw import raw_candles
from pipeline_assets.assets.reconciliation import account_reconciliation
from pipeline_assets.assets.record_tables import record_table_assets
from pipeline_assets.assets.sinks import sink_assets
from pipeline_assets.assets.tables import candle_gap_table
from pipeline_assets.assets.trading import readable_checks, trading_assets
from pipeline_assets.assets.universe import universe
from pipeline_assets.dagster_instance.run_leases import leased_executor
from pipeline_assets.jobs.housekeeping import housekeeping
from pipeline_assets.jobs.materializations import (
    backtest_job,
    gap_ledger_job,
    ingest_jobs,
    jobs,
    repair_jobs,
)
from pipeline_assets.jobs.schedules import schedules
from pipeline_assets.market.intervals import Interval
from pipeline_assets.process_memory import return_freed_memory
from pipeline_assets.proxies import complete_environment
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.indicator_state import IndicatorStateStore
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.sensors.backtest_reports import backtest_report_sensor
from pipeline_assets.sensors.candidates import candidate_sensor
from pipeline_assets.sensors.freshness import freshness_sensor
from pipeline_assets.sensors.overdue_ingest import overdue_ingest_sensor
from pipeline_assets.sensors.reconciler import reconciler_sensor
from pipeline_assets.sensors.stale_alerts import stale_alert_sensor
from pipeline_assets.sensors.trading_records import trading_record_sensor
from pipeline_assets.sensors.waiting_runs import waiting_runs_sensor
from pipeline_assets.settings import Settings, settings


def build_definitions(configured: Settings, **overrides: Any) -> Definitions:
    """Return the definitions over these settings.

    Args:
        configured: the settings that every resource is made from.
        overrides: resources by name, in place of those made from the settings.
    """
    # Partitioned checks and backfill policies are marked as not final by Dagster; constraints.txt
    # pins the version that they were tried with, and every run would print the warning.
    warnings.simplefilter("ignore", BetaWarning)
    warnings.simplefilter("ignore", PreviewWarning)
    resources: dict[str, Any] = {
        "settings": configured,
        "exchange": Exchange(configured),
        "store": ObjectStore(configured.s3),
        "slots": CandleSlots(configured.redis),
        "warehouse": Warehouse(configured.snowflake, configured.s3),
        "indicator_states": IndicatorStateStore(configured.redis),
        "candidate_topic": CandidateTopic(configured.kafka),
        "alerts": Alerts(configured.alerts),
        "progress": None,
    }
    return Definitions(
        assets=_assets(),
        asset_checks=_checks(),
        jobs=[*jobs, housekeeping],
        schedules=schedules(running=configured.dagster.schedules),
        sensors=[
            freshness_sensor(),
            candidate_sensor(),
            trading_record_sensor(),
            stale_alert_sensor(),
            waiting_runs_sensor(configured),
            *(_requesting_sensors() if configured.dagster.sensors else ()),
        ],
        resources=resources | overrides,
        executor=leased_executor(configured.redis),
    )


def _requesting_sensors() -> list[SensorDefinition]:
    """Return the sensors that request runs, no matter whether Airflow or Dagster schedules."""
    return [
        reconciler_sensor(repair_jobs, gap_ledger_job),
        overdue_ingest_sensor(ingest_jobs),
        backtest_report_sensor(backtest_job),
    ]


# None of these depends on the settings, and a command that runs a job makes definitions of its own.
@cache
def _assets() -> list[AssetsDefinition | AssetSpec]:
    return [
        *(
            made(interval)
            for interval in Interval
            for made in (raw_candles, candles, candle_objects)
        ),
        *(asset for interval in Interval for asset in sink_assets(interval)),
        *(features(interval) for interval in Interval if interval.has_table),
        candle_gap_table(),
        candidates(),
        candidate_objects(),
        *trading_assets(),
        account_reconciliation(),
        *record_table_assets(),
        *outcome_assets(),
        universe(),
        candle_gaps(),
        backtest_report(),
        model(),
        drift(),
        *report_assets(),
        funding_rates(),
        funding_table(),
    ]


@cache
def _checks() -> list[AssetChecksDefinition]:
    return [
        *(made(interval) for interval in Interval for made in (day_checks, freshness_check)),
        parity_check(),
        zero_volume_check(),
        promotion_check(),
        *readable_checks(),
    ]


return_freed_memory()
complete_environment()
definitions = build_definitions(settings())

# A run's process has loaded half a million objects of Dagster by now, and goes on to load clients and
# rows: looking through them all again and again took a third of the time of the later imports.
gc.freeze()
gc.set_threshold(50_000)
