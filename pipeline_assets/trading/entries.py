"""Reasons against an entry that are no risk limits: a halted symbol, a foreign trade, a position that is not
the venue's, an orphan stop, the limit of conditional orders, and a venue that is in trouble or silent. Orders
that only reduce pass.
"""

from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading import reconciling, stops, troubles
from pipeline_assets.trading.messages import Refusal
from pipeline_assets.trading.order_types import Order
from pipeline_assets.trading.work import Work

# The exchange's limit over all symbols.
CONDITIONAL_ORDERS = 200


def refusal(work: Work, order: Order) -> Refusal | None:
    """Return why an entry is refused, or None."""
    if order.reduce_only:
        return None
    return _of_symbol(work, order.symbol) or _of_stops(work, order) or _of_venue(work)


def _of_symbol(work: Work, symbol: str) -> Refusal | None:
    halt = work.state.halts.get(symbol)
    if halt:
        return Refusal(
            "symbol_halted",
            f"Entries of {symbol} are halted ({halt}). A person ends that by `pipeline-assets gateway "
            f"resume --symbol {symbol}`.",
        )
    if any(symbol == each for each, _ in work.core.foreign_fills):
        return Refusal(
            "foreign_trade",
            f"{symbol}: the venue reports a trade of an order that is not known. Entries wait until the "
            "order is found; otherwise the symbol is halted.",
        )
    if reconciling.is_open(work, symbol):
        more = decimal(work.core.differences[symbol].quantity)
        return Refusal(
            "position_differs",
            f"{symbol}: the venue's position differs from the ledger's by {more:f}. Entries wait until "
            "trades explain that; otherwise the symbol is halted.",
        )
    return None


def _of_stops(work: Work, order: Order) -> Refusal | None:
    orphans = stops.orphans(work.state, order.symbol)
    if orphans:
        return Refusal(
            "orphan_stop",
            f"{order.symbol}: the stop {orphans[0].order.client_id} is open without a position. The gateway "
            "cancels it; repeat the order after that, with a new client id.",
        )
    if (found := stops.conditional_orders(work.state)) >= CONDITIONAL_ORDERS:
        return Refusal(
            "conditional_orders",
            f"{found} conditional orders are open or planned; the exchange allows {CONDITIONAL_ORDERS}.",
        )
    return None


def _of_venue(work: Work) -> Refusal | None:
    for trouble in work.state.troubles.values():
        return Refusal(f"venue_{trouble.kind}", f"The venue takes no entries: {trouble.text}")
    if troubles.is_silent(work):
        return Refusal(
            "venue_silent",
            f"The venue has not answered for {(work.now - work.core.unanswered_since) // 1000} s. Entries "
            "wait until it answers.",
        )
    return None
