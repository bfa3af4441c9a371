"""The events of the private stream, as documents. Who gets them, and which are lost, is in streams.py."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pipeline_assets.local.exchange.accounts.model import (
    ONE_WAY,
    ZERO,
    Account,
    AlgoOrder,
    Order,
    Position,
    Trade,
    fixed,
)
from pipeline_assets.local.exchange.contracts import Contract

Document = dict[str, Any]
ALGO_FIELDS = dict(
    pair.split("=")
    for pair in [
        "caid=client_id",
        "aid=algo_id",
        "o=kind",
        "s=symbol",
        "S=side",
        "f=time_in_force",
        "X=status",
        "cp=close_position",
        "V=self_trade_prevention",
        "wt=working_type",
        "pP=price_protect",
        "R=reduce_only",
        "tt=triggered",
        "gtd=good_till",
        "rm=reason",
    ]
)
"""The names of ALGO_UPDATE, and the attributes of a conditional order that they show as they are."""


def order_update(
    order: Order, contract: Contract, execution: str, now_ms: int, trade: Trade | None = None
) -> Document:
    """Return ORDER_TRADE_UPDATE; `execution` is its "x": NEW, TRADE, CANCELED, EXPIRED, CALCULATED."""
    price, quantity = contract.price_precision, contract.quantity_precision
    shown = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": order.kind,
        "f": order.time_in_force,
        "q": fixed(order.quantity, quantity),
        "p": fixed(order.price, price),
        "ap": fixed(order.average, price + 3) if order.executed else "0",
        "sp": fixed(order.stop_price, price),
        "x": execution,
        "X": order.status,
        "i": order.order_id,
        "l": fixed(trade.quantity if trade else ZERO, quantity),
        "z": fixed(order.executed, quantity),
        "L": fixed(trade.price if trade else ZERO, price),
        "T": now_ms,
        "t": trade.trade_id if trade else 0,
        "b": "0",
        "a": "0",
        "m": trade.maker if trade else False,
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": order.original_kind,
        "ps": ONE_WAY,
        "cp": order.close_position,
        "rp": fixed(trade.realized, 8) if trade else "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": order.self_trade_prevention,
        "pm": "NONE",
        "gtd": order.good_till,
    }
    if trade is not None:
        shown |= {"N": trade.commission_asset, "n": fixed(trade.commission, 8)}
    return {"e": "ORDER_TRADE_UPDATE", "T": now_ms, "E": now_ms, "o": shown}


def account_update(
    account: Account,
    reason: str,
    now_ms: int,
    changes: dict[str, Decimal],
    positions: Iterable[tuple[Position, Decimal]] = (),
) -> Document:
    """Return ACCOUNT_UPDATE.

    Args:
        account: whose.
        reason: ORDER, FUNDING_FEE, DEPOSIT, MARGIN_TRANSFER, ADJUSTMENT or another of the real reasons.
        now_ms: the exchange's time.
        changes: by asset the change of the balance without profit and commission ("bc").
        positions: the changed positions with their mark prices.
    """
    isolated = sum((each.isolated_wallet for each in account.positions.values()), ZERO)
    return {
        "e": "ACCOUNT_UPDATE",
        "T": now_ms,
        "E": now_ms,
        "a": {
            "m": reason,
            "B": [
                {
                    "a": asset,
                    "wb": fixed(account.wallets[asset], 8),
                    "cw": fixed(account.wallets[asset] - isolated, 8),
                    "bc": fixed(change, 8),
                }
                for asset, change in changes.items()
            ],
            "P": [
                {
                    "s": position.symbol,
                    "pa": str(position.amount),
                    "ep": str(position.entry),
                    "bep": str(position.entry),
                    "cr": fixed(position.realized, 8),
                    "up": fixed(position.unrealized(mark), 8),
                    "mt": "isolated" if position.isolated else "cross",
                    "iw": fixed(position.isolated_wallet, 8),
                    "ps": ONE_WAY,
                }
                for position, mark in positions
            ],
        },
    }


def algo_update(algo: AlgoOrder, contract: Contract, now_ms: int, sent: Order | None) -> Document:
    """Return ALGO_UPDATE."""
    price, quantity = contract.price_precision, contract.quantity_precision
    shown = {short: getattr(algo, name) for short, name in ALGO_FIELDS.items()}
    shown |= {"at": "CONDITIONAL", "ps": ONE_WAY, "pm": "NONE", "q": fixed(algo.quantity, quantity)}
    shown |= {"tp": fixed(algo.trigger_price, price), "p": fixed(algo.price, price)}
    shown |= {"ai": "", "ap": "0.00000", "aq": "0.00000", "act": "0"}
    if sent is not None:
        shown |= {"ai": str(sent.order_id), "ap": fixed(sent.average, price + 3)}
        shown |= {"aq": fixed(sent.executed, quantity), "act": sent.kind}
    return {"e": "ALGO_UPDATE", "T": now_ms, "E": now_ms, "o": shown}


def margin_call(
    account: Account,
    asset: str,
    position: Position,
    mark: Decimal,
    maintenance: Decimal,
    now_ms: int,
) -> Document:
    """Return MARGIN_CALL for one position."""
    return {
        "e": "MARGIN_CALL",
        "E": now_ms,
        "cw": fixed(account.wallets[asset], 8),
        "p": [
            {
                "s": position.symbol,
                "ps": ONE_WAY,
                "pa": str(position.amount),
                "mt": position.margin_type,
                "iw": fixed(position.isolated_wallet, 8),
                "mp": str(mark),
                "up": fixed(position.unrealized(mark), 8),
                "mm": fixed(maintenance, 8),
            }
        ],
    }


def leverage_changed(symbol: str, leverage: int, now_ms: int) -> Document:
    """Return ACCOUNT_CONFIG_UPDATE for a symbol's leverage."""
    return {
        "e": "ACCOUNT_CONFIG_UPDATE",
        "E": now_ms,
        "T": now_ms,
        "ac": {"s": symbol, "l": leverage},
    }


def multi_assets_changed(enabled: bool, now_ms: int) -> Document:
    """Return ACCOUNT_CONFIG_UPDATE for the multi-assets mode."""
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ai": {"j": enabled}}


def listen_key_expired(listen_key: str, now_ms: int) -> Document:
    """Return listenKeyExpired, after which a key brings no more events."""
    return {"e": "listenKeyExpired", "E": now_ms, "listenKey": listen_key}
