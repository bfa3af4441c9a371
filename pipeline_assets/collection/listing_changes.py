"""Listings and delistings since the last look at the exchange, and entries that cannot be read. Which
symbols are collected, and when each trades, is in listings.py.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline_assets.collection.findings import Finding, Table, moment
from pipeline_assets.collection.listing_look import look
from pipeline_assets.collection.listings import collected_identities, collected_now, left_out
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.identity import Identity
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

ODD_COLUMNS = {"entry": "string", "fault": "string"}
_COLUMNS = {"symbol": "string", "what": "string", "when": "string", "collected": "string"}


@dataclass(frozen=True)
class ListingReport:
    """The result of a look at what the exchange lists.

    Attributes:
        at: the exchange's time, UTC.
        values: what to report, by name.
        odd: the entries that cannot be read, each with its fault.
        collected: the symbols of the settings, those listed once included.
    """

    at: datetime
    values: dict[str, Any]
    odd: dict[str, str]
    collected: set[str]

    @property
    def urgent(self) -> bool:
        """Whether the entry of a symbol that is collected cannot be read."""
        return not self.collected.isdisjoint(self.odd)


def look_again(
    exchange: Exchange, store: ObjectStore, settings: Settings, last: datetime | None
) -> ListingReport:
    """Ask the exchange what it lists, keep it, and compare it with the look before.

    Args:
        exchange: asked for exchangeInfo.
        store: the lake, which remembers all listings.
        settings: of which `symbols` counts.
        last: the exchange's time at the look before; None if there was none.

    Raises:
        ExchangeError, ExchangeUnreachableError, ObjectStoreError: as `look`.
    """
    with exchange.client(Priority.FINALIZE, patient=True) as client:
        now = client.server_time()
        seen, identities = look(client, store, now)
    symbols, listed, odd = settings.symbols, seen["symbols"], left_out(seen)
    values: dict[str, Any] = {
        "symbols on the exchange": len(listed),
        "symbols collected": len(collected_now(seen, symbols)),
    }
    if symbols != "all" and (absent := [symbol for symbol in symbols if symbol not in listed]):
        values["in the settings and not on the exchange"] = ", ".join(absent)
    collected = collected_identities(identities, symbols)
    if last is not None:
        values |= _changes(identities, collected, last, now)
    if odd:
        values["entries left out"] = Table.of(ODD_COLUMNS, sorted(odd.items()))
    names = {each.symbol for each in collected}
    return ListingReport(now, values, odd, names if symbols == "all" else {*names, *symbols})


def _changes(
    identities: Iterable[Identity], collected: Iterable[Identity], last: datetime, now: datetime
) -> dict[str, Any]:
    """Return the values to report of the time since the last look; collected symbols come first."""
    ours = {(each.symbol, each.onboard_date) for each in collected}
    changes = sorted(
        (
            ((each.symbol, each.onboard_date) not in ours, each.symbol, what, when)
            for each, what, when in changed(identities, last, now)
        ),
        key=lambda change: change[:3],
    )
    whats = [what for _, _, what, _ in changes]
    values: dict[str, Any] = {
        "listed": whats.count("listed"),
        "delisted": whats.count("delisted"),
        "compared with": moment(last),
    }
    if changes:
        rows = (
            (symbol, what, moment(when), "no" if other else "yes")
            for other, symbol, what, when in changes
        )
        values["changes"] = Table.of(_COLUMNS, rows)
    return values


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
        metadata={"entries left out": Table.of(ODD_COLUMNS, records)},
    )


def changed(
    identities: Iterable[Identity], last: datetime, now: datetime
) -> list[tuple[Identity, str, datetime]]:
    """Return what came and went, as seen after `last` and until `now`, and when (UTC, by the exchange).

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
