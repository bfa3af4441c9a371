"""Accounts, balances and positions as the REST replies show them."""

from decimal import Decimal
from typing import Any

from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.margin import (
    Margin,
    largest_notional,
    maintenance,
)
from pipeline_assets.local.exchange.accounts.model import (
    ONE_WAY,
    ZERO,
    Account,
    Position,
    fixed,
)
from pipeline_assets.local.exchange.accounts.views import (
    algo_view,
    income_view,
    order_view,
    trade_view,
)

Row = dict[str, Any]


def asset_rows(desk: Desk, account: Account) -> list[Row]:
    """Return an account's assets with their margin."""
    margin = desk.margin(account)
    return [asset_row(account, margin, asset, desk.now) for asset in sorted(account.wallets)]


def asset_row(account: Account, margin: Margin, asset: str, now_ms: int) -> Row:
    """Return one asset of the account reply."""
    wallet, profit = account.wallets[asset], margin.unrealized(asset)
    held = margin.positions(asset)
    positions = sum((margin.position_margin(each) for each in held), ZERO)
    orders = margin.order_margin(asset)
    bound = sum((maintenance(margin.notional(each)) for each in held), ZERO)
    available = fixed(margin.available(asset), 8)
    return {
        "asset": asset,
        "walletBalance": fixed(wallet, 8),
        "unrealizedProfit": fixed(profit, 8),
        "marginBalance": fixed(wallet + profit, 8),
        "maintMargin": fixed(bound, 8),
        "initialMargin": fixed(positions + orders, 8),
        "positionInitialMargin": fixed(positions, 8),
        "openOrderInitialMargin": fixed(orders, 8),
        "crossWalletBalance": fixed(wallet - margin.isolated_wallets(asset), 8),
        "crossUnPnl": fixed(profit, 8),
        "availableBalance": available,
        "maxWithdrawAmount": available,
        "marginAvailable": True,
        "updateTime": now_ms,
    }


TOTALS = {
    "totalInitialMargin": "initialMargin",
    "totalMaintMargin": "maintMargin",
    "totalWalletBalance": "walletBalance",
    "totalUnrealizedProfit": "unrealizedProfit",
    "totalMarginBalance": "marginBalance",
    "totalPositionInitialMargin": "positionInitialMargin",
    "totalOpenOrderInitialMargin": "openOrderInitialMargin",
    "totalCrossWalletBalance": "crossWalletBalance",
    "totalCrossUnPnl": "crossUnPnl",
    "availableBalance": "availableBalance",
    "maxWithdrawAmount": "maxWithdrawAmount",
}


def account_view(desk: Desk, account: Account, version: int) -> Row:
    """Return the reply of account, version 2 or 3."""
    assets = asset_rows(desk, account)
    totals = {
        total: fixed(sum((Decimal(row[name]) for row in assets), ZERO), 8)
        for total, name in TOTALS.items()
    }
    shown: Row = totals | {"assets": assets}
    if version == 2:
        shown = account_config(desk, account, dual=False) | {"updateTime": 0} | shown
    every = version == 2
    shown["positions"] = [
        account_position(desk, account, account.position(symbol), version)
        for symbol in position_symbols(desk, account, every=every)
    ]
    return shown


def account_config(desk: Desk, account: Account, *, dual: bool) -> Row:
    """Return the reply of accountConfig."""
    shown = {
        "feeTier": 0,
        "canTrade": account.can_trade,
        "canDeposit": True,
        "canWithdraw": account.can_withdraw,
        "updateTime": desk.now,
        "multiAssetsMargin": account.multi_assets,
        "tradeGroupId": -1,
    }
    return shown | ({"dualSidePosition": account.dual_side} if dual else {})


def position_symbols(desk: Desk, account: Account, *, every: bool) -> list[str]:
    """Return all contracts, or those with a position or an open order."""
    if every:
        return list(desk.market.contracts)
    return sorted(account.symbols() - algo_only(account))


def algo_only(account: Account) -> set[str]:
    """Return the symbols that only conditional orders wait for."""
    ordered = {order.symbol for order in account.open_orders.values()}
    return account.symbols() - ordered - {position.symbol for position in account.held()}


