"""The orders of the trader's trades: entries and exits by the position rules, stop and target after a fill,
and cancels of what is left. Decisions are made in trader.py.

Every order's id follows from its decision, so that a repeat after a crash sends nothing twice.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.position_keeper import PositionKeeper
from pipeline_assets.market.position_view import (
    KeptPosition,
    PlannedEntry,
    forget,
    forget_entry,
    kept_positions,
    planned_entries,
)
from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading.decider import strategy_name
from pipeline_assets.trading.decisions import EARLIER_TRADE_OPEN, STALE, Decision, Intent
from pipeline_assets.trading.earlier_trades import open_trade
from pipeline_assets.trading.gateway_client import GatewayClient
from pipeline_assets.trading.order_ids import LIQUIDATION, entry_id
from pipeline_assets.trading.order_types import Fill, Order, Status
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.records import FillBooked, OrderChanged, OrderSending, Record
from pipeline_assets.trading.trades import GATEWAY, Trade, entry_order, shared_out

_ENDED = frozenset({Status.CANCELED, Status.EXPIRED, Status.REJECTED, Status.NOT_PLACED})
# An order that was taken for not placed can still be filled; after a day it is not waited for.
_REMEMBERED = 1_440
# Market orders that are sent within a minute are filled at the open of the next one.
_AHEAD = 2
# Two fills may be booked in another order than they happened: a difference must last until the next minute.
_LASTING = 30_000
_ENDED_OUTSIDE = "the position was closed outside the trader; the trade ends."


@dataclass
class TraderOrders:
    """The open trades of one account, by the client id of their entry.

    Attributes:
        keeper: the positions as the rules have them; the trades are what the venue made of these.
        note: takes what is expected and worth a line in the log.
    """

    keeper: PositionKeeper
    formulas: Mapping[str, FillFormulas]
    gateway: GatewayClient
    clock: Callable[[], int]
    on_closed: Callable[[Trade], object]
    warn: Callable[[str], object]
    note: Callable[[str], object] = lambda _: None
    trades: dict[str, Trade] = field(default_factory=dict)
    _newest_ended: dict[str, Trade] = field(init=False, default_factory=dict)

    async def on_minute(
        self, minute: int, accepted: Iterable[Decision], *, in_time: bool
    ) -> list[Intent]:
        """Send the exits and entries that follow from a minute; return an intent for each accepted decision.

        Args:
            minute: to which the keeper was moved on.
            accepted: the accepted decisions of this minute.
            in_time: whether an entry would still be filled at the open that the rules assume.
        """
        await self._compare(minute)
        kept = kept_positions(self.keeper)
        await self._trail(minute, kept)
        await self._exit(minute, kept)
        planned = {(each.strategy, each.symbol): each for each in planned_entries(self.keeper)}
        intents = []
        for each in accepted:
            candidate = each.candidate
            entry = planned.get((strategy_name(candidate), candidate.symbol))
            if entry is None:
                intents.append(self._closing(each))
            else:
                leaving = [
                    trade
                    for trade in self._by_rules(kept)
                    if trade.symbol == entry.symbol and trade.signal_minute != minute
                ]
                intents.append(await self._enter(each, entry, minute, leaving, in_time=in_time))
        self._reconcile(minute)
        return intents

    async def on_record(self, record: Record) -> None:
        """Take in an order that was sent, a fill, or an order's end."""
        match record:
            case OrderSending(order=order) if order.decision_id:
                self._sent(order, record.at)
            case FillBooked(fill=fill):
                await self._filled(fill)
            case OrderChanged(client_id=client_id, status=status) if status in _ENDED:
                await self._ended(client_id, record)
            case OrderChanged(client_id=client_id, status=Status.OPEN):
                for trade in self.trades.values():
                    if trade.stop_id == client_id:
                        await self._cancel_replaced(trade)

    async def protect_again(self, minute: int) -> None:
        """Protect every open position whose stop or target does not rest at the gateway."""
        for trade in self.trades.values():
            states = {each: await self.gateway.status(each) for each in trade.resting}
            unsent = [each for each, status in states.items() if status is None]
            ended = [each for each, status in states.items() if status in _ENDED]
            # An unsent exit keeps its id, in case that the exchange has it. An ended one needs another id.
            for gone, again in ((unsent, 0), (ended, minute)):
                for client_id in gone:
                    trade.gone(client_id)
                if trade.filled:
                    await self._protect(trade, again)

    async def _enter(
        self,
        decision: Decision,
        planned: PlannedEntry,
        minute: int,
        leaving: list[Trade],
        *,
        in_time: bool,
    ) -> Intent:
        """Send an entry, or say why not.

        Args:
            decision: that is accepted.
            planned: the entry by the rules.
            minute: of the signal.
            leaving: the trade that the entry reverses, if the rules and the venue have one.
            in_time: whether the entry would still be filled at the open that the rules assume.
        """
        order = entry_order(decision.id, planned, self.keeper.strategies[planned.strategy])
        known = await self.gateway.status(order.client_id)
        reason = ""
        if known is None:
            reason = await self._obstacle(order, leaving) if in_time else STALE
        if not reason and known is None:
            refusal = await self.gateway.place(order)
            if refusal:
                self.warn(f"The entry of decision {decision.id} was refused: {refusal.message}")
                reason = refusal.code
            else:
                self.trades[order.client_id] = Trade.sent(order, minute)
        if reason:
            forget_entry(self.keeper, planned.symbol, minute)
        return Intent(
            decision_id=decision.id,
            action="reverse" if leaving else "open",
            outcome="skipped" if reason else "sent",
            order_id="" if reason else order.client_id,
            reason=reason,
        )

    async def _obstacle(self, entry: Order, leaving: list[Trade]) -> str:
        """Return why an entry may not be sent now; empty if it may."""
        earlier = await open_trade(entry, self._of(entry.symbol), leaving, self.gateway)
        if earlier is None:
            return ""
        self.warn(
            f"{entry.symbol}: the entry of decision {entry.decision_id} is not sent, since an earlier trade, "
            f"{earlier.entry_id}, is not closed at the venue."
        )
        return EARLIER_TRADE_OPEN

    def _of(self, symbol: str) -> list[Trade]:
        return [each for each in self.trades.values() if each.symbol == symbol]

    def _sent(self, order: Order, at: int) -> None:
        """Take in an order that a process sent before it could note it."""
        if order.reduce_only:
            parent = self.trades.get(order.parent)
            if parent is not None:
                parent.child_sent(order)
        elif order.client_id in self.trades:
            # A gateway of an earlier version leaves the stop out, and the trader has to place it.
            self.trades[order.client_id].stop_part = order.stop_part
        elif order.client_id == entry_id(order.decision_id):
            # An entry leaves in the minute after that of its signal.
            self.trades[order.client_id] = Trade.sent(order, at // MINUTE - 1)

    def _closing(self, decision: Decision) -> Intent:
        """Return the intent of a signal that ends the position of its strategy."""
        order_id = next((each.exit_id for each in self._of(decision.symbol) if each.exit_id), "")
        return Intent(
            decision_id=decision.id,
            action="close",
            outcome="sent" if order_id else "skipped",
            order_id=order_id,
            reason="" if order_id else "no_position",
        )

    async def _exit(self, minute: int, kept: Mapping[str, KeptPosition]) -> None:
        by_rules = self._by_rules(kept)
        for trade in by_rules:
            trade.stray_since = 0
            position = kept[trade.symbol]
            if not _leaves(position, minute) or trade.exit_id:
                continue
            await self._place(trade, trade.exit(position.exit_reason, minute))
        for trade in [each for each in self.trades.values() if each not in by_rules]:
            # The rules have closed the position. Its own exit may be reported a little later.
            if not trade.stray_since:
                trade.stray_since = minute
            elif trade.filled and not trade.exit_id:
                self.warn(f"{trade.symbol}: the rules do not have {trade.entry_id}; it is closed.")
                await self._place(trade, trade.exit("rules", minute))
            elif not trade.filled and minute - trade.stray_since > _REMEMBERED:
                self.trades.pop(trade.entry_id)

    async def _trail(self, minute: int, kept: Mapping[str, KeptPosition]) -> None:
        for trade in self._by_rules(kept):
            if not trade.filled or trade.closed:
                continue
            await self._protect(trade)
            best = kept[trade.symbol].best or trade.entry_price
            rules, formulas = self.keeper.strategies[trade.strategy], self.formulas[trade.symbol]
            nearer = trade.trailed(formulas, rules, best, minute)
            if nearer is not None:
                # The new stop first: for a moment both rest, and neither can open a position.
                await self._place(trade, nearer)
            await self._cancel_replaced(trade)

    async def _cancel_replaced(self, trade: Trade) -> None:
        """Cancel stops whose successor the venue has confirmed; until then a position keeps its old stop."""
        if trade.replaced and await self.gateway.status(trade.stop_id) is Status.OPEN:
            for client_id in trade.replaced:
                await self._cancel(client_id)
            trade.replaced.clear()

    def _by_rules(self, kept: Mapping[str, KeptPosition]) -> list[Trade]:
        """Return the trades that the keeper has, too."""
        return [
            each
            for each in self.trades.values()
            if each.symbol in kept and kept[each.symbol].signal_minute == each.signal_minute
        ]

    async def _place(self, trade: Trade, order: Order) -> None:
        refusal = await self.gateway.place(order)
        if refusal:
            trade.refused(order)
            self.warn(f"Order {order.client_id} of {order.symbol} was refused: {refusal.message}")

    async def _cancel(self, client_id: str) -> None:
        await self.gateway.cancel(client_id)

    async def _filled(self, fill: Fill) -> None:
        entry = self.trades.get(fill.client_id)
        if entry is not None:
            entry.entry_filled(fill)
            if entry.entry_complete:
                await self._protect(entry)
            return
        trade, reason = self._ended_by(fill)
        if trade is None:
            return
        trade.exit_filled(fill, reason)
        if trade.closed:
            await self._clean_up(trade)

    def _ended_by(self, fill: Fill) -> tuple[Trade | None, str]:
        """Return the trade that a fill of a child, a person's close or a liquidation makes smaller."""
        for trade in self.trades.values():
            if fill.client_id in trade.reasons:
                return trade, trade.reasons[fill.client_id]
        reason = "liquidation" if fill.client_id.startswith(LIQUIDATION) else GATEWAY
        for trade in self.trades.values():
            if trade.symbol == fill.symbol and trade.filled and trade.sign * fill.signed < 0:
                return trade, reason
        return None, ""

    async def _protect(self, trade: Trade, again: int = 0) -> None:
        rules = self.keeper.strategies.get(trade.strategy)
        if rules is None:
            # The settings changed since the entry: the next minutes end the trade, whether it has a position.
            return
        for order in trade.protection(self.formulas[trade.symbol], rules, again):
            await self._place(trade, order)

    async def _clean_up(self, trade: Trade) -> None:
        """Cancel what rests of an ended trade."""
        for client_id in trade.resting:
            # One that is at its end already is left as it is.
            await self._cancel(client_id)
        self.trades.pop(trade.entry_id, None)
        self._newest_ended[trade.symbol] = trade
        self.on_closed(trade)

    async def _ended(self, client_id: str, record: OrderChanged) -> None:
        """Take in that an order ended without being filled, or not as a whole."""
        entry = self.trades.get(client_id)
        if entry is not None and not entry.filled:
            self.warn(f"The entry {client_id} of {entry.symbol} was not filled: {record.status}.")
            forget_entry(self.keeper, entry.symbol, entry.signal_minute)
            if record.status is not Status.NOT_PLACED:
                self.trades.pop(client_id)
        elif entry is not None and entry.filled < entry.quantity:
            entry.quantity = entry.filled
            await self._protect(entry)
        for trade in self.trades.values():
            if trade.exit_id == client_id and not trade.closed:
                # The next minute sends another one.
                trade.exit_id = ""
            elif trade.stop_id == client_id and trade.replaced and not trade.closed:
                # The nearer stop was refused: the one before still rests, and the next minute tries again.
                trade.gone(client_id)

    async def _compare(self, minute: int) -> None:
        """Compare the trades with the account: a trade without any position left ends.

        Orders of other callers change the same position, and the exits of a trade, which only reduce, cannot
        close what the account does not have.
        """
        if not any(each.remaining for each in self.trades.values()):
            return
        held, now = await self.gateway.positions(), self.clock()
        for trade, there in shared_out(list(self.trades.values()), held):
            if there == trade.remaining or not trade.entry_complete:
                trade.short_since = 0
            elif not trade.short_since:
                trade.short_since = now
            elif now - trade.short_since >= _LASTING:
                await self._shrink(trade, there, minute, now)

    async def _shrink(self, trade: Trade, there: int, minute: int, now: int) -> None:
        """Take in that the account has only a part of a trade's position, or nothing."""
        missing = trade.remaining - there
        trade.closed_outside(missing, now)
        if there:
            self.warn(
                f"{trade.symbol}: {decimal(missing):f} of the position was closed outside the trader; the "
                f"trade goes on with {decimal(there):f}."
            )
            return
        self.warn(f"{trade.symbol}: {_ENDED_OUTSIDE}")
        kept = kept_positions(self.keeper).get(trade.symbol)
        if kept and kept.signal_minute == trade.signal_minute and not _leaves(kept, minute):
            forget(self.keeper, trade.symbol)
        await self._clean_up(trade)

    def _reconcile(self, minute: int) -> None:
        """Give up positions that the rules have and no trade has.

        An exit by the rules may be filled before the open that these assume, at which they end the position.
        """
        for symbol, kept in kept_positions(self.keeper).items():
            expected = kept.signal_minute + _AHEAD <= minute
            if not expected or self._of(symbol) or _leaves(kept, minute):
                continue
            ended = self._newest_ended.get(symbol)
            if ended and ended.signal_minute == kept.signal_minute and ended.ended_by_own_order:
                self.note(
                    f"{symbol}: the trade {ended.entry_id} has ended by its {ended.exit_reason} at the "
                    "venue, which the rules have not reached; these give the position up."
                )
            else:
                self.warn(f"{symbol}: {_ENDED_OUTSIDE}")
            forget(self.keeper, symbol)


def _leaves(position: KeptPosition, minute: int) -> bool:
    """Return whether the rules themselves end a position at the next open or the one after."""
    return position.exit_due is not None and position.exit_due <= minute + _AHEAD
