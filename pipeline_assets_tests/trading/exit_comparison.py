"""Comparison of two accounts that got the same stream: exits by different orders, positions that only one
venue has, funding and decisions. Orders that both venues filled are in fill_comparison.py. No tests here.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal

from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.trading.order_types import Fill, Order
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets_tests.trading.compared_desk import Course
from pipeline_assets_tests.trading.compared_market import Market
from pipeline_assets_tests.trading.fill_causes import Cause, Difference, is_slippage
from pipeline_assets_tests.trading.fill_comparison import (
    PASSED,
    FillComparison,
    is_reached,
    minute_of,
)

_FUNDING_MS = 1_000
# An order that follows from a minute is sent in the next one and filled at the open after that.
_AHEAD = 3 * MINUTE


def compare(
    market: Market, paper: Course, demo: Course, entries: Mapping[str, str]
) -> list[Difference]:
    """Return all differences; one without a cause is an error of a venue, or needs a name.

    Args:
        market: the candles of both.
        paper: the paper venue's course.
        demo: the exchange's.
        entries: by client id of a close, the entry whose position it closes.
    """
    fills = FillComparison(market, paper, demo)
    rest = ExitComparison(fills, entries)
    return [*fills.differences(), *rest.differences()]


class ExitComparison:
    """Differences of whatever only one venue has."""

    def __init__(self, fills: FillComparison, entries: Mapping[str, str]) -> None:
        self._fills, self._entries = fills, entries
        self._market, self._paper, self._demo = fills.market, fills.paper, fills.demo
        self._divergences: dict[str, list[tuple[int, int]]] = {}

    def differences(self) -> Iterator[Difference]:
        """Yield the differences of exits, positions, payments and decisions."""
        lonely: dict[str, tuple[list[Fill], list[Fill]]] = defaultdict(lambda: ([], []))
        on_paper, on_demo = self._fills.on_paper, self._fills.on_demo
        for place, (own, others) in enumerate(((on_paper, on_demo), (on_demo, on_paper))):
            for client_id in filter(self._order, own.keys() - others.keys()):
                lonely[self._entry(client_id)][place].extend(own[client_id])
        for entry, sides in sorted(lonely.items()):
            yield self._exit(entry, *(sorted(each, key=lambda fill: fill.time) for each in sides))
        yield from self._funding()
        yield from self._decisions()

    def _entry(self, client_id: str) -> str:
        order = self._order(client_id)
        parent = self._entries.get(order.parent, order.parent) if order else ""
        return parent if self._order(parent) else client_id

    def _order(self, client_id: str) -> Order | None:
        return self._paper.orders.get(client_id) or self._demo.orders.get(client_id)

    def _exit(self, entry: str, fills: list[Fill], theirs: list[Fill]) -> Difference:
        """Return the difference of exits by other orders, or of a position that only one venue has."""
        money = self._fills.gain(fills) - self._fills.gain(theirs)
        detail = f"paper {fills}, demo {theirs}"
        if not fills or not theirs:
            cause = self._position_cause(entry, fills or theirs)
            return Difference(entry, "position", cause, money=money, detail=detail)
        equal = sum(each.signed for each in fills) == sum(each.signed for each in theirs)
        within = equal and self._within_candles(fills, theirs)
        cause = self._exit_cause(entry, fills[-1], theirs[-1]) if within else None
        if cause is None:
            cause = self._other_position(fills[0].symbol, self._begun(entry))
        return Difference(
            entry,
            "exit",
            cause,
            fills[-1].price / theirs[-1].price - 1,
            fills[-1].time - theirs[-1].time,
            money,
            detail,
        )

    def _within_candles(self, fills: list[Fill], theirs: list[Fill]) -> bool:
        """Return whether the prices differ by no more than the market's range between the two exits."""
        minutes = [minute_of(each.time) for each in (*fills, *theirs)]
        symbol, first, last = fills[0].symbol, min(minutes), max(minutes)
        spread = self._market.high(symbol, first, last) - self._market.low(symbol, first, last)
        tick = self._market.tick(symbol)
        return all(
            is_slippage(max(abs(each.price - other.price) - spread, 0), each.price, tick)
            for each in fills
            for other in theirs
        )

    def _exit_cause(self, entry: str, fill: Fill, other: Fill) -> Cause | None:
        """Return why the two venues closed a position by different orders."""
        if self._fills.before_entry(entry, other.time):
            return Cause.REST_OF_MINUTE
        order, theirs = self._paper.orders[fill.client_id], self._demo.orders[other.client_id]
        checks = (self._in_one_minute, self._unreached_there, self._unreached_here)
        minutes = minute_of(fill.time), minute_of(other.time)
        return next(filter(None, (each(order, theirs, *minutes) for each in checks)), None)

    def _in_one_minute(self, order: Order, theirs: Order, minute: int, other: int) -> Cause | None:
        """Return why paper took another one of the orders that one minute could fill."""
        if minute != other or order.kind == "market":
            return None
        if self._demo.reasons.get(order.client_id, "").startswith(PASSED):
            return Cause.REFUSED_STOP
        if self._waits(theirs, minute):
            return Cause.WAITING_EXIT
        both = all(is_reached(self._market, each, minute) for each in (order, theirs))
        return Cause.BOTH_TOUCHED if both and theirs.kind != "market" else None

    def _unreached_there(self, order: Order, _: Order, minute: int, other: int) -> Cause | None:
        """Return why the exchange did not fill the stop or target that paper filled."""
        counterpart = self._demo.orders.get(order.client_id)
        if order.kind == "market" or counterpart is None or minute > other:
            return None
        if order.price == counterpart.price:
            sent = minute_of(self._demo.sent_at[order.client_id])
            return Cause.WHOLE_CANDLE if sent == minute else None
        return self._own_level(order, counterpart, minute)

    def _unreached_here(self, _: Order, theirs: Order, minute: int, other: int) -> Cause | None:
        """Return why paper did not fill the stop or target that the exchange filled."""
        counterpart = self._paper.orders.get(theirs.client_id)
        if theirs.kind == "market" or counterpart is None or other > minute:
            return None
        return self._own_level(theirs, counterpart, other)

    def _waits(self, theirs: Order, minute: int) -> bool:
        """Return whether paper's exit at the market waited for an open when another order was filled."""
        asked = next(
            (
                each
                for each, fills in self._fills.on_demo.items()
                if theirs.client_id in {one.client_id for one in fills}
            ),
            theirs.client_id,
        )
        sent = self._paper.sent_at.get(asked)
        kind = self._demo.orders[asked].kind
        return kind == "market" and sent is not None and minute_of(sent) == minute

    def _own_level(self, early: Order, late: Order, minute: int) -> Cause | None:
        """Return the cause if a minute's candle lies between two levels that differ as the entries do."""
        reached = is_reached(self._market, early, minute)
        missed = not is_reached(self._market, late, minute)
        cause, _ = self._fills.level(early, late)
        return cause if reached and missed else None

    def _begun(self, entry: str) -> int:
        """Return when the first one of the venues' fills of an entry or its exits came."""
        fills = [
            each
            for course in (self._paper, self._demo)
            for each in course.fills
            if self._entry(each.client_id) == entry
        ]
        return min(each.time for each in fills)

    def _position_cause(self, entry: str, fills: list[Fill]) -> Cause | None:
        """Return why only one venue has a position, or one exit of it."""
        order = self._order(entry)
        assert order is not None
        if self._is_held_back(entry, order.symbol):
            return Cause.OTHER_POSITION
        if sum(each.signed for each in fills):
            return self._exit_of_one(fills[-1]) or self._other_position(
                order.symbol, self._begun(entry)
            )
        if order.kind == "limit" and fills[0].client_id == entry:
            sent = minute_of(self._demo.sent_at[entry])
            later = range(sent + 1, max(minute_of(each.time) for each in fills))
            waited = not any(is_reached(self._market, order, each) for each in later)
            at_once = minute_of(fills[0].time) == sent and entry in self._fills.on_demo
            return Cause.REST_OF_MINUTE if at_once and waited else None
        return self._other_position(order.symbol, fills[0].time)

    def _exit_of_one(self, fill: Fill) -> Cause | None:
        """Return why only one venue's stop or target was reached."""
        courses = (self._paper, self._demo)
        pair = [each.orders.get(fill.client_id) for each in courses]
        early, late = pair if fill.client_id in self._fills.on_paper else reversed(pair)
        if early is None or late is None or early.kind == "market":
            return None
        return self._own_level(early, late, minute_of(fill.time))

    # --- what follows from an exit at another time ---

    def _is_held_back(self, entry: str, symbol: str) -> bool:
        """Return whether one venue's trader did not send an entry, since the symbol still had a position."""
        for course, other in ((self._paper, self._demo), (self._demo, self._paper)):
            if entry in course.held_back and entry in other.orders:
                return _position(course, symbol, other.sent_at[entry]) != 0
        return False

    def _other_position(self, symbol: str, time: int) -> Cause | None:
        """Return the cause if the positions of a symbol differed until shortly before a time."""
        if symbol not in self._divergences:
            self._divergences[symbol] = self._divergences_of(symbol)
        for start, end in self._divergences[symbol]:
            if start < time <= end + _AHEAD:
                return Cause.OTHER_POSITION
        return None

    def _divergences_of(self, symbol: str) -> list[tuple[int, int]]:
        """Return from when to when positions differ for longer than one fill's times do, a minute."""
        times = sorted(
            {
                each.time
                for course in (self._paper, self._demo)
                for each in course.fills
                if each.symbol == symbol
            }
        )
        found, start = [], 0
        for time in times:
            ours, theirs = (_position(each, symbol, time) for each in (self._paper, self._demo))
            if ours != theirs:
                start = start or time
            elif start:
                found.append((start, time))
                start = 0
        if start:
            found.append((start, self._market.end))
        lasting = [(start, end) for start, end in found if end - start > MINUTE]
        return lasting + self._alone(symbol)

    def _alone(self, symbol: str) -> list[tuple[int, int]]:
        """Return from when to when one venue had a position that the other never had."""
        found = []
        for own, others in ((self._paper, self._demo), (self._demo, self._paper)):
            filled = {self._entry(each.client_id) for each in others.fills}
            alone = defaultdict(list)
            for fill in own.fills:
                entry = self._entry(fill.client_id)
                if fill.symbol == symbol and entry not in filled:
                    alone[entry].append(fill.time)
            found += [(min(times), max(times)) for times in alone.values()]
        return found

    # --- funding and decisions ---

    def _funding(self) -> Iterator[Difference]:
        ours, theirs = (
            {(symbol, minute_of(time)): (time, paid) for (symbol, time), paid in each.items()}
            for each in (self._paper.payments, self._demo.payments)
        )
        for symbol, minute in sorted(ours.keys() | theirs.keys()):
            time, paid = ours.get((symbol, minute), (minute * MINUTE, 0))
            their_time, their_paid = theirs.get((symbol, minute), (time, 0))
            late, difference = time - their_time, paid - their_paid
            if late:
                cause = Cause.FUNDING_TIME if abs(late) <= _FUNDING_MS else None
                yield Difference(symbol, "funding", cause, milliseconds=late)
            if difference:
                held = _position(self._paper, symbol, time - 1)
                their_held = _position(self._demo, symbol, their_time)
                cause = self._payment_cause(held, their_held, difference, symbol, time)
                detail = f"{held} paid {paid}, {their_held} paid {their_paid}"
                yield Difference(symbol, "funding", cause, money=Decimal(difference), detail=detail)

    def _payment_cause(
        self, held: int, their_held: int, difference: int, symbol: str, time: int
    ) -> Cause | None:
        if held == their_held:
            return Cause.ROUNDING if abs(difference) <= 1 else None
        rate = self._market.rates[minute_of(time)][symbol]
        assert rate.rate is not None
        assert rate.mark_price is not None
        expected = -(held - their_held) * rate.mark_price * rate.rate
        exact = abs(expected - difference) <= 1
        entered = [
            each.time
            for each in self._demo.fills
            if each.symbol == symbol and time - MINUTE <= each.time < time
        ]
        cause = Cause.LATER_OPEN if entered else self._other_position(symbol, time)
        return cause if exact else None

    def _decisions(self) -> Iterator[Difference]:
        ours, theirs = self._paper.decisions, self._demo.decisions
        for each in sorted(ours.keys() & theirs.keys()):
            decision, their_decision = ours[each], theirs[each]
            if decision.reason == their_decision.reason:
                continue
            candidate = decision.candidate
            close = (to_minute(candidate.open_time) + 1) * MINUTE
            cause = self._other_position(candidate.symbol, close)
            detail = f"paper {decision.reason!r}, demo {their_decision.reason!r}"
            yield Difference(each, "decision", cause, detail=detail)
        for each in sorted(ours.keys() ^ theirs.keys()):
            yield Difference(each, "decision", None, detail="only one venue has it")


def _position(course: Course, symbol: str, time: int) -> int:
    """Return the position after all fills up to a time."""
    return sum(each.signed for each in course.fills if each.symbol == symbol and each.time <= time)
