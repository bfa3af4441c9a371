"""The records of the paper venue's own journal, in order: its truth. How they change its state is in
paper_book.py. JSON objects with a `type`, as the gateway's records; a field that is added needs a default.
"""

from pipeline_assets.trading.order_types import Fill, Order, Status
from pipeline_assets.trading.records import Record, RecordCodec


class PaperAccepted(Record, frozen=True, kw_only=True, tag="paper_accepted"):
    """An order is accepted. It is matched with candles after the minute `after`, counted from 1970."""

    order: Order
    venue_id: str
    after: int


class PaperFilled(Record, frozen=True, kw_only=True, tag="paper_filled"):
    """An order is filled as a whole."""

    fill: Fill


class PaperLiquidated(Record, frozen=True, kw_only=True, tag="paper_liquidated"):
    """A position is taken over by the venue, as a whole: a fill without an order of the account."""

    fill: Fill


class PaperEnded(Record, frozen=True, kw_only=True, tag="paper_ended"):
    """An order is cancelled or expired without a fill."""

    client_id: str
    status: Status
    reason: str


class PaperFunded(Record, frozen=True, kw_only=True, tag="paper_funded"):
    """A funding payment; negative where the account pays. `time` is the rate's, in milliseconds."""

    symbol: str
    time: int
    amount: int


AnyPaperRecord = PaperAccepted | PaperFilled | PaperLiquidated | PaperEnded | PaperFunded
PAPER_RECORDS: RecordCodec[AnyPaperRecord] = RecordCodec(
    AnyPaperRecord, "the paper venue's journal"
)
