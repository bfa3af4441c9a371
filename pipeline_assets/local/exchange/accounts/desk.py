"""The shared state of trading: accounts, numbers given out, time, prices, and where events go.

The rules are in placing.py, algos.py, execution.py and matching.py, which work on a desk.
"""

import heapq
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import refusals
from pipeline_assets.local.exchange.accounts.faults import TradingFaultPlan
from pipeline_assets.local.exchange.accounts.margin import Margin
from pipeline_assets.local.exchange.accounts.model import Account, Income, Order
from pipeline_assets.local.exchange.accounts.prices import Prices
from pipeline_assets.local.exchange.contracts import Contract
from pipeline_assets.local.exchange.funding import FundingMarket
from pipeline_assets.local.exchange.market import Market

DEFAULT_KEY = "replay" * 10 + "exch"
DEFAULT_SECRET = "secret" * 10 + "exch"
"""Key and secret of the account that is always there. They open nothing but this exchange."""

DEFAULT_BALANCE = Decimal(100_000)
MAKER_FEE, TAKER_FEE = Decimal("0.0002"), Decimal("0.0005")
FIRST_ORDER_ID, FIRST_ALGO_ID = 8_000_000_001, 2_000_000_001
FIRST_TRADE_ID, FIRST_TRANSACTION_ID = 5_000_001, 9_000_000_001

Emit = Callable[[Account, dict[str, Any]], None]


class Desk:
    """The state of trading on one exchange.

    Attributes:
        now: up to here matching has been done, ms.
        plan: the faults in force.
        emit: sends an event to an account's private streams.
    """

    def __init__(self, market: Market, funding: FundingMarket, emit: Emit) -> None:
        self.market = market
        self.funding = funding
        self.prices = Prices(market)
        self.plan = TradingFaultPlan()
        self.emit = emit
        self.restart(0)

    def restart(self, now_ms: int) -> None:
        """Begin anew with the default account."""
        self.now = now_ms
        self.accounts: dict[str, Account] = {}
        self._numbers = {
            "order": FIRST_ORDER_ID,
            "algo": FIRST_ALGO_ID,
            "trade": FIRST_TRADE_ID,
            "transaction": FIRST_TRANSACTION_ID,
        }
        self.later: list[tuple[int, int, Account, Order]] = []
        self.prices.forget()
        self.open_account(DEFAULT_KEY, DEFAULT_SECRET, {"USDT": DEFAULT_BALANCE})

    def open_account(self, key: str, secret: str, balances: dict[str, Decimal]) -> Account:
        """Add an account; the balances come as a transfer."""
        account = Account(key, secret, {})
        self.accounts[key] = account
        for asset, amount in balances.items():
            self.pay(account, "TRANSFER", "", asset, amount)
        return account

    def number(self, kind: str) -> int:
        """Return the next number of a kind: order, algo, trade, transaction."""
        self._numbers[kind] += 1
        return self._numbers[kind] - 1

    def contract(self, symbol: str) -> Contract:
        """Return a contract.

        Raises:
            ApiError: there is none of this name.
        """
        found = self.market.contracts.get(symbol)
        if found is None:
            raise errors.invalid_symbol()
        return found

    def asset_of(self, symbol: str) -> str:
        """Return the margin asset of a contract."""
        return self.contract(symbol).quote

    def price(self, symbol: str) -> Decimal:
        """Return the last price now, which is also the mark price and both sides of the book.

        Raises:
            ApiError: there was none for a day.
        """
        found = self.prices.last(symbol, self.now)
        if found is None:
            raise refusals.refused(-4131)
        return found

    def mark(self, symbol: str) -> Decimal:
        """Return the mark price, 0 where there is none."""
        return self.prices.last(symbol, self.now) or Decimal(0)

    def margin(self, account: Account) -> Margin:
        """Return an account's margin now."""
        return Margin(account, self.mark, self.asset_of)

    def pay(
        self,
        account: Account,
        kind: str,
        symbol: str,
        asset: str,
        amount: Decimal,
        trade_id: int = 0,
    ) -> None:
        """Change a balance and record why."""
        amount = amount.quantize(Decimal("1e-8"))
        account.wallets[asset] = account.wallets.get(asset, Decimal(0)) + amount
        if amount:
            number, trade = self.number("transaction"), str(trade_id) if trade_id else ""
            account.incomes.append(Income(number, kind, symbol, amount, asset, self.now, trade))

    def fill_later(self, account: Account, order: Order, moment: int) -> None:
        """Fill the rest of an order at a later time."""
        heapq.heappush(self.later, (moment, self.number("transaction"), account, order))
