"""The stream of the comparison: candidates for the trader, and a person's orders in another symbol. Both
venues get the same. No tests here.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from random import Random

from pipeline_assets.market.candidates import Candidate, candidate_id
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import from_minute
from pipeline_assets.market.trading_rules import UNIT, units
from pipeline_assets.trading import messages
from pipeline_assets.trading.gateway import Wish
from pipeline_assets.trading.order_types import Order, OrderSide
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets_tests.trading.compared_market import SYMBOLS, Market

TRADED, BY_HAND = SYMBOLS[:3], SYMBOLS[3]
STRATEGIES = {
    "swing 1": PositionRules(
        stop=Decimal("0.0012"), target=Decimal("0.0015"), time_limit=10, opposite_signal="exit"
    ),
    "trail 1": PositionRules(
        stop=Decimal("0.0015"),
        trailing_stop=Decimal("0.001"),
        time_limit=12,
        opposite_signal="reverse",
    ),
    "pace 1": PositionRules(time_limit=6, opposite_signal="ignore"),
}
_FIRST, _LAST = 1, 40


@dataclass
class Plan:
    """Candidates for the trader and wishes for the gateway, by the minute after whose close these come."""

    candidates: dict[int, list[Candidate]] = field(default_factory=dict)
    wishes: dict[int, list[Wish]] = field(default_factory=dict)

    @property
    def closed_entries(self) -> dict[str, str]:
        """By client id of a close, the entry whose position it closes."""
        return {each.close_id: each.name for each in _BY_HAND}


def make_plan(market: Market, seed: int) -> Plan:
    """Return the stream of a seed for a market: a limit order's price lies off the newest close."""
    plan, random, first = Plan(), Random(seed), market.start // MINUTE
    for number in range(_FIRST, _LAST):
        minute, symbol = first + number, TRADED[number % len(TRADED)]
        name = random.choice(list(STRATEGIES))
        close = market.bars[minute][symbol].close
        plan.candidates[minute] = [_candidate(name, symbol, random.random() < 0.5, minute, close)]
    for order in _BY_HAND:
        price = market.bars[first + order.at][BY_HAND].close * (1 + order.away)
        tick = market.tick(BY_HAND)
        limit = units(round(price, 8)) // tick * tick
        plan.wishes.setdefault(first + order.at, []).append(_place(order, limit))
        plan.wishes.setdefault(first + order.until, []).append(order.end)
    return plan


def _candidate(name: str, symbol: str, rising: bool, minute: int, close: Decimal) -> Candidate:
    strategy, version = name.split()
    time = from_minute(minute)
    return Candidate(
        id=candidate_id(strategy, version, symbol, Interval.ONE_MINUTE, time),
        strategy=strategy,
        version=version,
        symbol=symbol,
        interval=Interval.ONE_MINUTE,
        side="long" if rising else "short",
        open_time=time,
        price=float(close),
        indicators={},
        created_at=time + timedelta(seconds=70),
    )


@dataclass(frozen=True)
class LimitByHand:
    """A person's limit order with a stop, and its end.

    Attributes:
        name: begins the client ids.
        at, until: the minutes, counted from the beginning, after which the order is sent and ended.
        away: from the newest close, as a part of it.
        cancelled: whether the order is cancelled in the end, and not the position closed.
    """

    name: str
    side: OrderSide
    at: int
    until: int
    away: Decimal
    cancelled: bool = False

    @property
    def close_id(self) -> str:
        """The client id of the close."""
        return f"close-{self.name}"

    @property
    def end(self) -> Wish:
        """Cancel the order, or close the position."""
        if self.cancelled:
            return messages.Cancel(self.name)
        return messages.Close(BY_HAND, self.close_id, "test")


def _place(order: LimitByHand, price: int) -> Wish:
    return messages.Place(
        Order(
            client_id=order.name,
            symbol=BY_HAND,
            side=order.side,
            kind="limit",
            quantity=500 * UNIT,
            price=price,
            stop_part=units("0.002"),
        )
    )


_BY_HAND = (
    LimitByHand("below", "buy", 1, 8, Decimal("-0.0005")),
    LimitByHand("above", "sell", 10, 17, Decimal("0.0006")),
    LimitByHand("crossing", "buy", 19, 23, Decimal("0.001")),
    LimitByHand("far", "sell", 25, 27, Decimal("0.01"), cancelled=True),
    LimitByHand("near", "sell", 28, 37, Decimal("0.0001")),
    LimitByHand("crossing-down", "sell", 39, 43, Decimal("-0.001")),
    LimitByHand("close-by", "buy", 45, 50, Decimal("-0.0001")),
)
