"""Whether each interval is as fresh as the exchange allows, shown on its candle objects as the check
`fresh`. What the ticks store is not judged here, only how new it is.
"""

import json
from collections.abc import Iterable, Mapping

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetChecksDefinition,
    DefaultSensorStatus,
    ResourceParam,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    asset_check,
    sensor,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.presentation import table
from pipeline_assets.collection.findings import Finding, moment
from pipeline_assets.collection.freshness import Verdict, judge
from pipeline_assets.collection.listings import newest_of_collected
from pipeline_assets.market.intervals import EPOCH, Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.tick_state import TickState
from pipeline_assets.settings import Settings

CHECK = layer.FRESH


def finding_of(verdict: Verdict) -> Finding:
    """Return a verdict as Dagster shows it."""
    if not verdict.late:
        return Finding(passed=verdict.fresh, description=verdict.description)
    records = [(name, moment(at)) for name, at in verdict.late]
    columns = {"symbol": "string", "newest open time": "string"}
    return Finding(
        passed=verdict.fresh,
        description=verdict.description,
        metadata={"stale": table(columns, records)},
    )


def evaluation_of(interval: Interval, verdict: Verdict) -> AssetCheckEvaluation:
    """Return a verdict as an evaluation of the check `fresh`, which needs no run."""
    finding = finding_of(verdict)
    return AssetCheckEvaluation(
        asset_key=layer.key(layer.OBJECTS, interval),
        check_name=CHECK,
        passed=finding.passed,
        description=finding.description,
        metadata=finding.metadata,
    )


def freshness_check(interval: Interval) -> AssetChecksDefinition:
    """The check `fresh`, for a person who wants to know at once; the sensor reports it by itself."""

    @asset_check(asset=layer.key(layer.OBJECTS, interval), name=CHECK)
    def fresh(
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> AssetCheckResult:
        """Every symbol's newest stored candle is the newest that the exchange has closed."""
        now = exchange.server_time()
        state = newest_of_collected(store, settings, interval, now)
        verdict = judge(interval, state, now, settings.ingest.upload_minutes)
        finding = finding_of(verdict)
        return AssetCheckResult(
            # Nothing that was never stored is stale.
            passed=finding.passed or not verdict.stored,
            description=finding.description,
            metadata=finding.metadata,
        )

    return fresh


def _due_reports(
    judged: Iterable[tuple[Interval, TickState, Verdict]], told: Mapping[str, list[str]]
) -> tuple[list[AssetCheckEvaluation], dict[str, list[str]]]:
    """Return what has to be reported, given what was told last of each interval, and what is told then.

    Dagster shows an evaluation until the next materialization, so a verdict is told again once
    newer candles are stored. While nothing is stored, staleness is told once. An interval that was
    never stored is not told at all: a new installation would begin with an alarm.
    """
    events: list[AssetCheckEvaluation] = []
    remembered = dict(told)
    for interval, state, verdict in judged:
        if not verdict.stored and interval not in told:
            continue
        said = [
            "fresh" if verdict.fresh else "stale",
            max(state.newest.values(), default=EPOCH).isoformat(),
        ]
        if told.get(interval) == said:
            continue
        remembered[interval] = said
        events.append(evaluation_of(interval, verdict))
    return events, remembered


def freshness_sensor() -> SensorDefinition:
    """The sensor that judges every interval twice a minute and reports what changed."""

    @sensor(
        name="freshness",
        minimum_interval_seconds=30,
        # Whoever schedules, Airflow or Dagster: it launches nothing, and sees that neither does.
        default_status=DefaultSensorStatus.RUNNING,
        description="Judges how fresh each interval is and shows it as the check `fresh`.",
    )
    def freshness(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        now = exchange.server_time()
        states = {each: newest_of_collected(store, settings, each, now) for each in Interval}
        every = settings.ingest.upload_minutes
        judged = [(each, state, judge(each, state, now, every)) for each, state in states.items()]
        told = json.loads(context.cursor) if context.cursor else {}
        events, remembered = _due_reports(judged, told)
        return SensorResult(
            asset_events=events,
            cursor=json.dumps(remembered),
            skip_reason=None if events else "Nothing changed.",
        )

    return freshness
