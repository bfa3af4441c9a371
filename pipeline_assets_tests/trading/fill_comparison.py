"""Comparison of two accounts that got the same stream, fill by fill: an order that both venues filled, and
each venue's own fills. Exits and positions that only one venue has are in exit_comparison.py. No tests here.

A difference in price, time or money is split into parts. Each part has one cause, and a bound that candles or
documented rates give. A part beyond its bound has no cause.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_types import Fill, Order
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets_tests.trading.compared_desk import STEP, Course
from pipeline_assets_tests.trading.compared_market import Market
from pipeline_assets_tests.trading.fill_causes import (
    MAKER,
    TAKER,
    Cause,
    Difference,
    gain_of,
    is_fee,
    is_slippage,
)

PART_MS = 8_000
"""How much later the exchange fills the second half of an order that it fills in parts."""

BLOCKED, PASSED = "-4118", "-2021"
# After a refusal, the target's cancel and its confirmation come before the exit is sent again.
_AGAIN_MS = 2 * STEP


def fills_of(course: Course) -> dict[str, list[Fill]]:
    """Return the fills by the order that was asked for: a blocked exit is sent again with another id."""
    again = {
        child_id(each, "after targets", 0): each
        for each, reason in course.reasons.items()
        if reason.startswith(BLOCKED)
    }
    found: dict[str, list[Fill]] = defaultdict(list)
    for fill in course.fills:
        found[again.get(fill.client_id, fill.client_id)].append(fill)
    return found


def minute_of(time: int) -> int:
    """Return the minute, counted from 1970, of milliseconds."""
    return time // MINUTE


def is_reached(market: Market, order: Order, minute: int) -> bool:
    """Return whether a minute's candle reaches the level of a stop or limit order."""
    falling = (order.side == "buy") == (order.kind == "limit")
    if falling:
        return market.low(order.symbol, minute, minute) <= order.price
    return market.high(order.symbol, minute, minute) >= order.price


