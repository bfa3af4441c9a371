"""The messages into the gateway's core (events) and out of the core (effects). Stored records are in
records.py. Every time is in milliseconds since 1970 (UTC) by the exchange's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline_assets.trading.order_types import Fill, Mode, Order, Status

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
        executed: filled so far, in 1e-8.
    """

    client_id: str
    venue_id: str
    status: Status
    executed: int


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
class Restarted:
    """The journal has been read: what was being sent when the process ended is unknown now."""


Event = (
    Place | Cancel | Close | SetMode | Flatten | Accepted | Refused | Unanswered | CancelAnswered
    | OrderSeen | OrderMissing | FillSeen | TradesRead | PositionsRead | FundingPaid | PriceSeen
    | OrderCounts | Timer | Restarted
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
    """Ask the venue to cancel an order. May be repeated."""

    client_id: str
    symbol: str


@dataclass(frozen=True)
class AskOrder:
    """Query an order by its client id."""

    client_id: str
    symbol: str


@dataclass(frozen=True)
class AskTrades:
    """Read a symbol's trades from a time on."""

    symbol: str
    since: int


@dataclass(frozen=True)
class AskPositions:
    """Read all positions."""


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


Effect = Send | SendCancel | AskOrder | AskTrades | AskPositions | Reply | Alarm
