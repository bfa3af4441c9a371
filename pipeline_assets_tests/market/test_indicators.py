"""Indicators: both forms equal TA-Lib on a market's and random candles, and each other."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_assets.market.indicators import (
    BollingerBands,
    Ema,
    IndicatorError,
    IndicatorSet,
    IndicatorStates,
    Macd,
    Rsi,
    VolumeAverage,
)
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.market.series import (
    EVERY,
    FILED,
    FIRST,
    OF_THE_PRICE,
    SHORT,
    assert_equal_values,
    by_talib,
    candles,
    fold,
    market_minutes,
    together,
)

# Candles of markets that move, stand still, jump, and trade nothing for a while.
steps = st.one_of(
    st.just(0.0),
    st.floats(-0.01, 0.01),
    st.sampled_from([0.5, -0.3]),
)
moves = st.lists(st.tuples(steps, st.integers(1, 6)), min_size=1, max_size=25)
traded = st.one_of(st.just(0.0), st.floats(0.001, 1e9))


@st.composite
def markets(draw, symbol="BTCUSDT"):
    price = draw(st.sampled_from([0.00001234, 1.0, 67_123.4]))
    closes = [price]
    for step, times in draw(moves):
        for _ in range(times):
            price *= 1 + step
            closes.append(price)
    volumes = draw(st.lists(traded, min_size=len(closes), max_size=len(closes)))
    return candles(closes, volumes, draw(st.sampled_from([0.0, 0.002])), symbol)


def numbers(frame, name):
    return frame[name].to_numpy()


# Equal to TA-Lib


@pytest.mark.parametrize("symbol", FILED)
def test_a_history_equals_talib(symbol):
    frame = market_minutes(symbol)
    assert_equal_values(EVERY.history(frame), by_talib(EVERY, frame))


def test_states_with_restarts_equal_talib():
    frame = together(list(FILED), 1500)
    _, folded = fold(EVERY, frame, 1, np.random.default_rng(7))
    for symbol in FILED:
        expected = by_talib(EVERY, frame.filter(symbol=symbol))
        without_first = {name: values[1:] for name, values in expected.items()}
        assert_equal_values(folded.filter(symbol=symbol), without_first)


@settings(max_examples=examples(60))
@given(markets(), st.integers(0, 2**32))
def test_both_forms_equal_talib(frame, seed):
    """Both forms equal TA-Lib's values over random candles."""
    expected = by_talib(SHORT, frame)
    # TA-Lib's running sums keep the rounding of what has left the window.
    largest = frame["volume"].max()
    history = SHORT.history(frame)
    _, folded = fold(SHORT, frame, 1, np.random.default_rng(seed))
    for found, first in [(history, 0), (folded, 1)]:
        theirs = {name: values[first:] for name, values in expected.items()}
        volume = theirs.pop("volume_average_7")
        np.testing.assert_allclose(
            numbers(found, "volume_average_7"), volume, rtol=1e-9, atol=1e-13 * largest
        )
        price = frame["close"].max()
        for name, values in theirs.items():
            size = {"rtol": 1e-9, "atol": 0.0}
            if name.startswith(OF_THE_PRICE):
                size = {"rtol": 1e-9, "atol": 1e-9 * price}
            np.testing.assert_allclose(numbers(found, name), values, err_msg=name, **size)


@settings(max_examples=examples(40))
@given(st.lists(moves, min_size=1, max_size=4), st.data())
def test_both_forms_agree_despite_gaps(series, data):
    """Both forms agree for symbols of different ages and with gaps."""
    frames = []
    for number, each in enumerate(series):
        closes = np.cumprod([1 + step for step, times in each for _ in range(times)])
        first = FIRST + timedelta(minutes=data.draw(st.integers(0, 30)))
        whole = candles(closes, symbol=f"COIN{number}USDT", first=first)
        kept = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
        frames.append(whole.filter(pl.Series([*kept[:-1], True])))
    frame = pl.concat(frames)
    begin = data.draw(st.integers(1, frame["open_time"].n_unique()))
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    if begin < frame["open_time"].n_unique():
        _, folded = fold(SHORT, frame, begin, chance)
        history = SHORT.history(frame).join(folded, on=["symbol", "open_time"], how="semi")
        assert folded["candles_seen"].to_list() == history["candles_seen"].to_list()
        for name in folded.columns[7:]:
            np.testing.assert_allclose(
                folded[name].cast(pl.Float64).to_numpy(),
                history[name].cast(pl.Float64).to_numpy(),
                rtol=1e-9,
                atol=1e-12,
                err_msg=name,
            )


# Flat prices, zero volume, gaps


