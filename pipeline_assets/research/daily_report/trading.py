"""The section about trading: orders, fills, profit, drawdown, open positions, refusals by risk limits and
slippage. Equity is computed in equity.py; figures and tables are made in trading_figures.py and
trading_tables.py.
"""

from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.account_books import newest_books
from pipeline_assets.research.daily_report.composing import empty_section, section_of
from pipeline_assets.research.daily_report.equity import curves, drawdowns, equity_of, times_of
from pipeline_assets.research.daily_report.parts import Chart, Edition, Section, Source
from pipeline_assets.research.daily_report.readers import Answered, Readers, ask
from pipeline_assets.research.daily_report.trading_figures import trading_figures
from pipeline_assets.research.daily_report.trading_tables import (
    NOT_IN_FILLS,
    Trading,
    accounts_table,
    orders_table,
    positions_table,
    refusals_table,
    slippage_table,
    trades_table,
)
from pipeline_assets.resources.report_queries import time_literal
from pipeline_assets.settings import RiskSettings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_SECTION = "trading", "Trading"
_WAREHOUSE = "fills in the warehouse"
# The same for all editions, so that the results of seven days add up to that of their week.
_STEP = Interval.FIFTEEN_MINUTES.span
# The gateway refuses with the name of a limit, or with `mode` while it is halted or reducing.
_LIMITS = (*RiskSettings.model_fields, "mode")


def trading_section(readers: Readers, edition: Edition) -> Section:
    """Return what the accounts did and earned in an edition.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
        ObjectStoreError: the lake does not answer.
    """
    orders = ask(readers, edition, "orders", "orders in the warehouse")
    fills = ask(readers, edition, "fills", _WAREHOUSE)
    positions = ask(readers, edition, "positions", _WAREHOUSE)
    intents = ask(readers, edition, "decisions", "intents in the warehouse")
    refused = _refused(intents.frame)
    if all(each.is_empty() for each in (orders.frame, fills.frame, positions.frame, refused)):
        why = (
            "No account sent an order or held a position in this span."
            if orders.exists and fills.exists
            else "The warehouse has no view of orders and fills yet."
        )
        return empty_section(_SECTION, "Nothing was traded.", why)
    equity, marked = _equity(readers, edition, fills, positions)
    curve = curves(equity)
    trading = Trading(
        edition=edition,
        account=_account(readers, orders, fills, positions),
        orders=orders,
        fills=fills,
        equity=Answered(equity, marked, exists=True),
        curve=curve,
        drawdowns=dict(drawdowns(curve).iter_rows()),
        trades=ask(readers, edition, "trades", _WAREHOUSE),
        slippage=ask(readers, edition, "slippage", "fills and decisions in the warehouse"),
        refused=Answered(refused, intents.source, intents.exists),
        books=newest_books(readers.store, edition.days()),
    )
    tables = (
        accounts_table(trading),
        trades_table(trading),
        positions_table(trading),
        refusals_table(trading),
        slippage_table(trading),
        orders_table(trading),
    )
    return section_of(
        _SECTION, _headline(trading), trading_figures(trading), (_chart(trading),), tables
    )


def _refused(intents: "pl.DataFrame") -> "pl.DataFrame":
    """Return how many intents each risk limit refused, the most frequent first."""
    import polars as pl

    own = intents.filter(pl.col("skip_reason").is_in(_LIMITS))
    found = own.group_by("skip_reason").agg(pl.col("decisions").sum())
    return found.sort("decisions", "skip_reason", descending=[True, False])


def _equity(
    readers: Readers, edition: Edition, fills: Answered, positions: Answered
) -> "tuple[pl.DataFrame, Source]":
    asked = ask(
        readers,
        edition,
        "marks",
        "fills and 15m candles in the warehouse",
        FIRST=time_literal(edition.start - DAY),
    )
    times = times_of(edition.window(), _STEP, fills.frame, asked.frame)
    return equity_of(positions.frame, fills.frame, asked.frame, times), asked.source


def _account(readers: Readers, orders: Answered, fills: Answered, positions: Answered) -> str:
    """Return the account that is shown first: the chosen one if it traded, or that with the most fills."""
    import polars as pl

    by_account = fills.frame["account"].value_counts(name="fills")
    ordered = by_account.sort("fills", "account", descending=[True, False])
    others = (positions.frame["account"], orders.frame["account"])
    known = pl.concat([ordered["account"], *others]).unique(maintain_order=True)
    if readers.account is not None and readers.account in known:
        return readers.account
    return str(known[0]) if len(known) else readers.account or ""


def _headline(trading: Trading) -> str:
    refused = int(trading.refused.frame["decisions"].sum())
    limits = f"; risk limits refused {counted(refused, 'order')}" if refused else ""
    if trading.curve.is_empty():
        orders = counted(int(trading.orders.frame["orders"].sum()), "order")
        return f"{orders}, and no fill{limits}."
    name = trading.account
    if not trading.is_priced():
        return f"Account {name} held positions, and no price of this span is known{limits}."
    change = trading.result(name)
    verb = "earned" if change > 0 else "lost" if change < 0 else "neither earned nor lost"
    amount = f" {formats.money(abs(change))}" if change else ""
    return f"Account {name} {verb}{amount} before funding{limits}."


def _chart(trading: Trading) -> Chart | None:
    import polars as pl

    curve = trading.curve
    if not trading.is_priced():
        return None
    if trading.edition.kind != "day":
        # A month has thousands of quarter hours, and a picture fewer points.
        at_end = pl.col("time") == pl.col("time").max()
        curve = curve.filter((pl.col("time").dt.minute() == 0) | at_end)
    change = trading.result(trading.account)
    way = "ended higher" if change > 0 else "ended lower" if change < 0 else "ended where it began"
    several = curve["account"].n_unique() > 1
    return Chart(
        f"Equity of {trading.account} {way}: {formats.money(change, signed=True)}",
        "lines",
        curve,
        x="time",
        y="equity",
        series="account" if several else None,
        unit="USDT",
        source=trading.equity.source,
        note=f"Change since the start of the span{trading.until()}. {NOT_IN_FILLS}",
    )
