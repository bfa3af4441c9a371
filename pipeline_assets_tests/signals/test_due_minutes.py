"""Which minutes are due: in order, past no minute that may still come, from where the cursor says."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_assets.market.windows import Window
from pipeline_assets.signals.due_minutes import (
    MINUTE,
    Cursor,
    due_minutes,
    earliest,
    rounds,
)
from pipeline_assets_tests.resources.test_slots import NOON, candles

BTC, ETH = "BTCUSDT", "ETHUSDT"


def at(minute: int):
    return NOON + minute * MINUTE


def taken(due) -> list[tuple[str, int]]:
    return [
        (symbol, (opened - NOON) // MINUTE)
        for symbol, opened in due.candles.select("symbol", "open_time").iter_rows()
    ]


def test_next_minutes_are_due_in_order() -> None:
    """The next minutes of a symbol are due in order, and no other symbol's."""
    frame = pl.concat([candles(BTC, [4, 5, 6]), candles(ETH, [6]), candles("XUSDT", [6])])
    due = due_minutes(frame, {BTC: at(4), ETH: at(5)}, {})
    assert taken(due) == [(BTC, 5), (BTC, 6), (ETH, 6)]
    assert (due.holes, due.waiting) == ({}, {})


@pytest.mark.parametrize(("newest", "is_waiting"), [(6, True), (7, True), (8, False), (20, False)])
def test_hole_is_awaited_then_searched(newest, is_waiting) -> None:
    """A hole is waited for three minutes and then searched for in the lake and at the exchange."""
    frame = candles(BTC, [4, 6, *range(7, newest + 1)])
    due = due_minutes(frame, {BTC: at(3)}, {})
    assert taken(due) == [(BTC, 4)]
    assert due.waiting == ({BTC: at(5)} if is_waiting else {})
    assert due.holes == ({} if is_waiting else {BTC: Window(at(5), at(6))})


def test_permanent_hole_is_passed() -> None:
    """A hole without candles anywhere is passed, and a later hole is not."""
    frame = candles(BTC, [5, 8, 9, 11])
    due = due_minutes(frame, {BTC: at(3)}, {BTC: at(8)})
    assert taken(due) == [(BTC, 5), (BTC, 8), (BTC, 9)]
    assert due.waiting == {BTC: at(10)}


def test_hole_is_searched_once() -> None:
    """Only the part of a hole that was not searched before is searched."""
    due = due_minutes(candles(BTC, [12, 20]), {BTC: at(3)}, {BTC: at(8)})
    assert due.holes == {BTC: Window(at(8), at(12))}


def test_no_newer_candle_means_nothing_due() -> None:
    """Without a newer candle nothing is due or missed."""
    due = due_minutes(candles(BTC, [1, 2]), {BTC: at(2), ETH: at(0)}, {})
    assert (taken(due), due.holes, due.waiting) == ([], {}, {})


@given(st.sets(st.integers(0, 40)), st.integers(-1, 40), st.none() | st.integers(0, 45))
def test_due_minutes_follow_without_gaps(minutes, position, settled) -> None:
    """Due minutes follow the state without unexplained gaps."""
    frame = candles(BTC, sorted(minutes))
    end = position + 1 if settled is None else settled
    due = due_minutes(frame, {BTC: at(position)}, {} if settled is None else {BTC: at(end)})
    opened = [minute for _, minute in taken(due)]
    newer = sorted(minute for minute in minutes if minute > position)
    assert opened == newer[: len(opened)]
    for before, after in zip([position, *opened], opened, strict=False):
        assert after == before + 1 or after <= end
    # The result names the minute before which it stopped, and that minute is missing.
    if len(opened) < len(newer):
        [stop] = [*due.waiting.values(), *(hole.start for hole in due.holes.values())]
        assert (stop - NOON) // MINUTE not in minutes


def test_round_holds_one_candle_per_symbol() -> None:
    """A round holds at most one candle of each symbol."""
    frame = pl.concat([candles(BTC, [1, 2, 5]), candles(ETH, [2])])
    found = rounds(frame)
    assert [each.rows() for each in found] == [
        pl.concat([candles(BTC, [1]), candles(ETH, [2])]).rows(),
        candles(BTC, [2]).rows(),
        candles(BTC, [5]).rows(),
    ]
    assert rounds(frame.clear()) == []
    [alone] = rounds(candles(BTC, [3]))
    assert_frame_equal(alone, candles(BTC, [3]))


def test_minutes_beyond_the_limit_are_skipped() -> None:
    limit = timedelta(minutes=30)
    assert earliest(at(0), at(30), limit) == (at(0), None)
    assert earliest(at(0), at(31), limit) == (at(1), Window(at(1), at(2)))
    assert earliest(at(0), at(100), limit) == (at(70), Window(at(1), at(71)))


def test_a_cursor_survives_its_text() -> None:
    cursor = Cursor(strategies=frozenset({"a 1"}), reported=frozenset({"symbol 币安人生USDT"})).at(
        {BTC: at(5), ETH: at(5), "币安人生USDT": at(3)}
    )
    again = Cursor.from_text(cursor.to_text())
    assert again == cursor
    assert (again.of(BTC), again.of("币安人生USDT"), again.of("NEWUSDT")) == (at(5), at(3), at(5))


@pytest.mark.parametrize("text", [None, "", "nonsense", "[]", "{}", '{"evaluated": 3}', "null"])
def test_unreadable_cursor_begins_anew(text) -> None:
    """A cursor that cannot be read begins anew."""
    assert Cursor.from_text(text) == Cursor()


def test_no_evaluation_keeps_the_cursor() -> None:
    """If nothing was evaluated, the cursor stays as it was."""
    cursor = Cursor(at(3))
    assert cursor.at({}) is cursor
    assert Cursor.from_text(Cursor().to_text()) == Cursor()