def test_flat_prices_rsi_is_zero():
    """The RSI of flat prices is zero, as TA-Lib's."""
    frame = candles([5.0] * 40)
    assert EVERY.history(frame)["rsi_14"].drop_nulls().unique().to_list() == [0.0]
    _, folded = fold(EVERY, frame, 1, np.random.default_rng(1))
    assert folded["rsi_14"].drop_nulls().unique().to_list() == [0.0]


def test_still_prices_keep_their_rsi():
    """Prices that stand still keep the RSI of their last move, as TA-Lib's."""
    frame = candles([5.0, 6.0, 5.5] * 10 + [5.5] * 600)
    expected = by_talib(EVERY, frame)["rsi_14"]
    _, newest = IndicatorStates.from_history(EVERY, frame[:-1]).advance(frame[-1:])
    assert 50 < expected[-1] < 51
    assert newest["rsi_14"].item() == pytest.approx(expected[-1], rel=1e-9)


@pytest.mark.parametrize("price", [0.1, 0.000012347, 67_123.4])
def test_flat_prices_collapse_the_bands(price):
    """On flat prices the bands equal the close, whatever came before."""
    frame = candles([price * 3, price * 0.2, price * 1.7] * 9 + [price] * 20)
    for found in (
        EVERY.history(frame)[-1:],
        IndicatorStates.from_history(EVERY, frame[:-1]).advance(frame[-1:])[1],
    ):
        bands = [found[f"bollinger_{name}_20_2"].item() for name in ("upper", "lower")]
        assert bands == pytest.approx([price, price], rel=1e-14)


def test_zero_volume_average_is_exactly_zero():
    """Without volume the average is exactly zero, whatever came before."""
    frame = candles([5.0] * 45, [1e9 / 3] * 25 + [0.0] * 20)
    _, folded = fold(EVERY, frame, 30, np.random.default_rng(1))
    assert EVERY.history(frame)["volume_average_20"].to_list()[-1] == 0.0
    assert folded["volume_average_20"].to_list()[-1] == 0.0


def test_gap_is_skipped_as_in_talib():
    """A gap is skipped: the values are TA-Lib's without the missing candles."""
    frame = market_minutes("NEARUSDT")[:2000].filter(~pl.int_range(pl.len()).is_between(700, 1100))
    assert_equal_values(EVERY.history(frame), by_talib(EVERY, frame))
    _, folded = fold(EVERY, frame, 690, np.random.default_rng(3))
    expected = {name: values[690:] for name, values in by_talib(EVERY, frame).items()}
    assert_equal_values(folded, expected)


# How many candles are enough


@pytest.mark.parametrize("symbol", FILED)
def test_rebuilt_state_equals_whole_history(symbol):
    """A state rebuilt from the candles needed equals that of the whole history."""
    frame = market_minutes(symbol)[:30_000]
    states = IndicatorStates.from_history(EVERY, frame[-EVERY.candles_needed - 1 : -1])
    _, newest = states.advance(frame[-1:])
    expected = EVERY.history(frame)[-1:]
    assert_equal_values(newest, {name: expected[name].to_numpy() for name in EVERY.columns})


@pytest.mark.parametrize("indicator", EVERY.indicators, ids=lambda indicator: indicator.columns[0])
def test_earlier_candles_do_not_matter(indicator):
    """Candles before the ones needed do not matter."""
    alone = IndicatorSet([indicator])
    recent = 100 + np.random.default_rng(2).normal(0, 0.3, alone.candles_needed).cumsum()
    pasts = [np.full(400, 90.0), 100 + np.random.default_rng(3).normal(0, 9, 400)]
    ends = [alone.history(candles([*past, *recent], spread=0.001))[-1:] for past in pasts] + [
        alone.history(candles(recent, spread=0.001))[-1:]
    ]
    for name in alone.columns:
        values = [end[name].item() for end in ends]
        size = 100 if name.startswith(("macd", "bollinger")) else abs(values[0])
        assert max(values) - min(values) <= 1e-10 * size


def test_slowest_indicator_sets_candles_needed():
    """The slowest indicator decides how many candles are needed."""
    assert IndicatorSet([VolumeAverage(20)]).candles_needed == 20
    assert 2900 < IndicatorSet([VolumeAverage(20), Ema(200)]).candles_needed < 3000
    assert IndicatorSet([]).candles_needed == 1


# The frame


