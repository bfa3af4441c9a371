"""Backtests: strategies over stored candles, by the step that moves live positions. Types are in
backtest_types.py; candles become the step's tables in candle_blocks.py.
"""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_assets.market.candles import KEY_COLUMNS, PRICE_COLUMNS
from pipeline_assets.market.step_tables import (
    OUTCOMES,
    FundingRate,
    State,
    config_row,
    event_room,
    funding_table,
    new_state,
    rows_between,
    rules_table,
    to_minute,
)
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_request import check, described, month_windows, universe
from pipeline_assets.research.backtest_types import (
    BacktestInputError,
    BacktestRequest,
    BacktestResult,
    CandleReader,
    Counts,
    DocumentsReader,
    FundingReader,
    MissingFunding,
    NoCandlesError,
    Progress,
)
from pipeline_assets.research.candle_blocks import Block, BlockBuilder, by_symbol
from pipeline_assets.research.delistings import last_minutes
from pipeline_assets.research.funding_times import listed_rates
from pipeline_assets.research.holding import HoldingPrices
from pipeline_assets.research.metrics import all_metrics
from pipeline_assets.research.results import equity_table, trade_table
from pipeline_assets.research.rules_in_effect import RulesInEffect, leverage_assumption

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
# A year of one symbol, or a month of twelve, read at once: some 40 MB.
_SYMBOL_MONTHS = 12
_LIBRARIES = ("pipeline-assets", "numba", "numpy", "polars", "ta-lib")


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
    check(request)
    window = Window(request.start, request.end)
    listed = candles.listed()
    symbols = universe(request, listed)
    rules = RulesInEffect(documents(symbols), request.fees, request.strategies, window)
    settled = last_minutes(
        candles, {name: listed[name] for name in symbols if name in listed}, window
    )
    builder = BlockBuilder(request.strategies, symbols, listed, settled, request.workers)
    run = _Run(request, symbols, rules, builder)
    run.take_funding(funding, listed)
    months = month_windows(window)
    for month, frame in _frames(request, candles, run.builder, months):
        run.month(frame, month)
        # Before the next one is read: two months of twenty symbols would take twice the memory.
        del frame
        progress(Progress(months.index(month) + 1, len(months), month.end))
    return run.result(candles.damaged)


