"""Labels: the net return that trading each past candidate alone would have had, by the compiled step of
backtests and of live positions.

Each candidate is its own trade, whatever is held at its time: barriers are the position rules' stop,
target, trailing stop and time limit, the opposite signal where the rules close by it, liquidation and
delisting. Fees, slippage and funding are contained. Two things differ from a backtest, because they belong
to the account and not to the candidate: every trade has the same value whatever the equity is, and a
reversal closes without opening the other side, which is a candidate of its own.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.errors import InternalError
from pipeline_assets.market.position_rules import FixedNotional, PositionRules
from pipeline_assets.market.step_tables import (
    OUTCOMES,
    REASONS,
    FillModel,
    Setup,
    config_row,
    new_state,
    rows_between,
    rules_table,
    to_minute,
)
from pipeline_assets.research.candidate_history import SymbolHistory
from pipeline_assets.research.rules_in_effect import RulesInEffect

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

TRADED, OPEN = "traded", "open"
_NOTIONAL, _CAPITAL = Decimal(10_000), Decimal(100_000_000)
_MICROSECONDS = 60_000_000
# Minutes that are run at first, and how much more each time after: most trades end soon, and a call of the
# step takes as long as running some thousand minutes.
_FIRST_SPAN, _GROWTH = 720, 8
# More than any span has: the equity of a single trade is not sampled.
_NO_SAMPLES = 1 << 40
_LONGEST_COOL_DOWN = 525_600


@cache
def label_schema() -> "pl.Schema":
    """Labels: one row a candidate.

    `outcome` is `traded`, `open` (the trade had not ended when the candles did) or the reason why there was
    no trade, one of `step_tables.OUTCOMES`; all else is null without `traded`. `net_return` is the net
    result after fees, slippage and funding, per unit of notional at the entry. `known_at` is the close of
    the candle that ended the trade.
    """
    import polars as pl

    time = pl.Datetime("us", "UTC")
    return pl.Schema(
        {
            "id": pl.String(),
            "outcome": pl.String(),
            "entry_time": time,
            "exit_time": time,
            "known_at": time,
            "exit_reason": pl.String(),
            "net_return": pl.Float64(),
        }
    )


def alone(rules: PositionRules) -> PositionRules:
    """Return the rules under which a candidate is traded alone: one trade, of a fixed value."""
    return rules.model_copy(
        update={
            "opposite_signal": "ignore" if rules.opposite_signal == "ignore" else "exit",
            # No later signal opens another position: the step declines these while it cools down.
            "cool_down": _LONGEST_COOL_DOWN,
            "max_positions": 1,
            "sizing": FixedNotional(value=_NOTIONAL),
        }
    )


@dataclass
class Labeller:
    """Labels the candidates of one symbol after the other.

    Attributes:
        rules: the exchange's rules and fees by date.
        positions: the strategy's position rules.
        model: how orders are filled.
    """

    rules: RulesInEffect
    positions: PositionRules
    model: FillModel = field(default_factory=FillModel)

    def labels(
        self, history: SymbolHistory, candidates: "pl.DataFrame", funding: "Whole"
    ) -> "pl.DataFrame":
        """Return a label for each of some candidates of a history, of `label_schema`, in the order given.

        Args:
            history: the symbol's history.
            candidates: all or some rows of its candidates.
            funding: the symbol's rates as a table of the step, the symbol's place being 0.

        Raises:
            InternalError: a candidate has no signal in the history.
        """
        import polars as pl

        minutes = candidates["open_time"].to_physical().to_numpy() // _MICROSECONDS
        signals = history.block.signals
        if not np.isin(minutes, signals[:, 0]).all():
            raise InternalError(
                f"{history.symbol}: candidates and signals of the same candles differ: report it."
            )
        trades = _Trades(history, funding, self._segments(history), self._config(), self._rules())
        rows = [
            (identity, *trades.row(minute))
            for identity, minute in zip(candidates["id"], minutes.tolist(), strict=True)
        ]
        frame = pl.DataFrame(rows, schema=_counted_schema(), orient="row")
        times = [pl.from_epoch(pl.col(name) * 60, "s") for name in _TIMES]
        return frame.with_columns(
            each.dt.cast_time_unit("us").dt.replace_time_zone("UTC") for each in times
        ).match_to_schema(label_schema())

    def _config(self) -> "Whole":
        return config_row(self.model, _NO_SAMPLES)

    def _rules(self) -> "Whole":
        return rules_table([alone(self.positions)])

    def _segments(self, history: SymbolHistory) -> "list[tuple[int, Whole, Whole]]":
        """Return the first minute, markets and brackets of each part of the span in which no rule changes."""
        window = history.block.window
        starts = [window.start, *self.rules.changes(window)]
        return [(to_minute(each), *self.rules.tables([history.symbol], each)) for each in starts]


_TIMES = ("entry_time", "exit_time", "known_at")
_Row = tuple[str, int | None, int | None, int | None, str | None, float | None]


@cache
def _counted_schema() -> "pl.Schema":
    """Labels with times in minutes since 1970."""
    import polars as pl

    return pl.Schema(dict(label_schema()) | dict.fromkeys(_TIMES, pl.Int64()))


class _Trades:
    """The trades of one symbol's candidates, each begun on an empty account."""

    def __init__(
        self,
        history: SymbolHistory,
        funding: "Whole",
        segments: "list[tuple[int, Whole, Whole]]",
        config: "Whole",
        rules: "Whole",
    ) -> None:
        from pipeline_assets.market import position_step as step

        self._block, self._grid, self._funding = history.block, history.grid, funding
        self._first = to_minute(history.block.window.start)
        self._end = self._first + history.block.flags.shape[1]
        self._segments = [(start, Setup(config, rules, *tables)) for start, *tables in segments]
        self._blank = new_state(1, 1, _CAPITAL)
        self._state = new_state(1, 1, _CAPITAL)
        # An entry and its exit; the cool-down leaves no room for more.
        self._events = np.zeros((8, step.EVENT_SIZE), np.int64)
        self._samples = np.zeros((2, 2), np.int64)

    def row(self, signal: int) -> _Row:
        """Return the label of the candidate whose candle opens at a minute."""
        from pipeline_assets.market import position_step as step

        self._begin()
        entry: list[int] | None = None
        start, span = signal, _FIRST_SPAN
        while start < self._end:
            setup, until = self._setup(start)
            stop = min(start + span, until)
            for event in self._run(start, stop, setup):
                if event[step.KIND] == step.CLOSED:
                    if entry is None:
                        raise InternalError("A trade ended before it began: report it.")
                    return self._closed(entry, event)
                if event[step.EVENT_SIGNAL] != signal:
                    # The candidate led to no trade, and a later signal did.
                    return self._declined(signal)
                entry = event
            if entry is None and not self._state.account[step.BUSY]:
                return self._declined(signal)
            start, span = stop, span * _GROWTH
        return (OPEN, None, None, None, None, None)

    def _begin(self) -> None:
        """Begin with an empty account."""
        for table, blank in zip(self._state.arrays(), self._blank.arrays(), strict=True):
            table[...] = blank

    def _setup(self, minute: int) -> tuple[Setup, int]:
        """Return the rules in effect at a minute, and the minute until which they hold."""
        found, until = self._segments[0][1], self._end
        for start, setup in self._segments:
            if start > minute:
                until = min(until, start)
                break
            found = setup
        return found, until

    def _run(self, start: int, stop: int, setup: Setup) -> list[list[int]]:
        from pipeline_assets.market import position_step as step

        columns = slice(start - self._first, stop - self._first)
        opens, highs, lows, closes = (
            np.ascontiguousarray(each[:, columns]) for each in self._block.candles
        )
        count, _ = step.run(
            start,
            (opens, highs, lows, closes),
            np.ascontiguousarray(self._block.flags[:, columns]),
            rows_between(self._block.signals, start, stop),
            rows_between(self._funding, start, stop),
            self._state.arrays(),
            setup.arrays(),
            self._samples,
            self._events,
        )
        found: list[list[int]] = self._events[:count].tolist()
        return found

    def _closed(self, entry: list[int], closed: list[int]) -> _Row:
        from pipeline_assets.market import position_step as step

        fees = entry[step.EVENT_FEE] + closed[step.EVENT_FEE]
        net = closed[step.EVENT_PROFIT] - fees + closed[step.EVENT_FUNDING]
        notional = entry[step.EVENT_STEPS] * entry[step.EVENT_PRICE] * self._grid.value
        entered, ended = entry[step.EVENT_MINUTE], closed[step.EVENT_MINUTE]
        reason = REASONS[closed[step.EVENT_REASON]]
        return (TRADED, entered, ended, ended + 1, reason, net / notional)

    def _declined(self, signal: int) -> _Row:
        """Return why a candidate led to no trade."""
        from pipeline_assets.market import position_step as step

        # Once more without the minutes after its entry was due, in which later signals count too.
        self._begin()
        setup, until = self._setup(signal)
        delay = int(setup.config[step.DELAY])
        self._run(signal, min(signal + delay + 1, until), setup)
        counts = self._state.counts[0].tolist()
        dropped = [each for each in (step.GAP, step.NOT_LISTED) if counts[each]]
        declined = [place for place, times in enumerate(counts) if times and place != step.ACCEPTED]
        found = dropped or declined
        return (OUTCOMES[found[0]] if found else OPEN, None, None, None, None, None)
