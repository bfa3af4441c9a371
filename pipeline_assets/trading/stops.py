"""Questions about stops that the state answers: which positions need a stop, which have one, and which stops
have no position. Orders and refusals that follow from the answers are in protecting.py and entries.py.
"""

from collections.abc import Iterator

from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import UNSETTLED, Status
from pipeline_assets.trading.state import GatewayState


def live(state: GatewayState, symbol: str) -> Iterator[OrderState]:
    """Yield the unsettled orders of a symbol."""
    for client_id in state.live:
        held = state.orders[client_id]
        if held.order.symbol == symbol:
            yield held


def is_protected(state: GatewayState, symbol: str) -> bool:
    """Return whether confirmed stops cover the part of a position whose entries have a stop."""
    position = state.ledger.positions.get(symbol, 0)
    entries = [state.orders[each] for each in state.guarded.get(symbol, {})]
    entered = sum(each.booked for each in entries if each.order.signed * position > 0)
    covered = 0
    for held in live(state, symbol):
        # A stop that the venue reports as filled, though its trades are not read yet, has done its work.
        confirmed = held.status is Status.OPEN or held.reported > held.booked
        if held.order.conditional and confirmed and held.order.signed * position < 0:
            covered += held.order.quantity - held.booked
    return covered >= min(abs(position), entered)


def orphans(state: GatewayState, symbol: str) -> list[OrderState]:
    """Return the stops of a symbol that no position can need: nothing is open or may open on their side."""
    position, found = state.ledger.positions.get(symbol, 0), []
    for held in live(state, symbol):
        if not held.order.reduce_only:
            return []
        if (
            held.order.conditional
            and held.status in UNSETTLED
            and held.order.signed * position >= 0
        ):
            found.append(held)
    return found


def conditional_orders(state: GatewayState) -> int:
    """Return how many conditional orders are open over all symbols, with those that entries will need."""
    count = sum(each.conditional for each in state.foreign_open.values())
    for client_id in state.live:
        order = state.orders[client_id].order
        count += order.conditional or bool(order.stop_part)
    return count
