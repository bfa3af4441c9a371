"""Request, readers and result of a backtest. The work is in backtest.py, the figures are in metrics.py."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from pipeline_assets.errors import DataError, InputError
from pipeline_assets.market.step_tables import FillModel, FundingRate
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import Fees, TradingDocuments
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class BacktestInputError(InputError, ValueError):
    """A request that cannot be run. The message names what is wrong and what there is."""


class NoCandlesError(DataError):
    """No candle is stored of any symbol in the span. The message says how to store some."""


@dataclass(frozen=True)
class BacktestRequest:
    """One backtest.

    Attributes:
        strategies: in the order of the settings, which breaks ties; each has its position rules.
        symbols: the symbols; None takes every symbol listed in the span, each while it was listed.
        start: the first open time that can signal, UTC; candles before it are warm-up.
        end: the open time before which to stop, UTC.
        capital: the cash in the beginning, in the quote asset.
        model: how orders are filled.
        fees: commission; None takes the documents' of each date.
        chunk_months: calendar months that are read at once; None chooses by the number of symbols. It is
            a matter of memory and speed, never of the result.
        workers: threads that compute indicators: never the result.
        equity_minutes: how far apart the points of the equity curve are; divides a day.
    """

    strategies: Sequence[Strategy]
    symbols: Sequence[str] | None
    start: datetime
    end: datetime
    capital: Decimal = Decimal(10_000)
    model: FillModel = field(default_factory=FillModel)
    fees: Fees | None = None
    chunk_months: int | None = None
    workers: int = 2
    equity_minutes: int = 60


class CandleReader(Protocol):
    """Reads 1m candles."""

    @property
    def damaged(self) -> Sequence[str]:
        """Keys of the damaged objects that were left out so far."""

    def candles(
        self, symbols: Sequence[str], window: Window, columns: Sequence[str]
    ) -> "pl.DataFrame":
        """Return these columns of the stored candles of a window.

        Rows are sorted by symbol and open time, one each. Columns are those of market/candles.py, and
        `symbol` and `open_time` are among them.

        Raises:
            DamagedObjectError: an object is damaged, and the reader leaves none out.
        """

    def listed(self) -> Mapping[str, Sequence[Window]]:
        """Return when each symbol was listed; a symbol of which nothing is known is not named."""


# The funding rates of a symbol with start <= time < end, in the order of time.
FundingReader = Callable[[str, Window], Iterable[FundingRate]]
DocumentsReader = Callable[[Sequence[str]], TradingDocuments]


@dataclass(frozen=True)
class Progress:
    """How far a backtest is: `end` is the time up to which it has run."""

    done: int
    total: int
    end: datetime


@dataclass(frozen=True)
class MissingFunding:
    """Funding rates that should exist and are not stored. They are left out, never zero."""

    symbol: str
    start: datetime
    end: datetime
    rates: int


@dataclass(frozen=True)
class Counts:
    """How often each thing happened.

    Attributes:
        candles: candles read within the span.
        signals: by strategy.
        outcomes: by strategy, then by outcome (`step_tables.OUTCOMES`); `accepted` led to an order.
        both_touched: candles that touched stop and target, taken as stops.
        rates_missing: funding times of open positions without a rate.
        marks_from_open: funding of open positions at the 1m open, for want of a mark price.
        marks_from_close: the same at the last close, in a gap.
        exits_after_gap: exits filled later than due, at the first open after a gap.
        gap_minutes: by symbol, minutes between its first and last candle without one.
        off_grid: by symbol, candles with a price that is no multiple of the tick size.
        without_candles: symbols of which the span has no candle, so that they were not traded.
    """

    candles: int
    signals: Mapping[str, int]
    outcomes: Mapping[str, Mapping[str, int]]
    both_touched: int
    rates_missing: int
    marks_from_open: int
    marks_from_close: int
    exits_after_gap: int
    gap_minutes: Mapping[str, int]
    off_grid: Mapping[str, int]
    without_candles: Sequence[str] = ()


@dataclass(frozen=True)
class BacktestResult:
    """The answer.

    Attributes:
        trades: one row a position, of `results.trade_schema`, in the order of entry, strategy, symbol.
            Open ones are marked at the last close and have no exit.
        equity: `time`, `equity`, `exposure` (value of positions), of `results.equity_schema`.
        metrics: `metrics.all_metrics`: total, by strategy, symbol, exit and month, and buy and hold.
        assumptions: what had to be assumed, one sentence each.
        missing_funding: the funding rates that are missing in the span.
        damaged: keys of damaged objects that were left out.
        checksum: SHA-256 of the candles, funding rates and rules that were used. The same request and
            checksum give the same trades.
        versions: of the product, Python and the libraries that calculate; and by strategy.
        counts: how often each thing happened.
        request: the request as plain values, enough to run it again.
    """

    trades: "pa.Table"
    equity: "pa.Table"
    metrics: Mapping[str, Any]
    assumptions: Sequence[str]
    missing_funding: Sequence[MissingFunding]
    damaged: Sequence[str]
    checksum: str
    versions: Mapping[str, str]
    counts: Counts
    request: Mapping[str, Any] = field(default_factory=dict)
