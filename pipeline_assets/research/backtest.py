"""Backtests: strategies over stored candles, by the step that moves live positions. Types are in
backtest_types.py.
"""

from collections.abc import Callable

from pipeline_assets.research.backtest_types import (
    BacktestRequest,
    BacktestResult,
    CandleReader,
    DocumentsReader,
    FundingReader,
    Progress,
)


def run_backtest(
    request: BacktestRequest,
    candles: CandleReader,
    funding: FundingReader | None,
    documents: DocumentsReader,
    progress: Callable[[Progress], None] = lambda _: None,
) -> BacktestResult:
    """Run a backtest.

    Args:
        request: what to run.
        candles: reads stored candles.
        funding: reads funding rates; None leaves funding out, and the result says so.
        documents: reads the exchange's rules and fees by date.
        progress: is called after every month.

    Raises:
        BacktestInputError: the request cannot be run.
        NoCandlesError: no candle is stored of any symbol in the span.
        DamagedObjectError: an object is damaged, and `candles` leaves none out.
    """
    raise NotImplementedError
