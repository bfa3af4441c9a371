"""Candidates and labels of candles in memory, for tests. No tests here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline_assets.market.step_tables import FillModel, funding_table
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.windows import Window
from pipeline_assets.research.candidate_history import HistoryReader
from pipeline_assets.research.funding_times import listed_rates
from pipeline_assets.research.labels import Labeller
from pipeline_assets.research.rules_in_effect import RulesInEffect
from pipeline_assets_tests.research.held_candles import (
    BTC_RULES,
    DAY,
    END,
    EVERY_EIGHT_HOURS,
    FIRST,
    HeldCandles,
    documents,
)

SYMBOL = "BTCUSDT"
WHOLE = Window(FIRST + 2 * DAY, END)


@dataclass(frozen=True)
class Labelled:
    """Candidates of a strategy, and their labels row by row."""

    candidates: pl.DataFrame
    labels: pl.DataFrame

    def joined(self) -> pl.DataFrame:
        """Return labels with the open time and side of their candidates."""
        return self.candidates.select("id", "open_time", "side").join(self.labels, on="id")


def labelled(
    candles: HeldCandles | pl.DataFrame,
    strategy: Strategy,
    window: Window = WHOLE,
    funding: Any = EVERY_EIGHT_HOURS,
    read_documents: Any = None,
) -> Labelled:
    """Label every candidate of BTCUSDT in a span."""
    reader = candles if isinstance(candles, HeldCandles) else HeldCandles(candles)
    read = read_documents or documents((FIRST, BTC_RULES))
    rules = RulesInEffect(read([SYMBOL]), None, [strategy], window)
    history = HistoryReader(strategy, reader, rules, reader.listed()).read(SYMBOL)
    assert history is not None
    rates = listed_rates(SYMBOL, funding, [window], window).rates if funding else []
    table = funding_table({0: rates})
    labels = Labeller(rules, strategy.rules, FillModel()).labels(history, history.candidates, table)
    return Labelled(history.candidates, labels)
