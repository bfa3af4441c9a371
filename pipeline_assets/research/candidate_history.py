"""Past candidates of a strategy, recomputed from stored candles by the live evaluation, and the tables from
which their outcomes are calculated. Outcomes are calculated in labels.py.

One symbol is held at a time: a year of its minutes takes some 60 MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_assets.market.candidates import candidate_schema
from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import Grid
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_request import month_windows
from pipeline_assets.research.backtest_types import BacktestInputError, CandleReader
from pipeline_assets.research.candle_blocks import Block, BlockBuilder
from pipeline_assets.research.delistings import last_minutes
from pipeline_assets.research.rules_in_effect import RulesInEffect

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]


@dataclass(frozen=True)
class SymbolHistory:
    """The candidates and candles of one symbol over a span.

    Attributes:
        symbol: the symbol.
        candidates: a candidates frame in the order of time, one row a signal.
        block: candles, flags and signals of the whole span, as tables of the step.
        grid: the unit of the prices in `block`.
    """

    symbol: str
    candidates: "pl.DataFrame"
    block: Block
    grid: Grid


@dataclass
class HistoryReader:
    """Reads the history of one symbol after the other.

    Attributes:
        strategy: whose candidates.
        candles: reads stored candles.
        rules: takes up each symbol; its window is the span of the candidates.
        listed: when each symbol was listed.
    """

    strategy: Strategy
    candles: CandleReader
    rules: RulesInEffect
    listed: Mapping[str, Sequence[Window]]
    _found: "list[pl.DataFrame]" = field(default_factory=list)

    def read(self, symbol: str) -> SymbolHistory | None:
        """Return a symbol's history, or None if it has no candle in the span.

        Raises:
            BacktestInputError: the strategy fails.
            DamagedObjectError: an object is damaged, and the reader leaves none out.
        """
        import polars as pl

        window = self.rules.window
        listings = {symbol: self.listed[symbol]} if symbol in self.listed else {}
        settled = last_minutes(self.candles, listings, window)
        self._found = []
        builder = BlockBuilder([self.strategy], [symbol], listings, settled, 1, self._evaluate)
        before = Window(window.start - builder.warm_up, window.start)
        builder.warm(self.candles.candles([symbol], before, builder.columns))
        blocks = []
        for month in month_windows(window):
            frame = self.candles.candles([symbol], month, builder.columns)
            if not frame.is_empty():
                self.rules.add(symbol, float(frame["open"][0]))
            blocks.append(builder.block(frame, month, self.rules.grids))
        if not builder.counts[symbol].candles:
            return None
        candidates = pl.concat([candidate_schema().to_frame(), *self._found])
        return SymbolHistory(symbol, candidates, _joined(blocks, window), self.rules.grids[symbol])

    def _evaluate(self, frame: "pl.DataFrame") -> None:
        """Keep the candidates of a month, found as live evaluation finds them."""
        # The time of evaluation is that of the span's end: the same span gives the same frame.
        found = evaluate([self.strategy], frame, self.rules.window.end)
        for named, error in found.failures.items():
            raise BacktestInputError(f"strategies: {named} fails: {error}.")
        self._found.append(found.candidates)


def _joined(blocks: Sequence[Block], window: Window) -> Block:
    """Return the blocks of consecutive months as one."""
    import numpy as np

    opens, highs, lows, closes = (
        np.concatenate([each.candles[row] for each in blocks], axis=1) for row in range(4)
    )
    flags = np.concatenate([each.flags for each in blocks], axis=1)
    signals = np.concatenate([each.signals for each in blocks])
    return Block(window, (opens, highs, lows, closes), flags, signals)
