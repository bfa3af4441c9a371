"""The HTML report: what it shows, that its text is harmless, and that it fetches nothing."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.trading_rules import TradingDocuments
from pipeline_assets.research import report_curves
from pipeline_assets.research.backtest import run_backtest
from pipeline_assets.research.backtest_picture import backtest_picture
from pipeline_assets.research.backtest_types import BacktestRequest, BacktestResult
from pipeline_assets.research.report import report_of
from pipeline_assets.research.report_candles import chart_data, read_charts
from pipeline_assets.research.report_curves import curves, drawdowns
from pipeline_assets.research.report_tables import PageTable
from pipeline_assets.research.report_text import currency
from pipeline_assets.research.report_view import Page, page_of
from pipeline_assets_tests.fixtures.damage import day_of_candles
from pipeline_assets_tests.research.held_candles import HeldCandles, strategies

pytestmark = pytest.mark.xdist_group("compiled")

START = datetime(2026, 11, 19, tzinfo=UTC)
GAP = (START + timedelta(hours=12), START + timedelta(hours=13))
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def held() -> HeldCandles:
    """A day of candles with an hour's gap."""
    inside = pl.col("open_time").is_between(*GAP, closed="left")
    return HeldCandles(day_of_candles().filter(~inside))


@pytest.fixture(scope="module")
def result(held: HeldCandles) -> BacktestResult:
    """A backtest with trades of both sides."""
    return run_over(held, {"name": "macd_cross", "fast": 5, "slow": 10, "rules": {"stop": 0.01}})


def run_over(held: HeldCandles, *chosen: dict[str, Any]) -> BacktestResult:
    """The result of some strategies over the day."""
    request = BacktestRequest(
        strategies=strategies(*chosen),
        symbols=["BTCUSDT"],
        start=START,
        end=START + timedelta(days=1),
        capital=Decimal(10_000),
    )
    return run_backtest(request, held, None, lambda _: TradingDocuments())


def tables_of(page: Page) -> dict[str, PageTable]:
    return {section.title: section.table for section in page.sections}


def renamed(result: BacktestResult, held: HeldCandles) -> tuple[BacktestResult, HeldCandles]:
    """The same result of a strategy and a symbol whose names are code."""
    trades = result.trades
    for name in ("strategy", "symbol"):
        place = trades.schema.get_field_index(name)
        trades = trades.set_column(place, name, [[EVIL] * trades.num_rows])
    metrics = dict(result.metrics)
    for key in ("by_strategy", "by_symbol"):
        metrics[key] = {EVIL: next(iter(metrics[key].values()))}
    request = dict(result.request) | {"symbols": [EVIL]}
    request["strategies"] = [dict(result.request["strategies"][0]) | {"name": EVIL}]
    changed = replace(result, trades=trades, metrics=metrics, request=request, assumptions=[EVIL])
    return changed, HeldCandles(held.frame.with_columns(symbol=pl.lit(EVIL)))


class Elements(HTMLParser):
    """The scripts of a page, and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self.policy = ""
        self._script: dict[str, str | None] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.addresses += [str(held[name]) for name in ("src", "href") if name in held]
        if tag == "script":
            self.scripts.append((held, ""))
            self._script = held
        if held.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(held["content"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))


def test_report_is_the_same_twice(result: BacktestResult, held: HeldCandles) -> None:
    """The report and the picture hold no clock and no order by chance."""
    assert report_of(result, held) == report_of(result, held)
    assert backtest_picture(result) == backtest_picture(result)


def test_page_fetches_nothing(result: BacktestResult, held: HeldCandles) -> None:
    """The only address is the link that the chart's licence asks for; requests are forbidden."""
    page = Elements(report_of(result, held))
    assert page.addresses == ["https://www.tradingview.com/"]
    assert page.policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src"
    )
    assert len(page.scripts) == 3


@pytest.mark.parametrize("evil", [False, True])
def test_only_own_scripts_may_run(result: BacktestResult, held: HeldCandles, *, evil: bool) -> None:
    """A name that is code is text, and ends no script: the policy names both scripts by their digests."""
    if evil:
        result, held = renamed(result, held)
    text = report_of(result, held)
    page = Elements(text)
    (kind, data), *programs = page.scripts
    assert kind == {"id": "data", "type": "application/json"}
    assert [attributes for attributes, _ in programs] == [{}, {}]
    digests = [
        base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
        for _, program in programs
    ]
    assert re.findall(r"'sha256-([^']+)'", page.policy) == digests
    charts = json.loads(data)["charts"]
    if evil:
        assert list(charts) == [EVIL]
        assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
        assert "<script>alert" not in text


