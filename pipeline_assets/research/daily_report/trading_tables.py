"""The tables of the section about trading. Their rows are read in trading.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.account_books import Books
from pipeline_assets.research.daily_report.parts import NO_VALUE, Edition, Table
from pipeline_assets.research.daily_report.readers import Answered

if TYPE_CHECKING:
    import polars as pl

NOT_IN_FILLS = "Without funding payments."
_BY_HAND = "by hand"
_POSITIONS = 20
# A venue's reason may contain figures of its own, so that each order has another one.
_STATES = 50
_AMOUNTS = ("profit", "fees", "best", "worst")


@dataclass(frozen=True)
class Trading:
    """The trading of an edition.

    Attributes:
        edition: the span.
        account: the account whose figures are shown first.
        orders: by account, kind and state.
        fills: of the span.
        equity: position by position, as `equity_of` returns it.
        curve: the change of each account's equity.
        drawdowns: by account.
        trades: closed in the span.
        slippage: of entries.
        refused: intents by the risk limit that refused them.
        books: the gateway's newest books.
    """

    edition: Edition
    account: str
    orders: Answered
    fills: Answered
    equity: Answered
    curve: "pl.DataFrame"
    drawdowns: Mapping[str, float]
    trades: Answered
    slippage: Answered
    refused: Answered
    books: Sequence[Books]

    def result(self, account: str) -> float:
        """Return the change of an account's equity over the span."""
        own = self.curve.filter(account=account)
        return float(own["equity"][-1]) if own.height else 0.0

    def is_priced(self) -> bool:
        """Return whether a price is known after the start, so that results mean something."""
        return self.curve["time"].n_unique() > 1

    def until(self) -> str:
        """Return when the newest price was known, for a sentence; empty if it is the end of the span."""
        last = self.curve["time"].max()
        if not isinstance(last, datetime) or last >= self.edition.end:
            return ""
        return f", until {last:%Y-%m-%d %H:%M}, the newest price"

    def open_positions(self) -> "pl.DataFrame":
        """Return the positions at the end: `account`, `symbol`, `quantity`, `mark`."""
        import polars as pl

        # Sums of floats: the smallest step of any symbol is far above this.
        at_end = pl.col("time") == pl.col("time").max()
        is_open = pl.col("quantity").abs() > 1e-9
        found = self.equity.frame.filter(at_end & is_open)
        return found.select("account", "symbol", "quantity", "mark")


def accounts_table(trading: Trading) -> Table:
    """Return the accounts with their results; no profit of closed trades where no trade was closed."""
    fees = _by_account(trading.fills.frame, "fee")
    profits = _by_account(trading.trades.frame, "profit")
    books = {each.account: each for each in trading.books}
    held = trading.open_positions()
    priced = trading.is_priced() or trading.curve.is_empty()
    rows = []
    for account in sorted({*trading.curve["account"], *trading.orders.frame["account"]}):
        own = books.get(account)
        mode = f"{own.mode} {own.mode_reason}".strip() if own and not own.damage else NO_VALUE
        rows.append(
            (
                account,
                formats.money(trading.result(account) if priced else None, signed=True),
                formats.money(profits.get(account), signed=True),
                formats.money(fees.get(account, 0.0)),
                formats.money(trading.drawdowns.get(account, 0.0) if priced else None),
                formats.count(held.filter(account=account).height),
                mode,
            )
        )
    columns = (
        "account, change of equity >, profit of closed trades >, fees >, drawdown >, "
        "open positions >, mode"
    )
    note = (
        f"{NOT_IN_FILLS} The mode is the gateway's at the end; earlier halts are not recorded here."
    )
    return formats.table("Accounts", columns, rows, trading.equity.source, note)


def _by_account(frame: "pl.DataFrame", name: str) -> dict[str, float]:
    """Return the sum of a column by account."""
    import polars as pl

    return dict(frame.group_by("account").agg(pl.col(name).sum()).iter_rows())


