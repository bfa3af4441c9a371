"""Query parameters of the public interface, refused as Binance refuses them, and the weight of a call."""

from collections.abc import Mapping

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.weights import klines_weight

DEFAULT_LIMIT = 500
LARGEST_LIMIT = 1500
LARGEST_TIME = 10**17


def mandatory(query: Mapping[str, str], name: str) -> str:
    """Return a parameter that must be there."""
    value = query.get(name)
    if not value:
        raise errors.missing_parameter(name)
    return value


def moment(query: Mapping[str, str], name: str) -> int | None:
    """Return an optional time in ms."""
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise errors.missing_parameter(name)
    if int(text) > LARGEST_TIME:
        raise errors.invalid_parameter(name)
    return int(text)


def requested_limit(
    query: Mapping[str, str], default: int = DEFAULT_LIMIT, largest: int = LARGEST_LIMIT
) -> int:
    """Return the number of rows asked for."""
    text = query.get("limit", str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= largest:
        raise errors.invalid_parameter("limit")
    return int(text)


def requested_weight(query: Mapping[str, str]) -> int:
    """Return what a klines call costs; a malformed one as much as one without a limit."""
    try:
        return klines_weight(requested_limit(query))
    except errors.ApiError:
        return klines_weight(DEFAULT_LIMIT)
