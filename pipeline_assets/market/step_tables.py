"""The tables that the compiled step reads and writes, made of rules, signals and funding rates in decimals.
The step itself is in position_step.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import gcd
from typing import TYPE_CHECKING, Literal

from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import EPOCH
from pipeline_assets.market.position_rules import (
    FixedNotional,
    FractionOfEquity,
    PositionRules,
)
from pipeline_assets.market.trading_rules import Fees, Grid, TradingRules, TradingRulesError, units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

Side = Literal["long", "short"]
_MINUTE = timedelta(minutes=1)
_SIDES = {"both": 0, "long": 1, "short": -1}
_OPPOSITE = {"ignore": 0, "exit": 1, "reverse": 2}
# The names of the step's numbers, in their order.
OUTCOMES = (
    *("accepted", "position_held", "same_side", "exit_pending", "opposite_ignored"),
    *("side_not_allowed", "cooling_down", "position_limit", "below_minimum"),
    *("insufficient_margin", "no_atr", "not_listed", "gap"),
)
REASONS = ("signal", "stop", "trailing_stop", "target", "time_limit", "liquidation", "delisting")


@dataclass(frozen=True)
class FundingRate:
    """A funding rate at its time (UTC). A `rate` of None is missing; so may be the mark price.

    A positive rate is paid by longs to shorts. `interval_hours` is known where the archive states it.
    """

    time: datetime
    rate: Decimal | None
    mark_price: Decimal | None = None
    interval_hours: int | None = None


@dataclass(frozen=True)
class FillModel:
    """How orders are filled.

    Attributes:
        fill_delay: 1 fills at the first open after the signal's close, 2 at the second: candidates
            reach Kafka 10 to 18 seconds into the next minute.
        slippage: the part of the price that market orders lose.
        max_positions: positions and pending entries at once, over all strategies and symbols.
    """

    fill_delay: int = 2
    slippage: Decimal = Decimal("0.0002")
    max_positions: int = 10

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        if not 1 <= self.fill_delay <= 60:
            raise InputError(f"fill_delay must be 1 to 60 minutes, not {self.fill_delay}")
        if not 0 <= self.slippage < 1:
            raise InputError(
                f"slippage must be a part of the price, such as 0.0002, not {self.slippage}"
            )
        if self.max_positions < 1:
            raise InputError(f"max_positions must be at least 1, not {self.max_positions}")


@dataclass(frozen=True)
class Setup:
    """The rules in effect: of the run, per strategy, per symbol."""

    config: "Whole"
    rules: "Whole"
    markets: "Whole"
    brackets: "Whole"

    def arrays(self) -> "tuple[Whole, Whole, Whole, Whole]":
        """Return the tables in the step's order."""
        return self.config, self.rules, self.markets, self.brackets


@dataclass(frozen=True)
class State:
    """The state of all positions and of the account; the step changes its tables in place."""

    positions: "Whole"
    account: "Whole"
    cooling: "Whole"
    opened: "Whole"
    counts: "Whole"

    def arrays(self) -> "tuple[Whole, Whole, Whole, Whole, Whole]":
        """Return the tables in the step's order."""
        return self.positions, self.account, self.cooling, self.opened, self.counts


def to_minute(moment: datetime) -> int:
    """Return a time (UTC) as whole minutes since 1970, rounded down."""
    return (moment - EPOCH) // _MINUTE


def from_minute(minute: int) -> datetime:
    """Return the time of a number of minutes since 1970."""
    return EPOCH + minute * _MINUTE


def grid_of(symbol: str, rules: Iterable[TradingRules]) -> Grid:
    """Return the finest grid on which all ticks and steps of a symbol lie."""
    all_rules = list(rules)
    return Grid(
        symbol,
        gcd(*(units(each.tick_size) for each in all_rules)),
        gcd(*(units(each.step_size) for each in all_rules)),
    )


def config_row(
    model: FillModel, equity_minutes: int = 60, *, show_declined: bool = False
) -> "Whole":
    """Return the table of a run."""
    import numpy as np

    return np.array(
        [
            model.fill_delay,
            units(model.slippage),
            model.max_positions,
            equity_minutes,
            int(show_declined),
        ],
        np.int64,
    )


