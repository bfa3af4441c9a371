"""The risk limits of the settings: each refuses under its own name."""

from typing import Any

import pytest

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.settings import RiskSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets_tests.trading.test_core import Desk

_LIMIT_ORDER = {"kind": "limit", "price": 101 * UNIT}


@pytest.mark.parametrize(
    ("limit", "value", "changes"),
    [
        ("order_notional", "9", {}),
        ("symbol_notional", "9", {}),
        ("gross_notional", "9", {}),
        ("open_positions", 0, {}),
        ("price_collar", "0.005", _LIMIT_ORDER),
        ("price_age_seconds", 60, {}),
        ("orders_per_ten_seconds", 1, {"client_id": "a-2"}),
        ("orders_per_minute", 1, {"client_id": "a-2"}),
    ],
)
def test_refusal_has_the_setting_name(limit: str, value: Any, changes: dict[str, Any]) -> None:
    """The refusal's code is the setting's name, and its message names setting and value."""
    limits = RiskLimits.from_settings(RiskSettings.model_validate({limit: value}))
    desk = Desk(**{name: getattr(limits, name) for name in limits.__dataclass_fields__})
    if "client_id" in changes:
        assert desk.place() is None
    desk.now += 61_000 if limit == "price_age_seconds" else 0
    refusal = desk.place(**changes)
    assert refusal is not None
    assert refusal.code == limit
    shown = "0.5 %" if limit == "price_collar" else value
    assert f"the limit is {shown} (setting PIPELINE_RISK__{limit.upper()})" in refusal.message


def test_rate_forgets_old_orders() -> None:
    limits = RiskLimits.from_settings(RiskSettings(orders_per_ten_seconds=1))
    desk = Desk(orders_per_ten_seconds=limits.orders_per_ten_seconds)
    assert desk.place() is None
    desk.now += 9_999
    assert desk.place(client_id="a-2") is not None
    desk.now += 1
    assert desk.place(client_id="a-2") is None


def test_rate_survives_restart() -> None:
    """A gateway that is killed again and again sends no more orders than one that goes on."""
    desk = Desk(orders_per_ten_seconds=2)
    assert desk.place() is None
    desk.restarted(desk.now + 9_000)
    desk.price(100)
    assert desk.place(client_id="a-2", quantity=UNIT // 20) is None
    desk.restarted(desk.now + 999)
    desk.price(100)
    refusal = desk.place(client_id="a-3", quantity=UNIT // 20)
    assert refusal is not None
    assert refusal.code == "orders_per_ten_seconds"
    desk.now += 1
    assert desk.place(client_id="a-3", quantity=UNIT // 20) is None


@pytest.mark.parametrize("restarted", [False, True])
def test_rate_outlives_clock_step_back(restarted: bool) -> None:
    """After a step back of ten minutes, an order that reduces waits ten seconds, not ten minutes.

    The ten seconds begin with the step back, not with the first order after it.
    """
    desk = Desk(orders_per_ten_seconds=1)
    assert desk.place() is None
    desk.tell(messages.OrderCounts(1, 1))
    desk.now -= 600_000
    if restarted:
        desk.restarted(desk.now)
    desk.tell(messages.Timer())
    reducing = {"client_id": "a-2", "side": "sell", "reduce_only": True}
    desk.now += 9_999
    assert desk.place(**reducing) is not None
    desk.now += 1
    assert desk.place(**reducing) is None


def test_unknown_price_is_no_filter() -> None:
    """A market order before the first candle may pass later; a caller must not take it for malformed."""
    desk = Desk()
    desk.core.state.prices.clear()
    refusal = desk.place()
    assert refusal is not None
    assert refusal.code == "price_age_seconds"
    assert "no candle is known" in refusal.message
