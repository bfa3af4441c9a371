"""Parameters of signed requests, refused as Binance refuses them. Checks of several are in placing.py."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts.model import ZERO
from pipeline_assets.local.exchange.accounts.refusals import refused
from pipeline_assets.local.exchange.parameters import LARGEST_TIME, mandatory, moment

CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "GTX", "GTD")
PREVENTION = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
WORKING_TYPES = ("CONTRACT_PRICE", "MARK_PRICE")
DAY_MS = 86_400_000
LONGEST_WINDOW = 7 * DAY_MS

Query = Mapping[str, str]


def number(query: Query, name: str) -> Decimal:
    """Return an optional decimal number, 0 where it is absent."""
    text = query.get(name)
    if not text:
        return ZERO
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or abs(value) > LARGEST_TIME:
        raise errors.missing_parameter(name)
    return value


def flag(query: Query, name: str) -> bool:
    """Return an optional boolean, false where it is absent."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise errors.missing_parameter(name)
    return text == "true"


def choice(query: Query, name: str, allowed: tuple[str, ...], default: str) -> str:
    """Return an optional word."""
    text = query.get(name) or default
    if text not in allowed:
        raise errors.invalid_parameter(name)
    return text


def side_of(query: Query) -> str:
    """Return BUY or SELL."""
    side = mandatory(query, "side")
    if side not in ("BUY", "SELL"):
        raise refused(-1117)
    return side


def time_in_force(query: Query, allowed: tuple[str, ...] = TIMES_IN_FORCE) -> str:
    """Return the mandatory time in force."""
    text = mandatory(query, "timeInForce")
    if text not in allowed:
        raise refused(-1115)
    return text


def client_id(query: Query, name: str) -> str:
    """Return an optional client id, empty where it is absent."""
    text = query.get(name, "")
    if text and not CLIENT_ID.fullmatch(text):
        raise refused(-4015)
    return text


def whole(query: Query, name: str) -> int | None:
    """Return an optional whole number."""
    return moment(query, name)


def window(query: Query, now_ms: int) -> tuple[int, int]:
    """Return the time span of a history request, both ends included: seven days at most.

    Raises:
        ApiError: it is reversed or too long.
    """
    start, end = moment(query, "startTime"), moment(query, "endTime")
    if start is None and end is None:
        return now_ms - LONGEST_WINDOW, now_ms
    if start is None:
        return (end or 0) - LONGEST_WINDOW, end or 0
    if end is None:
        return start, start + LONGEST_WINDOW
    if start > end:
        raise errors.reversed_times()
    if end - start > LONGEST_WINDOW:
        raise errors.ApiError(400, -4165, "Invalid time interval: Maximum time interval is 7 days.")
    return start, end
