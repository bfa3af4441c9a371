"""Decisions, orders, fills and positions in Dagster: external assets, reported as runless events. New records
are found and merged in trading/record_news.py; the figures are from trading/record_figures.py.
"""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from dagster import (
    AllPartitionMapping,
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetDep,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetSpec,
    ResourceParam,
    asset_check,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    from pipeline_assets.trading.record_news import RecordNews

_GROUP = "trading"
_BY_SENSOR = (
    "The sensor `trading_records` reports here what changed, at most once a minute; there is nothing to "
    "materialize by hand."
)
# By kind of record. Every run loads this module, so the use case is imported by the sensor's process only.
_DAYS = {"decisions": layer.DECISIONS, "orders": layer.ORDERS, "fills": layer.FILLS}
# Reported with the asset that they belong to.
_OBSERVED = {
    "intents": (layer.DECISIONS, "Intents: what the trader did after accepted decisions."),
    "funding_payments": (layer.FILLS, "Funding payments in the gateway's ledger."),
}
_CHECKED = _DAYS | {kind: key for kind, (key, _) in _OBSERVED.items()}


def trading_assets() -> list[AssetSpec]:
    """Build the external assets from decisions to positions; no run materializes them."""
    return [
        _spec(
            layer.DECISIONS,
            layer.CANDIDATES,
            "The one decision about each candidate, accepted or declined with the reason, by UTC day of the "
            "candidate's minute: `decisions/{yyyyMMdd}.parquet`. Observations show the intents of accepted "
            "decisions: order sent, or skipped with the reason.",
            {"kafka", "s3", "parquet"},
            # Where the inference service decides, by the models of all strategies.
            AssetDep(layer.MODEL, partition_mapping=AllPartitionMapping()),
        ),
        _spec(
            layer.ORDERS,
            layer.DECISIONS,
            "Orders of the gateway with their newest state, by UTC day of sending: "
            "`orders/{yyyyMMdd}.parquet`. A day is reported again when one of its orders changes.",
            {"s3", "parquet"},
        ),
        _spec(
            layer.FILLS,
            layer.ORDERS,
            "Fills of the gateway's ledger, each once, by UTC day of the fill: `fills/{yyyyMMdd}.parquet`. "
            "Observations show the ledger's funding payments: `funding_payments/{yyyyMMdd}.parquet`.",
            {"s3", "parquet"},
        ),
        _spec(
            layer.POSITIONS,
            layer.FILLS,
            "Positions, exposure and results of an account, derived from its fills. Reported when a position "
            "or the gateway's mode changes.",
            {"s3"},
            daily=False,
        ),
    ]


def readable_checks() -> list[AssetChecksDefinition]:
    """Build the checks `readable`, for a person; the sensor reports what changed."""
    return [_readable_check(key) for key in _DAYS.values()]


def _readable_check(key: AssetKey) -> AssetChecksDefinition:
    @asset_check(
        asset=key,
        name=layer.READABLE,
        partitions_def=daily_partitions,
        description="The day's Parquet object on the lake is whole. While it is not, its rows stand still.",
    )
    def readable(
        context: AssetCheckExecutionContext, store: ResourceParam[ObjectStore]
    ) -> AssetCheckResult:
        from pipeline_assets.trading.record_objects import Kind, damage_of

        day = date.fromisoformat(context.op_execution_context.partition_key)
        found = [
            why for kind in Kind if _CHECKED[kind] == key and (why := damage_of(store, kind, day))
        ]
        return AssetCheckResult(passed=not found, description=" ".join(found) or None)

    return readable


def record_events(
    news: "RecordNews", store: ObjectStore
) -> Iterator[AssetMaterialization | AssetObservation | AssetCheckEvaluation]:
    """Yield the events to report after a look at the records."""
    from pipeline_assets.trading.record_figures import account_figures, day_figures

    for (kind, day), held in news.days.items():
        values = metadata(day_figures(kind, held.rows) | {"S3 object": store.address(held.key)})
        if kind in _OBSERVED:
            key, description = _OBSERVED[kind]
            yield AssetObservation(
                key, partition=str(day), description=description, metadata=values
            )
        else:
            yield AssetMaterialization(_DAYS[kind], partition=str(day), metadata=values)
    for key, day in dict.fromkeys((_CHECKED[kind], day) for kind, day in news.changed):
        found = [
            why for (kind, at), why in news.damaged.items() if (_CHECKED[kind], at) == (key, day)
        ]
        yield AssetCheckEvaluation(
            asset_key=key,
            check_name=layer.READABLE,
            partition=str(day),
            passed=not found,
            description=" ".join(found) or None,
        )
    for document in news.accounts.values():
        yield AssetMaterialization(layer.POSITIONS, metadata=metadata(account_figures(document)))


def record_summary(news: "RecordNews") -> str:
    """Summarize a look in a sentence, for Dagster's list of the sensor's ticks."""
    said = f"Read {counted(news.documents, 'document')} of trader and gateway."
    if not news.documents:
        said = "No new document of trader or gateway."
    elif news.waiting:
        said = f"{said} {news.waiting} are left for the next look."
    return " ".join([said, *news.damaged.values()])


def _spec(
    key: AssetKey,
    after: AssetKey,
    description: str,
    kinds: set[str],
    *more: AssetDep,
    daily: bool = True,
) -> AssetSpec:
    return AssetSpec(
        key,
        deps=[after, *more],
        description=f"{description} {_BY_SENSOR}",
        group_name=_GROUP,
        partitions_def=daily_partitions if daily else None,
        owners=layer.OWNERS,
        kinds=kinds,
    )
