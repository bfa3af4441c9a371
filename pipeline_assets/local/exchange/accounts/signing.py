"""Who sent a request: API key, signature and timestamp, refused as Binance refuses them."""

import hashlib
import hmac
import re
from collections.abc import Mapping

from pipeline_assets.local.exchange.accounts import fields
from pipeline_assets.local.exchange.accounts.model import Account
from pipeline_assets.local.exchange.accounts.refusals import (
    ahead_of_time,
    outside_window,
    refused,
)
from pipeline_assets.local.exchange.parameters import mandatory

KEY_HEADER = "X-MBX-APIKEY"
KEY_FORM = re.compile(r"[A-Za-z0-9]{64}")
DEFAULT_WINDOW_MS, LONGEST_WINDOW_MS = 5000, 60_000
AHEAD_MS = 1000


def account_of(accounts: Mapping[str, Account], key: str | None) -> Account:
    """Return the account of an API key.

    Raises:
        ApiError: -2014 for what cannot be a key, -2015 for a key that is not known or was revoked.
    """
    account = accounts.get(key or "")
    if account is None:
        raise refused(-2015 if KEY_FORM.fullmatch(key or "") else -2014)
    if account.revoked:
        raise refused(-2015)
    return account


def check_signature(account: Account, query: fields.Query, payload: str, now_ms: int) -> None:
    """Check a signed request.

    Args:
        account: whose key it carries.
        query: its parameters.
        payload: query string and body as they were sent, one after the other.
        now_ms: the exchange's time.

    Raises:
        ApiError: -1102, -1021 or -1022.
    """
    mandatory(query, "timestamp")
    mandatory(query, "signature")
    sent = fields.whole(query, "timestamp") or 0
    allowed = fields.whole(query, "recvWindow")
    allowed = DEFAULT_WINDOW_MS if allowed is None else min(allowed, LONGEST_WINDOW_MS)
    if sent >= now_ms + AHEAD_MS:
        raise ahead_of_time()
    if now_ms - sent > allowed:
        raise outside_window()
    expected = signature(account.secret, payload)
    if not hmac.compare_digest(expected.encode(), query["signature"].encode()):
        raise refused(-1022)


def signature(secret: str, payload: str) -> str:
    """Return the signature of a payload, any `signature` parameter in it left aside."""
    parts = [part for part in payload.split("&") if not part.startswith("signature=")]
    signed = "&".join(parts)
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
