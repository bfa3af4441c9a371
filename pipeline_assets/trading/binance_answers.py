"""The meaning of Binance's answer to an order or to a cancel. Pure; queries are read in binance_replies.py.

A refusal is certain only where a source says that no order exists after it. Everything else leaves the
order unknown, and the core resolves it from evidence: an order taken for refused that exists costs money.
"""

from dataclasses import dataclass
from http import HTTPStatus
from json import loads
from typing import Any

from pipeline_assets.outside_text import printable
from pipeline_assets.trading.messages import Accepted, Refused, Unanswered

# Binance, "General Info", HTTP 503: only these two texts mean that the request certainly failed. "Unknown
# error, please check your request or try again later." is the order that may exist.
_FAILED_TEXT = "Service Unavailable."
_THROTTLED = -1008
# "Error Codes" there. Each is said before an order reaches the matching engine, or by the matching engine
# about an order that it does not take. Not in the list, and so unknown: -1000 and -1001 (internal errors),
# -1006 and -1007 ("execution status unknown"), -1010 and -1016, -4116 (the id belongs to an open order,
# which may be this one), and every code that is new.
_GENERAL = {
    # Rights, limits and the clock: the request is dropped at the door.
    *(-1002, -1003, -1011, -1015, -1021, -1022, -2014, -2015, -2017),
    # A request that is not formed as the interface declares.
    *(-1013, -1014, -1020, -1023),
    *range(-1130, -1099),
}
_ORDERS = {
    # Balance, margin and the state of the account or of the position.
    *(-2010, -2018, -2019, -2020, -2021, -2022, -2023, -2024, -2025, -2026, -2027, -2028),
    # Filters of the symbol: price, quantity, number of orders, percent price, notional.
    *range(-4016, -3999),
    *(-4023, -4024, -4025, -4026, -4029, -4030, -4045, -4131, -4164, -4183, -4184),
    # Modes of the account and the position that the order does not fit.
    *(
        -4061,
        -4062,
        -4067,
        -4068,
        -4087,
        -4088,
        -4109,
        -4118,
        -4120,
        -4136,
        -4137,
        -4138,
        -4140,
        -4141,
    ),
    # The account may only reduce now, or must wait.
    *(-4142, -4192, -4400, -4401, -4402, -4403),
    # The order could not rest or be filled as its time in force says, or came too late for the engine.
    *(-5021, -5022, -5028),
}
REFUSING = frozenset(_GENERAL | _ORDERS)
# The exchange has no such open order, and so nothing to cancel.
_UNKNOWN_ORDER = frozenset({-2011, -2013})
_LONGEST_TEXT = 200
# The key is unknown, its signature wrong, or its rights or addresses do not fit.
KEY_CODES = frozenset({-1002, -1022, -2014, -2015, -2017})
# After a refusal of requests that read the account: of the key, its signature or its address.
KEY_ADVICE = (
    "Check PIPELINE_TRADING__API_KEY, PIPELINE_TRADING__API_SECRET, the key's IP list, and that "
    "PIPELINE_TRADING__REST_URL is the exchange of this key."
)


@dataclass(frozen=True)
class Problem:
    """The error in a reply.

    Attributes:
        code: Binance's code; 0 where the body has none.
        text: its message, made safe to print.
    """

    status: int
    code: int
    text: str

    def __str__(self) -> str:
        text = self.text.rstrip(".") or "no Binance message"
        said = f"{self.code}: {text}" if self.code else text
        return said if self.status == HTTPStatus.BAD_REQUEST else f"{said} (HTTP {self.status})"


def problem_of(status: int, body: bytes) -> Problem:
    """Return the error of a reply whose status is not 2xx, or whose body is no JSON object."""
    found = json_object(body) or {}
    code, text = found.get("code"), found.get("msg", "")
    number = code if isinstance(code, int) and not isinstance(code, bool) else 0
    return Problem(status, number, printable(text)[:_LONGEST_TEXT])


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, or None for anything else: HTML, a torn reply, a list."""
    try:
        found = loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def order_answer(
    client_id: str, status: int, body: bytes, *, conditional: bool
) -> Accepted | Refused | Unanswered:
    """Return the meaning of the answer to a new order.

    Args:
        client_id: of the order that was sent.
        status: of HTTP.
        body: as received.
        conditional: whether the order went to the endpoint of conditional orders.
    """
    if status // 100 == 2:
        names = ("clientAlgoId", "algoId") if conditional else ("clientOrderId", "orderId")
        found = json_object(body) or {}
        said, venue_id = (found.get(name) for name in names)
        if said == client_id and isinstance(venue_id, int):
            return Accepted(client_id, str(venue_id))
        return Unanswered(client_id, f"HTTP {status}, and the reply does not name the order")
    problem = problem_of(status, body)
    if refuses(problem):
        return Refused(client_id, str(problem))
    return Unanswered(client_id, str(problem))


def refuses(problem: Problem) -> bool:
    """Return whether no order exists for certain after this answer to one."""
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return problem.text == _FAILED_TEXT or problem.code == _THROTTLED
    return problem.status // 100 == 4 and problem.code in REFUSING


def is_missing(problem: Problem) -> bool:
    """Return whether a query or a cancel found no such order. Right after an error that may be wrong."""
    return problem.status // 100 == 4 and problem.code in _UNKNOWN_ORDER
