"""Risk limits: what an order may do to the account. Refusals name a limit as the
settings' section `risk` does.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Self

from pipeline_assets.market.trading_rules import UNIT, TradingRules, decimal, units
from pipeline_assets.settings import RiskSettings
from pipeline_assets.trading.messages import Refusal
from pipeline_assets.trading.order_types import Mode, Order, value_of
from pipeline_assets.trading.state import GatewayState

_TEN_SECONDS = 10_000
_MINUTE = 60_000


@dataclass(frozen=True)
class RiskLimits:
    """The limits; money in 1e-8 of the quote asset.

    Attributes:
        order_notional: the largest value of one order.
        symbol_notional: the largest value of a symbol's position with its open orders.
        gross_notional: the largest sum of these over all symbols.
        open_positions: the most symbols with a position or an order that may open one.
        daily_loss: the loss since 00:00 UTC, open positions and costs included, from which on only
            reducing is accepted.
        orders_per_ten_seconds: the most orders sent in ten seconds, as counted here and by the venue.
        orders_per_minute: the same for one minute.
        collar: how far a limit price may lie from the newest close, as a part of it in 1e-8.
        price_age: the greatest age of the newest closed candle, in milliseconds.
    """

    order_notional: int
    symbol_notional: int
    gross_notional: int
    open_positions: int
    daily_loss: int
    orders_per_ten_seconds: int
    orders_per_minute: int
    collar: int
    price_age: int

    @classmethod
    def from_settings(cls, risk: RiskSettings) -> Self:
        """Return the limits of the settings' section `risk`, which has the defaults."""
        return cls(
            order_notional=units(risk.order_notional),
            symbol_notional=units(risk.symbol_notional),
            gross_notional=units(risk.gross_notional),
            open_positions=risk.open_positions,
            daily_loss=units(risk.daily_loss),
            orders_per_ten_seconds=risk.orders_per_ten_seconds,
            orders_per_minute=risk.orders_per_minute,
            collar=units(risk.price_collar),
            price_age=risk.price_age_seconds * 1000,
        )


@dataclass
class OrderRate:
    """How many orders left recently: counted here, and what the venue counted.

    After the clock stepped back, a time in the future counts as now: it is forgotten a span later, and not
    only once the clock has caught up.
    """

    _sent: dict[int, deque[int]] = field(
        default_factory=lambda: {_TEN_SECONDS: deque(), _MINUTE: deque()}
    )
    venue_ten_seconds: int = 0
    venue_minute: int = 0
    venue_at: int = 0

    def count(self, now: int) -> None:
        """Count an order that leaves now; an order of the journal left at the time of its record."""
        for span in self._sent:
            self._recent(now, span).append(now)

    def see_time(self, now: int) -> None:
        """Take the time of a step, so that a step back of the clock is noticed when it happens."""
        self.venue_at = min(self.venue_at, now)
        for span in self._sent:
            self._recent(now, span)

    def within(self, now: int, span: int) -> int:
        """Return the number of orders sent in the last `span` milliseconds: ten seconds or a minute."""
        sent = self._recent(now, span)
        said = self.venue_ten_seconds if span == _TEN_SECONDS else self.venue_minute
        return max(len(sent), said if now - self.venue_at < span else 0)

    def _recent(self, now: int, span: int) -> deque[int]:
        """Return the times of a span, without those that are over."""
        sent, future = self._sent[span], 0
        while sent and sent[-1] > now:
            sent.pop()
            future += 1
        sent.extend([now] * future)
        while sent and sent[0] <= now - span:
            sent.popleft()
        return sent


def unknown_symbol(symbol: str) -> Refusal:
    """Return the refusal of a symbol without trading rules."""
    return Refusal(
        "unknown_symbol",
        f"{symbol} is not traded here: `pipeline-assets status` lists the symbols.",
    )


def against_filters(order: Order, rules: TradingRules | None, price: int) -> Refusal | None:
    """Return which filter of the symbol an order breaks, or None. `price` values a market order."""
    if rules is None:
        return unknown_symbol(order.symbol)
    checks = (
        (order.quantity <= 0, "quantity must be above 0"),
        (
            order.quantity % units(rules.step_size) != 0,
            f"quantity {decimal(order.quantity)} is no multiple of the step {rules.step_size}",
        ),
        (
            order.quantity < units(rules.min_quantity),
            f"quantity {decimal(order.quantity)} is below the minimum {rules.min_quantity}",
        ),
        (
            order.quantity > units(rules.max_quantity),
            f"quantity {decimal(order.quantity)} is above the maximum {rules.max_quantity}",
        ),
        (
            order.kind != "market" and order.price <= 0,
            f"a {order.kind} order needs a price above 0",
        ),
        (order.kind == "stop" and not order.reduce_only, "a stop order must be reduce-only"),
        (order.kind == "market" and order.price != 0, "a market order has no price"),
        (
            order.stop_part != 0 and (order.reduce_only or not 0 < order.stop_part < UNIT),
            "stop_part is for an entry, above 0 and below 1",
        ),
        (
            order.price % units(rules.tick_size) != 0,
            f"price {decimal(order.price)} is no multiple of the tick {rules.tick_size}",
        ),
        (
            # Without any price the value is unknown, and the limit `price_age_seconds` refuses.
            not order.reduce_only
            and (order.price or price) > 0
            and value_of(order.quantity, order.price or price) < units(rules.min_notional),
            f"the value {decimal(value_of(order.quantity, order.price or price))} is below the "
            f"minimum notional {rules.min_notional}",
        ),
    )
    broken = next((message for wrong, message in checks if wrong), None)
    return Refusal("filter", f"{order.symbol}: {broken}.") if broken else None


