"""Backtests over candles in memory: equal however these are cut, and equal to live; universe, gaps, rules."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.indicators import IndicatorStates
from pipeline_assets.market.position_keeper import Bar, Fill, PositionKeeper, Signal
from pipeline_assets.market.step_tables import FillModel, FundingRate, grid_of
from pipeline_assets.market.strategies import indicators_of
from pipeline_assets.market.strategy import (
    Declaration,
    Strategy,
    StrategyParameters,
    above,
)
from pipeline_assets.market.trading_rules import Fees, TradingRules
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_types import (
    BacktestInputError,
    BacktestResult,
    NoCandlesError,
)
from pipeline_assets_tests.market.series import candles
from pipeline_assets_tests.research.held_candles import (
    BTC_RULES,
    DAY,
    END,
    FIRST,
    HOUR,
    TWO,
    HeldCandles,
    backtest,
    by_volume,
    documents,
    minutes_of,
    rates_every,
    signalling,
    strategies,
)

pytestmark = pytest.mark.xdist_group("compiled")

MINUTE = timedelta(minutes=1)


def rows(result: BacktestResult) -> list[dict[str, Any]]:
    return result.trades.to_pylist()


def test_cuts_and_workers_change_nothing() -> None:
    """Chunks and threads are a matter of memory and speed: trades, figures and checksum stay."""
    frame, chosen = minutes_of(["BTCUSDT", "ETHUSDT", "SOLUSDT"]), strategies(*TWO)
    symbols = ["SOLUSDT", "BTCUSDT", "ETHUSDT"]
    one, other = (
        backtest(frame, chosen, symbols, chunk_months=chunk, workers=workers)
        for chunk, workers in ((1, 1), (5, 4))
    )
    assert one.trades.num_rows > 100
    assert one.trades.equals(other.trades)
    assert one.equity.equals(other.equity)
    assert (one.metrics, one.checksum, one.counts) == (other.metrics, other.checksum, other.counts)


@pytest.mark.parametrize("hours", [3, pytest.param(24, marks=pytest.mark.matrix)])
def test_live_minutes_equal_the_backtest(hours: int) -> None:
    """Live: indicator states, evaluation and positions minute by minute, restarted on the way."""
    symbols, start = ["BTCUSDT", "ETHUSDT"], FIRST + 5 * DAY
    frame, chosen = minutes_of(symbols), strategies(*TWO)
    read = documents((FIRST, BTC_RULES))
    result = backtest(
        frame, chosen, symbols, read_documents=read, start=start, end=start + hours * HOUR
    )

    def keeper() -> PositionKeeper:
        return PositionKeeper(
            {f"{each.name} {each.version}": each.rules for each in chosen},
            {symbol: (grid_of(symbol, [BTC_RULES]), BTC_RULES) for symbol in symbols},
        )

    indicators = indicators_of(chosen)
    past = frame.filter(pl.col("open_time") < start)
    states, venue, fills = IndicatorStates.from_history(indicators, past), keeper(), []
    day = frame.filter(pl.col("open_time").is_between(start, start + hours * HOUR, closed="left"))
    for minute in day.sort("open_time", "symbol").partition_by("open_time", maintain_order=True):
        time = minute["open_time"][0]
        states, values = states.advance(minute)
        atr = dict(values.select("symbol", "atr_14").iter_rows())
        found = evaluate(chosen, values, time).candidates
        signals = [
            Signal(f"{name} {version}", symbol, side, Decimal(str(atr[symbol])))
            for name, version, symbol, side in found.select(
                "strategy", "version", "symbol", "side"
            ).iter_rows()
        ]
        bars = {
            symbol: Bar(*(Decimal(str(price)) for price in prices))
            for symbol, *prices in minute.select(
                "symbol", "open", "high", "low", "close"
            ).iter_rows()
        }
        rate = FundingRate(time, Decimal("0.0001"), Decimal(50_000))
        due = {each: [rate] for each in symbols} if time.hour % 8 == time.minute == 0 else {}
        fills += venue.advance(time, bars, signals, due)
        if time.minute == 17:
            venue = keeper().restore(venue.encode())
    entries = [each for each in fills if isinstance(each, Fill) and each.kind == "entry"]
    exits = [each for each in fills if isinstance(each, Fill) and each.kind == "exit"]
    closed = [each for each in rows(result) if not each["open"]]
    assert len(closed) >= 2
    assert sorted(
        (each.time, each.symbol, float(each.price), float(each.quantity)) for each in entries
    ) == sorted(
        (each["entry_time"], each["symbol"], each["entry_price"], each["quantity"])
        for each in rows(result)
    )
    assert sorted(
        (each.time, each.symbol, float(each.price), float(each.profit), each.reason)
        for each in exits
    ) == sorted(
        (each["exit_time"], each["symbol"], each["exit_price"], each["profit"], each["exit_reason"])
        for each in closed
    )
    assert float(venue.cash) == pytest.approx(
        10_000
        + sum(each["net"] for each in rows(result))
        - sum(each["profit"] for each in rows(result) if each["open"])
    )


@pytest.mark.parametrize("delay", [1, 2])
def test_entry_waits_for_its_open(delay: int) -> None:
    """The first or the second open after the close of the signal's candle."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1})
    model = FillModel(fill_delay=delay, slippage=Decimal(0))
    (trade,) = rows(backtest(frame, [by_volume()], model=model, fees=Fees(Decimal(0), Decimal(0))))
    assert trade["signal_time"] == frame["open_time"][3000]
    assert trade["entry_time"] == frame["open_time"][3000 + delay]
    assert trade["entry_price"] == frame["open"][3000 + delay]
    assert (trade["open"], trade["exit_price"]) == (True, None)
    assert trade["mark_price"] == frame.filter(pl.col("open_time") < END)["close"][-1]


