"""Position rules of a strategy: when a position is closed, how large it is, how many there may be. Settings
declare the rules below a strategy's key `rules`; position_step.py applies these.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, model_validator

# A part of a price or of the equity. Eight decimals are as exact as the exchange's own rates.
Part = Annotated[Decimal, Field(gt=0, lt=1, decimal_places=8)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FixedNotional(_Rule):
    """Every position has this value, in the quote asset, at the price of the signal."""

    by: Literal["notional"] = "notional"
    value: Decimal = Field(Decimal(1000), gt=0, le=1_000_000_000, decimal_places=8)


class FractionOfEquity(_Rule):
    """Every position has this part of the equity at the signal; above 1 needs leverage."""

    by: Literal["equity"] = "equity"
    value: Decimal = Field(Decimal("0.1"), gt=0, le=125, decimal_places=8)


class VolatilityTarget(_Rule):
    """A move of one average true range (ATR) gains or loses this part of the equity at the signal."""

    by: Literal["atr"] = "atr"
    value: Part = Decimal("0.01")
    period: int = Field(14, ge=2, le=500)


Sizing = Annotated[FixedNotional | FractionOfEquity | VolatilityTarget, Discriminator("by")]


class PositionRules(_Rule):
    """The rules of one strategy. A position belongs to the strategy that opened it.

    Attributes:
        side: the sides that may be opened. A signal of the other side still closes.
        opposite_signal: `exit` closes the position, `reverse` also opens the other side at the same
            open, `ignore` leaves the position alone.
        stop: closes after a loss of this part of the entry price.
        target: closes after a gain of this part of the entry price, by a limit order.
        trailing_stop: closes when the price falls by this part of the best price since the entry; a
            candle counts for the candles after it.
        time_limit: closes at the first open this many minutes after the entry.
        cool_down: minutes after an exit in which the strategy does not enter the symbol again.
        max_positions: positions and pending entries of the strategy at once, over all symbols.
        leverage: a position's margin is its value divided by this. Margin is isolated.
        sizing: how large a position is.
    """

    side: Literal["both", "long", "short"] = "both"
    opposite_signal: Literal["exit", "reverse", "ignore"] = "exit"
    stop: Part | None = None
    target: Annotated[Decimal, Field(gt=0, le=100, decimal_places=8)] | None = None
    trailing_stop: Part | None = None
    time_limit: int | None = Field(None, ge=1, le=525_600)
    cool_down: int = Field(0, ge=0, le=525_600)
    max_positions: int = Field(10, ge=1, le=1000)
    leverage: int = Field(1, ge=1, le=125)
    sizing: Sizing = FixedNotional()

    @model_validator(mode="after")
    def _ends(self) -> Self:
        exits = (self.stop, self.target, self.trailing_stop, self.time_limit)
        if self.opposite_signal == "ignore" and not any(exits):
            raise ValueError(
                "opposite_signal is ignore, so a position needs stop, target, trailing_stop or "
                "time_limit to end"
            )
        return self

    @property
    def atr_period(self) -> int | None:
        """The period of the average true range that the sizing needs."""
        return self.sizing.period if isinstance(self.sizing, VolatilityTarget) else None

    def declared(self) -> dict[str, Any]:
        """Return the rules that differ from the defaults: a strategy's version depends on these alone."""
        return self.model_dump(mode="json", exclude_defaults=True)
