"""Positions moved on minute by minute, in decimals: the door of the paper venue and of the trader to the step
that backtests run. The tables are in step_tables.py, the step itself in position_step.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Self
from zlib import crc32

from pipeline_assets.errors import InputError
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.position_state import decode_state, encode_state
from pipeline_assets.market.step_tables import (
    OUTCOMES,
    REASONS,
    FillModel,
    FundingRate,
    Setup,
    Side,
    State,
    config_row,
    event_room,
    from_minute,
    funding_table,
    market_tables,
    new_state,
    rules_table,
    to_minute,
)
from pipeline_assets.market.trading_rules import Fees, Grid, TradingRules, decimal, units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Bar:
    """The prices of one closed candle."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass(frozen=True)
class Signal:
    """A strategy's signal at the close of a candle; `atr` is needed by sizing with a volatility target."""

    strategy: str
    symbol: str
    side: Side
    atr: Decimal | None = None


@dataclass(frozen=True)
class Fill:
    """An entry or exit, filled in the minute that opens at `time` (UTC).

    Attributes:
        kind: `entry` or `exit`.
        side: what was done: an exit of a short buys.
        reason: why a position was closed, one of `step_tables.REASONS`; empty for an entry.
        profit: of an exit before fees and funding.
        funding: of an exit: what the position received, or paid where negative.
        slippage: what the fill lost to slippage; contained in its price.
        signal_time: the open time of the signal's candle; None without a signal.
    """

    kind: Literal["entry", "exit"]
    time: datetime
    strategy: str
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    quantity: Decimal
    fee: Decimal
    slippage: Decimal
    profit: Decimal
    funding: Decimal
    reason: str
    signal_time: datetime | None


@dataclass(frozen=True)
class Declined:
    """A signal that led to nothing, or an entry dropped in a gap: one of `step_tables.OUTCOMES` says why."""

    time: datetime
    strategy: str
    symbol: str
    side: Side
    reason: str


@dataclass(frozen=True)
class Position:
    """An open position."""

    strategy: str
    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_time: datetime
    stop: Decimal | None
    target: Decimal | None
    liquidation: Decimal | None
    funding: Decimal