def test_other_strategy_cannot_take_position() -> None:
    """Both signal at once: the first of the settings gets the symbol, the second is declined."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1, 3010: -1})
    result = backtest(frame, [by_volume("second"), by_volume("first")])
    (trade,) = rows(result)
    assert trade["strategy"] == "second"
    assert result.counts.outcomes["first 1"]["position_held"] == 2


@pytest.mark.parametrize(
    ("rule", "sides", "declined"),
    [("exit", ["long"], 2), ("reverse", ["long", "short", "long"], 0)],
)
def test_cool_down_delays_entries_only(rule: str, sides: list[str], declined: int) -> None:
    """After an exit, signals of both sides are declined; a reversal, and one of that, are not."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1, 3010: -1, 3020: 1, 3025: -1})
    strategy = by_volume(opposite_signal=rule, cool_down=60)
    result = backtest(frame[:3026] if rule == "exit" else frame[:3024], [strategy])
    assert [each["side"] for each in rows(result)] == sides
    assert result.counts.outcomes["by_volume 1"]["cooling_down"] == declined


@pytest.mark.parametrize("held_minutes", [40, 10_000])
def test_equity_ends_with_the_span(held_minutes: int) -> None:
    """A span that ends between two points of the curve has its last trades in the final equity."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1, 3000 + held_minutes: -1})
    result = backtest(frame, [by_volume()], end=FIRST + 3057 * MINUTE)
    total = result.metrics["total"]
    assert len(rows(result)) == 1
    assert total["final_equity"] == pytest.approx(10_000 + total["net"])
    assert result.equity["time"].to_pylist()[-2:] == [FIRST + 3000 * MINUTE, FIRST + 3057 * MINUTE]
    assert (result.equity["exposure"].to_pylist()[-1] > 0) is (held_minutes > 57)


def test_gap_is_not_traded_across() -> None:
    """The minutes after the signal are missing: the entry is dropped, the minutes are counted."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1})
    result = backtest(pl.concat([frame[:3001], frame[3020:]]), [by_volume()])
    assert rows(result) == []
    assert result.counts.outcomes["by_volume 1"]["gap"] == 1
    assert result.counts.gap_minutes == {"BTCUSDT": 19}


