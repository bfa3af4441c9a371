"""Figures against cases worked by hand, and missing funding rates by their intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.windows import Window
from pipeline_assets.research.funding_times import completed
from pipeline_assets.research.holding import holding_curve
from pipeline_assets.research.metrics import YEARLY, curve_figures, trade_figures
from pipeline_assets_tests.research.held_candles import backtest, minutes_of, strategies

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_curve_figures_by_hand() -> None:
    """Thirty days: +10 %, -20 %, +25 % and so on; each peak is reached again a day after it."""
    returns = np.tile([0.1, -0.2, 0.25], 10)
    curve = np.concatenate([np.array([110.0, 88.0, 110.0]) * 1.1**number for number in range(10)])
    figures = curve_figures(curve, 100.0, 1440, 30)
    deviation = returns.std(ddof=1)
    cagr = 1.1 ** (10 * 365 / 30) - 1
    assert figures["return"] == pytest.approx(1.1**10 - 1)
    assert figures["cagr"] == pytest.approx(cagr)
    assert figures["volatility"] == pytest.approx(deviation * 365**0.5)
    assert figures["sharpe"] == pytest.approx(0.05 / deviation * 365**0.5)
    assert figures["sortino"] == pytest.approx(0.05 / (0.04 / 3) ** 0.5 * 365**0.5)
    assert figures["max_drawdown"] == pytest.approx(0.2)
    assert figures["max_drawdown_days"] == 1
    assert figures["calmar"] == pytest.approx(cagr / 0.2)


@pytest.mark.parametrize("final", [1e-3, 99.0, 1e12])
def test_short_span_has_no_yearly_figure(final: float) -> None:
    """Below thirty days a yearly figure would be absurd, and once overflowed; the others stay."""
    figures = curve_figures(np.array([110.0, final]), 100.0, 60, 2 / 24)
    assert [name for name, value in figures.items() if value is None] == list(YEARLY)
    assert figures["return"] == pytest.approx(final / 100 - 1)
    almost = curve_figures(np.array([110.0, final] * 15), 100.0, 1440, 29.99)
    assert almost["sharpe"] is None
    month = curve_figures(np.array([110.0, final] * 15), 100.0, 1440, 30)
    assert None not in [month[name] for name in YEARLY]


def test_hours_make_the_same_days() -> None:
    """Daily returns do not depend on how often the curve is sampled."""
    days = np.tile([110.0, 88.0, 110.0], 10)
    daily = curve_figures(days, 100.0, 1440, 30)
    assert curve_figures(np.repeat(days, 24), 100.0, 60, 30) == pytest.approx(daily)


def test_trade_figures_add_up() -> None:
    """Totals are the sums of strategies, symbols and fills; profit less costs is the change of equity."""
    result = backtest(
        minutes_of(["BTCUSDT", "ETHUSDT"]),
        strategies({"name": "macd_cross"}, {"name": "rsi_reversal"}),
        ["BTCUSDT", "ETHUSDT"],
    )
    metrics, total = result.metrics, result.metrics["total"]
    for kind in ("by_strategy", "by_symbol"):
        parts = metrics[kind].values()
        assert len(parts) == 2
        for name in ("net", "fees", "funding", "slippage", "trades"):
            assert sum(each[name] for each in parts) == pytest.approx(total[name])
    assert sum(each["trades"] for each in metrics["by_month"].values()) == total["trades"]
    assert list(metrics["by_month"]) == ["2025-05", "2025-06"]
    growth = np.prod([1 + each["return"] for each in metrics["by_month"].values()])
    assert growth == pytest.approx(total["final_equity"] / 10_000)
    changes = [each["change"] for each in metrics["by_month"].values()]
    assert sum(changes) == pytest.approx(total["net"])
    reasons = {reason: each["trades"] for reason, each in metrics["by_exit"].items()}
    assert (reasons, sum(reasons.values())) == (total["exits"], total["trades"])
    assert (
        sum(each["exits"]["signal"] for each in metrics["by_strategy"].values())
        == (total["exits"]["signal"])
    )
    assert "14.0 days, and a yearly figure needs 30" in metrics["yearly_left_out"]
    assert total["net"] == pytest.approx(total["profit"] - total["fees"] + total["funding"])
    assert total["final_equity"] == pytest.approx(10_000 + total["net"])
    net = [each["net"] for each in result.trades.to_pylist() if not each["open"]]
    assert total["win_rate"] == pytest.approx(np.mean(np.array(net) > 0))
    assert total["profit_factor"] == pytest.approx(
        sum(each for each in net if each > 0) / -sum(each for each in net if each < 0)
    )


def test_figures_of_nothing_are_none() -> None:
    import polars as pl

    from pipeline_assets.research.results import trade_schema

    nothing = pl.DataFrame(pl.from_arrow(trade_schema().empty_table()))
    assert trade_figures(nothing)["win_rate"] is None
    assert trade_figures(nothing)["net"] == 0
    assert curve_figures(np.full(30, 100.0), 100.0, 1440, 30)["sharpe"] is None


def test_holding_splits_evenly() -> None:
    """The second symbol begins on the second day, and its half is cash until then."""
    closes = np.array([[11.0, 12.0], [np.nan, 40.0], [np.nan, np.nan]])
    curve = holding_curve(np.array([10.0, 20.0, np.nan]), closes, 100.0)
    assert curve == pytest.approx([105.0, 160.0])


@pytest.mark.parametrize(
    ("hours", "missing"),
    [
        ([0, 8, 16, 24, 32, 40], []),
        ([0, 8, 24, 32, 40], [16]),
        ([0, 8, 16, 20, 24, 28, 32, 36, 40, 44], []),
        ([0, 8, 16, 17, 18, *range(19, 48)], []),
        # The interval changes after the first one of the span.
        ([0, 8, *range(12, 48, 4)], []),
        ([0, 8, *range(9, 48)], []),
        ([0, 4, 8, 16, 20, 24, 28, 32, 36, 40, 44], [12]),
        ([*range(3), *range(4, 48)], [3]),
        ([16, 24], [0, 8, 32, 40]),
        ([], [0, 8, 16, 24, 32, 40]),
    ],
)
def test_interval_change_is_no_hole(hours: list[int], missing: list[int]) -> None:
    """Rates of two days, some milliseconds late, as the exchange has them."""
    rates = [
        FundingRate(FIRST + hour * HOUR + timedelta(milliseconds=7), Decimal("0.0001"))
        for hour in hours
    ]
    found = completed("BTCUSDT", rates, Window(FIRST, FIRST + 48 * HOUR))
    absent = [each.time for each in found.rates if each.rate is None]
    assert absent == [FIRST + hour * HOUR for hour in missing]
    assert sum(each.rates for each in found.missing) == len(missing)
    assert len(found.rates) == len(hours) + len(missing)
