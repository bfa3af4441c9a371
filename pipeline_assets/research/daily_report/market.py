"""The section about the market: movers, volatility, volume, correlation and funding. Clusters are computed in
clusters.py.
"""

import math
from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.clusters import LEAST_RETURNS, clusters_of
from pipeline_assets.research.daily_report.composing import bars, empty_section, section_of
from pipeline_assets.research.daily_report.market_tables import (
    Market,
    by_change,
    extremes,
    groups,
    largest_funding,
    movers,
    volatile,
)
from pipeline_assets.research.daily_report.parts import Chart, Edition, Figure, Section
from pipeline_assets.research.daily_report.readers import Answered, Readers, ask, nothing, reason
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_SECTION = "market", "Market"
# The movers are those of (almost) the whole span: a symbol that was listed in between is none.
_LEAST_SHARE = 0.9
_QUARTERS_OF_A_DAY = 96


def market_section(readers: Readers, edition: Edition) -> Section:
    """Return what the market did in an edition.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
    """
    asked = ask(readers, edition, "market", "15m candles in the warehouse")
    if asked.frame.is_empty():
        why = reason(asked, "table of 15m candles", "The warehouse has no 15m candle of this span.")
        return empty_section(_SECTION, "There are no candles to report on.", why)
    held = Answered(with_measures(asked.frame), asked.source, exists=True)
    closes = ask(readers, edition, "closes", "1h candles in the warehouse")
    market = Market(
        edition=edition,
        symbols=held,
        hours=ask(readers, edition, "hours", "1h candles in the warehouse"),
        funding=ask(readers, edition, "funding", "funding rates in the warehouse"),
        clusters=clusters_of(closes.frame),
        closes=closes,
    )
    charts = [_movers_chart(market), _volume_chart(market), _heatmap(market)]
    tables = [movers(market), volatile(market), largest_funding(market), groups(market)]
    return section_of(_SECTION, _headline(held.frame), _figures(market), charts, tables)


def with_measures(symbols: "pl.DataFrame") -> "pl.DataFrame":
    """Add each symbol's return, volatility a day, share of taker buys, and whether its span is whole."""
    import polars as pl

    return symbols.with_columns(
        change=pl.col("last_close") / pl.col("first_open") - 1,
        volatility=pl.when(pl.col("changes") > 0).then(
            (pl.col("squares") / pl.col("changes") * _QUARTERS_OF_A_DAY).sqrt()
        ),
        taker_share=pl.when(pl.col("quote_volume") > 0).then(
            pl.col("taker_buy_quote_volume") / pl.col("quote_volume")
        ),
        whole=pl.col("candles") >= _LEAST_SHARE * pl.col("candles").max(),
    )


def _headline(symbols: "pl.DataFrame") -> str:
    ordered = by_change(symbols)
    rose = int((ordered["change"] > 0).sum())
    best, worst = ordered.row(0, named=True), ordered.row(-1, named=True)
    return (
        f"{rose} of {counted(ordered.height, 'symbol')} rose; the best is {best['symbol']} with "
        f"{formats.percent(best['change'], signed=True)}, the worst {worst['symbol']} with "
        f"{formats.percent(worst['change'], signed=True)}."
        if ordered.height > 1
        else f"{best['symbol']} moved {formats.percent(best['change'], signed=True)}."
    )


def _figures(market: Market) -> tuple[Figure, ...]:
    symbols, source = market.symbols.frame, market.symbols.source
    ordered = by_change(symbols)
    total = float(symbols["quote_volume"].sum())
    taker = float(symbols["taker_buy_quote_volume"].sum())
    left_out = symbols.height - ordered.height
    beside = f"; {left_out} with an incomplete span not counted" if left_out else ""
    most = int(symbols.sort("candles")["candles"][-1])
    whole = _QUARTERS_OF_A_DAY * len(market.edition.days())
    if most < whole:
        beside += f"; {most:,} of {whole:,} candles of 15m each, at most"
    middle = ordered["change"].median()
    volatility = ordered["volatility"].median()
    return (
        Figure(
            "Median return",
            formats.percent(_float(middle), signed=True),
            f"of {counted(ordered.height, 'symbol')}{beside}",
            source,
        ),
        Figure(
            "Median volatility",
            formats.percent(_float(volatility)),
            "realised, a day, from 15m closes",
            source,
        ),
        Figure(
            "Quote volume",
            formats.volume(total),
            f"of {counted(symbols.height, 'symbol')}",
            source,
        ),
        Figure(
            "Bought by takers",
            formats.percent(formats.share_of(taker, total)),
            "share of the quote volume",
            source,
        ),
        _correlation(market),
        _funding_figure(market),
    )


def _correlation(market: Market) -> Figure:
    source, found = market.closes.source, market.clusters
    if found is None:
        why = f"Fewer than two symbols have {LEAST_RETURNS} hourly returns without a gap."
        return nothing("Mean correlation", why, source)
    others = (
        f"; left out: {found.left_out} with a missing hour or a constant price"
        if found.left_out
        else ""
    )
    detail = (
        f"of hourly returns of the {len(found.symbols)} symbols with the largest volume{others}"
    )
    return Figure("Mean correlation", f"{found.mean:.2f}", detail, source)


def _funding_figure(market: Market) -> Figure:
    rates, source = market.funding.frame, market.funding.source
    if rates.is_empty():
        why = reason(market.funding, "table of funding rates", "No settlement is stored.")
        return nothing("Median funding", why, source)
    settled = counted(int(rates["settlements"].sum()), "settlement")
    detail = f"paid by long positions, {settled} of {counted(rates.height, 'symbol')}"
    value = formats.percent(_float(rates["paid"].median()), 4, signed=True)
    return Figure("Median funding", value, detail, source)


def _movers_chart(market: Market) -> Chart:
    import polars as pl

    shown = extremes(market.symbols.frame)
    best = shown.row(0, named=True)
    return bars(
        f"{best['symbol']} had the best return of the {market.edition.kind}",
        shown.select("symbol", (pl.col("change") * 100).alias("return")),
        market.symbols.source,
        "%",
        "Best and worst returns, from the first open to the last close.",
    )


def _volume_chart(market: Market) -> Chart | None:
    import polars as pl

    hours = market.hours.frame
    if hours.is_empty():
        return None
    every = "1h" if market.edition.kind == "day" else "1d"
    shown = (
        hours.group_by(pl.col("open_time").dt.truncate(every).alias("time"))
        .agg(pl.col("quote_volume").sum().alias("volume"))
        .sort("time")
    )
    peak = shown.sort("volume", "time", descending=[True, False])["time"][0]
    when = f"in the hour from {peak:%H:%M} UTC" if every == "1h" else f"on {peak:%Y-%m-%d}"
    return bars(
        f"Volume was largest {when}",
        shown,
        market.hours.source,
        "USDT",
        "Quote volume of all symbols.",
    )


def _heatmap(market: Market) -> Chart | None:
    import polars as pl

    found = market.clusters
    if found is None:
        return None
    names = list(found.symbols)
    frame = pl.DataFrame(
        {
            "symbol": names * len(names),
            "other": [each for each in names for _ in names],
            "correlation": found.correlations.ravel(),
        }
    )
    largest = len(found.groups[0]) if found.groups else 0
    message = (
        f"{largest} of {len(names)} symbols moved together"
        if largest
        else "No two symbols moved together"
    )
    return Chart(
        message,
        "heatmap",
        frame,
        x="symbol",
        y="correlation",
        series="other",
        unit="",
        source=market.closes.source,
        note=f"Correlation of {found.returns} hourly returns; neighbours are alike.",
    )


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
