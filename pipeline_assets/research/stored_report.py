"""The report of one strategy over the newest finalized days, as an object on the lake. The page is made in
report.py; the asset in assets/backtests.py adds the metadata.
"""

from dataclasses import dataclass
from typing import Any

from pipeline_assets.collection.findings import Table
from pipeline_assets.market.windows import Window
from pipeline_assets.research import report_text as text
from pipeline_assets.research.backtest_picture import backtest_picture
from pipeline_assets.research.backtest_types import BacktestResult
from pipeline_assets.research.report import report_of
from pipeline_assets.research.report_candles import ChartedCandles
from pipeline_assets.research.stored_backtest import newest_request, run_stored
from pipeline_assets.research.strategy_choice import chosen_strategies
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

PREFIX = "reports/backtest/"


@dataclass(frozen=True)
class StoredReport:
    """A report on the lake.

    Attributes:
        key: of the object.
        values: figures by name; a Table is shown as a table.
        picture: equity and drawdown as a PNG.
    """

    key: str
    values: dict[str, Any]
    picture: bytes


def store_report(store: ObjectStore, settings: Settings, name: str) -> StoredReport:
    """Run a backtest of a strategy over the newest finalized days and store its report; may be repeated.

    The settings give the number of days, the account, the symbols and the strategy's parameters and rules.
    A strategy that the settings do not name has its defaults. Missing days and damaged objects are left
    out, and the report names them.

    Raises:
        StrategyError: there is no such strategy.
        NoCandlesError: no day of 1m candles is finalized.
        BacktestInputError: the settings are such that no position can be opened.
    """
    strategies = chosen_strategies(settings, [name])
    request = newest_request(store, settings, strategies, settings.backtest.report_days)
    candles = ChartedCandles(store, Window(request.start, request.end), skip_damaged=True)
    result = run_stored(store, request, candles, skip_missing=True)
    key = f"{PREFIX}{name}.html"
    store.put(key, report_of(result, candles).encode())
    return StoredReport(key, _values(result), backtest_picture(result))


def _values(result: BacktestResult) -> dict[str, Any]:
    total = result.metrics["total"]
    figures = [(name, text.money(value)) for name, value in text.costs(total)]
    figures += [
        (each.label(text.currency(result)), each.text(total))
        for each in (*text.CURVE_FIGURES, *text.TOTAL_FIGURES, *text.TRADE_FIGURES)
    ]
    months = [
        (month, text.percent(values["return"]), values["trades"])
        for month, values in result.metrics["by_month"].items()
    ]
    return {
        "span": f"{text.time_text(text.start_of(result))} to {text.time_text(text.end_of(result))} UTC",
        "return": total["return"],
        "net": total["net"],
        "trades": total["trades"],
        "figures": Table.of({"figure": "string", "value": "string"}, figures),
        "months": Table.of({"month": "string", "return": "string", "trades": "int"}, months),
        "to know": Table.of({"warning": "string"}, [(line,) for line in text.warnings(result)]),
        "assumed": Table.of({"assumption": "string"}, [(line,) for line in result.assumptions]),
        "data (SHA-256)": result.checksum,
    }
