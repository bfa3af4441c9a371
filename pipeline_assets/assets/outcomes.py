"""The assets of candidates' outcomes: the objects on the lake, and their table. Outcomes are computed in
research/outcomes.py; the table is as in record_tables.py.
"""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import days_of
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.assets.record_tables import record_table
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources import record_tables
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

_GROUP = "candidates"
_DESCRIPTION = (
    "Outcomes of a day's candidates: the return 15 minutes, 1 and 4 hours after the next minute's open, "
    "and the extreme moves on the way, from the 1m candles on S3: `candidate_outcomes/{yyyyMMdd}.parquet`. "
    "Null where minutes are missing, and while the time is not over; `delisted_at` says why no more came."
)


def outcome_assets() -> list[AssetsDefinition]:
    """Build the assets of the outcomes on the lake and of their table."""
    declared = asset(
        key=layer.OUTCOMES,
        deps=[layer.CANDIDATE_OBJECTS, layer.key(layer.OBJECTS, Interval.ONE_MINUTE)],
        kinds={"polars", "parquet", "s3"},
        pool="candidate_outcomes",
        description=_DESCRIPTION,
        **layer.daily(_GROUP),
    )
    table = record_table(layer.OUTCOME_TABLE, record_tables.OUTCOMES, layer.OUTCOMES, _GROUP)
    return [declared(_compute), table]


def _compute(
    context: AssetExecutionContext,
    store: ResourceParam[ObjectStore],
    exchange: ResourceParam[Exchange],
    settings: ResourceParam[Settings],
) -> MaterializeResult[Any]:
    # Every run loads this module, and Polars is for this step alone.
    from pipeline_assets.research.stored_outcomes import stored_until, update_outcomes

    until = stored_until(exchange.server_time(), exchange.settle, settings.ingest.upload_minutes)
    days = days_of(context)
    found = {day: update_outcomes(store, day, until) for day in days}
    if len(found) == 1:
        return MaterializeResult(metadata=metadata(found[days[0]]))
    total = sum(values["candidates"] for values in found.values())
    return MaterializeResult(metadata={"days": len(days), "candidates": total})
