"""The messages into the gateway's core (events) and out of the core (effects). Stored records are in
records.py. Every time is in milliseconds since 1970 (UTC) by the exchange's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline_assets.trading.order_types import Fill, Mode, Order, OrderSide, Status
from pipeline_assets.trading.venue_identity import VenueIdentity

# --- events: a caller's wishes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A caller wants an order sent. `request` identifies the caller's call in the reply."""

    order: Order
    request: int = 0


@dataclass(frozen=True)
class Cancel:
    """A caller wants an order cancelled."""

    client_id: str
    request: int = 0


@dataclass(frozen=True)
class Close:
    """A caller wants the position of a symbol closed. A repeated `close_id` is the same close."""

    symbol: str
    close_id: str
    reason: str
    request: int = 0


@dataclass(frozen=True)
class SetMode:
    """A person changes what is accepted."""

    mode: Mode
    reason: str
    by: str
    request: int = 0


@dataclass(frozen=True)
class BindVenue:
    """The gateway begins at a venue, to which the journal belongs from here on."""

    venue: VenueIdentity
    request: int = 0


@dataclass(frozen=True)
class ResumeSymbol:
    """A person has entries of a halted symbol accepted again."""

    symbol: str
    reason: str
    by: str
    request: int = 0


@dataclass(frozen=True)
class Flatten:
    """A person wants every order cancelled and every position closed; the gateway halts first."""

    close_id: str
    reason: str
    by: str
    request: int = 0


# --- events: what the venue says ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """The venue confirmed an order."""

    client_id: str
    venue_id: str


@dataclass(frozen=True)
class Refused:
    """The venue refused an order definitely, or the order certainly never left."""

    client_id: str
    reason: str


@dataclass(frozen=True)
class Unanswered:
    """No answer says whether the venue has the order: a time-out, a torn reply, an error of the venue."""

    client_id: str
    reason: str


@dataclass(frozen=True)
class CancelAnswered:
    """The venue answered a cancel; `gone` if it has no such open order. A query follows."""

    client_id: str
    gone: bool


@dataclass(frozen=True)
class OrderSeen:
    """An order's state, from the stream or from a query.

    Attributes:
        venue_id: of a stop, the id of the conditional order.
        executed: filled so far, in 1e-8.
        symbol: names where an order that the gateway does not know was seen; may be empty for a query.
        triggered_id: the venue's id of the order that a triggered stop became, which its trades name.
        resting: the order as a list of open orders has it, where the stream says that; None otherwise.
    """

    client_id: str
    venue_id: str
    status: Status
    executed: int
    symbol: str = ""
    triggered_id: str = ""
    # For people only: two events that say the same of an order are equal.
    resting: "OpenOrder | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class OrderMissing:
    """A query found no such order. Right after an error that may be wrong, so the time of asking counts."""

    client_id: str
    asked_at: int


@dataclass(frozen=True)
class FillSeen:
    """A trade, from the stream."""

    fill: Fill


@dataclass(frozen=True)
class TradesRead:
    """All trades of a symbol from `since` until the time of asking."""

    symbol: str
    since: int
    asked_at: int
    fills: tuple[Fill, ...]


@dataclass(frozen=True)
class PositionsRead:
    """The venue's positions by symbol, in 1e-8 of the base asset, negative for a short; absent means none."""

    asked_at: int
    quantities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenOrder:
    """An order that rests at the venue, also one that the gateway did not send.

    Attributes:
        client_id: may be empty for an order of another program.
        kind: `limit` or `stop` as in Order, or the venue's own word in small letters.
        quantity, price: in 1e-8; the price is the trigger of a conditional order.
        conditional: whether the order counts among the venue's open conditional orders.
    """

    symbol: str
    client_id: str
    venue_id: str
    kind: str
    side: OrderSide
    quantity: int
    price: int = 0
    conditional: bool = False
    reduce_only: bool = False


@dataclass(frozen=True)
class OpenOrdersRead:
    """All open orders of the account, conditional ones included, of all symbols."""

    asked_at: int
    orders: tuple[OpenOrder, ...] = ()