def account_position(desk: Desk, account: Account, position: Position, version: int) -> Row:
    """Return one position of the account reply."""
    margin = desk.margin(account)
    symbol = position.symbol
    # A price is a candle to make: without a position or an order the mark price changes nothing here.
    needed = position.amount or any(each.symbol == symbol for each in account.open_orders.values())
    mark = desk.mark(symbol) if needed else ZERO
    notional = position.amount * mark
    initial = abs(notional) / position.leverage
    orders = sum(
        (
            each.remaining * (each.price or mark) / position.leverage
            for each in account.open_orders.values()
            if each.symbol == symbol and not each.reduce_only
        ),
        ZERO,
    )
    row: Row = {
        "symbol": symbol,
        "positionSide": ONE_WAY,
        "positionAmt": fixed(position.amount, desk.contract(symbol).quantity_precision),
        "unrealizedProfit": fixed(position.unrealized(mark), 8),
        "isolatedMargin": fixed(isolated_margin(position, mark), 8),
        "notional": fixed(notional, 8),
        "isolatedWallet": fixed(position.isolated_wallet, 8),
        "initialMargin": fixed(initial + orders, 8),
        "maintMargin": fixed(maintenance(margin.notional(position)) if notional else ZERO, 8),
        "updateTime": position.updated,
    }
    if version == 2:
        row |= {
            "positionInitialMargin": fixed(initial, 8),
            "openOrderInitialMargin": fixed(orders, 8),
            "leverage": str(position.leverage),
            "isolated": position.isolated,
            "entryPrice": fixed(position.entry, 8),
            "breakEvenPrice": fixed(position.entry, 8),
            "maxNotional": str(largest_notional(position.leverage)),
            "bidNotional": "0",
            "askNotional": "0",
        }
    return row


def isolated_margin(position: Position, mark: Decimal) -> Decimal:
    """Return an isolated position's margin with its profit, 0 for a cross one."""
    if not position.isolated:
        return ZERO
    return position.isolated_wallet + position.unrealized(mark)


def risk_row(desk: Desk, account: Account, position: Position, version: int) -> Row:
    """Return one row of positionRisk, version 2 or 3."""
    contract, mark = desk.contract(position.symbol), desk.mark(position.symbol)
    margin = desk.margin(account)
    own = account_position(desk, account, position, 2)
    row: Row = {
        "symbol": position.symbol,
        "positionSide": ONE_WAY,
        "positionAmt": own["positionAmt"],
        "entryPrice": fixed(position.entry, 8),
        "breakEvenPrice": fixed(position.entry, 8),
        "markPrice": fixed(mark, 8),
        "unRealizedProfit": own["unrealizedProfit"],
        "liquidationPrice": fixed(margin.liquidation_price(position), contract.price_precision),
        "isolatedMargin": own["isolatedMargin"],
        "notional": own["notional"],
        "isolatedWallet": own["isolatedWallet"],
        "updateTime": position.updated,
    }
    if version == 2:
        return row | {
            "leverage": str(position.leverage),
            "maxNotionalValue": str(largest_notional(position.leverage)),
            "marginType": "isolated" if position.isolated else "cross",
            "isAutoAddMargin": "false",
        }
    return row | {
        "marginAsset": contract.quote,
        "initialMargin": own["initialMargin"],
        "maintMargin": own["maintMargin"],
        "positionInitialMargin": own["positionInitialMargin"],
        "openOrderInitialMargin": own["openOrderInitialMargin"],
        "adl": 1 if position.amount else 0,
        "bidNotional": "0",
        "askNotional": "0",
    }


def balance_rows(desk: Desk, account: Account) -> list[Row]:
    """Return the reply of balance."""
    return [
        {
            "accountAlias": "replay",
            "asset": row["asset"],
            "balance": row["walletBalance"],
            "crossWalletBalance": row["crossWalletBalance"],
            "crossUnPnl": row["crossUnPnl"],
            "availableBalance": row["availableBalance"],
            "maxWithdrawAmount": row["maxWithdrawAmount"],
            "marginAvailable": True,
            "updateTime": row["updateTime"],
        }
        for row in asset_rows(desk, account)
    ]


def truth(desk: Desk, account: Account) -> Row:
    """Return all that an account has done and holds, hidden orders too, for /control/trading."""
    return {
        "posts": account.posts,
        "wallets": {asset: fixed(amount, 8) for asset, amount in account.wallets.items()},
        "positions": [risk_row(desk, account, each, 2) for each in account.held()],
        "orders": [
            order_view(each, desk.contract(each.symbol), queried=True)
            | {"hiddenUntil": each.hidden_until_ms}
            for each in account.orders.values()
        ],
        "algo_orders": [
            algo_view(each, desk.contract(each.symbol), account.orders.get(each.order_id))
            | {"hiddenUntil": each.hidden_until_ms}
            for each in account.algos.values()
        ],
        "trades": [trade_view(each, desk.contract(each.symbol)) for each in account.trades],
        "income": [income_view(each) for each in account.incomes],
    }