def test_funding_in_gap_takes_last_close() -> None:
    """A rate of the first missing minute is paid on the close before, however often equity is noted."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1})
    due, close = frame["open_time"][3300], frame["close"][3299]

    def one(_: str, window: Window) -> list[FundingRate]:
        inside = window.start <= due < window.end
        return [FundingRate(due, Decimal("0.001"), None)] if inside else []

    gap = pl.concat([frame[:3300], frame[3320:]])
    paid = []
    for every in (60, 45, 1440):
        result = backtest(gap, [by_volume()], funding=one, equity_minutes=every)
        (trade,) = rows(result)
        paid.append(trade["funding"])
        assert trade["funding"] == pytest.approx(-0.001 * trade["quantity"] * close, abs=1e-6)
    assert len(set(paid)) == 1


def test_delisted_symbol_is_settled() -> None:
    """The universe is that of each day: no symbol is traded before its listing, and a delisting settles."""
    gone, listed = FIRST + 5 * DAY, FIRST + 10 * DAY
    listings = {"BTCUSDT": [Window(FIRST, gone)], "ETHUSDT": [Window(listed, END + DAY)]}
    both = minutes_of(["BTCUSDT", "ETHUSDT"])
    frame = pl.concat(
        [
            signalling(both.filter(pl.col("symbol") == "BTCUSDT"), {4000: 1, 9000: 1})[:9500],
            signalling(both.filter(pl.col("symbol") == "ETHUSDT"), {5000: 1, 15_000: 1}),
        ]
    )
    result = backtest(HeldCandles(frame, listings), [by_volume()], None)
    bitcoin, ether = rows(result)
    assert (bitcoin["exit_reason"], bitcoin["exit_time"]) == ("delisting", gone - MINUTE)
    assert ether["signal_time"] == FIRST + 15_000 * MINUTE
    assert result.counts.outcomes["by_volume 1"]["not_listed"] == 2


@pytest.mark.parametrize("chunk", [1, 5])
def test_halted_symbol_is_settled(chunk: int) -> None:
    """Candles end in May and the listing in June: the last candle settles, however much is read at once."""
    frame = signalling(minutes_of(["BTCUSDT"]), {4000: 1, 7000: -1})[:7200]
    listings = {"BTCUSDT": [Window(FIRST, FIRST + 12 * DAY)]}
    assert frame["open_time"][-1].month < listings["BTCUSDT"][0].end.month
    strategy = by_volume(opposite_signal="ignore", time_limit=100_000)
    result = backtest(HeldCandles(frame, listings), [strategy], chunk_months=chunk)
    [trade] = rows(result)
    assert (trade["exit_reason"], trade["exit_time"]) == ("delisting", frame["open_time"][-1])
    assert trade["exit_price"] == frame["close"][-1]
    assert result.equity["exposure"][-1].as_py() == 0


def test_orders_follow_changed_filters() -> None:
    """From a date on, ticks are 0.5 and steps 0.01: every later fill keeps to these."""
    change = FIRST + 6 * DAY + 7 * HOUR
    coarse = TradingRules(*(Decimal(text) for text in ("0.5", "0.01", "0.01", "120", "5")))
    frame, chosen = minutes_of(["BTCUSDT"]), strategies({"name": "macd_cross"})
    result = backtest(frame, chosen, read_documents=documents((FIRST, BTC_RULES), (change, coarse)))
    late = [each for each in rows(result) if each["signal_time"] >= change]
    early = [each for each in rows(result) if each["signal_time"] < change]
    assert late
    assert {each["entry_price"] % 0.5 for each in late} == {0.0}
    assert {round(each["quantity"] * 100, 9) % 1 for each in late} == {0.0}
    assert {each["entry_price"] % 0.5 for each in early} > {0.0}
    assert result.assumptions == ("Fees of 0.02% (maker) and 0.05% (taker) are assumed.",)


def test_what_is_not_known_is_named() -> None:
    """Filters, fees and funding that are not on the lake: sentences and holes, never silent zeros."""

    def with_hole(symbol: str, window: Window) -> list[FundingRate]:
        return [each for each in rates_every(8)(symbol, window) if each.time.day != 30]

    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1})
    result = backtest(frame, [by_volume()], funding=with_hole)
    assert [(each.start.day, each.rates) for each in result.missing_funding] == [(30, 3)]
    assert result.counts.rates_missing == 3
    assert any("no filters are known" in each for each in result.assumptions)
    without = backtest(frame, [by_volume()], funding=None)
    assert any("funding is left out" in each for each in without.assumptions)


def test_random_signals_earn_nothing() -> None:
    """Chance before costs, and a loss of just the costs after: the engine gives nothing away."""
    chance = np.random.default_rng(11)
    length = 50_000
    close = 50_000 * np.exp(chance.normal(0, 4e-4, length).cumsum())
    opened = np.concatenate([close[:1], close[:-1]])
    wick = np.abs(chance.normal(0, 8, (2, length)))
    frame = candles(close.tolist(), first=FIRST).with_columns(
        open=pl.Series(opened).round(1),
        close=pl.Series(close).round(1),
        high=pl.Series(np.maximum(opened, close) + wick[0]).round(1),
        low=pl.Series(np.minimum(opened, close) - wick[1]).round(1),
        volume=pl.Series(chance.choice([-2.0, 0, 2.0], length, p=[0.03, 0.94, 0.03])),
    )
    result = backtest(frame, [by_volume()], start=FIRST + HOUR, end=FIRST + 34 * DAY)
    trades = pl.DataFrame(pl.from_arrow(result.trades)).filter(~pl.col("open"))
    before_costs = (trades["profit"] + trades["slippage"]).to_numpy()
    assert len(before_costs) > 200
    assert abs(before_costs.mean() / before_costs.std() * len(before_costs) ** 0.5) < 2.5
    sharpe = result.metrics["total"]["sharpe"]
    assert sharpe < 2.5 * (365 / 34) ** 0.5


def test_wrong_requests_name_the_fault() -> None:
    frame, listings = minutes_of(["BTCUSDT"]), {"BTCUSDT": [Window(FIRST, END)]}
    held = HeldCandles(frame, listings)
    with pytest.raises(BacktestInputError, match="XRPUSDT was never listed"):
        backtest(held, [by_volume()], ["XRPUSDT"])
    with pytest.raises(BacktestInputError, match="end must be after start"):
        backtest(held, [by_volume()], start=END, end=FIRST)
    with pytest.raises(BacktestInputError, match="twice"):
        backtest(held, [by_volume(), by_volume()])
    with pytest.raises(NoCandlesError, match="pipeline-assets backfill"):
        backtest(held, [by_volume()], start=END - 365 * DAY, end=END - 364 * DAY)


def test_too_little_capital_is_refused() -> None:
    """Three dollars do not reach the minimum notional of any order."""
    frame = signalling(minutes_of(["BTCUSDT"]), {3000: 1})
    with pytest.raises(BacktestInputError, match="below the minimum"):
        backtest(frame, [by_volume()], capital=Decimal(3))


def test_failing_strategy_is_named() -> None:
    broken = Declaration((), long=above("no_such_column", 1.0))
    strategy = Strategy("broken", "1", StrategyParameters(), broken)
    with pytest.raises(BacktestInputError, match="broken 1 fails"):
        backtest(minutes_of(["BTCUSDT"]), [strategy])