@dataclass
class PositionKeeper:
    """The positions of some strategies on some symbols, and their account.

    Attributes:
        strategies: rules by a strategy's name and version, in the order of the settings.
        symbols: filters and grid by symbol. The order breaks ties.
        fees: commission.
        model: how orders are filled.
        capital: the cash in the beginning.
    """

    strategies: Mapping[str, PositionRules]
    symbols: Mapping[str, tuple[Grid, TradingRules]]
    fees: Fees = field(default_factory=Fees)
    model: FillModel = field(default_factory=FillModel)
    capital: Decimal = Decimal(10_000)
    _state: State = field(init=False, repr=False)
    _setup: Setup = field(init=False, repr=False)
    _begun: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Make the step's tables."""
        self._grids = [grid for grid, _ in self.symbols.values()]
        self._strategy_at = {name: place for place, name in enumerate(self.strategies)}
        self._symbol_at = {symbol: place for place, symbol in enumerate(self.symbols)}
        rules = [rules for _, rules in self.symbols.values()]
        self._setup = Setup(
            config_row(self.model, show_declined=True),
            rules_table(list(self.strategies.values())),
            *market_tables(self._grids, rules, self.fees),
        )
        self._state = new_state(len(self.strategies), len(self.symbols), self.capital)

    def advance(
        self,
        time: datetime,
        bars: Mapping[str, Bar],
        signals: Sequence[Signal] = (),
        funding: Mapping[str, Sequence[FundingRate]] | None = None,
    ) -> list[Fill | Declined]:
        """Move all positions on by one minute, and by the gap before it.

        Args:
            time: the minute's open time, UTC.
            bars: the closed candles of the minute; a symbol without one has a gap.
            signals: of these candles, in any order.
            funding: by symbol, all rates that are due in this minute or in the gap before it, in any order.

        Raises:
            InputError: the minute is not after the last one, a signal has no candle, or a rate is due at
                another time: it would be lost.
        """
        import numpy as np

        from pipeline_assets.market import position_step as step

        minute = to_minute(time)
        last = int(self._state.account[step.MINUTE]) if self._begun else minute - 1
        if minute <= last:
            raise InputError(f"{time} is not after {from_minute(last)}, where the positions stand.")
        unknown = [each.symbol for each in signals if each.symbol not in bars]
        if unknown:
            raise InputError(f"Signals of {', '.join(unknown)} at {time} have no candle.")
        span = minute - last
        prices = np.zeros((4, len(self.symbols), span), np.int64)
        flags = np.zeros((len(self.symbols), span), np.uint8)
        for symbol, bar in bars.items():
            place = self._symbol_at[symbol]
            tick = self._grids[place].tick
            values = (bar.open, bar.high, bar.low, bar.close)
            prices[:, place, -1] = [round(units(value) / tick) for value in values]
            flags[place, -1] = step.PRESENT | step.TRADABLE
        table = self._signals(minute, signals)
        rates = self._rates(last, minute, funding or {})
        events = event_room(len(table), len(self.symbols))
        equity = np.zeros((span // 60 + 2, 2), np.int64)
        state, setup = self._state.arrays(), self._setup.arrays()
        count, _ = step.run(
            last + 1, tuple(prices), flags, table, rates, state, setup, equity, events
        )
        self._begun = True
        return [self._event(row) for row in events[:count].tolist()]

    @property
    def state(self) -> State:
        """The step's tables, for position_view.py."""
        return self._state

    @property
    def minute(self) -> int | None:
        """The newest minute, counted from 1970, that the positions were moved on to; None before."""
        from pipeline_assets.market import position_step as step

        return int(self._state.account[step.MINUTE]) if self._begun else None

    @property
    def cash(self) -> Decimal:
        """The money, without the profit and loss of open positions."""
        from pipeline_assets.market import position_step as step

        return decimal(int(self._state.account[step.CASH]))

    @property
    def positions(self) -> list[Position]:
        """The open positions, in the order of the symbols."""
        from pipeline_assets.market import position_step as step

        names, found = list(self.strategies), []
        for symbol, row in zip(self.symbols, self._state.positions.tolist(), strict=True):
            if not row[step.QUANTITY]:
                continue
            grid = self._grids[self._symbol_at[symbol]]
            stop, target, liquidation = (
                grid.price(row[field]) if row[field] else None
                for field in (step.STOP_AT, step.TARGET_AT, step.LIQUIDATED_AT)
            )
            found.append(
                Position(
                    strategy=names[row[step.OWNER]],
                    symbol=symbol,
                    side="long" if row[step.QUANTITY] > 0 else "short",
                    quantity=grid.quantity(abs(row[step.QUANTITY])),
                    entry_price=grid.price(row[step.ENTRY]),
                    entry_time=from_minute(row[step.ENTRY_MINUTE]),
                    stop=stop,
                    target=target,
                    liquidation=liquidation,
                    funding=decimal(row[step.POSITION_FUNDING]),
                )
            )
        return found

    def encode(self) -> bytes:
        """Return the state; `restore` continues from it as if nothing had happened."""
        return encode_state(self._state, self._fingerprint(), begun=self._begun)

    def restore(self, encoded: bytes) -> Self:
        """Continue from a state of the same strategies, symbols and rules.

        Raises:
            PositionStateError: the bytes are damaged, or of other strategies, symbols or rules.
        """
        self._begun = decode_state(encoded, self._state, self._fingerprint())
        return self

    def _fingerprint(self) -> int:
        named = repr((dict(self.strategies), list(self.symbols), self._grids, self.model))
        return crc32(named.encode())

    def _rates(
        self, last: int, minute: int, funding: Mapping[str, Sequence[FundingRate]]
    ) -> "NDArray[np.int64]":
        for symbol, rates in funding.items():
            if symbol not in self._symbol_at:
                raise InputError(f"Funding rates of {symbol}, which is not among the symbols.")
            for each in rates:
                if not last < to_minute(each.time) <= minute:
                    raise InputError(
                        f"The funding rate of {symbol} at {each.time} is not due after "
                        f"{from_minute(last)}, where the positions stand, and up to {from_minute(minute)}."
                    )
        return funding_table({self._symbol_at[symbol]: rates for symbol, rates in funding.items()})

    def _signals(self, minute: int, signals: Sequence[Signal]) -> "NDArray[np.int64]":
        import numpy as np

        rows = sorted(
            (
                minute,
                self._strategy_at[each.strategy],
                self._symbol_at[each.symbol],
                1 if each.side == "long" else -1,
                units(round(each.atr, 8)) if each.atr else 0,
            )
            for each in signals
        )
        return np.array(rows, np.int64).reshape(-1, 5)

    def _event(self, row: list[int]) -> Fill | Declined:
        from pipeline_assets.market import position_step as step

        strategy = list(self.strategies)[row[step.EVENT_STRATEGY]]
        symbol = list(self.symbols)[row[step.EVENT_SYMBOL]]
        time, bought = from_minute(row[step.EVENT_MINUTE]), row[step.EVENT_SIDE] > 0
        if row[step.KIND] == step.DECLINED:
            side: Side = "long" if bought else "short"
            return Declined(time, strategy, symbol, side, OUTCOMES[row[step.EVENT_REASON]])
        grid = self._grids[row[step.EVENT_SYMBOL]]
        closed = row[step.KIND] == step.CLOSED
        signal = row[step.EVENT_SIGNAL]
        return Fill(
            kind="exit" if closed else "entry",
            time=time,
            strategy=strategy,
            symbol=symbol,
            side="buy" if bought else "sell",
            price=grid.price(row[step.EVENT_PRICE]),
            quantity=grid.quantity(row[step.EVENT_STEPS]),
            fee=decimal(row[step.EVENT_FEE]),
            slippage=decimal(row[step.EVENT_SLIPPAGE]),
            profit=decimal(row[step.EVENT_PROFIT]),
            funding=decimal(row[step.EVENT_FUNDING]),
            reason=REASONS[row[step.EVENT_REASON]] if closed else "",
            signal_time=from_minute(signal) if signal >= 0 else None,
        )