def trades_table(trading: Trading) -> Table:
    """Return the closed trades by strategy."""
    import polars as pl

    found = (
        trading.trades.frame.group_by("account", "strategy")
        .agg(
            trades=pl.len(),
            won=(pl.col("profit") > 0).sum(),
            profit=pl.col("profit").sum(),
            fees=pl.col("fees").sum(),
            best=pl.col("profit").max(),
            worst=pl.col("profit").min(),
        )
        .sort("profit", "account", "strategy", descending=[True, False, False])
    )
    rows = [
        (
            each["account"],
            each["strategy"] or _BY_HAND,
            formats.count(each["trades"]),
            formats.count(each["won"]),
            *(formats.money(each[name], signed=name != "fees") for name in _AMOUNTS),
        )
        for each in found.iter_rows(named=True)
    ]
    columns = "account, strategy, trades >, won >, profit >, fees >, best >, worst >"
    note = (
        "Trades whose own orders closed all of the position in this span, after fees and before funding. "
        "Positions that a person or the exchange closed are in the change of equity only."
    )
    return formats.table("Closed trades", columns, rows, trading.trades.source, note)


def positions_table(trading: Trading) -> Table:
    """Return the largest positions at the end."""
    import polars as pl

    worth = pl.col("quantity") * pl.col("mark")
    found = trading.open_positions().with_columns(worth=worth, size=worth.abs())
    ordered = found.sort("size", "account", "symbol", descending=[True, False, False])
    rows = [
        (
            each["account"],
            each["symbol"],
            f"{each['quantity']:,.8f}".rstrip("0").rstrip("."),
            NO_VALUE if each["mark"] is None else f"{each['mark']:,.8g}",
            formats.money(each["worth"], signed=True),
        )
        for each in ordered.head(_POSITIONS).iter_rows(named=True)
    ]
    columns = "account, symbol, quantity >, price >, value >"
    note = f"The {_POSITIONS} largest, at the newest close or fill. Short positions are negative."
    return formats.table("Open positions at the end", columns, rows, trading.equity.source, note)


def refusals_table(trading: Trading) -> Table:
    """Return the risk limits that refused an entry."""
    rows = [(limit, formats.count(number)) for limit, number in trading.refused.frame.iter_rows()]
    note = (
        "Limits have the names of their settings. Under mode, the gateway was halted or reducing."
    )
    return formats.table(
        "Risk limits that refused entries",
        "limit, intents >",
        rows,
        trading.refused.source,
        note,
    )


def slippage_table(trading: Trading) -> Table:
    """Return the slippage of entries by strategy."""
    import polars as pl

    weighted = (pl.col("slippage") * pl.col("value")).sum() / pl.col("value").sum()
    found = (
        trading.slippage.frame.group_by("account", "strategy")
        .agg(
            entries=pl.len(),
            value=pl.col("value").sum(),
            mean=weighted,
            half=pl.col("slippage").median(),
            worst=pl.col("slippage").max(),
        )
        .sort("value", "account", "strategy", descending=[True, False, False])
    )
    rows = [
        (
            each["account"],
            each["strategy"],
            formats.count(each["entries"]),
            formats.money(each["value"]),
            *(formats.percent(each[name], 3, signed=True) for name in ("mean", "half", "worst")),
        )
        for each in found.iter_rows(named=True)
    ]
    columns = "account, strategy, entries >, value >, mean >, median >, worst >"
    note = "Fill price against the close of the candidate's candle; positive is worse. The mean is by value."
    return formats.table("Slippage of entries", columns, rows, trading.slippage.source, note)


def orders_table(trading: Trading) -> Table:
    """Return the orders by state."""
    rows = [
        (account, kind, status, why, formats.count(number))
        for account, kind, status, why, number in trading.orders.frame.head(_STATES).iter_rows()
    ]
    columns = "account, kind, state, reason, orders >"
    note = f"The {_STATES} most frequent."
    return formats.table("Orders by state", columns, rows, trading.orders.source, note)
