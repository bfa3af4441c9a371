"""Records of runs, read from Dagster for a report: request weight, delays and the time of the warehouse.
Figures are made of these in research/daily_report/run_figures.py.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance

from pipeline_assets.assets import layer
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    from pipeline_assets.research.daily_report.readers import RunRecord

_PAGE = 500
# A month of minutes: more would take minutes to read.
_MOST = 50_000


def run_records(instance: DagsterInstance, window: Window) -> "tuple[RunRecord, ...]":
    """Return what the runs within a window reported; housekeeping removes runs after some days.

    Args:
        instance: Dagster's records.
        window: the span, UTC.
    """
    keys = [layer.key(layer.RAW, each) for each in Interval]
    keys.append(layer.key(layer.SLOTS, Interval.ONE_MINUTE))
    keys += [
        layer.key(name, each)
        for name in (layer.TABLE, layer.FEATURES)
        for each in Interval
        if each.has_table
    ]
    keys += [layer.FUNDING_TABLE, AssetKey(layer.GAP_TABLE)]
    keys += [*layer.TRADING_TABLES, layer.OUTCOME_TABLE]
    return tuple(record for key in keys for record in _of(instance, key, window))


def _of(instance: DagsterInstance, key: AssetKey, window: Window) -> "list[RunRecord]":
    from pipeline_assets.research.daily_report.readers import RunRecord

    chosen = AssetRecordsFilter(
        asset_key=key,
        after_timestamp=window.start.timestamp(),
        before_timestamp=window.end.timestamp(),
    )
    found: list[RunRecord] = []
    # A run over several days reports the same values for each of these.
    runs: set[str] = set()
    cursor = None
    while len(found) < _MOST:
        page = instance.fetch_materializations(chosen, limit=_PAGE, cursor=cursor)
        for record in page.records:
            run = record.event_log_entry.run_id
            if run in runs:
                continue
            if run:
                runs.add(run)
            made = record.asset_materialization
            values = (
                {} if made is None else {name: each.value for name, each in made.metadata.items()}
            )
            at = datetime.fromtimestamp(record.timestamp, UTC)
            found.append(
                RunRecord(
                    key.path[0],
                    at,
                    weight=int(_number(values, "weight spent") or 0),
                    lag=_number(values, "lag (s)"),
                    warehouse=_warehouse(values),
                )
            )
        cursor = page.cursor
        if not page.has_more:
            break
    return found


def _warehouse(values: dict[str, Any]) -> float | None:
    """Return how long the warehouse worked for a load; None where the run sent no statement."""
    parts = [_number(values, name) for name in ("COPY (s)", "MERGE (s)", "replace (s)")]
    if values.get("objects") == 0 or parts == [None, None, None]:
        return None
    return sum(each or 0.0 for each in parts)


def _number(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) else None
