"""Strategies: what each signals on, and that live and history find the same candidates."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market import strategies as package
from pipeline_assets.market.candidates import candidate_id, candidate_schema, candidates_of
from pipeline_assets.market.evaluation import evaluate, tied_ids
from pipeline_assets.market.indicators import Atr, Ema, Rsi
from pipeline_assets.market.strategies import (
    configured_rules,
    configured_strategies,
    indicators_of,
    strategy_names,
)
from pipeline_assets.market.strategy import (
    Condition,
    Declaration,
    Strategy,
    StrategyError,
    StrategyParameters,
    above,
    below,
    crosses_above,
    crosses_below,
)
from pipeline_assets.settings import Settings, StrategySettings
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.market.series import (
    FILED,
    FIRST,
    candles,
    fold,
    market_minutes,
    together,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DEFAULTS = configured_strategies(StrategySettings(name=name) for name in strategy_names())
# Warm within 130 candles, so that tests need not fold three thousand first.
QUICK = configured_strategies(
    [
        StrategySettings(name="rsi_reversal", period=2, oversold=20, overbought=80),
        StrategySettings(name="macd_cross", fast=2, slow=4, signal=3),
        StrategySettings(name="ema_trend", fast=3, slow=6, volume_period=5, volume_factor=1.1),
        StrategySettings(name="bollinger_breakout", period=10, deviations=1.5),
        StrategySettings(name="bollinger_breakout", period=10, deviations=2),
    ]
)


def chosen(name, **parameters):
    return configured_strategies([StrategySettings(name=name, **parameters)])


def found(strategies, frame):
    """(symbol or strategy, side, minutes since FIRST) of every candidate; no strategy failed."""
    evaluation = evaluate(strategies, frame, NOW)
    assert evaluation.failures == {}
    return [
        (side, int((open_time - FIRST) / timedelta(minutes=1)))
        for side, open_time in evaluation.candidates.select("side", "open_time").iter_rows()
    ]


def rows(**columns):
    """Return a frame whose indicator columns a test sets itself; all symbols are warm."""
    count = len(next(iter(columns.values())))
    return candles([100.0] * count).with_columns(
        candles_seen=pl.lit(10_000, pl.Int64),
        **{name: pl.Series(values, dtype=pl.Float64) for name, values in columns.items()},
    )


# The signals of each strategy


def test_rsi_reversal_signals_leaving_extremes():
    """rsi_reversal signals when the RSI leaves its extremes."""
    frame = rows(
        rsi_14_previous=[29, 31, 30, 25, 71, 69, 70, 0, None],
        rsi_14=[31, 32, 30.1, 29, 69, 68, 69.9, 80, 31],
    )
    assert found(chosen("rsi_reversal"), frame) == [
        ("long", 0),
        ("long", 2),
        ("short", 4),
        ("short", 6),
    ]


def test_macd_cross_ignores_rounding():
    """macd_cross signals when the lines cross by more than rounding."""
    frame = rows(
        macd_12_26_9_previous=[1, -1, 1, 0, 0],
        macd_signal_12_26_9_previous=[2, -2, 0, 0, 0],
        macd_12_26_9=[3, -3, 2, 1e-12, 0.1],
        macd_signal_12_26_9=[2, -2, 1, 0, 0],
        macd_histogram_12_26_9=[1, -1, 1, 1e-12, 0.1],
    )
    assert found(chosen("macd_cross"), frame) == [("long", 0), ("short", 1), ("long", 4)]


def test_ema_trend_needs_all_three():
    """ema_trend needs the trend, the cross and the volume."""
    long = {"close_previous": 98, "ema_50_previous": 99, "ema_50": 99, "ema_200": 90}
    short = {"close_previous": 102, "ema_50_previous": 101, "ema_50": 101, "ema_200": 110}
    cases = [
        long | {"volume_average_20": 0.5},
        long | {"volume_average_20": 1.0},
        long | {"volume_average_20": 0.5, "ema_200": 120},
        long | {"volume_average_20": 0.5, "close_previous": 99.5},
        short | {"volume_average_20": 0.5},
        short | {"volume_average_20": 0.5, "ema_200": 90},
    ]
    frame = rows(**{name: [case[name] for case in cases] for name in cases[0]})
    assert found(chosen("ema_trend"), frame) == [("long", 0), ("short", 4)]


def test_bollinger_breakout_signals_leaving_candle():
    """bollinger_breakout signals the candle that leaves the bands."""
    frame = rows(
        close_previous=[98, 99.5, 102, 99.5, 100],
        bollinger_upper_20_2_previous=[99, 99, 110, 110, 100],
        bollinger_upper_20_2=[99, 99, 110, 110, 100],
        bollinger_middle_20_2=[95, 95, 105, 105, 100],
        bollinger_lower_20_2_previous=[90, 90, 101, 101, 100],
        bollinger_lower_20_2=[90, 90, 101, 101, 100],
    )
    assert found(chosen("bollinger_breakout"), frame) == [("long", 0), ("short", 2)]


def test_still_market_signals_nothing():
    """A market that stands still signals nothing."""
    frame = candles([0.1] * 4000, [0.0] * 4000)
    assert found(DEFAULTS, indicators_of(DEFAULTS).history(frame)) == []
    # Nor does rounding once the means have run into each other.
    moved = candles([0.1, 0.13, 0.09] * 300 + [0.1] * 3000)
    late = [one for one in found(QUICK, indicators_of(QUICK).history(moved)) if one[1] > 1500]
    assert late == []


# Live and history


def same_candidates(live, history):
    assert len(live) == len(history) > 0
    exact = pl.exclude("indicators")
    assert live.select(exact).equals(history.select(exact))
    for one, other in zip(candidates_of(live), candidates_of(history), strict=True):
        assert one.indicators == pytest.approx(other.indicators, rel=1e-9, abs=1e-9 * one.price)


def test_live_with_restarts_equals_history():
    """Minute by minute with restarts finds the same candidates as the whole history."""
    frame = together(list(FILED), 340)
    # Two symbols are listed late, and one has a gap.
    frame = frame.remove(
        (pl.col("symbol") == "XRPUSDT") & (pl.col("open_time") < FIRST + timedelta(minutes=100))
        | (pl.col("symbol") == "SOLUSDT") & (pl.col("open_time") < FIRST + timedelta(minutes=245))
        | (pl.col("symbol") == "NEARUSDT")
        & pl.col("open_time").is_between(
            FIRST + timedelta(minutes=140), FIRST + timedelta(minutes=155)
        )
    )
    wanted = indicators_of(QUICK)
    _, folded = fold(wanted, frame, 30, np.random.default_rng(11))
    minutes = folded.sort("open_time", "symbol").partition_by("open_time", maintain_order=True)
    live = pl.concat(evaluate(QUICK, minute, NOW).candidates for minute in minutes)
    same = wanted.history(frame).join(folded, on=["symbol", "open_time"], how="semi")
    same_candidates(live, evaluate(QUICK, same, NOW).candidates)
    assert set(live["strategy"]) == set(strategy_names())
    assert "SOLUSDT" in live["symbol"].to_list()


def test_rebuilt_state_finds_same_candidates():
    """A state rebuilt from the candles needed finds the same candidates as the whole history."""
    wanted = indicators_of(DEFAULTS)
    frame = together(["BTCUSDT", "NEARUSDT"], wanted.candles_needed + 2000)
    begin = FIRST + timedelta(minutes=1700)
    recent = frame.filter(pl.col("open_time") >= begin)
    _, folded = fold(wanted, recent, wanted.candles_needed, np.random.default_rng(5))
    live = evaluate(DEFAULTS, folded, NOW).candidates
    same = wanted.history(frame).join(folded, on=["symbol", "open_time"], how="semi")
    same_candidates(live, evaluate(DEFAULTS, same, NOW).candidates)


@pytest.mark.parametrize("symbol", FILED)
def test_candidates_do_not_look_ahead(symbol):
    """No candidate depends on later candles."""
    frame = market_minutes(symbol)[:9000]
    wanted = indicators_of(DEFAULTS)
    whole = evaluate(DEFAULTS, wanted.history(frame), NOW).candidates
    early = evaluate(DEFAULTS, wanted.history(frame[:7000]), NOW).candidates
    assert set(early["strategy"]) == set(strategy_names())
    assert early.equals(whole.filter(pl.col("open_time") <= frame["open_time"][6999]))


@pytest.mark.parametrize("strategy", DEFAULTS, ids=lambda strategy: strategy.name)
def test_no_candidate_precedes_warm_up(strategy):
    """No candidate comes before the end of the warm-up."""
    frame = indicators_of([strategy]).history(market_minutes("BTCUSDT")[:6000])
    candidates = evaluate([strategy], frame, NOW).candidates
    seen = frame.join(candidates, on="open_time", how="semi")["candles_seen"]
    assert seen.min() >= strategy.warm_up > max(each.candles_needed for each in strategy.indicators)


def test_what_else_is_configured_changes_nothing():
    frame = market_minutes("ETHUSDT")[:6000]
    every = evaluate(DEFAULTS, indicators_of(DEFAULTS).history(frame), NOW).candidates
    for strategy in DEFAULTS:
        alone = evaluate([strategy], indicators_of([strategy]).history(frame), NOW).candidates
        assert alone.equals(every.filter(strategy=strategy.name))


# The candidates


def test_a_candidate_says_all_about_itself():
    frame = indicators_of(DEFAULTS).history(market_minutes("BTCUSDT")[:4000])
    (macd,) = [each for each in DEFAULTS if each.name == "macd_cross"]
    candidates = evaluate([macd], frame, NOW).candidates
    assert candidates.schema == candidate_schema()
    newest = candidates_of(candidates)[-1]
    row = frame.filter(open_time=newest.open_time)
    assert newest.price == row["close"].item()
    assert newest.indicators == {name: row[name].item() for name in macd.columns}
    assert (newest.strategy, newest.version, newest.created_at) == ("macd_cross", macd.version, NOW)
    key = (newest.strategy, newest.version, newest.symbol, newest.interval, newest.open_time)
    assert newest.id == candidate_id(*key)
    assert list(json.loads(candidates["indicators"][-1])) == sorted(macd.columns)


def test_no_signal_gives_empty_frame():
    """Without a signal the result is an empty frame of candidates."""
    frame = indicators_of(DEFAULTS).history(candles([1.0] * 3))
    assert evaluate(DEFAULTS, frame, NOW).candidates.equals(candidate_schema().to_frame())
    assert evaluate([], frame, NOW).candidates.equals(candidate_schema().to_frame())


def made(name="made", **declared):
    return Strategy(name, "1", StrategyParameters(), Declaration(**{"indicators": (), **declared}))


def test_candle_of_both_sides_is_neither():
    """A candle that signals both sides is no candidate."""
    both = made(long=above("close", 1), short=above("close", 2))
    assert found([both], rows(x=[1.0])) == []
    assert found([made(long=above("close", 1))], rows(x=[1.0])) == [("long", 0)]


def test_raising_strategy_stops_no_other():
    """A strategy that raises is reported, and the others go on."""

    def burst(_):
        raise ZeroDivisionError("no luck today")

    broken = [
        made("absent_column", long=above("no_such", 1)),
        made("raises", long=above(pl.col("close").map_batches(burst, pl.Float64), 1)),
        made("wrong_type", short=above("symbol", 1)),
    ]
    evaluation = evaluate([*broken, made("sound", long=above("close", 1))], rows(x=[1.0]), NOW)
    assert evaluation.candidates["strategy"].to_list() == ["sound"]
    assert list(evaluation.failures) == ["absent_column 1", "raises 1", "wrong_type 1"]
    assert "no_such" in evaluation.failures["absent_column 1"]
    assert "no luck today" in evaluation.failures["raises 1"]


# Conditions and ties


def met(conditions, frame):
    return frame.select(pl.all_horizontal(each.met() for each in conditions)).to_series().to_list()


def test_conditions_compare_columns_numbers_and_expressions():
    frame = rows(a=[1.0, 3.0, None], b=[2.0, 2.0, 2.0], a_previous=[3.0, 1.0, 1.0])
    frame = frame.with_columns(b_previous=pl.col("b"))
    assert met(above("a", "b"), frame) == [False, True, None]
    assert met(below("a", pl.col("b") * 2), frame) == [True, True, None]
    assert met(crosses_above("a", "b"), frame) == [False, True, None]
    assert met(crosses_below("a", 2), frame) == [True, False, False]


@settings(max_examples=examples(60))
@given(st.floats(1e-6, 1e9), st.floats(-3e-9, 3e-9), st.booleans())
def test_near_means_within_rounding(size, apart, holds):
    """A condition is near its threshold exactly if another rounding could change the signal."""
    frame = pl.DataFrame({"left": [size * (1 + apart)], "right": [size]})
    condition = Condition("left", "right", holds=holds)
    rounded = [
        frame.with_columns(pl.col("left") * (1 + change)).select(condition.met()).item()
        for change in (-1e-12, 0.0, 1e-12)
    ]
    if len(set(rounded)) > 1:
        assert frame.select(condition.near()).item()
    if abs(apart) > 2.1e-9:
        assert not frame.select(condition.near()).item()
        assert rounded[0] is ((apart > 0) is holds)


def test_ties_are_candidates_rounding_changes():
    """Ties are the candidates that rounding makes or removes."""
    level = 100.0
    clearly, barely, hardly = 101.0, level + 1.01e-7, level + 0.99e-7
    frame = rows(x=[clearly, barely, hardly, level - 1, barely], y=[1, 1, 1, 1, -1])
    strategy = made(long=above("x", level) + above("y", 0))
    assert found([strategy], frame) == [("long", 0), ("long", 1)]
    names = {
        candidate_id("made", "1", "BTCUSDT", "1m", FIRST + timedelta(minutes=minute))
        for minute in (1, 2)
    }
    assert tied_ids([strategy], frame) == names


def test_ties_wait_for_warm_up():
    """Ties wait for the warm-up too."""
    strategy = made(indicators=(Ema(2),), long=above("close", 100 - 1e-7))
    frame = rows(x=[1.0, 1.0]).with_columns(candles_seen=pl.Series([1, strategy.warm_up]))
    assert len(tied_ids([strategy], frame)) == 1


# Configuration


def test_all_strategies_are_configured_by_default():
    assert {each.name for each in Settings(_env_file=None).strategies} == set(strategy_names())
    assert len(configured_strategies(Settings(_env_file=None).strategies)) == len(strategy_names())


def test_rules_alone_have_the_same_names():
    """The trader reads rules without what strategies declare; candidates carry the same versions."""
    chosen = Settings(_env_file=None).strategies
    named = {f"{each.name} {each.version}": each.rules for each in configured_strategies(chosen)}
    assert configured_rules(chosen) == named


def test_indicators_are_those_of_strategies():
    """The indicators are exactly those of the strategies."""
    assert indicators_of(chosen("rsi_reversal", period=7)).indicators == (Rsi(7),)


@pytest.mark.parametrize(
    ("entries", "reported"),
    [
        (
            [{"name": "rsi_reversals"}],
            "there is no strategy 'rsi_reversals'; there are bollinger_breakout, ema_trend, "
            "macd_cross, rsi_reversal. Example: - {name: bollinger_breakout}",
        ),
        ([{"name": "../settings"}], "there is no strategy '../settings'"),
        (
            [{"name": "rsi_reversal", "perid": 14}],
            "rsi_reversal: perid: there is no such parameter; there are period, oversold, "
            "overbought. Example: - {name: rsi_reversal, period: 14, oversold: 30.0, "
            "overbought: 70.0}",
        ),
        (
            [{"name": "rsi_reversal", "period": 1}],
            "rsi_reversal: period: Input should be greater than or equal to 2. Example: - {name",
        ),
        ([{"name": "rsi_reversal", "period": "x"}], "rsi_reversal: period: Input should be a val"),
        (
            [{"name": "rsi_reversal", "oversold": 80}],
            "rsi_reversal: parameters: oversold (80) must be less than overbought (70). Example: ",
        ),
        ([{"name": "macd_cross", "fast": 26}], "fast (26) must be less than slow (26)"),
        ([{"name": "ema_trend", "slow": 50}], "fast (50) must be less than slow (50)"),
        (
            [{"name": "macd_cross"}, {"name": "macd_cross", "fast": 12}],
            "macd_cross stands there twice with the same parameters: remove one",
        ),
    ],
)
def test_wrong_configuration_shows_an_example(entries, reported):
    """The error for a wrong configuration shows an example."""
    with pytest.raises(StrategyError) as caught:
        configured_strategies(StrategySettings(**entry) for entry in entries)
    assert str(caught.value).startswith("strategies: ")
    assert reported in str(caught.value)


def test_other_parameters_change_version_and_ids():
    """Other parameters are another version with other ids."""
    frame = market_minutes("BTCUSDT")[:3000]
    two = chosen("bollinger_breakout") + chosen("bollinger_breakout", deviations=2.5)
    assert two[0].version != two[1].version
    candidates = evaluate(two, indicators_of(two).history(frame), NOW).candidates
    assert candidates["id"].is_unique().all()
    assert candidates["version"].n_unique() == 2


def test_version_is_stable():
    """A version does not change while code and parameters stay the same."""
    # Candidates of years are known by it: these literals must stay as they are.
    assert {each.name: each.version for each in DEFAULTS} == {
        "bollinger_breakout": "1-eb398bbb",
        "ema_trend": "1-7dd44e12",
        "macd_cross": "1-b4454938",
        "rsi_reversal": "1-5ec1023c",
    }
    (named,) = chosen("rsi_reversal", period=14, oversold=30, overbought=70)
    assert named.version == chosen("rsi_reversal")[0].version


def test_broken_strategy_file_is_named(monkeypatch):
    """A strategy whose file is broken is reported by name."""

    def declare(_):
        raise KeyError("rsi")

    broken = SimpleNamespace(VERSION="1", Parameters=StrategyParameters, declare=declare)
    monkeypatch.setattr(package, "import_module", lambda _: broken)
    with pytest.raises(StrategyError, match=r"ema_trend cannot be loaded: KeyError: 'rsi'\. Mend"):
        chosen("ema_trend")


def version_of(**entry: Any) -> str:
    (strategy,) = configured_strategies([StrategySettings(**entry)])
    return strategy.version


def test_rules_change_version_when_set() -> None:
    """Candidate ids of strategies without rules stay as they were; a default that is repeated is no rule."""
    bare = version_of(name="macd_cross")
    assert bare == version_of(name="macd_cross", rules={})
    assert bare == version_of(name="macd_cross", rules={"side": "both", "leverage": 1})
    stopped = version_of(name="macd_cross", rules={"stop": 0.01})
    assert stopped == version_of(name="macd_cross", rules={"stop": "0.01"})
    assert len({bare, stopped, version_of(name="macd_cross", rules={"stop": 0.02})}) == 3


def test_sizing_adds_its_indicator_once() -> None:
    """Rules that size by ATR make it an indicator of the strategy, unless the strategy declares it."""
    entry = StrategySettings(name="macd_cross", rules={"sizing": {"by": "atr", "period": 20}})
    (sized,) = configured_strategies([entry])
    assert sized.columns.count("atr_20") == 1
    assert sized.warm_up > Atr(20).candles_needed
    declared = replace(sized, declaration=Declaration((Atr(20),)))
    assert declared.columns == ("atr_20",)
    (bare,) = configured_strategies([StrategySettings(name="macd_cross")])
    assert not any(name.startswith("atr") for name in bare.columns)


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ({"stop": 2}, "stop: Input should be less than 1"),
        ({"halt": 1}, "halt: there is no such parameter; there are side, "),
        (
            {"opposite_signal": "ignore"},
            "a position needs stop, target, trailing_stop or time_limit",
        ),
        ("tight", "rules must be a mapping"),
    ],
)
def test_wrong_rules_name_the_fault(rules: Any, fault: str) -> None:
    with pytest.raises(StrategyError, match="macd_cross") as caught:
        version_of(name="macd_cross", rules=rules)
    assert fault in str(caught.value)
    assert "Example: - {name: rsi_reversal, rules: {stop: 0.01" in str(caught.value)
