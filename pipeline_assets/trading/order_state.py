"""The state of one order and of one close, as the journal's records give it. The account's state is in
state.py.
"""

from dataclasses import dataclass

from pipeline_assets.trading.order_types import UNSETTLED, Order, Status


@dataclass(slots=True)
class OrderState:
    """The known facts of one order.

    Attributes:
        venue_id: the venue's id; empty until the venue said it.
        reported: what the venue said was filled, in 1e-8; the ledger may not have all of it yet.
        booked: what the ledger has, in 1e-8.
        sent_at: when the order was journalled for sending.
        recv_window: how long after that the venue may accept it, in milliseconds.
        triggered_id: the venue's id of the order that a triggered stop became; its trades name this id.
    """

    order: Order
    status: Status
    sent_at: int
    recv_window: int
    changed_at: int
    venue_id: str = ""
    reported: int = 0
    booked: int = 0
    reason: str = ""
    cancel_sent: bool = False
    triggered_id: str = ""

    @property
    def unsettled(self) -> bool:
        """Whether more may become known of the order: it is not at an end, or fills are missing."""
        return self.status in UNSETTLED or self.reported > self.booked

    @property
    def remaining(self) -> int:
        """The quantity that the order may still add to a position, in 1e-8; 0 for what only reduces."""
        if self.order.reduce_only or not self.unsettled:
            return 0
        most = self.order.quantity if self.status in UNSETTLED else self.reported
        return max(most - self.booked, 0)


@dataclass(slots=True)
class Closing:
    """A position that is being closed.

    Attributes:
        attempts: how many orders were sent for it.
        refusals: how many of these were refused since one was not.
    """

    close_id: str
    reason: str
    begun_at: int
    attempts: int = 0
    refusals: int = 0
    last_order: str = ""
