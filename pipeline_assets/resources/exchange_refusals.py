"""Meaning of the exchange's refusals: how long to be silent, whether to repeat, the message for people.

The reaction to a refusal is in exchange_requests.py.
"""

from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import loads

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.binance_client import Reply, number_of
from pipeline_assets.resources.bounded_replies import redirect_target
from pipeline_assets.resources.exchange_errors import ExchangeError, ExchangeUnreachableError

# How long Retry-After may block: a 429 ends with the minute that it counts, a ban after three days at
# most (Binance's documentation, "Limits"). More is a fault of what stands in between, and would stop all
# collection.
_LONGEST_BLOCK_MS: dict[int, int] = {
    HTTPStatus.TOO_MANY_REQUESTS: 120_000,
    HTTPStatus.IM_A_TEAPOT: 3 * 86_400_000,
}
# Where Retry-After is missing or unusable: the weight counters turn with the minute.
_USUAL_BLOCK_MS = 60_000
# Said with HTTP 400, and yet the exchange's own trouble: disconnected, time-out, overloaded.
_TRANSIENT_CODES = {-1000, -1001, -1006, -1007, -1008}
# 403 is the web application firewall, 451 a country that may not trade: no symbol will be served.
_SHUT_OUT = {HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}
_ADVICE = {
    -1120: "The exchange does not know this interval.",
    -1121: "Remove the symbol from the list, or correct it: exchangeInfo names all there are.",
    -1122: "The symbol is delisted or not yet trading: remove it from the list.",
    -1130: "A parameter is out of range: this is a bug in the paging of this program.",
}


class RefusedError(OutsideSystemError):
    """An answer other than 2xx."""

    def __init__(self, reply: Reply, sent: float, received: float) -> None:
        self.status = reply.status
        self.code, self.text = _code_and_text(reply.body)
        self.retry_after_ms = _block_ms(reply.status, reply.retry_after)
        self.date_ms = _date_ms(reply.date)
        self.location = reply.location
        self.sent, self.received = sent, received
        super().__init__(
            f"HTTP {self.status}" + (f", {self.code} {self.text}" if self.code else "")
        )

    @property
    def refused_for_weight(self) -> bool:
        """Whether the exchange asks this address to be silent for a while."""
        return self.status in _LONGEST_BLOCK_MS

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return (
            self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            or self.status == HTTPStatus.REQUEST_TIMEOUT
            or self.code in _TRANSIENT_CODES
        )


def _code_and_text(body: bytes) -> tuple[int | None, str]:
    """Return the code and message of an error body; (None, "") for anything else, such as HTML."""
    try:
        decoded = loads(body)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(decoded, dict) or not isinstance(decoded.get("code"), int):
        return None, ""
    return decoded["code"], printable(decoded.get("msg", ""))


def _block_ms(status: int, retry_after: str | None) -> int:
    """Return how long a refusal blocks this address, by Retry-After in seconds and within reason."""
    seconds = number_of(retry_after)
    if seconds is None:
        return _USUAL_BLOCK_MS
    # Not 0: the request would be repeated as fast as the exchange refuses.
    return min(1000 * max(seconds, 1), _LONGEST_BLOCK_MS.get(status, _USUAL_BLOCK_MS))


def _date_ms(header: str | None) -> int | None:
    """Return the Date header in ms since the epoch, or None where it is not one."""
    try:
        return to_milliseconds(parsedate_to_datetime(header or ""))
    except (ValueError, TypeError, OverflowError):
        return None


def final_error(rest_url: str, what: str, error: RefusedError) -> ExchangeError:
    """Return the error for a refusal that no repetition changes."""
    if error.status // 100 == 3:
        target = redirect_target(rest_url, error.location)
        return ExchangeUnreachableError(
            f"{rest_url} redirects {what} to {target} (HTTP {error.status}), "
            "which is not followed. Set PIPELINE_BINANCE__REST_URL to the exchange's own address, "
            "or look at what stands between here and the exchange."
        )
    if error.status in _SHUT_OUT:
        return ExchangeUnreachableError(
            f"{rest_url} shuts this address out ({error}): its firewall or the "
            "country of this machine, or PIPELINE_BINANCE__REST_URL is not the exchange's address. No "
            "candle can be fetched from here."
        )
    advice = _ADVICE.get(error.code or 0, "The exchange will not answer this however often asked.")
    return ExchangeError(f"{what}: the exchange refused, {error}. {advice}", error.code)
