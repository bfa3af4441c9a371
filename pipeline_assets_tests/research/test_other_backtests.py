"""The same trades as vectorbt's, on what both can do. Needs the extra `comparison`."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.position_rules import FixedNotional
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.trading_rules import Fees, TradingRules
from pipeline_assets_tests.research.held_candles import DAY, FIRST, backtest, documents, minutes_of
from pipeline_assets_tests.research.test_backtest import by_volume

pytestmark = [pytest.mark.matrix, pytest.mark.xdist_group("compiled")]

# The finest steps, so that rounding is below what is compared.
FINE = TradingRules(*(Decimal(text) for text in ("0.1", "0.00000010", "0.0000001", "1000000", "0")))


@pytest.mark.parametrize("opposite", ["exit", "reverse"])
@pytest.mark.parametrize("fee", ["0", "0.0005"])
def test_trades_equal_those_of_vectorbt(opposite: str, fee: str) -> None:
    """Entry and opposite signal at the next open: prices, profits and fees to 1e-9 of the value.

    vectorbt fills in the candle that signals: its signals are shifted by one candle and priced at the open.
    """
    vectorbt = pytest.importorskip("vectorbt", reason="needs the extra comparison: make test-all")
    frame = minutes_of(["BTCUSDT"]).filter(pl.col("open_time") < FIRST + 16 * DAY)
    chance = np.random.default_rng(5)
    sides = chance.choice([-1.0, 0.0, 1.0], len(frame), p=[0.02, 0.96, 0.02])
    sides[: 2 * 1440] = 0
    strategy = by_volume(opposite_signal=opposite, sizing=FixedNotional(value=Decimal(1000)))
    result = backtest(
        frame.with_columns(volume=pl.Series(sides * 2)),
        [strategy],
        funding=None,
        read_documents=documents((FIRST, FINE)),
        model=FillModel(1, Decimal(0)),
        fees=Fees(Decimal(fee), Decimal(fee)),
        capital=Decimal(1_000_000),
    )
    ours = pl.DataFrame(pl.from_arrow(result.trades)).filter(~pl.col("open"))
    opens = frame["open"].to_pandas()
    at = dict(zip(frame["open_time"].to_list(), range(len(frame)), strict=True))
    # Orders of our own quantities at vectorbt's own signals: what is compared is when and at which price.
    wanted, held = np.full(len(frame), np.nan), 0.0
    sizes = {at[time]: size for time, size in ours.select("entry_time", "quantity").iter_rows()}
    for row in range(1, len(frame)):
        side = sides[row - 1]
        if side == 0 or side * held > 0:
            continue
        size = sizes.get(row, 0.0)
        target = side * size if held == 0 or opposite == "reverse" else 0.0
        wanted[row], held = target - held, target
    portfolio = vectorbt.Portfolio.from_orders(
        opens, size=wanted, price=opens, fees=float(fee), init_cash=1_000_000.0, freq="1min"
    )
    theirs = portfolio.trades.records
    theirs = theirs[theirs["status"] == 1]
    assert len(theirs) == len(ours) > 200
    for name, values in (
        ("entry_price", theirs["entry_price"]),
        ("exit_price", theirs["exit_price"]),
        ("quantity", theirs["size"]),
    ):
        np.testing.assert_allclose(ours[name].to_numpy(), values.to_numpy(), rtol=1e-9)
    rows = np.array([at[time] for time in ours["exit_time"].to_list()])
    np.testing.assert_array_equal(rows, theirs["exit_idx"].to_numpy())
    value = 1000 * 1e-9
    paid = (theirs["entry_fees"] + theirs["exit_fees"]).to_numpy()
    np.testing.assert_allclose(ours["fees"].to_numpy(), paid, atol=value, rtol=0)
    net = (ours["profit"] - ours["fees"]).to_numpy()
    np.testing.assert_allclose(net, theirs["pnl"].to_numpy(), atol=value, rtol=0)