@dataclass(frozen=True)
class FiltersRead:
    """The venue's filters are read: orders sent from here on are rounded by these.

    Attributes:
        largest: by symbol, the largest quantity of a market order in 1e-8.
    """

    largest: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamConnected:
    """The venue's stream was connected, for the first time or again: events before it may be lost."""


class Trouble(StrEnum):
    """Why a venue takes no entries."""

    BAN = "ban"
    KEY = "key"
    MAINTENANCE = "maintenance"
    SILENT = "silent"


@dataclass(frozen=True)
class PartEnded:
    """A part of the gateway or of the venue ended by an unexpected error: the gateway stops."""

    text: str


@dataclass(frozen=True)
class QuestionFailed:
    """The venue did not answer a question, or refused it. The text is for a person; without secrets."""

    text: str


@dataclass(frozen=True)
class VenueTrouble:
    """The venue takes no entries. The venue may report the same trouble again and again.

    Attributes:
        kind: `ban` (418), `key` (revoked, or without the right to trade) or `maintenance`.
        until: when the trouble ends by itself, by the exchange's clock; 0 if the venue did not say so.
        text: for a person; without secrets.
    """

    kind: Trouble
    until: int
    text: str


@dataclass(frozen=True)
class FundingPaid:
    """A funding payment; negative where the account pays."""

    symbol: str
    time: int
    amount: int


@dataclass(frozen=True)
class PriceSeen:
    """The newest closed candle of a symbol: its close in 1e-8, and its close time."""

    symbol: str
    price: int
    time: int


@dataclass(frozen=True)
class OrderCounts:
    """The venue's own counts of orders in the last ten seconds and the last minute."""

    ten_seconds: int
    minute: int


# --- events: time ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timer:
    """Time has passed."""


@dataclass(frozen=True)
class Paused:
    """The gateway handled nothing for seconds, as a frozen process: answers of the venue wait to be read."""


@dataclass(frozen=True)
class Restarted:
    """The journal has been read: what was being sent when the process ended is unknown now."""


Event = (
    Place | Cancel | Close | SetMode | ResumeSymbol | Flatten | BindVenue
    | Accepted | Refused | Unanswered | CancelAnswered | OrderSeen | OrderMissing | FillSeen
    | TradesRead | PositionsRead | OpenOrdersRead | FiltersRead | FundingPaid | PriceSeen | OrderCounts
    | StreamConnected | VenueTrouble | QuestionFailed | Timer | Paused | Restarted
)  # fmt: skip


# --- effects: carried out after the records of the same step are durable -----------------------------------


@dataclass(frozen=True)
class Send:
    """Send an order, once. `timestamp` and `recv_window` (ms) limit how late the venue may accept it."""

    order: Order
    timestamp: int
    recv_window: int


@dataclass(frozen=True)
class SendCancel:
    """Ask the venue to cancel an order. May be repeated. `conditional` is true for a stop."""

    client_id: str
    symbol: str
    conditional: bool = False


@dataclass(frozen=True)
class AskOrder:
    """Query an order by its client id. `conditional` is true for a stop."""

    client_id: str
    symbol: str
    conditional: bool = False


@dataclass(frozen=True)
class AskTrades:
    """Read a symbol's trades from a time on."""

    symbol: str
    since: int


@dataclass(frozen=True)
class AskPositions:
    """Read all positions."""


@dataclass(frozen=True)
class AskOpenOrders:
    """Read all open orders."""


@dataclass(frozen=True)
class AskFilters:
    """Read the filters of all symbols anew."""


@dataclass(frozen=True)
class Refusal:
    """Why a wish was not carried out.

    Attributes:
        code: a stable word for programs.
        message: names the limit, the value and the setting.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Reply:
    """Answer a caller: the order's or close's id, or the refusal."""

    request: int
    subject: str
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Alarm:
    """Tell a person: something happened that the gateway did not expect."""

    message: str


# May be repeated; an answer is an event, and one that does not come is asked for again.
Question = SendCancel | AskOrder | AskTrades | AskPositions | AskOpenOrders | AskFilters
Effect = Send | Question | Reply | Alarm
