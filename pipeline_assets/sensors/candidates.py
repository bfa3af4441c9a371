"""The sensor that finds candidates: Dagster's side of an evaluation. The evaluation, and the order in which
results are written, are in signals/evaluation.py.
"""

from dataclasses import replace

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from pipeline_assets.assets.candidates import events
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.indicator_state import IndicatorStateStore
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.signals.due_minutes import Cursor
from pipeline_assets.signals.evaluation import run_tick
from pipeline_assets.signals.tick import Services
from pipeline_assets.signals.tick_news import summary

# Dagster looks at its sensors every five seconds at best. A look at 500 symbols without a new minute
# takes some hundredths of a second.
_SECONDS = 5


def candidate_sensor() -> SensorDefinition:
    """The sensor that evaluates every closed minute and publishes what the strategies find."""

    @sensor(
        name="candidates",
        minimum_interval_seconds=_SECONDS,
        # On under both schedulers, Airflow and Dagster: it follows the slots and launches nothing.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Evaluates each closed minute of all symbols, in order, also those that it missed; "
            "publishes candidates to Kafka and reports them on the asset `candidates`. Its cursor "
            "tells up to which minute each symbol is evaluated, should Redis lose its states."
        ),
    )
    def find_candidates(
        context: SensorEvaluationContext,
        settings: ResourceParam[Settings],
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        indicator_states: ResourceParam[IndicatorStateStore],
        candidate_topic: ResourceParam[CandidateTopic],
    ) -> SensorResult:
        cursor = Cursor.from_text(context.cursor)
        services = Services(settings, exchange, store, indicator_states, candidate_topic)
        report = run_tick(services, cursor)
        reported, now_reported = events(report, cursor.reported)
        return SensorResult(
            asset_events=reported,
            cursor=replace(report.cursor, reported=now_reported).to_text(),
            skip_reason=summary(report),
        )

    return find_candidates
