"""The asset `account_reconciliation`, a UTC day a partition, and the check `matches_exchange`. The comparison
is in trading/day_reconciliation.py.
"""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

_DESCRIPTION = (
    "The gateway's ledger of a day against the exchange's trade and income history: each fill, fee and "
    "funding payment. Documents `reconciliations/{account}/{yyyyMMdd}.json`. The schedule `reconciliation` "
    "requests yesterday daily. Needs the account's key; on paper nothing is compared."
)
_CHECKS = {
    layer.MATCHES_EXCHANGE: (
        "The ledger has each fill, fee and funding payment of the exchange's history, and no other. The "
        "table names each difference. A failed check stops nothing: it sends an alert, and a person decides."
    )
}


def account_reconciliation() -> AssetsDefinition:
    """Build the asset, with the check `matches_exchange`."""
    declared = asset(
        key=layer.RECONCILIATION,
        deps=[layer.ORDERS, layer.FILLS],
        check_specs=layer.check_specs(layer.RECONCILIATION, _CHECKS),
        kinds={"s3"},
        description=_DESCRIPTION,
        **layer.daily("trading"),
    )
    return declared(_compare)


def _compare(
    context: AssetExecutionContext,
    store: ResourceParam[ObjectStore],
    exchange: ResourceParam[Exchange],
    settings: ResourceParam[Settings],
    alerts: ResourceParam[Alerts],
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    # Imported here: every run loads the definitions, and one a day compares.
    from pipeline_assets.trading.day_reconciliation import reconcile_day

    now = exchange.server_time()
    days = partition_days(context.partition_keys, now.date())
    compared = {day: reconcile_day(settings, store, day, now) for day in days}
    newest = compared[days[-1]]
    yield MaterializeResult(metadata=metadata(newest.figures()))
    findings = {day: each.finding() for day, each in compared.items()}
    wrong = [each for each in compared.values() if each.differences]
    for each in wrong:
        text = f"Account {each.account}, {each.day}: {each.finding().description}"
        alerts.send_repeatedly({"text": text, **each.to_dict()})
    severity = AssetCheckSeverity.ERROR if wrong else AssetCheckSeverity.WARN
    yield report(context, layer.RECONCILIATION, layer.MATCHES_EXCHANGE, findings, severity)
