"""Names of symbols as a person writes them: which the exchange never listed, and what may have been meant.
When a symbol trades is in listings.py.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline_assets.collection.fetch_plan import SymbolError
from pipeline_assets.collection.listing_look import look
from pipeline_assets.collection.listings import left_out
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings

_QUOTE = "USDT"
# BTCUSD and BTCUSDT reach 0.92. Short names that share little more than USDT stay below 0.8.
_SIMILAR = 0.8


def meant_symbol(name: str, known: Collection[str]) -> str | None:
    """Return the known symbol that a name was probably meant to be, or None."""
    upper = name.upper()
    if upper + _QUOTE in known:
        return upper + _QUOTE
    return next(iter(difflib.get_close_matches(upper, known, n=1, cutoff=_SIMILAR)), None)


def unknown_symbols(
    settings: Settings, store: ObjectStore, symbols: Sequence[str] | None
) -> dict[str, str | None]:
    """Return the symbols of the settings that the exchange never listed, with what may have been meant.

    The exchange is asked only if its list was never stored, or does not name one of the symbols yet.

    Args:
        settings: the settings.
        store: the lake, which remembers what was listed.
        symbols: the symbols that a person asked for, or None for those of the settings.

    Raises:
        SymbolError: a symbol that was asked for was never on the exchange.
    """
    known = {each.symbol for each in read_identities(store)}
    configured = () if settings.symbols == "all" else settings.symbols
    asked = set(configured if symbols is None else symbols)
    if not known or not asked <= known:
        universe = _universe_now(settings)
        known |= {*universe["symbols"], *left_out(universe)}
    unknown = {symbol: meant_symbol(symbol, known) for symbol in sorted(asked - known)}
    if unknown and symbols is not None:
        raise SymbolError(" ".join(never_listed(unknown, "--symbols")))
    return unknown


def never_listed(unknown: Mapping[str, str | None], where: str) -> list[str]:
    """Return a sentence for each symbol that was never on the exchange, with what may have been meant."""
    return [
        f"{symbol} was never on the exchange"
        + (f"; did you mean {near}?" if near else ".")
        + f" Correct {where}."
        for symbol, near in unknown.items()
    ]


def listed_now(settings: Settings) -> set[str]:
    """Return the symbols that the exchange lists now."""
    return set(_universe_now(settings)["symbols"])


def _universe_now(settings: Settings) -> dict[str, Any]:
    with Exchange(settings).client(Priority.BACKFILL, patient=False) as client:
        universe, _ = look(client, ObjectStore(settings.s3, PERSON_PATIENCE), client.server_time())
    return universe
