"""Whether each interval is as fresh as the exchange allows, shown on its candle objects as the check
`fresh`. What the ticks store is not judged here, only how new it is.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

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
from pipeline_assets.assets.check_results import Finding
from pipeline_assets.assets.collected import collected_now
from pipeline_assets.assets.presentation import moment, table
from pipeline_assets.market.interval import EPOCH, Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.lake_state import TickState, read_tick_state, read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

# A tick has two minutes from a candle's close; a missed minute heals in the next.
_GRACE = timedelta(minutes=2)
CHECK = "fresh"


def judge(interval: Interval, state: TickState, server_time: datetime) -> Finding:
    """Which symbols' newest stored candle is older than it should be at `server_time` (UTC)."""
    due = newest_closed(interval, server_time, _GRACE)
    late = sorted((at, symbol) for symbol, at in state.newest.items() if at < due)
    if not state.newest:
        return Finding(
            passed=False,
            description=f"No tick of {interval} has stored anything yet. Is the schedule on?",
        )
    if not late:
        return Finding(
            passed=True, description=f"All {len(state.newest)} symbols reach {moment(due)}."
        )
    oldest, symbol = late[0]
    records = [(name, moment(at)) for at, name in late]
    return Finding(
        passed=False,
        description=(
            f"{len(late)} of {len(state.newest)} symbols are stale; the oldest, {symbol}, ends at "
            f"{moment(oldest)}, {moment(due)} is due. Look at the latest runs of tick_{interval}."
        ),
        metadata={"stale": table({"symbol": "string", "newest open time": "string"}, records)},
    )


def collected(
    store: ObjectStore, settings: Settings, interval: Interval, server_time: datetime
) -> TickState:
    """What ticks have stored of the symbols that they collect now.

    The state remembers symbols that were delisted since, or taken out of the settings; judged with
    the others, they would be stale for ever.
    """
    state = read_tick_state(store, interval, (), server_time.date())
    if not state.newest:
        return state
    wanted = collected_now(read_universe(store), settings.symbols)
    due = newest_closed(interval, server_time, _GRACE)
    return TickState(
        {
            # A symbol of which nothing was ever stored is stale too, once it has a candle that is due.
            symbol: state.newest.get(symbol, EPOCH)
            for symbol, times in wanted.items()
            if symbol in state.newest or times.listed_at <= due
        }
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
        finding = judge(interval, collected(store, settings, interval, now), now)
        return AssetCheckResult(
            passed=finding.passed, description=finding.description, metadata=finding.metadata
        )

    return fresh


def _due_reports(
    judged: Iterable[tuple[Interval, TickState, Finding]], told: Mapping[str, list[str]]
) -> tuple[list[AssetCheckEvaluation], dict[str, list[str]]]:
    """What has to be reported, given what was told last of each interval, and what is told then.

    Dagster shows an evaluation until the next materialization, so a verdict is told again once
    newer candles are stored. While nothing is stored, staleness is told once.
    """
    events: list[AssetCheckEvaluation] = []
    remembered = dict(told)
    for interval, state, finding in judged:
        verdict = [
            "fresh" if finding.passed else "stale",
            max(state.newest.values(), default=EPOCH).isoformat(),
        ]
        if told.get(interval) == verdict:
            continue
        remembered[interval] = verdict
        events.append(
            AssetCheckEvaluation(
                asset_key=layer.key(layer.OBJECTS, interval),
                check_name=CHECK,
                passed=finding.passed,
                description=finding.description,
                metadata=finding.metadata,
            )
        )
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
        states = {each: collected(store, settings, each, now) for each in Interval}
        judged = [(each, state, judge(each, state, now)) for each, state in states.items()]
        told = json.loads(context.cursor) if context.cursor else {}
        events, remembered = _due_reports(judged, told)
        return SensorResult(
            asset_events=events,
            cursor=json.dumps(remembered),
            skip_reason=None if events else "Nothing changed.",
        )

    return freshness