def _frames(
    request: BacktestRequest, candles: CandleReader, builder: BlockBuilder, months: list[Window]
) -> "Iterator[tuple[Window, pl.DataFrame]]":
    """Read candles some months at once; yields them month by month, after the warm-up."""
    import polars as pl

    symbols = builder.symbols
    at_once = request.chunk_months or max(_SYMBOL_MONTHS // len(symbols), 1)
    before = Window(months[0].start - builder.warm_up, months[0].start)
    builder.warm(candles.candles(symbols, before, builder.columns))
    for first in range(0, len(months), at_once):
        chunk = months[first : first + at_once]
        frame = candles.candles(symbols, Window(chunk[0].start, chunk[-1].end), builder.columns)
        for month in chunk:
            inside = pl.col("open_time").is_between(month.start, month.end, closed="left")
            yield month, frame if len(chunk) == 1 else frame.filter(inside)
        del frame


@dataclass
class _Run:
    """A backtest on its way: the state of the step, and what has been collected so far."""

    request: BacktestRequest
    symbols: list[str]
    rules: RulesInEffect
    builder: BlockBuilder
    events: "list[Whole]" = field(default_factory=list)
    equity: "list[Whole]" = field(default_factory=list)
    missing: list[MissingFunding] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the capital and no position."""
        request = self.request
        self._state: State = new_state(len(request.strategies), len(self.symbols), request.capital)
        self._config = config_row(request.model, request.equity_minutes)
        self._strategy_rules = rules_table([each.rules for each in request.strategies])
        self._funding = funding_table({})
        self._digest = sha256()
        self._signals = np.zeros(len(request.strategies), np.int64)
        self._holding = HoldingPrices(self.symbols)
        self._assumptions = leverage_assumption(request.strategies)

    def take_funding(self, funding: FundingReader | None, listed: "dict[str, Any] | Any") -> None:
        """Read the funding rates of the whole span."""
        if funding is None:
            self._assumptions.append("No funding rates were given: funding is left out.")
            return
        window = self.rules.window
        rates: dict[int, list[FundingRate]] = {}
        for place, symbol in enumerate(self.symbols):
            found = listed_rates(symbol, funding, listed.get(symbol, [window]), window)
            rates[place] = list(found.rates)
            self.missing += found.missing
        self._funding = funding_table(rates)
        self._digest.update(self._funding.tobytes())

    def month(self, frame: "pl.DataFrame", window: Window) -> None:
        """Run one month."""
        for symbol, held in by_symbol(frame).items():
            self.rules.add(symbol, float(held["open"][0]))
        block = self.builder.block(frame, window, self.rules.grids)
        self._holding.note(block, self.rules.grids)
        for table in (block.flags, *block.candles):
            self._digest.update(np.ascontiguousarray(table).data)
        # Prices are in the tables; volumes change signals too.
        for name in self.builder.columns:
            if name not in (*KEY_COLUMNS, *PRICE_COLUMNS):
                values = frame[name].to_physical().to_numpy()
                self._digest.update(np.ascontiguousarray(values).data)
        self._signals += np.bincount(block.signals[:, 1], minlength=len(self._signals))
        ends = [*self.rules.changes(window), window.end]
        start = window.start
        for end in ends:
            self._step(block, start, end)
            start = end

    def _step(self, block: Block, start: datetime, end: datetime) -> None:
        """Run a part of a month in which no rule changes."""
        from pipeline_assets.market import position_step as step

        first, last = to_minute(start), to_minute(end)
        columns = slice(first - to_minute(block.window.start), last - to_minute(block.window.start))
        signals = rows_between(block.signals, first, last)
        markets, brackets = self.rules.tables(self.symbols, start)
        self._digest.update(markets.tobytes() + brackets.tobytes())
        events = event_room(len(signals), len(self.symbols))
        equity = np.zeros(((last - first) // self.request.equity_minutes + 2, 2), np.int64)
        opens, highs, lows, closes = (
            np.ascontiguousarray(each[:, columns]) for each in block.candles
        )
        count, samples = step.run(
            first,
            (opens, highs, lows, closes),
            np.ascontiguousarray(block.flags[:, columns]),
            signals,
            rows_between(self._funding, first, last),
            self._state.arrays(),
            (self._config, self._strategy_rules, markets, brackets),
            equity,
            events,
        )
        self.events.append(events[:count])
        self.equity.append(equity[:samples])

    def result(self, damaged: "list[str] | Any") -> BacktestResult:
        """Return the result after the last month.

        Raises:
            NoCandlesError: there was no candle.
        """
        request, counts = self.request, self.builder.counts
        read = sum(each.candles for each in counts.values())
        if not read:
            raise NoCandlesError(
                f"No 1m candle of {', '.join(self.symbols[:5])} is stored from "
                f"{request.start:%Y-%m-%d %H:%M} to {request.end:%Y-%m-%d %H:%M} UTC. "
                f"Fetch them: pipeline-assets backfill --interval 1m --symbols {','.join(self.symbols[:5])} "
                f"--start {request.start:%Y-%m-%d} --end {request.end:%Y-%m-%d}."
            )
        self._refuse_small_capital()
        grids = [self.rules.grids.get(symbol) for symbol in self.symbols]
        known = [grid for grid in grids if grid is not None]
        every = request.equity_minutes
        first = to_minute(request.start) // every * every + every
        equity = equity_table(first, every, self._curve(), to_minute(request.end))
        trades = trade_table(
            np.concatenate(self.events),
            self._state,
            request.strategies,
            self.symbols,
            [grid or known[0] for grid in grids],
            request.end,
        )
        capital, days = float(request.capital), (request.end - request.start) / _DAY
        held = self._holding.curve(capital)
        return BacktestResult(
            trades=trades,
            equity=equity,
            metrics=all_metrics(trades, equity, held, capital, every, days),
            assumptions=(*self.rules.assumptions, *self._assumptions),
            missing_funding=tuple(self.missing),
            damaged=tuple(damaged),
            checksum=self._digest.hexdigest(),
            versions={name: version(name) for name in _LIBRARIES}
            | {"python": platform.python_version()}
            | {f"strategy {each.name}": each.version for each in request.strategies},
            counts=self._counts(read),
            request=described(request, self.symbols),
        )

    def _curve(self) -> "Whole":
        """Return equity and value of positions at each point, the last one at the end of the backtest.

        A span that ends between two points would otherwise leave out what happened since.
        """
        from pipeline_assets.market import position_step as step

        points = np.concatenate(self.equity)
        if to_minute(self.request.end) % self.request.equity_minutes == 0:
            return points
        positions, account = self._state.arrays()[:2]
        markets, _ = self.rules.tables(self.symbols, self.request.end)
        steps, last = positions[:, step.QUANTITY], positions[:, step.LAST]
        value = markets[:, step.VALUE]
        marked = int(((last - positions[:, step.ENTRY]) * steps * value).sum())
        held = int((np.abs(steps) * last * value).sum())
        return np.vstack([points, [int(account[step.CASH]) + marked, held]])

    def _refuse_small_capital(self) -> None:
        """Refuse a backtest whose every signal was too small, which would look like a quiet strategy."""
        totals = dict(zip(OUTCOMES, self._state.counts.sum(axis=0).tolist(), strict=True))
        small = totals["below_minimum"] + totals["insufficient_margin"]
        if small and small == sum(totals.values()):
            raise BacktestInputError(
                f"Each of the {small} signals was below the minimum of an order: raise the capital of "
                f"{self.request.capital}, or the sizing in the rules of the strategies."
            )

    def _counts(self, read: int) -> Counts:
        from pipeline_assets.market import position_step as step

        names = [f"{each.name} {each.version}" for each in self.request.strategies]
        account = self._state.account.tolist()
        seen = self.builder.counts
        return Counts(
            candles=read,
            signals=dict(zip(names, self._signals.tolist(), strict=True)),
            outcomes={
                name: dict(zip(OUTCOMES, row, strict=True))
                for name, row in zip(names, self._state.counts.tolist(), strict=True)
            },
            both_touched=account[step.BOTH_TOUCHED],
            rates_missing=account[step.RATES_MISSING],
            marks_from_open=account[step.MARKS_FROM_OPEN],
            marks_from_close=account[step.MARKS_FROM_CLOSE],
            exits_after_gap=account[step.EXITS_AFTER_GAP],
            gap_minutes={name: each.gap_minutes for name, each in seen.items() if each.gap_minutes},
            off_grid={name: each.off_grid for name, each in seen.items() if each.off_grid},
            without_candles=[
                name for name in self.symbols if name not in seen or not seen[name].candles
            ],
        )
