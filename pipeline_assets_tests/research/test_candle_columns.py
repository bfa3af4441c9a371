"""The columns that strategies may read: the same signals live and in a backtest, no column in vain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline_assets.market.candles import CANDLE_COLUMNS
from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.indicators import IndicatorStates
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.strategies import configured_strategies, indicators_of, strategy_names
from pipeline_assets.market.strategy import Declaration, Strategy, StrategyParameters, above
from pipeline_assets.market.windows import Window
from pipeline_assets.research.candle_blocks import COLUMNS, BlockBuilder
from pipeline_assets.settings import StrategySettings
from pipeline_assets_tests.fixtures.damage import day_of_candles
from pipeline_assets_tests.research.held_candles import HeldCandles, backtest

pytestmark = pytest.mark.xdist_group("compiled")

START = datetime(2026, 11, 19, 20, tzinfo=UTC)
END = START + timedelta(hours=4)
READ = {name: pl.col(name) for name in CANDLE_COLUMNS if name not in ("symbol", "open_time")}
READ["close_time"] = pl.col("close_time").dt.minute()
READ["pattern"] = pl.sum_horizontal(pl.col("^.*quote_volume$"))


class Recorded(HeldCandles):
    """A reader that keeps the columns it was asked for."""

    asked: tuple[str, ...] = ()

    def candles(self, symbols: list[str], window: Window, columns: tuple[str, ...]) -> pl.DataFrame:
        self.asked = tuple(columns)
        return super().candles(symbols, window, columns)


def reading(name: str) -> Strategy:
    """A strategy that signals where a column has its ten highest values; a position lasts a minute."""
    frame = day_of_candles().filter(pl.col("open_time").is_between(START, END, closed="left"))
    ordered = frame.select(READ[name].alias("value"))["value"].cast(pl.Float64).sort()
    rules = PositionRules(time_limit=1, opposite_signal="ignore")
    conditions = above(READ[name].cast(pl.Float64), (ordered[-10] + ordered[-11]) / 2)
    return Strategy("reading", name, StrategyParameters(), Declaration((), conditions), rules)


@pytest.mark.parametrize("name", READ)
def test_live_signals_equal_backtest(name: str) -> None:
    """Each column of a candle, and a pattern that chooses columns."""
    frame, strategy = day_of_candles(), reading(name)
    past = frame.filter(pl.col("open_time") < START)
    states, live = IndicatorStates.from_history(indicators_of([strategy]), past), []
    for minute in frame.filter(pl.col("open_time") >= START).partition_by("open_time"):
        states, values = states.advance(minute)
        evaluation = evaluate([strategy], values, START)
        assert evaluation.failures == {}
        live += evaluation.candidates["open_time"].to_list()
    model = FillModel(fill_delay=1)
    result = backtest(frame, [strategy], funding=None, start=START, end=END, model=model)
    assert len(live) > 1
    assert result.counts.signals == {f"reading {name}": len(live)}
    traded = result.trades["signal_time"].to_pylist()
    assert traded
    assert set(traded) <= set(live)


def test_only_named_columns_are_read() -> None:
    """The strategies of the product read prices and volumes, and no more memory is taken for these."""
    chosen = configured_strategies(StrategySettings(name=name) for name in strategy_names())
    assert BlockBuilder(chosen, ["BTCUSDT"], {}, {}, 1).columns == COLUMNS
    reader = Recorded(day_of_candles())
    backtest(reader, [reading("trades")], funding=None, start=START, end=END)
    assert reader.asked == (*COLUMNS, "trades")


def test_read_columns_are_in_checksum() -> None:
    """Other values of a column that a strategy reads make another checksum."""
    frame = day_of_candles()
    changed = frame.with_columns(trades=pl.col("trades") + 1)
    span = {"start": START, "end": END}

    def checksum(candles: pl.DataFrame, name: str) -> str:
        return backtest(candles, [reading(name)], funding=None, **span).checksum

    assert checksum(frame, "trades") != checksum(changed, "trades")
    assert checksum(frame, "quote_volume") == checksum(changed, "quote_volume")
