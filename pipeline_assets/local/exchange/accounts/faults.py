"""Faults of trading: their configuration, and which of them strike which order or event.

Struck requests are answered in doors.py, struck fills are made in execution.py, struck events sent in
streams.py. Faults of any request (resets, HTTP 5xx, bans, the exchange down) are those of the package above.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline_assets.local.exchange.draws import uniform

OVERLOADED = "order_503_overloaded"
ORDER_FAULTS = (
    "order_cut_before",
    "order_503_lost",
    "order_503_failed",
    OVERLOADED,
    "order_408_lost",
    "order_cut_after",
    "order_503_accepted",
    "order_408_accepted",
)
"""Faults of a new order's request; the first that strikes holds. The last three strike accepted orders."""

CANCEL_FAULTS = ("cancel_cut_before", "cancel_cut_after", "cancel_503_accepted")
FILL_FAULTS = ("partial_fill", "expired_with_fills", "expired_in_match")
EVENT_FAULTS = ("event_lost", "event_duplicated", "event_swapped")
HIDDEN = "order_hidden"
ENDPOINTS = ("", "order", "algoOrder")
SHARES = (*ORDER_FAULTS, *CANCEL_FAULTS, *FILL_FAULTS, *EVENT_FAULTS, HIDDEN)


@dataclass(frozen=True)
class TradingFaults:
    """Everything that can be made to go wrong with orders; the default is nothing.

    Attributes:
        order_cut_before: share of new orders whose connection is reset before they are read.
        order_503_lost: share not accepted, answered by HTTP 503 with the text of an unknown outcome.
        order_503_failed: share not accepted, answered by HTTP 503 "Service Unavailable."
        order_503_overloaded: share not accepted, answered by HTTP 503, code -1008; reduce-only orders are
            exempt.
        order_408_lost: share not accepted, answered by HTTP 408, code -1007.
        order_cut_after: share accepted whose connection is reset in place of the reply.
        order_503_accepted: share accepted and answered by HTTP 503 with the text of an unknown outcome.
        order_408_accepted: share accepted and answered by HTTP 408, code -1007.
        order_hidden: share accepted that queries do not find (-2013) for `hidden_ms`.
        cancel_cut_before: share of cancellations whose connection is reset before they are read.
        cancel_cut_after: share done whose connection is reset in place of the reply.
        cancel_503_accepted: share done and answered by HTTP 503 with the text of an unknown outcome.
        partial_fill: share of orders filled by half, and by the rest `partial_ms` later.
        expired_with_fills: share of orders filled by half that then expire (EXPIRED).
        expired_in_match: share of orders filled by half that self-trade prevention then ends.
        event_lost: share of the private stream's events that do not come.
        event_duplicated: share that come twice.
        event_swapped: share that come after the event that follows them.
        stream_silent: private streams stay connected and bring nothing.
        hidden_ms: see `order_hidden`; by the exchange's clock.
        partial_ms: see `partial_fill`; by the exchange's clock.
        endpoint: `order` or `algoOrder`: requests of the other one are not struck.
        most: after so many strikes of any kind nothing more is struck; 0 is no limit.
        seed: chooses which orders and events a share strikes.
    """

    order_cut_before: float = 0
    order_503_lost: float = 0
    order_503_failed: float = 0
    order_503_overloaded: float = 0
    order_408_lost: float = 0
    order_cut_after: float = 0
    order_503_accepted: float = 0
    order_408_accepted: float = 0
    order_hidden: float = 0
    cancel_cut_before: float = 0
    cancel_cut_after: float = 0
    cancel_503_accepted: float = 0
    partial_fill: float = 0
    expired_with_fills: float = 0
    expired_in_match: float = 0
    event_lost: float = 0
    event_duplicated: float = 0
    event_swapped: float = 0
    stream_silent: bool = False
    hidden_ms: int = 120_000
    partial_ms: int = 1_000
    endpoint: str = ""
    most: int = 0
    seed: int = 1

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "TradingFaults":
        """Return the faults that a JSON object names; what it leaves out does not happen.

        Raises:
            ValueError: a name is unknown, or a value is out of its range.
        """
        known = {one.name for one in fields(cls)}
        for name, value in document.items():
            if name not in known:
                text = ", ".join(sorted(known))
                raise ValueError(f"There is no fault of trading {name!r}: use {text}")
            if name == "stream_silent":
                if not isinstance(value, bool):
                    raise ValueError(f"stream_silent must be true or false, not {value!r}")
            elif name == "endpoint":
                if value not in ENDPOINTS:
                    raise ValueError(f"endpoint must be one of {ENDPOINTS}, not {value!r}")
            elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name} must be a number from 0 on, not {value!r}")
            elif name in SHARES and value > 1:
                raise ValueError(f"{name} is a share, from 0 to 1, not {value!r}")
        return cls(**document)

    def document(self) -> dict[str, Any]:
        """Return what `parse` reads, without the defaults."""
        default = asdict(TradingFaults())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


class TradingFaultPlan:
    """The faults in force, and which of them struck.

    Whether an order is struck depends on the seed, its client id and how often that id was sent before: with
    the same seed and ids the same orders are struck again, in whatever order they arrive.
    """

    def __init__(self, faults: TradingFaults | None = None) -> None:
        self.replace(faults or TradingFaults())

    def replace(self, faults: TradingFaults) -> None:
        """Put other faults in force and forget what was drawn."""
        self.faults = faults
        self.made: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()

    def draw(self, what: str, names: tuple[str, ...]) -> str | None:
        """Return the first of the named faults that strikes, `what` naming the order or event."""
        shares = {name: getattr(self.faults, name) for name in names}
        if not any(shares.values()):
            return None
        if self.faults.most and self.struck.total() >= self.faults.most:
            return None
        text = f"{names[0]}:{what}"
        self.made[text] += 1
        for name, share in shares.items():
            if uniform(name, f"{self.faults.seed}:{self.made[text]}:{what}") < share:
                self.struck[name] += 1
                return name
        return None
