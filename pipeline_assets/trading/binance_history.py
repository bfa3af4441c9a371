"""An account's fills, fees and funding payments of one span, as Binance keeps them in its trade and income
history. Single questions are in binance_queries.py.
"""

from collections import defaultdict
from collections.abc import Iterable

from pipeline_assets.market.trading_rules import units
from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.trading.binance_queries import BinanceQueries
from pipeline_assets.trading.binance_replies import (
    Row,
    TriggeredOrders,
    fill_of,
    payments_of,
    reading,
)
from pipeline_assets.trading.ledger_differences import AccountDay, DayFill, FillKey

# Income of these kinds is in the fills and payments that are compared.
_IN_FILLS = ("REALIZED_PNL", "COMMISSION", "FUNDING_FEE")
# Fees that Binance takes by itself, which are in no trade.
_CHARGES = ("INSURANCE_CLEAR", "POSITION_LIMIT_INCREASE_FEE")


async def read_account_day(
    account: AccountClient, start: int, end: int, symbols: Iterable[str]
) -> tuple[AccountDay, dict[str, int]]:
    """Return what the exchange has of a span, and by kind and asset its other income in 1e-8.

    Trades are asked for by symbol: those of `symbols`, and those that the income names. So a trade is found
    although the ledger knows nothing of it.

    Args:
        account: an open client.
        start: in milliseconds.
        end: the first millisecond after the span.
        symbols: that the ledger traded in the span.

    Raises:
        OutsideSystemError: a question has no answer.
    """
    queries = BinanceQueries(account, TriggeredOrders(), account.now, lambda _: None)
    income = await queries.income_rows({"endTime": end - 1}, start)
    charges: dict[tuple[str, str], int] = defaultdict(int)
    others: dict[str, int] = defaultdict(int)
    with reading("the income"):
        payments = {(each.symbol, each.time): each.amount for each in payments_of(income)}
        for row in income:
            kind, symbol, amount = row["incomeType"], str(row["symbol"] or ""), units(row["income"])
            if kind in _CHARGES:
                charges[kind, symbol] += amount
            elif kind not in _IN_FILLS:
                others[f"{kind} {row['asset']}"] += amount
        traded = {str(row["symbol"]) for row in income if row["symbol"]}
    fills: dict[FillKey, DayFill] = {}
    for symbol in sorted(traded.union(symbols)):
        rows = await queries.trade_rows(symbol, start, end - 1)
        with reading(f"the trades of {symbol}"):
            fills |= {(symbol, int(row["id"])): _fill(row) for row in rows}
    return AccountDay(fills, payments, charges), dict(others)


def _fill(row: Row) -> DayFill:
    fill = fill_of(row, "")
    asset, paid = str(row["commissionAsset"]), units(row["commission"])
    other = "" if not paid or fill.symbol.endswith(asset) else f"{row['commission']} {asset}"
    return DayFill(fill.side, fill.quantity, fill.price, fill.fee, other)