def against_limits(
    order: Order, state: GatewayState, limits: RiskLimits, rate: OrderRate, now: int
) -> Refusal | None:
    """Return which limit an order would break, or None.

    An order that only reduces a position passes all limits but the order rate.
    """
    over = _rate_refusal(limits, rate, now)
    if order.reduce_only or over:
        return over
    if state.mode is not Mode.ACTIVE:
        return Refusal(
            "mode",
            f"The gateway is {state.mode} ({state.mode_reason}): it opens nothing. A person ends that "
            "by `pipeline-assets gateway resume`.",
        )
    return (
        _loss_refusal(state, limits)
        or _price_refusal(order, state, limits, now)
        or _exposure_refusal(order, state, limits)
    )


def _rate_refusal(limits: RiskLimits, rate: OrderRate, now: int) -> Refusal | None:
    for span, most, name in (
        (_TEN_SECONDS, limits.orders_per_ten_seconds, "orders_per_ten_seconds"),
        (_MINUTE, limits.orders_per_minute, "orders_per_minute"),
    ):
        sent = rate.within(now, span)
        if sent >= most:
            return _over(name, f"{sent} orders were sent in {span // 1000} s", str(most))
    return None


def _loss_refusal(state: GatewayState, limits: RiskLimits) -> Refusal | None:
    unpriced = state.unpriced()
    if not unpriced:
        return None
    return _over(
        "daily_loss",
        f"the day's loss is unknown until the gateway reads a price of {', '.join(unpriced)}",
        str(decimal(limits.daily_loss)),
    )


def _price_refusal(
    order: Order, state: GatewayState, limits: RiskLimits, now: int
) -> Refusal | None:
    seen = state.prices.get(order.symbol)
    if seen is None or now - seen.time > limits.price_age:
        age = "no candle is known" if seen is None else f"it is {(now - seen.time) // 1000} s old"
        return _over(
            "price_age_seconds",
            f"{order.symbol}: the newest candle's price is stale ({age})",
            str(limits.price_age // 1000),
        )
    distance = abs(order.price - seen.price) * UNIT // seen.price if order.price else 0
    if distance > limits.collar:
        return _over(
            "price_collar",
            f"{order.symbol}: the price {decimal(order.price)} is {_percent(distance)} away from the "
            f"newest close {decimal(seen.price)}",
            f"{decimal(limits.collar * 100).normalize():f} %",
        )
    return None


def _exposure_refusal(order: Order, state: GatewayState, limits: RiskLimits) -> Refusal | None:
    price = max(order.price, state.prices[order.symbol].price)
    value = value_of(order.quantity, price)
    if value > limits.order_notional:
        return _over(
            "order_notional", f"{order.symbol}: the order's value is {decimal(value)}",
            str(decimal(limits.order_notional)),
        )  # fmt: skip
    before = state.exposure.get(order.symbol, 0)
    after = state.exposure_with(order)
    if after > limits.symbol_notional and after > before:
        return _over(
            "symbol_notional", f"{order.symbol}: position and orders would be worth {decimal(after)}",
            str(decimal(limits.symbol_notional)),
        )  # fmt: skip
    gross = state.gross_exposure - before + after
    if gross > limits.gross_notional and after > before:
        return _over(
            "gross_notional", f"all positions and orders would be worth {decimal(gross)}",
            str(decimal(limits.gross_notional)),
        )  # fmt: skip
    opened = len(state.exposure) + (order.symbol not in state.exposure)
    if opened > limits.open_positions and order.symbol not in state.exposure:
        return _over(
            "open_positions", f"{opened} positions would be open", str(limits.open_positions)
        )
    return None


def _percent(part: int) -> str:
    """Return a part in 1e-8 as a percentage with at most two decimal places, rounded up.

    Rounded to the nearest, a price just beyond the limit would seem to be at it.
    """
    hundredths = -(-part // 10_000)
    return f"{decimal(hundredths * UNIT // 100).normalize():f} %"


def _over(name: str, what: str, limit: str) -> Refusal:
    return Refusal(name, f"{what}; the limit is {limit} (setting PIPELINE_RISK__{name.upper()}).")
