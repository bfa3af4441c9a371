"""The tables of a backtest's result: trades from the step's events, and the equity curve. Figures drawn from
these are in metrics.py.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.market.intervals import EPOCH
from pipeline_assets.market.step_tables import REASONS, State
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import UNIT, Grid

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

_MICROSECONDS = 60_000_000


@cache
def trade_schema() -> "pa.Schema":
    """Trades: money in the quote asset, times are the open times of the candles of signal and fill.

    `profit` is the change of price times quantity, slippage contained; `net` is profit less fees plus
    funding. An open trade has no `exit_…`; its profit and return are those at `mark_price`.
    """
    import pyarrow as pa

    time = pa.timestamp("us", "UTC")
    numbers = (
        *("quantity", "entry_price", "exit_price", "mark_price", "profit", "fees"),
        *("slippage", "funding", "net", "return"),
    )
    types = dict.fromkeys(("strategy", "version", "symbol", "side", "exit_reason"), pa.string())
    types |= dict.fromkeys(("signal_time", "entry_time", "exit_signal_time", "exit_time"), time)
    types |= dict.fromkeys(numbers, pa.float64()) | {"minutes": pa.int64(), "open": pa.bool_()}
    order = (
        *("strategy", "version", "symbol", "side", "quantity", "signal_time", "entry_time"),
        *("entry_price", "exit_signal_time", "exit_time", "exit_price", "exit_reason"),
        *(
            "mark_price",
            "profit",
            "fees",
            "slippage",
            "funding",
            "net",
            "return",
            "minutes",
            "open",
        ),
    )
    return pa.schema([(name, types[name]) for name in order])


@cache
def equity_schema() -> "pa.Schema":
    """Return the columns of the equity curve: equity and exposure at the end of each step of time."""
    import pyarrow as pa

    numbers = [(name, pa.float64()) for name in ("equity", "exposure")]
    return pa.schema([("time", pa.timestamp("us", "UTC")), *numbers])


def trade_table(
    events: "Whole",
    state: State,
    strategies: Sequence[Strategy],
    symbols: Sequence[str],
    grids: Sequence[Grid],
    end: datetime,
) -> "pa.Table":
    """Return one row a position, in the order of entry, strategy and symbol.

    Args:
        events: the fills of the whole backtest, in order.
        state: at the end; its open positions are marked.
        strategies: in the order of the settings.
        symbols: in the step's order.
        grids: of each symbol.
        end: the end of the backtest, UTC.
    """
    import pyarrow as pa

    from pipeline_assets.market import position_step as step

    opened, closed, has_exit = _entries_and_exits(events)
    symbol, owner = opened[:, step.EVENT_SYMBOL], opened[:, step.EVENT_STRATEGY]
    side, steps = opened[:, step.EVENT_SIDE], opened[:, step.EVENT_STEPS]
    tick = np.array([each.tick for each in grids], np.int64)[symbol]
    lot = np.array([each.step for each in grids], np.int64)[symbol]
    value = np.array([each.value for each in grids], np.int64)[symbol]
    position = state.positions[symbol]
    entry, last = opened[:, step.EVENT_PRICE], position[:, step.LAST]
    marked = (last - entry) * side * steps * value
    profit = np.where(has_exit, closed[:, step.EVENT_PROFIT], marked)
    fees = opened[:, step.EVENT_FEE] + np.where(has_exit, closed[:, step.EVENT_FEE], 0)
    slippage = opened[:, step.EVENT_SLIPPAGE] + np.where(
        has_exit, closed[:, step.EVENT_SLIPPAGE], 0
    )
    funding = np.where(has_exit, closed[:, step.EVENT_FUNDING], position[:, step.POSITION_FUNDING])
    net = profit - fees + funding
    until = np.where(has_exit, closed[:, step.EVENT_MINUTE], (end - EPOCH) // timedelta(minutes=1))
    signal_exit = has_exit & (closed[:, step.EVENT_SIGNAL] >= 0)
    reasons = np.array([*REASONS, ""], object)
    columns = {
        "strategy": np.array([each.name for each in strategies], object)[owner],
        "version": np.array([each.version for each in strategies], object)[owner],
        "symbol": np.array(symbols, object)[symbol],
        "side": np.where(side > 0, "long", "short").astype(object),
        "quantity": steps * lot / UNIT,
        "signal_time": _times(opened[:, step.EVENT_SIGNAL]),
        "entry_time": _times(opened[:, step.EVENT_MINUTE]),
        "entry_price": entry * tick / UNIT,
        "exit_signal_time": _times(closed[:, step.EVENT_SIGNAL], signal_exit),
        "exit_time": _times(closed[:, step.EVENT_MINUTE], has_exit),
        "exit_price": _known(closed[:, step.EVENT_PRICE] * tick / UNIT, has_exit),
        "exit_reason": _known(
            reasons[np.where(has_exit, closed[:, step.EVENT_REASON], -1)], has_exit
        ),
        "mark_price": _known(last * tick / UNIT, ~has_exit),
        "profit": profit / UNIT,
        "fees": fees / UNIT,
        "slippage": slippage / UNIT,
        "funding": funding / UNIT,
        "net": net / UNIT,
        "return": net / np.maximum(steps * entry * value, 1),
        "minutes": until - opened[:, step.EVENT_MINUTE],
        "open": ~has_exit,
    }
    table = pa.table(
        [pa.array(columns[name]).cast(trade_schema().field(name).type) for name in columns],
        schema=trade_schema(),
    )
    order = np.lexsort((symbol, owner, opened[:, step.EVENT_MINUTE]))
    return table.take(pa.array(order))


def _entries_and_exits(events: "Whole") -> "tuple[Whole, Whole, NDArray[np.bool_]]":
    """Return the entries by symbol and time, the exit of each (-1 without one), and which have an exit."""
    from pipeline_assets.market import position_step as step

    # A symbol has one position at a time: its entries and exits alternate.
    ordered = events[np.argsort(events[:, step.EVENT_SYMBOL], kind="stable")]
    places = np.flatnonzero(ordered[:, step.KIND] == step.OPENED)
    following = places + 1
    has_exit = np.zeros(len(places), bool)
    inside = following < len(ordered)
    has_exit[inside] = ordered[following[inside], step.KIND] == step.CLOSED
    closed = np.full((len(places), step.EVENT_SIZE), -1, np.int64)
    closed[has_exit] = ordered[following[has_exit]]
    return ordered[places], closed, has_exit


def equity_table(first: int, minutes: int, values: "Whole", end: int) -> "pa.Table":
    """Return the equity curve: `values` of the step, `minutes` apart from the minute `first` to `end`."""
    import pyarrow as pa

    times = first + np.arange(len(values), dtype=np.int64) * minutes
    times = np.minimum(times, end) * _MICROSECONDS
    return pa.table(
        [pa.array(times, equity_schema().field("time").type), *(values.T / UNIT)],
        schema=equity_schema(),
    )


def _times(minutes: "Whole", known: "NDArray[np.bool_] | None" = None) -> "pa.Array":
    import pyarrow as pa

    mask = None if known is None else ~known
    return pa.array(minutes * _MICROSECONDS, pa.timestamp("us", "UTC"), mask=mask)


def _known(values: "NDArray[np.generic]", known: "NDArray[np.bool_]") -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, mask=~known)
