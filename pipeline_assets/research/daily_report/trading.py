"""The section about trading: orders, fills, profit, drawdown, open positions, refusals by risk limits and
slippage. Equity is computed in equity.py, tables are made in trading_tables.py.
"""

from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.account_books import newest_books
from pipeline_assets.research.daily_report.composing import empty_section, section_of
from pipeline_assets.research.daily_report.equity import curves, drawdowns, equity_of, grid_of
from pipeline_assets.research.daily_report.parts import Chart, Edition, Figure, Section, Source
from pipeline_assets.research.daily_report.readers import Answered, Readers, ask, nothing
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
from pipeline_assets.resources.warehouse_statements import table_name
from pipeline_assets.settings import RiskSettings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_SECTION = "trading", "Trading"
_WAREHOUSE = "fills in the warehouse"
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
        account=_account(readers, fills, positions),
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
    chart = _chart(trading)
    return section_of(
        _SECTION, _headline(trading), _figures(trading), () if chart is None else (chart,), tables
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
    import polars as pl

    interval = Interval.FIFTEEN_MINUTES if edition.kind == "day" else Interval.ONE_HOUR
    first = edition.start - interval.span
    asked = ask(
        readers,
        edition,
        "marks",
        f"fills and {interval} candles in the warehouse",
        TABLE=table_name(interval),
        FIRST=time_literal(first),
    )
    marks = asked.frame.select(
        "symbol", (pl.col("open_time") + interval.span).alias("time"), "close"
    )
    times = grid_of(edition.start, edition.end, interval.span)
    return equity_of(positions.frame, fills.frame, marks, times), asked.source


def _account(readers: Readers, fills: Answered, positions: Answered) -> str:
    """Return the account that is shown first."""
    import polars as pl

    by_account = fills.frame["account"].value_counts(name="fills")
    ordered = by_account.sort("fills", "account", descending=[True, False])
    known = pl.concat([ordered["account"], positions.frame["account"]]).unique(maintain_order=True)
    if readers.account is not None and readers.account in known:
        return readers.account
    return str(known[0]) if len(known) else readers.account or ""


def _headline(trading: Trading) -> str:
    if trading.curve.is_empty():
        return f"{counted(int(trading.orders.frame['orders'].sum()), 'order')}, and no fill."
    name, change = trading.account, trading.result(trading.account)
    verb = "earned" if change > 0 else "lost" if change < 0 else "neither earned nor lost"
    amount = f" {formats.money(abs(change))}" if change else ""
    refused = int(trading.refused.frame["decisions"].sum())
    limits = f"; risk limits refused {counted(refused, 'order')}" if refused else ""
    return f"Account {name} {verb}{amount} before funding{limits}."


def _figures(trading: Trading) -> tuple[Figure, ...]:
    import polars as pl

    name = trading.account
    trades = trading.trades.frame.filter(account=name)
    fills = trading.fills.frame.filter(account=name)
    fees = float(fills["fee"].sum())
    won = int((trades["profit"] > 0).sum())
    orders = trading.orders.frame.filter(account=name)
    refused = int(trading.refused.frame["decisions"].sum())
    open_now = trading.open_positions().filter(account=name)
    exposure = float(open_now.select((pl.col("quantity") * pl.col("mark")).abs().sum()).item())
    return (
        Figure(
            "Change of equity",
            formats.money(trading.result(name), signed=True),
            f"account {name}. {NOT_IN_FILLS}",
            trading.equity.source,
        ),
        _day_result(trading),
        Figure(
            "Profit of closed trades",
            formats.money(float(trades["profit"].sum()), signed=True),
            f"after fees; {won} of {counted(trades.height, 'trade')} earned money",
            trading.trades.source,
        ),
        Figure(
            "Fees",
            formats.money(fees),
            f"of {counted(fills.height, 'fill')} worth {formats.money(float(fills['value'].sum()))}",
            trading.fills.source,
        ),
        Figure(
            "Largest drawdown",
            formats.money(trading.drawdowns.get(name, 0.0)),
            "below an earlier peak of the span, at the closes of candles",
            trading.equity.source,
        ),
        Figure(
            "Open at the end",
            formats.count(open_now.height),
            f"positions worth {formats.money(exposure)}",
            trading.equity.source,
        ),
        Figure(
            "Orders",
            formats.count(int(orders["orders"].sum())),
            f"{formats.count(_in_state(orders, 'rejected'))} rejected by the venue",
            trading.orders.source,
        ),
        Figure(
            "Refused by risk limits",
            formats.count(refused),
            "intents, of all accounts",
            trading.refused.source,
        ),
        _slippage(trading),
    )


def _in_state(orders: "pl.DataFrame", state: str) -> int:
    return int(orders.filter(status=state)["orders"].sum())


def _day_result(trading: Trading) -> Figure:
    label = "Result by the gateway"
    own = [each for each in trading.books if each.account == trading.account]
    if not own:
        source = Source("documents of accounts on the lake", asset="positions")
        return nothing(label, "The gateway wrote no document in this span.", source)
    [books] = own
    since = "since 00:00 UTC" if trading.edition.kind == "day" else f"of {books.at:%Y-%m-%d} alone"
    detail = f"{since}, funding and open positions included, at {formats.minute(books.at)}"
    source = Source(books.key, asset=f"positions {books.at:%Y-%m-%d}")
    if books.damage:
        return nothing(label, books.damage, source)
    return Figure(label, formats.money(books.day_result, signed=True), detail, source)


def _slippage(trading: Trading) -> Figure:
    entries = trading.slippage.frame.filter(account=trading.account)
    value = float(entries["value"].sum())
    if not value:
        return nothing("Slippage of entries", "No entry was filled.", trading.slippage.source)
    mean = float((entries["slippage"] * entries["value"]).sum()) / value
    detail = (
        f"of {counted(entries.height, 'entry', 'entries')} against the candidate's price, weighted by value; "
        "positive is worse"
    )
    return Figure(
        "Slippage of entries",
        formats.percent(mean, 3, signed=True),
        detail,
        trading.slippage.source,
    )


def _chart(trading: Trading) -> Chart | None:
    if trading.curve.is_empty():
        return None
    change = trading.result(trading.account)
    way = "ended higher" if change > 0 else "ended lower" if change < 0 else "ended where it began"
    several = trading.curve["account"].n_unique() > 1
    return Chart(
        f"Equity of {trading.account} {way}: {formats.money(change, signed=True)}",
        "lines",
        trading.curve,
        x="time",
        y="equity",
        series="account" if several else None,
        unit="USDT",
        source=trading.equity.source,
        note=f"Change since the start of the span. {NOT_IN_FILLS}",
    )
