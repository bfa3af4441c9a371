"""Closed minutes out of the slots: each once, in order, and not before it is complete or late."""

from decimal import Decimal
from typing import Any

from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.trading.minute_feed import DEADLINE, MinuteFeed
from pipeline_assets.trading.paper_book import MINUTE

FIRST = 29_000_000
BAR = Bar(Decimal("1.5"), Decimal("2.0"), Decimal("1.0"), Decimal("1.25"))


def _candle(minute: int) -> dict[str, Any]:
    return {"open_time": minute * MINUTE, "open": 1.5, "high": 2.0, "low": 1.0, "close": 1.25}


def _slots(**minutes: list[int]) -> dict[str, list[dict[str, Any]]]:
    return {symbol: [_candle(FIRST + each) for each in held] for symbol, held in minutes.items()}


def _seconds(minute: int, seconds: int) -> int:
    """A time after the close of a minute."""
    return (FIRST + minute + 1) * MINUTE + seconds * 1000


def test_minute_comes_once_in_order() -> None:
    feed = MinuteFeed(after=FIRST)
    slots = _slots(A=[0, 1, 2], B=[1, 2])
    found = feed.due(_seconds(2, 5), slots)
    assert found == [(FIRST + 1, {"A": BAR, "B": BAR}), (FIRST + 2, {"A": BAR, "B": BAR})]
    assert feed.due(_seconds(2, 5), slots) == []


def test_open_minute_is_not_handed_out() -> None:
    """Nor one that is younger than the reader wants it to be: its candidates are still to come."""
    feed = MinuteFeed(after=FIRST, earliest=25_000)
    slots = _slots(A=[1, 2])
    assert feed.due(_seconds(1, 24), slots) == []
    assert [minute for minute, _ in feed.due(_seconds(1, 25), slots)] == [FIRST + 1]


def test_slots_are_read_when_due() -> None:
    """Between the minutes nothing is expected, so the slots need not be read."""
    feed = MinuteFeed(after=FIRST, earliest=25_000)
    assert not feed.expects(_seconds(1, 24))
    assert feed.expects(_seconds(1, 25))
    assert len(feed.due(_seconds(1, 25), _slots(A=[1]))) == 1
    assert not feed.expects(_seconds(1, 59))
    assert feed.expects(_seconds(2, 25))


def test_missing_symbol_is_waited_for() -> None:
    """Until the deadline; then it has a gap, and is not waited for in the next minute."""
    feed = MinuteFeed(after=FIRST)
    assert len(feed.due(_seconds(1, 5), _slots(A=[1], B=[1]))) == 1
    incomplete = _slots(A=[2], B=[1])
    assert feed.due(_seconds(2, 5), incomplete) == []
    assert feed.due(_seconds(2, DEADLINE // 1000), incomplete) == [(FIRST + 2, {"A": BAR})]
    assert len(feed.due(_seconds(3, 5), _slots(A=[3], B=[1]))) == 1


def test_new_reader_begins_with_newest() -> None:
    """History is not traded."""
    found = MinuteFeed().due(_seconds(5, 5), _slots(A=list(range(6))))
    assert [minute for minute, _ in found] == [FIRST + 5]