def rules_table(rules: Sequence[PositionRules]) -> "Whole":
    """Return one row a strategy."""
    import numpy as np

    def row(each: PositionRules) -> list[int]:
        sizing = each.sizing
        by = (
            0
            if isinstance(sizing, FixedNotional)
            else 1
            if isinstance(sizing, FractionOfEquity)
            else 2
        )
        return [
            _SIDES[each.side],
            _OPPOSITE[each.opposite_signal],
            units(each.stop or 0),
            units(each.target or 0),
            units(each.trailing_stop or 0),
            each.time_limit or 0,
            each.cool_down,
            each.max_positions,
            each.leverage,
            by,
            units(sizing.value),
        ]

    return np.array([row(each) for each in rules], np.int64)


def market_tables(
    grids: Sequence[Grid], rules: Sequence[TradingRules], fees: Fees
) -> "tuple[Whole, Whole]":
    """Return markets and brackets, one row a symbol.

    Raises:
        TradingRulesError: a rule does not fit the grid.
    """
    import numpy as np

    from pipeline_assets.market import position_step as step

    most = max((len(each.brackets) for each in rules), default=1)
    markets = np.zeros((len(grids), step.MARKET_SIZE), np.int64)
    brackets = np.zeros((len(grids), most, step.BRACKET_SIZE), np.int64)
    brackets[:, :, step.FROM] = step.NEVER
    for place, (grid, each) in enumerate(zip(grids, rules, strict=True)):
        tick, lot = units(each.tick_size), units(each.step_size)
        if tick % grid.tick or lot % grid.step:
            raise TradingRulesError(
                f"{grid.symbol}: a tick of {each.tick_size} or a step of {each.step_size} does not lie "
                f"on the grid of {grid.price(1)} and {grid.quantity(1)}."
            )
        markets[place] = [
            grid.value,
            grid.step,
            tick // grid.tick,
            lot // grid.step,
            -(-units(each.min_quantity) // grid.step),
            units(each.max_quantity) // grid.step,
            units(each.min_notional),
            units(fees.maker),
            units(fees.taker),
            units(each.liquidation_fee),
        ]
        for number, bracket in enumerate(each.brackets):
            brackets[place, number] = [
                units(bracket.notional),
                units(bracket.rate),
                units(bracket.amount),
            ]
    return markets, brackets


def check_leverage(strategy: str, rules: PositionRules, symbol: str, traded: TradingRules) -> None:
    """Refuse a leverage at which a position would be liquidated as soon as it is opened.

    Raises:
        InputError: the margin is not above the maintenance margin.
    """
    rate = traded.brackets[0].rate
    if rate * rules.leverage >= 1:
        raise InputError(
            f"strategies: {strategy}: leverage {rules.leverage} leaves no margin above {symbol}'s "
            f"maintenance margin of {rate:%}. Use less than {int(1 / rate)}."
        )


def new_state(strategies: int, symbols: int, capital: Decimal) -> State:
    """Return the state of an account without positions."""
    import numpy as np

    from pipeline_assets.market import position_step as step

    positions = np.zeros((symbols, step.POSITION_SIZE), np.int64)
    for field in (step.HIGHEST, step.DUE, step.EXIT_DUE, step.PENDING_DUE):
        positions[:, field] = step.NEVER
    account = np.zeros(step.ACCOUNT_SIZE, np.int64)
    account[step.CASH] = units(capital)
    return State(
        positions,
        account,
        np.zeros((strategies, symbols), np.int64),
        np.zeros(strategies, np.int64),
        np.zeros((strategies, step.OUTCOMES), np.int64),
    )


def funding_table(rates: Mapping[int, Iterable[FundingRate]]) -> "Whole":
    """Return funding rates, by the place of their symbol, as rows in the order of time and symbol.

    A rate's time is rounded down to its minute: the exchange is some milliseconds late.
    """
    import numpy as np

    rows = sorted(
        (
            to_minute(each.time),
            symbol,
            units(each.rate) if each.rate is not None else 0,
            int(each.rate is not None),
            units(round(each.mark_price, 8)) if each.mark_price else 0,
        )
        for symbol, held in rates.items()
        for each in held
    )
    return np.array(rows, np.int64).reshape(-1, 5)


def rows_between(rows: "Whole", first: int, last: int) -> "Whole":
    """Return the rows of signals or funding rates, which are in the order of time, of a span of minutes."""
    import numpy as np

    start, end = np.searchsorted(rows[:, 0], (first, last))
    return np.ascontiguousarray(rows[start:end])


def event_room(signals: int, symbols: int) -> "Whole":
    """Return a table large enough for the events of this many signals, entries and exits."""
    import numpy as np

    from pipeline_assets.market import position_step as step

    return np.zeros((2 * signals + 6 * symbols + 1, step.EVENT_SIZE), np.int64)
