"""The definition of a strategy: a declaration over indicator columns. The strategies themselves are in
strategies/; evaluation.py finds candidates with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pipeline_assets.errors import InputError
from pipeline_assets.market.candles import CANDLE_COLUMNS
from pipeline_assets.market.indicators import Atr, Indicator
from pipeline_assets.market.position_rules import PositionRules

if TYPE_CHECKING:
    import polars as pl

    Term = str | float | pl.Expr

# A term is above another if it exceeds it by more than this part of their size. In a market that stands
# still, averages converge and rounding alone decides which is larger: without this, it would signal.
TOLERANCE = 1e-9


class StrategyError(InputError, ValueError):
    """A strategy that is not there or not set up right. The message names it and gives an example."""


class StrategyParameters(BaseModel):
    """The parameters of a strategy, validated; one that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, eq=False)
class Condition:
    """A comparison: `left` is above `right` (`holds` True), or is not above it (`holds` False).

    A term is a column's name, a number or an expression. Differences that are tiny relative to `scale`
    count as zero. By default the scale is the larger of the two terms; if the terms are differences of
    prices, pass the price.
    """

    left: "Term"
    right: "Term"
    scale: "Term | None" = None
    holds: bool = True

    def met(self) -> "pl.Expr":
        """Return whether the condition is met: Boolean, null where a term is null."""
        above = self._difference() > TOLERANCE * self._size()
        return above if self.holds else ~above

    def near(self) -> "pl.Expr":
        """Return whether rounding of the terms might change `met`: Boolean, null where a term is null."""
        tolerance = TOLERANCE * self._size()
        return (self._difference() - tolerance).abs() < tolerance

    def _difference(self) -> "pl.Expr":
        return _expression(self.left) - _expression(self.right)

    def _size(self) -> "pl.Expr":
        import polars as pl

        if self.scale is not None:
            return _expression(self.scale).abs()
        return pl.max_horizontal(_expression(self.left).abs(), _expression(self.right).abs())


def above(left: "Term", right: "Term", scale: "Term | None" = None) -> tuple[Condition, ...]:
    """`left` is greater than `right`."""
    return (Condition(left, right, scale),)


def below(left: "Term", right: "Term", scale: "Term | None" = None) -> tuple[Condition, ...]:
    """`left` is less than `right`."""
    return above(right, left, scale)


def crosses_above(
    left: str | float, right: str | float, scale: str | None = None
) -> tuple[Condition, ...]:
    """`left` is greater than `right` now and was not one candle before."""
    before = Condition(_previous(left), _previous(right), scale, holds=False)
    return (before, *above(left, right, scale))


def crosses_below(
    left: str | float, right: str | float, scale: str | None = None
) -> tuple[Condition, ...]:
    """`left` is less than `right` now and was not one candle before."""
    return crosses_above(right, left, scale)


@dataclass(frozen=True)
class Declaration:
    """The indicators that a strategy reads, and the conditions that must all be met for each side.

    Conditions may name the columns of the candle, the columns of `indicators`, `close_previous`,
    and `{column}_previous` for every column of `indicators`. A side without conditions never signals.
    """

    indicators: tuple[Indicator, ...]
    long: tuple[Condition, ...] = ()
    short: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Strategy:
    """A configured strategy. `version` names its code, its parameters and the position rules that differ
    from the defaults: another of these makes another version, and so other candidate ids.
    """

    name: str
    version: str
    parameters: StrategyParameters
    declaration: Declaration
    rules: PositionRules = field(default_factory=PositionRules)

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """The indicators that the strategy reads, and the ATR by which its rules size a position."""
        declared, period = self.declaration.indicators, self.rules.atr_period
        if period is None or Atr(period) in declared:
            return declared
        return (*declared, Atr(period))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its indicators."""
        return tuple(name for indicator in self.indicators for name in indicator.columns)

    @property
    def warm_up(self) -> int:
        """How many candles a symbol needs before its first signal, that of the newest included."""
        # One more than the slowest indicator, for conditions look at the candle before as well.
        return 1 + max((indicator.candles_needed for indicator in self.indicators), default=0)

    @property
    def candle_columns(self) -> frozenset[str]:
        """The columns of the candle that its conditions name; all where a pattern chooses columns."""
        side = self.side()
        if side.meta.has_multiple_outputs():
            return frozenset(CANDLE_COLUMNS)
        return frozenset(side.meta.root_names()) & frozenset(CANDLE_COLUMNS)

    def side(self) -> "pl.Expr":
        """`long`, `short` or null: String. A candle that is both, or still warming up, is neither."""
        import polars as pl

        long, short = _all_met(self.declaration.long), _all_met(self.declaration.short)
        return (
            pl.when(~self._warm() | (long & short))
            .then(None)
            .when(long)
            .then(pl.lit("long"))
            .when(short)
            .then(pl.lit("short"))
        )

    def tie(self) -> "pl.Expr":
        """Return whether another rounding of the indicators might give another side: Boolean."""
        declared = (self.declaration.long, self.declaration.short)
        return self._warm() & (_within_reach(declared[0]) | _within_reach(declared[1]))

    def _warm(self) -> "pl.Expr":
        import polars as pl

        return pl.col("candles_seen") >= self.warm_up


def _all_met(conditions: Sequence[Condition]) -> "pl.Expr":
    import polars as pl

    if not conditions:
        return pl.lit(value=False)
    return pl.all_horizontal(each.met() for each in conditions).fill_null(value=False)


def _within_reach(conditions: Sequence[Condition]) -> "pl.Expr":
    """Return whether some condition is near its threshold, and no other one is clearly unmet."""
    import polars as pl

    if not conditions:
        return pl.lit(value=False)
    reachable = pl.all_horizontal(each.met() | each.near() for each in conditions)
    some_near = pl.any_horizontal(each.near() for each in conditions)
    return (reachable & some_near).fill_null(value=False)


def _expression(term: "Term") -> "pl.Expr":
    import polars as pl

    if isinstance(term, str):
        return pl.col(term)
    return pl.lit(term) if isinstance(term, (int, float)) else term


def _previous(term: str | float) -> str | float:
    return f"{term}_previous" if isinstance(term, str) else term
