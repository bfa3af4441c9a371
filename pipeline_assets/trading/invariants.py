"""Promises that hold in every step, in the simulator and in production. A gateway that finds one of these
broken halts and says why: going on could send an order twice.
"""

from pipeline_assets.errors import InternalError
from pipeline_assets.trading.order_types import Fill, Order, Status
from pipeline_assets.trading.state import GatewayState


class InvariantError(InternalError):
    """A promise of the gateway is broken. The message says which; the gateway must not go on."""


class Invariants:
    """Counts apart from the state, so that an error in the state's code is noticed."""

    def __init__(self) -> None:
        """Begin with nothing sent and nothing booked."""
        self._sent: set[str] = set()
        self._positions: dict[str, int] = {}
        self._fills: set[tuple[str, int]] = set()

    def before_send(self, order: Order, state: GatewayState) -> None:
        """Check that an order was never sent; at most one send a client id, ever.

        Raises:
            InvariantError: the id was sent, or is in the journal.
        """
        if order.client_id in self._sent or order.client_id in state.orders:
            raise InvariantError(f"order {order.client_id} would be sent twice")
        if order.quantity <= 0:
            raise InvariantError(f"order {order.client_id} has the quantity {order.quantity}")
        self._sent.add(order.client_id)

    def after_fill(self, fill: Fill, state: GatewayState) -> None:
        """Check that a booked fill is new, and that the position is the sum of its fills.

        Raises:
            InvariantError: the trade was booked before, or the sums differ.
        """
        if (fill.symbol, fill.trade_id) in self._fills:
            raise InvariantError(f"trade {fill.trade_id} of {fill.symbol} is booked twice")
        self._fills.add((fill.symbol, fill.trade_id))
        self._positions[fill.symbol] = self._positions.get(fill.symbol, 0) + fill.signed
        if self._positions[fill.symbol] != state.ledger.positions.get(fill.symbol, 0):
            raise InvariantError(
                f"{fill.symbol}: the position {state.ledger.positions.get(fill.symbol, 0)} is not "
                f"the sum of its fills, {self._positions[fill.symbol]} (in 1e-8)"
            )

    def restart(self, state: GatewayState) -> None:
        """Begin from a state that was read from the journal.

        Raises:
            InvariantError: the state contradicts itself.
        """
        difference = state.ledger.difference()
        if difference:
            raise InvariantError(difference)
        self._sent = set(state.orders)
        self._positions = dict(state.ledger.positions)
        self._fills = set(state.ledger.fills)
        wrong = [
            client_id
            for client_id, held in state.orders.items()
            if held.status is Status.FILLED and held.reported < _least(held.order)
        ]
        if wrong:
            raise InvariantError(f"orders {wrong[:3]} are filled without the venue saying so")


def _least(order: Order) -> int:
    """Return the least that a filled order has filled: the venue cuts what only reduces to the position.

    Two stops of one entry were triggered at once, and the gateway did not start any more.
    """
    return 1 if order.reduce_only else order.quantity
