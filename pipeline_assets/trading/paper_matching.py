"""Matching of the paper venue's orders with closed candles: pure, (book, candle, time) -> records. Prices are
those of a backtest (market/fill_formulas.py).

A candle is matched in two parts. Its open fills market orders. Its range liquidates, and fills stops and
targets that rest by then, as if these had rested since the open: a real venue reports a fill at once and has
the stop within a second, whereas this venue knows a fill only when its candle has closed. Its range also
fills limit orders that may open a position, if these were accepted before its minute.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading.order_ids import LIQUIDATION
from pipeline_assets.trading.order_types import Fill, Status
from pipeline_assets.trading.paper_book import MINUTE, PaperBook, PaperOrder
from pipeline_assets.trading.paper_records import (
    AnyPaperRecord,
    PaperEnded,
    PaperFilled,
    PaperLiquidated,
)


@dataclass
class Matching:
    """One matching under way; every record changes the book at once.

    Attributes:
        book: the venue's state.
        formulas: by symbol.
        now: the venue's clock, in milliseconds.
    """

    book: PaperBook
    formulas: Mapping[str, FillFormulas]
    now: int

    def open(self, minute: int, bars: Mapping[str, Bar]) -> Iterator[AnyPaperRecord]:
        """Fill the market orders that were accepted before a minute, at its open.

        An entry that meets a minute without a candle expires. An exit waits for the next candle.
        """
        for held in self.book.waiting():
            if held.order.kind != "market" or held.after >= minute:
                continue
            bar, accepted = bars.get(held.order.symbol), held.accepted_at // MINUTE
            if accepted > minute:
                continue
            late = not held.order.reduce_only and minute > accepted + 1
            if late or (bar is None and not held.order.reduce_only):
                yield self._end(held, "a minute without a candle came before its fill")
            elif bar is not None and accepted < minute:
                yield from self._at_open(held, bar, minute)

    def _at_open(self, held: PaperOrder, bar: Bar, minute: int) -> Iterator[AnyPaperRecord]:
        quantity = self._allowed(held)
        if not quantity:
            yield self._end(held, "reduce-only, and there is nothing to reduce")
            return
        formulas, sign = self.formulas[held.order.symbol], _sign(held)
        price = formulas.market_price(formulas.price(bar.open), sign)
        fee = formulas.fee(quantity, price)
        yield self._fill(held, quantity, price, fee, minute * MINUTE)

    def range(self, minute: int, bars: Mapping[str, Bar]) -> Iterator[AnyPaperRecord]:
        """Fill what a minute's candle reaches: one exit of each position, and limit orders at their price.

        The worse is taken for true: the stop comes before the target, and a position that a limit order opens
        meets the rest of the candle.
        """
        for symbol, bar in bars.items():
            before = self._position(symbol)
            yield from self._exit(symbol, bar, minute)
            exited = yield from self._meet_rest(symbol, bar, minute, before)
            for held, price in self._reached(symbol, bar, minute):
                before = self._position(symbol)
                if exited and before * _sign(held) < 0:
                    # The rest of a position waits for the next candle after an exit.
                    continue
                yield self._in_range(held, "target", price, minute)
                exited = yield from self._meet_rest(symbol, bar, minute, before, exited=exited)

    def _meet_rest(
        self, symbol: str, bar: Bar, minute: int, before: int, *, exited: bool = False
    ) -> Generator[AnyPaperRecord, None, bool]:
        """Let what a fill opened, added or turned meet the rest of its candle.

        Args:
            symbol: of the fill, if there was one.
            bar: the candle.
            minute: of the candle.
            before: the position before the fill.
            exited: whether that position had an exit in this candle.

        Returns:
            Whether the position that is there now had an exit in this candle.
        """
        position = self._position(symbol)
        same = before * position > 0
        exited = same and (exited or abs(position) < abs(before))
        if position and not exited and (not same or abs(position) > abs(before)):
            yield from self._exit(symbol, bar, minute, self.book.fills[-1][1].price)
            exited = self._position(symbol) != position
        return exited

    def _exit(
        self, symbol: str, bar: Bar, minute: int, entered: int = 0
    ) -> Iterator[AnyPaperRecord]:
        """Close a position at the stop or target that a candle reaches, or liquidate it.

        Args:
            symbol: of the position, if there is one.
            bar: the candle.
            minute: of the candle.
            entered: the price at which a limit order was filled in this candle. The candle was then at its
                worst after this; whether it was at the target after this is unknown.
        """
        position = self._position(symbol)
        if not position:
            return
        against = [
            each
            for each in self._resting(symbol, minute)
            if each.order.signed * position < 0 and self._allowed(each)
        ]
        sign = 1 if position > 0 else -1
        stop, target = _nearest(against, "stop", sign), _nearest(against, "limit", -sign)
        if entered:
            at, target = decimal(entered), None
            bar = Bar(at, max(at, bar.high), at, at) if sign < 0 else Bar(at, at, bar.low, at)
        formulas, stake = self.formulas[symbol], self.book.stakes[symbol]
        touched = formulas.touched(
            bar,
            sign,
            stop.order.price if stop else 0,
            target.order.price if target else 0,
            formulas.liquidation(position, stake.value, stake.margin),
        )
        if touched is None:
            return
        kind, price = touched
        reached = stop if kind == "stop" else target
        if kind == "liquidation":
            yield self._liquidate(symbol, position, price, minute)
        elif reached is not None:
            yield self._in_range(reached, kind, price, minute)

    def _reached(self, symbol: str, bar: Bar, minute: int) -> list[tuple[PaperOrder, int]]:
        """Return the limit orders that may open and that a candle reaches, with the price of their fill.

        The first is the one nearest to the open, which a price on its way meets first.
        """
        formulas = self.formulas[symbol]
        first, high, low = (formulas.price(each) for each in (bar.open, bar.high, bar.low))
        found = []
        for held in self._resting(symbol, minute):
            limit = held.order.price
            if held.order.kind != "limit" or held.order.reduce_only:
                continue
            if _sign(held) > 0 and low <= limit:
                found.append((held, min(first, limit)))
            elif _sign(held) < 0 and high >= limit:
                found.append((held, max(first, limit)))
        return sorted(found, key=lambda each: abs(each[1] - first))

    def _resting(self, symbol: str, minute: int) -> list[PaperOrder]:
        """Return the orders that a candle's range may fill.

        An order that may open meets no candle that was open before: its sender could know the range.
        """
        return [
            each
            for each in self.book.waiting(symbol)
            if each.order.kind != "market"
            and each.after < minute
            and (each.order.reduce_only or each.accepted_at // MINUTE < minute)
        ]

    def _position(self, symbol: str) -> int:
        return self.book.positions.get(symbol, 0)

    def _liquidate(self, symbol: str, position: int, price: int, minute: int) -> AnyPaperRecord:
        stake, number = self.book.stakes[symbol], len(self.book.fills) + 1
        price, fee = self.formulas[symbol].liquidated(position, stake.value, stake.margin, price)
        fill = Fill(
            symbol=symbol, trade_id=number, venue_id=f"liquidation-{number}",
            client_id=f"{LIQUIDATION}{number}", side="sell" if position > 0 else "buy",
            quantity=abs(position), price=price, fee=fee, time=(minute + 1) * MINUTE - 1,
        )  # fmt: skip
        return self._record(PaperLiquidated(at=self.now, fill=fill))

    def _in_range(self, held: PaperOrder, kind: str, price: int, minute: int) -> AnyPaperRecord:
        formulas, quantity = self.formulas[held.order.symbol], self._allowed(held)
        if kind == "stop":
            price = formulas.market_price(price, _sign(held))
        fee = formulas.fee(quantity, price, maker=kind == "target")
        return self._fill(held, quantity, price, fee, (minute + 1) * MINUTE - 1)

    def _allowed(self, held: PaperOrder) -> int:
        """Return how much of an order may be filled: what only reduces stops at a position of 0."""
        if not held.order.reduce_only:
            return held.order.quantity
        position = self._position(held.order.symbol)
        if position * _sign(held) >= 0:
            return 0
        return min(held.order.quantity, abs(position))

    def _fill(
        self, held: PaperOrder, quantity: int, price: int, fee: int, time: int
    ) -> AnyPaperRecord:
        order = held.order
        fill = Fill(
            symbol=order.symbol, trade_id=len(self.book.fills) + 1, venue_id=held.venue_id,
            client_id=order.client_id, side=order.side, quantity=quantity, price=price, fee=fee,
            time=time,
        )  # fmt: skip
        return self._record(PaperFilled(at=self.now, fill=fill))

    def _end(self, held: PaperOrder, reason: str) -> AnyPaperRecord:
        client_id = held.order.client_id
        return self._record(
            PaperEnded(at=self.now, client_id=client_id, status=Status.EXPIRED, reason=reason)
        )

    def _record(self, record: AnyPaperRecord) -> AnyPaperRecord:
        self.book.apply(record)
        return record


def _sign(held: PaperOrder) -> int:
    return 1 if held.order.side == "buy" else -1


def _nearest(resting: list[PaperOrder], kind: str, sign: int) -> PaperOrder | None:
    """Return the order of a kind with the highest price, or with the lowest where `sign` is -1."""
    found = [each for each in resting if each.order.kind == kind]
    return max(found, key=lambda each: sign * each.order.price, default=None)