class FillComparison:
    """Differences of the orders that both venues filled."""

    def __init__(self, market: Market, paper: Course, demo: Course) -> None:
        self.market, self.paper, self.demo = market, paper, demo
        self.on_paper, self.on_demo = fills_of(paper), fills_of(demo)

    def differences(self) -> Iterator[Difference]:
        """Yield the differences of single fills and of orders that both venues filled."""
        for course in (self.paper, self.demo):
            yield from self._own(course)
        for client_id in [each for each in self.on_paper if each in self.on_demo]:
            yield from self._filled_by_both(client_id)

    def gain(self, fills: Iterable[Fill]) -> Decimal:
        """Return what fills are worth at the price at which their symbol began, in 1e-8."""
        first = minute_of(self.market.start)
        gains = (gain_of(each, self.market.open(each.symbol, first)) for each in fills)
        return sum(gains, Decimal(0))

    # --- each venue's own fills ---

    def _own(self, course: Course) -> Iterator[Difference]:
        """Yield what is wrong with a venue's fills by themselves."""
        filled: dict[str, int] = defaultdict(int)
        seen: set[tuple[str, int]] = set()
        for fill in course.fills:
            order = course.orders.get(fill.client_id)
            filled[fill.client_id] += fill.quantity
            wrong = {
                "belongs to no order": order is None,
                "comes twice": (fill.symbol, fill.trade_id) in seen,
                "has the other side": order is not None and order.side != fill.side,
                "is more than the order": order is not None
                and filled[fill.client_id] > order.quantity,
                "is outside of its candle": order is not None and not self._in_candle(course, fill),
                "is not at its level's first candle": order is not None
                and order.kind != "market"
                and filled[fill.client_id] == fill.quantity
                and not self._in_time(course, order, fill),
                "has a fee of no rate": order is not None
                and self._rate(course, order, fill) is None,
            }
            seen.add((fill.symbol, fill.trade_id))
            for what, is_wrong in wrong.items():
                if is_wrong:
                    detail = f"{course.venue}: the fill {fill} {what}"
                    yield Difference(fill.client_id, "order", None, detail=detail)

    def _in_candle(self, course: Course, fill: Fill) -> bool:
        market, minute = self.market, minute_of(fill.time)
        low, high = (each(fill.symbol, minute, minute) for each in (market.low, market.high))
        if low <= fill.price <= high:
            return True
        if course is self.demo:
            # The exchange fills the second half of a resting limit order at the limit, wherever the price is.
            return fill.price == course.orders[fill.client_id].price
        lost = fill.price - high if fill.side == "buy" else low - fill.price
        return is_slippage(lost, fill.price, market.tick(fill.symbol))

    def _in_time(self, course: Course, order: Order, fill: Fill) -> bool:
        """Return whether a stop or limit order is filled in the first candle that reaches its level.

        The minute in which the order was sent may have reached the level before.
        """
        filled, sent = minute_of(fill.time), minute_of(course.sent_at[order.client_id])
        early = any(is_reached(self.market, order, each) for each in range(sent + 1, filled))
        return is_reached(self.market, order, filled) and not early

    def _rate(self, course: Course, order: Order, fill: Fill) -> Decimal | None:
        """Return the rate of a fill's fee, None for a wrong one."""
        at_once = course is self.demo and fill.time == course.sent_at[order.client_id]
        rate = MAKER if order.kind == "limit" and not at_once else TAKER
        return rate if is_fee(fill, rate) else None

    # --- orders that both venues filled ---

    def _filled_by_both(self, client_id: str) -> Iterator[Difference]:
        on_paper, on_demo = self.on_paper[client_id], self.on_demo[client_id]
        order, other = self.paper.orders[client_id], self.demo.orders[client_id]
        if len(on_paper) > 1 or (order.kind, order.side) != (other.kind, other.side):
            yield Difference(client_id, "order", None, detail=f"{order}, {other}, {on_paper}")
            return
        if sum(each.quantity for each in on_demo) != on_paper[0].quantity:
            money = self.gain(on_paper) - self.gain(on_demo)
            detail = f"{on_paper[0]}, {on_demo}"
            yield Difference(client_id, "quantity", None, money=money, detail=detail)
            return
        if len(on_demo) > 1:
            yield Difference(client_id, "quantity", Cause.PARTS)
        prices = {"market": self._market_price, "stop": self._stop_price}
        for fill in on_demo:
            for cause, part in prices.get(order.kind, self._limit_price)(on_paper[0], fill):
                if part:
                    yield self._priced(client_id, cause, part, fill)
            yield from self._time(order, on_paper[0], on_demo[0], fill)
        yield from self._fee(client_id, on_paper[0], on_demo)

    def _priced(self, client_id: str, cause: Cause | None, part: int, fill: Fill) -> Difference:
        money = Decimal(-part * fill.signed) / UNIT
        return Difference(
            client_id, "price", cause, part / fill.price, money=money, detail=f"{part} of {fill}"
        )

    def _market_price(self, fill: Fill, other: Fill) -> Iterator[tuple[Cause | None, int]]:
        """Paper takes the open after the order, slipped; the exchange takes the price of the moment."""
        market, symbol, minute = self.market, fill.symbol, minute_of(fill.time)
        opened, first = market.open(symbol, minute), minute_of(other.time)
        cause = None
        if first < minute:
            low, high = (each(symbol, first, minute - 1) for each in (market.low, market.high))
            cause = Cause.LATER_OPEN if abs(opened - other.price) <= high - low else None
        yield cause, opened - other.price
        yield self._slipped(fill, opened)

    def _slipped(self, fill: Fill, price: int) -> tuple[Cause | None, int]:
        lost = fill.price - price if fill.side == "buy" else price - fill.price
        within = is_slippage(lost, price, self.market.tick(fill.symbol))
        return (Cause.SLIPPAGE if within else None), fill.price - price

    def _stop_price(self, fill: Fill, other: Fill) -> Iterator[tuple[Cause | None, int]]:
        """Both are triggered at their own level, each of which lies off its venue's entry."""
        order, theirs = self.paper.orders[fill.client_id], self.demo.orders[other.client_id]
        yield self.level(order, theirs)
        opened = self.market.open(fill.symbol, minute_of(fill.time))
        sign = 1 if fill.side == "buy" else -1
        start = opened if sign * (opened - order.price) > 0 else order.price
        yield Cause.GAP, start - order.price
        yield self._slipped(fill, start)
        yield from self._touch(theirs, other)

    def _touch(self, order: Order, fill: Fill) -> Iterator[tuple[Cause | None, int]]:
        """The exchange fills at the price seen at the touch, and a second part at that of its own moment."""
        first = self.on_demo[order.client_id][0]
        ticks = (first.price - order.price) * (1 if fill.side == "buy" else -1)
        minute = minute_of(first.time)
        low, high = (
            each(fill.symbol, minute, minute) for each in (self.market.low, self.market.high)
        )
        # A level that the minute passed before the order was there is touched at the next new extreme.
        near = 0 <= ticks <= high - low
        yield (Cause.TOUCH if near else None), order.price - first.price
        yield Cause.PARTS, first.price - fill.price

    def _limit_price(self, fill: Fill, other: Fill) -> Iterator[tuple[Cause | None, int]]:
        """Both fill at their own limit, or better: paper at an open, the exchange at once."""
        order, theirs = self.paper.orders[fill.client_id], self.demo.orders[other.client_id]
        yield self.level(order, theirs)
        opened = self.market.open(fill.symbol, minute_of(fill.time))
        gained = (order.price - fill.price) * (1 if fill.side == "buy" else -1)
        fits = gained == 0 or (gained > 0 and fill.price == opened)
        gained = (theirs.price - other.price) * (1 if fill.side == "buy" else -1)
        at_once = other.time == self.demo.sent_at[other.client_id]
        fits = fits and (gained == 0 or (gained > 0 and at_once))
        better = (fill.price - order.price) - (other.price - theirs.price)
        yield (Cause.BETTER_PRICE if fits else None), better

    def level(self, order: Order, theirs: Order) -> tuple[Cause | None, int]:
        """Levels off different entries differ as much as these, to a tick."""
        difference = order.price - theirs.price
        entries = [
            sum(each.quantity * each.price for each in fills) / sum(each.quantity for each in fills)
            for fills in (self.on_paper.get(order.parent), self.on_demo.get(order.parent))
            if fills
        ]
        bound = 0.0
        if len(entries) == 2:
            # A level is a part of the entry of at most 0.2 %; an average of two parts lies between these.
            prices = [each.price for each in self.on_demo[order.parent]]
            apart = abs(entries[0] - entries[1]) + max(prices) - min(prices)
            bound = 1.002 * apart + 2 * self.market.tick(order.symbol)
        return (Cause.OWN_LEVEL if abs(difference) <= bound else None), difference

    def _time(self, order: Order, fill: Fill, first: Fill, other: Fill) -> Iterator[Difference]:
        parts = self._market_time if order.kind == "market" else self._range_time
        for cause, milliseconds in (
            *parts(fill, first),
            (
                (Cause.PARTS if other.time - first.time == PART_MS else None),
                first.time - other.time,
            ),
        ):
            if milliseconds:
                detail = f"{fill}, {other}"
                yield Difference(
                    order.client_id, "time", cause, milliseconds=milliseconds, detail=detail
                )

    def _market_time(self, fill: Fill, first: Fill) -> Iterator[tuple[Cause | None, int]]:
        sent, theirs = (course.sent_at[fill.client_id] for course in (self.paper, self.demo))
        again = first.client_id != fill.client_id
        delay = first.time - theirs
        if sent != theirs or (delay and not (again and delay <= _AGAIN_MS)):
            yield None, delay
        elif again:
            yield Cause.BLOCKED_EXIT, -delay
        next_open = (minute_of(sent) + 1) * MINUTE
        yield (Cause.LATER_OPEN if fill.time == next_open else None), fill.time - theirs

    def _range_time(self, fill: Fill, first: Fill) -> Iterator[tuple[Cause | None, int]]:
        """Paper books at the end of the minute; another minute needs another level or an earlier minute."""
        order, theirs = self.paper.orders[fill.client_id], self.demo.orders[first.client_id]
        minute, other = minute_of(fill.time), minute_of(first.time)
        cause: Cause | None = None
        if minute == other:
            cause = Cause.END_OF_MINUTE if (fill.time + 1) % MINUTE == 0 else None
        elif order.reduce_only and self.before_entry(order.parent, first.time):
            cause = Cause.REST_OF_MINUTE
        elif not order.reduce_only and other == minute_of(self.demo.sent_at[first.client_id]):
            between = range(other + 1, minute)
            waited = not any(is_reached(self.market, order, each) for each in between)
            cause = Cause.REST_OF_MINUTE if waited else None
        elif order.price != theirs.price:
            early, late = (order, theirs) if minute < other else (theirs, order)
            between = range(min(minute, other), max(minute, other))
            waited = not any(is_reached(self.market, late, each) for each in between)
            reached = is_reached(self.market, early, min(minute, other))
            cause = Cause.OWN_LEVEL if waited and reached else None
        yield cause, fill.time - first.time

    def before_entry(self, entry: str, time: int) -> bool:
        """Return whether the exchange's exit follows its entry in one minute, before paper's entry."""
        fills, theirs = self.on_paper.get(entry), self.on_demo.get(entry)
        if not fills or not theirs:
            return False
        return time < fills[0].time and minute_of(time) == minute_of(theirs[0].time)

    def _fee(self, client_id: str, fill: Fill, on_demo: Iterable[Fill]) -> Iterator[Difference]:
        """Fees are those of each fill's own rate; `_own` checked that."""
        theirs = list(on_demo)
        difference = fill.fee - sum(each.fee for each in theirs)
        if not difference:
            return
        rates = {
            self._rate(course, course.orders[each.client_id], each)
            for course, each in [(self.paper, fill), *((self.demo, each) for each in theirs)]
        }
        moved = any(each.price != fill.price for each in theirs)
        cause = None
        if None not in rates:
            same = Cause.FEE_OF_PRICE if moved else Cause.ROUNDING
            cause = same if len(rates) == 1 else Cause.MAKER_FEE
        if cause is Cause.ROUNDING and abs(difference) > len(theirs):
            cause = None
        yield Difference(client_id, "fee", cause, money=Decimal(-difference), detail=f"{fill}")