def test_gap_is_a_break(result: BacktestResult, held: HeldCandles) -> None:
    """The chart has one empty place in a gap, so that no line or candle covers it."""
    chart = chart_data(result, read_charts(result, held))["BTCUSDT"]
    times, opens = chart["candles"][:2]
    [empty] = [place for place, value in enumerate(opens) if value is None]
    assert times[empty] == int(GAP[0].timestamp())
    assert times[empty + 1] == int(GAP[1].timestamp())
    assert times == sorted(times)
    marks = chart["marks"]
    assert marks == sorted(marks, key=lambda mark: mark[0])
    trades = result.trades.to_pylist()
    assert len(marks) == len(trades) + sum(not trade["open"] for trade in trades)
    assert {mark[1] for mark in marks} == {"long", "short", "exit long", "exit short"}


def test_candles_of_charts_are_aggregated(
    result: BacktestResult, held: HeldCandles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long span has longer candles: first open, highest high, lowest low, last close."""
    monkeypatch.setattr("pipeline_assets.research.report_candles._MOST_OF_ONE", 200)
    charts = read_charts(result, held)
    assert charts.minutes == 15
    first = held.frame.head(15)
    assert charts.candles["BTCUSDT"].row(0) == (
        START, first["open"][0], first["high"].max(), first["low"].min(), first["close"][-1],
    )  # fmt: skip


def test_thinned_curve_keeps_the_worst(
    result: BacktestResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thinned curve ends where the whole one ends, and shows its largest drawdown."""
    (_, whole), (_, fallen) = curves(result)
    monkeypatch.setattr(report_curves, "_MOST_POINTS", 5)
    (times, equity), (_, worst) = curves(result)
    assert len(times) <= 6
    assert equity[-1] == whole[-1]
    assert min(worst) == min(fallen)
    assert drawdowns(np.array([75.0, 110.0, 55.0]), 100.0).tolist() == [-0.25, 0.0, -0.5]


def test_tables_hold_the_figures(result: BacktestResult, held: HeldCandles) -> None:
    """Costs add up, months compound to the return, every trade is listed, and the origin is named."""
    page = page_of(result, read_charts(result, held))
    tables = tables_of(page)
    costs = {
        row[0].text: float(row[1].text.replace(",", "")) for row in tables["Result and costs"].rows
    }
    parts = sum(value for name, value in costs.items() if name != "net")
    assert parts == pytest.approx(costs["net"], abs=0.03)
    assert costs["fees"] < 0 > costs["slippage"]
    [year] = tables["Months"].rows
    returned = f"{result.metrics['total']['return']:.2%}".replace("%", " %")
    assert (year[0].text, year[11].text, year[-1].text) == ("2026", returned, returned)
    assert len(tables["Trades"].rows) == result.trades.num_rows
    exits = {row[0].text: int(row[1].text) for row in tables["Exits"].rows}
    assert exits == {
        name.replace("_", " "): number for name, number in result.metrics["total"]["exits"].items()
    }
    [month] = tables["Changes by month"].rows
    assert (month[1].text, month[2].text) == (tables["Result and costs"].rows[-1][1].text, returned)
    assert result.checksum in [row[1].text for row in page.origin.rows]
    assert any("60" in line and "BTCUSDT" in line for line in page.warnings)
    assert json.loads(page.request) == result.request


def test_amounts_have_their_currency(result: BacktestResult, held: HeldCandles) -> None:
    """USDT by the symbols' names; the quote asset where these differ."""
    page = page_of(result, read_charts(result, held))
    assert dict(page.figures)["Net result"].endswith(" USDT")
    assert page.subtitle.endswith("capital 10,000.00 USDT")
    assert tables_of(page)["Result and costs"].columns[1][0] == "USDT"
    for symbols, name in (
        (["BTCUSDC", "ETHUSDC_261225"], "USDC"),
        (["BTCUSDT", "BTCUSDC"], "quote asset"),
    ):
        assert currency(replace(result, request={"symbols": symbols})) == name


def test_marks_tell_strategies_apart(held: HeldCandles) -> None:
    """Each mark has the number of its strategy; of a single one, no number is needed."""
    both = ({"name": "macd_cross", "rules": {"stop": 0.001}}, {"name": "rsi_reversal"})
    result = run_over(held, *both)
    data = page_of(result, read_charts(result, held)).data
    marks = data["charts"]["BTCUSDT"]["marks"]
    assert {(text[0], place) for _, kind, text, place in marks if kind == "long"} == {
        ("L", 0),
        ("L", 1),
    }
    assert all(str(place + 1) in text for _, _, text, place in marks)
    assert [name.split()[0] for name in data["strategies"]] == ["macd_cross", "rsi_reversal"]
    exits = tables_of(page_of(result, read_charts(result, held)))["Exits"]
    assert [name for name, _ in exits.columns[2:4]] == sorted(data["strategies"])
    for row in exits.rows:
        assert int(row[2].text) + int(row[3].text) == int(row[1].text)
