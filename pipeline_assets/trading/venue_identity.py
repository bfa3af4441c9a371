"""The identity of a venue and of a key there: what keeps two accounts apart that have one name, and finds one
account that has two names. Journals hold the first, leases the second. The key itself never leaves here.
"""

import hashlib
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline_assets.settings import TradingSettings

# 80 bits: no two keys meet by chance, and no key can be found by its digest.
_DIGITS = 20
_USUAL_PORTS = {"http": 80, "https": 443}


class VenueIdentity(NamedTuple):
    """A venue by its name in the settings, and the host of its REST address; paper has no host."""

    venue: str
    host: str

    def __str__(self) -> str:
        return f"{self.venue} at {self.host}" if self.host else self.venue


def identity_of(trading: TradingSettings) -> VenueIdentity:
    """Return the identity of the venue of the settings."""
    if trading.venue == "paper":
        return VenueIdentity("paper", "")
    return VenueIdentity(trading.venue, _host(trading.addresses.rest_url))


def key_digest(trading: TradingSettings) -> str:
    """Return a digest of the API key; empty on paper, or without a key.

    Venue and address are no part of the digest. `localhost` and `127.0.0.1`, or a proxy's name and the
    exchange's own, are two addresses of one account: with two digests, two gateways traded it.
    """
    if trading.venue == "paper" or trading.api_key is None:
        return ""
    return hashlib.sha256(trading.api_key.get_secret_value().encode()).hexdigest()[:_DIGITS]


def _host(url: str) -> str:
    """Return host and port of an address, written as every other address of that host is."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if parts.port in (None, _USUAL_PORTS.get(parts.scheme)):
        return shown
    return f"{shown}:{parts.port}"
