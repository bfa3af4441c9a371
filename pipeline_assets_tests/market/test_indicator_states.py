"""States: advanced without being changed, encoded to the last bit, refused when damaged."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.indicators import (
    Ema,
    IndicatorError,
    IndicatorSet,
    IndicatorStates,
    Rsi,
)
from pipeline_assets.market.indicators import indicator_set as of_the_set
from pipeline_assets_tests.market.series import EVERY, FIRST, SHORT, candles, together

SYMBOLS = ["BTCUSDT", "ETHUSDT", "XRPUSDT"]


@pytest.fixture
def minutes():
    return together(SYMBOLS, 60)


@pytest.fixture
def states(minutes):
    return IndicatorStates.from_history(EVERY, minutes.filter(pl.col("open_time") < at(59)))


def at(minute):
    return FIRST + timedelta(minutes=minute)


def newest_of(frame, *symbols):
    return frame.filter(pl.col("symbol").is_in(symbols), pl.col("open_time") == at(59))


def test_a_state_knows_where_it_stands(states):
    assert states.symbols == tuple(SYMBOLS)
    assert states.open_times == dict.fromkeys(SYMBOLS, at(58))
    assert states.candles_seen == dict.fromkeys(SYMBOLS, 59)


def test_ready_state_has_needed_candles():
    """A state is ready when it holds the number of candles needed."""
    alone = IndicatorSet([Ema(2)])
    needed = alone.candles_needed
    for count, ready in [(needed - 1, False), (needed, True), (needed + 1, True)]:
        states = IndicatorStates.from_history(alone, candles([1.0] * count))
        assert states.ready("BTCUSDT") is ready


def test_update_leaves_old_states_unchanged(states, minutes):
    """An update leaves the earlier states as they were."""
    before = states.encode()
    moved, first = states.advance(newest_of(minutes, *SYMBOLS))
    assert states.encode() == before
    again, second = states.advance(newest_of(minutes, *SYMBOLS))
    assert second.equals(first, null_equal=True)
    assert again.encode() == moved.encode() != before


def test_symbols_without_candles_keep_their_state(states, minutes):
    """Symbols without a new candle keep their state."""
    moved, row = states.advance(newest_of(minutes, "XRPUSDT"))
    assert row["symbol"].to_list() == ["XRPUSDT"]
    assert moved.open_times == {**states.open_times, "XRPUSDT": at(59)}
    before, after = states.encode(), moved.encode()
    assert [before[symbol] == after[symbol] for symbol in SYMBOLS] == [True, True, False]


def test_row_order_does_not_matter(states, minutes):
    """The order of the rows does not matter."""
    newest = newest_of(minutes, *SYMBOLS)
    moved, rows = states.advance(newest)
    other, backwards = states.advance(newest.reverse())
    assert moved.encode() == other.encode()
    assert backwards.reverse().equals(rows, null_equal=True)


def test_no_candles_move_nothing(states, minutes):
    moved, rows = states.advance(minutes.clear())
    assert moved.encode() == states.encode()
    assert rows.is_empty()
    assert rows.columns == states.advance(newest_of(minutes, *SYMBOLS))[1].columns


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (
            lambda f: f.with_columns(open_time=pl.lit(at(58))),
            "BTCUSDT at 2026-11-01 00:58.* is not newer than its state, .* 00:58",
        ),
        (lambda f: f.with_columns(open_time=pl.lit(at(7))), "BTCUSDT at 2026-11-01 00:07"),
        (lambda f: pl.concat([f, f]), "A symbol has two rows"),
        (
            lambda f: f.with_columns(symbol=pl.lit("ADAUSDT")),
            "no state of ADAUSDT: make one with from_history",
        ),
        (
            lambda f: f.with_columns(close=pl.lit(float("inf"))),
            "close of BTCUSDT at 2026-11-01 00:59.* is no finite number",
        ),
    ],
)
def test_out_of_order_candle_is_refused(states, minutes, change, reported):
    """A candle that does not follow the last one is refused."""
    with pytest.raises(IndicatorError, match=reported):
        states.advance(change(newest_of(minutes, "BTCUSDT")))


def test_a_candle_after_a_gap_follows(states, minutes):
    later = newest_of(minutes, "BTCUSDT").with_columns(open_time=pl.lit(at(500)))
    moved, _ = states.advance(later)
    assert moved.open_times["BTCUSDT"] == at(500)
    assert moved.candles_seen["BTCUSDT"] == 60


# History


def test_symbols_of_different_age_are_independent():
    """Symbols of different ages have the states that each would have alone."""
    frame = together(SYMBOLS, 80)
    starts = {"BTCUSDT": 79, "ETHUSDT": 0, "XRPUSDT": 37}
    frame = pl.concat(
        frame.filter(symbol=symbol)[start:] for symbol, start in sorted(starts.items())
    )
    whole = IndicatorStates.from_history(EVERY, frame)
    assert whole.candles_seen == {"BTCUSDT": 1, "ETHUSDT": 80, "XRPUSDT": 43}
    for symbol in SYMBOLS:
        alone = IndicatorStates.from_history(EVERY, frame.filter(symbol=symbol))
        assert alone.encode()[symbol] == whole.encode()[symbol]


def test_candle_count_is_capped():
    """The count of candles seen stops at the number needed."""
    alone = IndicatorSet([Rsi(2)])
    frame = candles(np.random.default_rng(1).gamma(9, 1, 900))
    states = IndicatorStates.from_history(alone, frame)
    recent = IndicatorStates.from_history(alone, frame[-alone.candles_needed :])
    assert states.encode() == recent.encode()


def test_no_candles_make_no_states():
    states = IndicatorStates.from_history(EVERY, candles([]))
    assert states.symbols == ()
    assert states.encode() == {}


# Bytes


def test_bytes_make_the_same_states_again(states, minutes):
    decoded, useless = IndicatorStates.decode(EVERY, states.encode())
    assert useless == {}
    assert decoded.symbols == states.symbols
    newest = newest_of(minutes, *SYMBOLS)
    (moved, rows), (other, other_rows) = states.advance(newest), decoded.advance(newest)
    assert moved.encode() == other.encode()
    assert rows.equals(other_rows, null_equal=True)


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda value: b"", "damaged"),
        (lambda value: value[:-9], "damaged"),
        (lambda value: value + b"\0", "damaged"),
        (lambda value: value[:40] + bytes([value[40] ^ 1]) + value[41:], "damaged"),
    ],
)
def test_damaged_value_is_reported_others_used(states, change, reported):
    """A damaged value is reported, and the others are used."""
    encoded = states.encode()
    encoded["ETHUSDT"] = change(encoded["ETHUSDT"])
    decoded, useless = IndicatorStates.decode(EVERY, encoded)
    assert decoded.symbols == ("BTCUSDT", "XRPUSDT")
    assert list(useless) == ["ETHUSDT"]
    assert reported in useless["ETHUSDT"]


def test_value_of_other_symbol_is_refused(states):
    """The value of another symbol is not used."""
    encoded = {"BTCUSDT": states.encode()["ETHUSDT"]}
    assert "damaged" in IndicatorStates.decode(EVERY, encoded)[1]["BTCUSDT"]


def test_values_of_other_indicators_are_refused(states):
    """Values of other indicators are not used."""
    decoded, useless = IndicatorStates.decode(SHORT, states.encode())
    assert decoded.symbols == ()
    assert list(useless) == SYMBOLS
    assert all("other indicators or an older version" in why for why in useless.values())


def test_values_of_old_code_are_refused(states, monkeypatch):
    """Values of an older version of the code are not used."""
    encoded = states.encode()
    monkeypatch.setattr(of_the_set, "STATE_VERSION", of_the_set.STATE_VERSION + 1)
    newer = IndicatorSet(EVERY.indicators)
    assert list(IndicatorStates.decode(newer, encoded)[1]) == SYMBOLS


# Parts


def test_selection_equals_the_whole(states):
    """The states of a selection of symbols equal those computed with all symbols."""
    part = states.select(["XRPUSDT", "BTCUSDT"])
    assert part.symbols == ("XRPUSDT", "BTCUSDT")
    assert part.encode().items() <= states.encode().items()
    with pytest.raises(IndicatorError, match="no state of ADAUSDT"):
        states.select(["ADAUSDT"])


def test_merge_prefers_the_other_states(states, minutes):
    """Merged states are those of the second operand where both have one."""
    moved, _ = states.select(["XRPUSDT"]).advance(newest_of(minutes, "XRPUSDT"))
    merged = states.merge(moved)
    assert sorted(merged.symbols) == SYMBOLS
    assert merged.encode() == {**states.encode(), **moved.encode()}
    with pytest.raises(IndicatorError, match="other indicators"):
        states.merge(IndicatorStates.from_history(SHORT, minutes))
