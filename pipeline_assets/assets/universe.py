"""The asset `universe`: a daily look at what the exchange lists, and what came and went since the last.
Which of it is collected, and when, is in collection/listings.py.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    DagsterInstance,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    TimestampMetadataValue,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import Finding, report
from pipeline_assets.assets.partitions import backfill_policy, daily_partitions
from pipeline_assets.assets.presentation import moment, table
from pipeline_assets.collection.listings import collected_identities, collected_now, left_out, look
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.listing_history import Identity
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

UNIVERSE = layer.UNIVERSE
_LOOKED_AT = "looked at"
ENTRIES = "entries"
_ODD_COLUMNS = {"entry": "string", "fault": "string"}
_COLUMNS = {"symbol": "string", "what": "string", "when": "string", "collected": "string"}


def universe() -> AssetsDefinition:
    """The asset of the listings."""

    @asset(
        key=UNIVERSE,
        description=(
            "What the exchange lists: `state/universe.json` as it is now, `state/listings.json` as it "
            "ever was, by symbol and onboard date. Tells what was listed and delisted since the last "
            "look. exchangeInfo tells of now only, so an old partition is a look of today too."
        ),
        group_name="universe",
        partitions_def=daily_partitions,
        backfill_policy=backfill_policy,
        owners=layer.OWNERS,
        kinds={"binance", "s3"},
        check_specs=[
            AssetCheckSpec(
                ENTRIES,
                asset=UNIVERSE,
                partitions_def=daily_partitions,
                description=(
                    "Every entry of exchangeInfo can be read. One that cannot is left out; a symbol that "
                    "is known from before goes on as it was."
                ),
            )
        ],
        # Nothing waits for it by data, and days are planned by what it has seen.
        op_tags={"dagster/priority": "1"},
    )
    def note(
        context: AssetExecutionContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        last = last_look(context.instance)
        with exchange.client(Priority.SEALING, patient=True) as client:
            now = client.server_time()
            seen, identities = look(client, store, now)
        metadata: dict[str, Any] = {
            _LOOKED_AT: MetadataValue.timestamp(now),
            "symbols on the exchange": len(seen["symbols"]),
            "symbols collected": len(collected_now(seen, settings.symbols)),
        }
        if settings.symbols != "all":
            absent = [symbol for symbol in settings.symbols if symbol not in seen["symbols"]]
            if absent:
                metadata["in the settings and not on the exchange"] = ", ".join(absent)
        if last is not None:
            collected = {
                (each.symbol, each.onboard_date)
                for each in collected_identities(identities, settings.symbols)
            }
            changes = sorted(
                (
                    ((each.symbol, each.onboard_date) not in collected, each.symbol, what, when)
                    for each, what, when in changed(identities, last, now)
                ),
                key=lambda change: change[:3],
            )
            whats = [what for _, _, what, _ in changes]
            metadata["listed"] = whats.count("listed")
            metadata["delisted"] = whats.count("delisted")
            metadata["compared with"] = moment(last)
            if changes:
                metadata["changes"] = table(
                    _COLUMNS,
                    (
                        (symbol, what, moment(when), "no" if other else "yes")
                        for other, symbol, what, when in changes
                    ),
                )
        odd = left_out(seen)
        if odd:
            metadata["entries left out"] = table(_ODD_COLUMNS, sorted(odd.items()))
        yield MaterializeResult(metadata=metadata)
        known = {each.symbol for each in collected_identities(identities, settings.symbols)}
        wanted = known if settings.symbols == "all" else {*known, *settings.symbols}
        finding = entries_finding(odd, wanted)
        severity = AssetCheckSeverity.ERROR if wanted & odd.keys() else AssetCheckSeverity.WARN
        findings = dict.fromkeys(partition_days(context.partition_keys, now.date()), finding)
        yield report(context, UNIVERSE, ENTRIES, findings, severity=severity)

    return note


def entries_finding(odd: Mapping[str, str], collected: Container[str]) -> Finding:
    """Return whether every entry of exchangeInfo could be read; those of collected symbols come first.

    Args:
        odd: the entries that were left out, each with its fault.
        collected: the symbols that are collected.
    """
    if not odd:
        return Finding(passed=True, description="Every entry of exchangeInfo can be read.")
    records = sorted(odd.items(), key=lambda entry: (entry[0] not in collected, entry))
    name, why = records[0]
    return Finding(
        passed=False,
        description=f"{len(odd)} entries of exchangeInfo cannot be read, the first: {name}: {why}.",
        metadata={"entries left out": table(_ODD_COLUMNS, records)},
    )


def last_look(instance: DagsterInstance) -> datetime | None:
    """The exchange's time when the asset was materialized last; None if it never was."""
    event = instance.get_latest_materialization_event(UNIVERSE)
    held = event.asset_materialization if event else None
    told = held.metadata.get(_LOOKED_AT) if held else None
    if not isinstance(told, TimestampMetadataValue):
        return None
    return from_milliseconds(round(told.value * 1000))


def changed(
    identities: Iterable[Identity], last: datetime, now: datetime
) -> list[tuple[Identity, str, datetime]]:
    """What came and went, as seen after `last` and until `now`, and when (UTC, by the exchange).

    It is `listed` once its trading has begun, and `announced` before; `delisted` once it has ended.
    """
    found: list[tuple[Identity, str, datetime]] = []
    for each in identities:
        if last < max(each.first_seen, each.onboard_date) <= now:
            found.append((each, "listed", each.onboard_date))
        elif last < each.first_seen <= now:
            found.append((each, "announced", each.onboard_date))
        ended, noticed = each.delisted_at(now), each.noticed(now)
        if ended and noticed and noticed > last and ended > each.onboard_date:
            found.append((each, "delisted", ended))
    return found