def test_history_columns_start_with_null():
    """A history adds columns that are null until their values are known."""
    frame = SHORT.history(candles(np.arange(1.0, 12.0)))
    assert frame.columns[7:9] == ["candles_seen", "close_previous"]
    assert frame["candles_seen"].to_list() == list(range(1, 12))
    assert frame["ema_4"].to_list()[:5] == [None, None, None, 2.5, 3.5]
    assert frame["ema_4_previous"].to_list()[:6] == [None, None, None, None, 2.5, 3.5]
    assert frame["close_previous"].to_list()[:3] == [None, 1.0, 2.0]
    assert not frame.select(pl.col(pl.Float64).is_nan().any()).row(0).count(True)


def test_symbols_do_not_touch_each_other():
    frame = together(["BTCUSDT", "ETHUSDT", "XRPUSDT"], 300).remove(
        (pl.col("symbol") == "ETHUSDT") & (pl.col("open_time") < FIRST + timedelta(minutes=290))
    )
    alone = pl.concat(
        EVERY.history(one) for one in frame.partition_by("symbol", maintain_order=True)
    )
    assert EVERY.history(frame).equals(alone, null_equal=True)


def test_no_candles_make_no_values():
    assert EVERY.history(candles([])).is_empty()
    assert EVERY.history(candles([1.0])).select(EVERY.columns).row(0) == (None,) * 10


@pytest.mark.parametrize("make", [EVERY.history, lambda f: IndicatorStates.from_history(EVERY, f)])
@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda f: f.reverse(), "BTCUSDT at 2026-11-01 00:01:00.* does not come after the one"),
        (lambda f: pl.concat([f[:1], f]), "BTCUSDT at 2026-11-01 00:00:00.* does not come after"),
        (
            lambda f: pl.concat([f, f.with_columns(symbol=pl.lit("ADAUSDT"))]),
            "ADAUSDT at 2026-11-01 00:00:00.* does not come after",
        ),
        (
            lambda f: f.with_columns(high=pl.Series([1.0, float("nan"), 1.0])),
            "high of BTCUSDT at 2026-11-01 00:01:00.* is no finite number: clean",
        ),
        (
            lambda f: f.with_columns(volume=pl.Series([1.0, 1.0, None])),
            "volume of BTCUSDT at 2026-11-01 00:02:00.* is no finite number",
        ),
    ],
)
def test_spoiling_candles_are_refused(make, change, reported):
    """Candles that would spoil every later value are refused."""
    with pytest.raises(IndicatorError, match=reported):
        make(change(candles([1.0, 2.0, 3.0])))


# Parameters


def test_declaration_order_does_not_matter():
    """The order and the number of the declarations do not matter."""
    one = IndicatorSet([Rsi(14), Ema(50), Rsi(14)])
    other = IndicatorSet([Ema(50), Rsi(14)])
    assert one.columns == other.columns == ("ema_50", "rsi_14")
    assert one.fingerprint == other.fingerprint


def test_other_parameters_change_the_fingerprint():
    """Other parameters make other columns and another fingerprint."""
    sets = [
        IndicatorSet([each])
        for each in (
            Rsi(14),
            Rsi(15),
            Ema(14),
            BollingerBands(20, 2),
            BollingerBands(20, 2.0000001),
        )
    ]
    assert len({each.columns for each in sets}) == len({each.fingerprint for each in sets}) == 5


@pytest.mark.parametrize(
    "make", [lambda: Rsi(1), lambda: Ema(0), lambda: Macd(26, 12, 9), lambda: BollingerBands(20, 0)]
)
def test_impossible_parameters_are_refused(make):
    with pytest.raises(ValidationError):
        make()


def test_state_version_has_fixed_values():
    """The values of this state version are recorded and must not change."""
    # If this fails although the code is right: raise STATE_VERSION, so that states kept by the older
    # code are rebuilt, and put the new values here.
    closes = 100 + np.sin(np.arange(60)) * 3 + np.arange(60) % 7
    frame = candles(closes, np.arange(60) % 5, 0.001)
    states = IndicatorStates.from_history(SHORT, frame)
    assert states._numbers[:, 0].round(9).tolist() == [
        104.910214021,
        2.057674041,
        106.112595979,
        102.826173426,
        99.539750874,
        103.815420775,
        0.924232171,
        0.516086636,
        0.408145535,
        66.497716972,
        2.428571429,
        2.057674041,
        103.323632853,
        103.00073448,
        98.435346994,
        102.308494266,
        104.978617944,
        104.910214021,
        103.815420775,
        104.552985146,
        103.628752975,
        0.516086636,
        1.291303429,
        0.650572906,
        3.0,
        4.0,
        0.0,
        1.0,
        2.0,
        3.0,
        4.0,
    ]
    assert SHORT.fingerprint == "f8137184023b1246"
