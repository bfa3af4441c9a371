"""The figures of the section about trading. Their rows are read in trading.py."""

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.parts import Figure, Source
from pipeline_assets.research.daily_report.readers import nothing
from pipeline_assets.research.daily_report.trading_tables import NOT_IN_FILLS, Trading
from pipeline_assets.wording import counted


def trading_figures(trading: Trading) -> tuple[Figure, ...]:
    """Return the figures of the account that is shown first."""
    return (
        _change(trading),
        _day_result(trading),
        _closed_trades(trading),
        _fees(trading),
        _drawdown(trading),
        _open_at_end(trading),
        *_orders(trading),
        _slippage(trading),
    )


def _change(trading: Trading) -> Figure:
    label, source = "Change of equity", trading.equity.source
    if trading.curve.height and not trading.is_priced():
        return nothing(label, "No price of this span is known.", source)
    detail = (
        f"account {trading.account}, positions at closes of 15m candles or newer fills{trading.until()}. "
        f"{NOT_IN_FILLS}"
    )
    return Figure(
        label, formats.money(trading.result(trading.account), signed=True), detail, source
    )


def _closed_trades(trading: Trading) -> Figure:
    label, source = "Profit of closed trades", trading.trades.source
    trades = trading.trades.frame.filter(account=trading.account)
    if trades.is_empty():
        return nothing(label, "No trade was closed in this span.", source)
    won = int((trades["profit"] > 0).sum())
    detail = f"after fees; {won} of {counted(trades.height, 'trade')} earned money"
    profit = float(trades["profit"].sum())
    return Figure(label, formats.money(profit, signed=True), detail, source)


def _fees(trading: Trading) -> Figure:
    fills = trading.fills.frame.filter(account=trading.account)
    worth = formats.money(float(fills["value"].sum()))
    detail = f"of {counted(fills.height, 'fill')} worth {worth}"
    return Figure("Fees", formats.money(float(fills["fee"].sum())), detail, trading.fills.source)


def _drawdown(trading: Trading) -> Figure:
    label, source = "Largest drawdown", trading.equity.source
    if trading.curve.height and not trading.is_priced():
        return nothing(label, "No price of this span is known.", source)
    fall = trading.drawdowns.get(trading.account, 0.0)
    detail = "below an earlier peak of the span, at the closes of 15m candles"
    return Figure(label, formats.money(fall), detail, source)


def _open_at_end(trading: Trading) -> Figure:
    import polars as pl

    held = trading.open_positions().filter(account=trading.account)
    exposure = float(held.select((pl.col("quantity") * pl.col("mark")).abs().sum()).item())
    unpriced = held["mark"].null_count()
    without = f", {unpriced} of them without a known price" if unpriced else ""
    detail = f"positions worth {formats.money(exposure)}{without}"
    return Figure("Open at the end", formats.count(held.height), detail, trading.equity.source)


def _orders(trading: Trading) -> tuple[Figure, Figure]:
    orders = trading.orders.frame.filter(account=trading.account)
    rejected = int(orders.filter(status="rejected")["orders"].sum())
    refused = int(trading.refused.frame["decisions"].sum())
    return (
        Figure(
            "Orders",
            formats.count(int(orders["orders"].sum())),
            f"{formats.count(rejected)} rejected by the venue",
            trading.orders.source,
        ),
        Figure(
            "Refused by risk limits",
            formats.count(refused),
            "intents, of all accounts",
            trading.refused.source,
        ),
    )


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
