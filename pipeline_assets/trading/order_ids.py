"""Client order ids: derived from a decision's id, so that the same decision never becomes two orders."""

import re
from uuid import UUID, uuid5

# The exchange's own rule for newClientOrderId. An UUID has 36 characters, so a suffix does not fit.
CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
# The exchange gives such ids to the orders by which it takes positions over; no caller may use one.
LIQUIDATION = "autoclose-"
_VENUE_ORDERS = {
    LIQUIDATION: "liquidation",
    "adl_autoclose": "automatic deleveraging",
    "settlement_autoclose-": "settlement",
}
# Ids are compared over years: this never changes.
_NAMESPACE = UUID("0f4c1f5e-58a6-5f0c-8b37-5d1c9d0a9f21")


def venue_cause(client_id: str) -> str:
    """Return why the venue itself sent an order, such as `liquidation`; empty for other orders."""
    causes = (cause for begin, cause in _VENUE_ORDERS.items() if client_id.startswith(begin))
    return next(causes, "")


def entry_id(decision_id: str) -> str:
    """Return the client id of the order that opens a decision's position."""
    return _derived(decision_id, "entry", 0)


def child_id(parent: str, purpose: str, number: int) -> str:
    """Return the client id of a stop, target or close of a parent order or close; `number` counts from 0."""
    return _derived(parent, purpose, number)


def _derived(name: str, purpose: str, number: int) -> str:
    return str(uuid5(_NAMESPACE, f"{purpose}:{number}:{name}"))
