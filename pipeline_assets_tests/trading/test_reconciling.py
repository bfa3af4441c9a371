"""Differences between the ledger and the venue's positions."""

import asyncio
from pathlib import Path

import msgspec

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading import messages
from pipeline_assets.trading.messages import AskOrder, AskPositions, AskTrades
from pipeline_assets.trading.order_types import Mode, Status
from pipeline_assets.trading.work import Work
from pipeline_assets_tests.trading.paper_bench import PaperBench, bar
from pipeline_assets_tests.trading.test_core import ORDER, Desk, alarms, fill_of

_HELD = UNIT // 10


def _reads(desk: Desk, quantity: int, after: int = 30_000) -> Work:
    """Read the position of BTCUSDT; the question was asked just now."""
    desk.now += after
    return desk.tell(messages.PositionsRead(desk.now, {"BTCUSDT": quantity} if quantity else {}))


def _answers(desk: Desk, work: Work) -> Work | None:
    """Answer a step's question for trades: there are no others."""
    asked = _trades_asked(work)
    return (
        desk.tell(messages.TradesRead("BTCUSDT", asked[0].since, desk.now, ())) if asked else None
    )


def _trades_asked(work: Work) -> list[AskTrades]:
    return [each for each in work.effects if isinstance(each, AskTrades)]


def test_books_liquidation_after_crash(tmp_path: Path) -> None:
    """The paper venue stores a liquidation and the gateway dies before it hears: the next start has it."""
    asyncio.run(_liquidated_between_journals(tmp_path / "paper.sqlite"))


async def _liquidated_between_journals(path: Path) -> None:
    bench = PaperBench(path)
    desk, entry = Desk(bench.clock()), msgspec.structs.replace(ORDER, leverage=20)
    desk.place(entry)
    desk.tell(await bench.send(entry))
    for minute in (1, 2):
        await bench.candle(minute, {"BTCUSDT": bar(100, 100, 100, 100)})
    desk.now = bench.clock()
    desk.tell(await bench.venue.ask_trades("BTCUSDT", 0))
    assert desk.core.state.ledger.positions == {"BTCUSDT": _HELD}
    await bench.candle(3, {"BTCUSDT": bar(100, 100, 80, 80)})
    assert bench.venue.book.positions == {}

    bench = await bench.again()
    desk.now = bench.clock()
    (question,) = _trades_asked(desk.restart())
    booked = desk.tell(await bench.venue.ask_trades("BTCUSDT", question.since))
    assert desk.core.state.ledger.positions == {}
    assert any("liquidated" in each for each in alarms(booked))


def test_compares_positions_every_minute() -> None:
    desk = Desk()
    desk.restart()
    asked = []
    for _ in range(7):
        _reads(desk, 0, after=0)
        asked.append(AskPositions() in desk.tell(messages.Timer(), after=20_000).effects)
    assert asked == [False, False, True, False, False, True, False]


def test_repeats_unanswered_reading() -> None:
    """A reading without an answer is repeated after seconds, and entries are refused after a while."""
    desk = Desk()
    desk.restart()
    desk.price(100)
    asked = [AskPositions() in desk.tell(messages.Timer(), after=1_000).effects for _ in range(10)]
    assert asked == 2 * [False, False, False, False, True]
    desk.tell(messages.Timer(), after=25_000)
    refusal = desk.place()
    assert refusal is not None
    assert refusal.code == "venue_silent"
    assert list(desk.core.state.troubles) == ["silent"]
    assert desk.place(client_id="r-1", reduce_only=True) is None
    assert alarms(_reads(desk, 0)) == ["The venue answers again; entries are accepted."]
    assert not desk.core.state.troubles
    assert desk.place() is None


def test_books_trades_of_difference() -> None:
    """A difference at two readings has the trades read from before the agreement, and alerts a person."""
    desk = Desk()
    desk.filled()
    assert not _trades_asked(_reads(desk, _HELD))
    agreed = desk.now
    assert not _trades_asked(_reads(desk, 0))
    (question,) = _trades_asked(_reads(desk, 0))
    assert question.since < agreed
    lost = fill_of(msgspec.structs.replace(ORDER, client_id="x", side="sell"), 2, 90, agreed + 1)
    work = desk.tell(messages.TradesRead("BTCUSDT", question.since, desk.now, (lost,)))
    assert alarms(work) == [
        "BTCUSDT: trades that were missing in the ledger are booked now (1); "
        "the position was 0.1 and is 0."
    ]
    assert not _trades_asked(_reads(desk, 0))
    assert desk.core.state.mode is Mode.ACTIVE


def test_reads_further_back_each_time() -> None:
    desk = Desk()
    desk.now += 86_400_000
    desk.price(100)
    desk.filled()
    _reads(desk, 0)
    since = [_trades_asked(_reads(desk, 0))[0].since for _ in range(4)]
    assert since == sorted(since, reverse=True)
    assert len(set(since)) == 4
    assert desk.now - since[-1] > 8 * 60_000


def test_halts_at_lasting_difference() -> None:
    """Trades read after the settling time explain nothing: both numbers are named, once."""
    desk, heard = Desk(), list[str]()
    desk.filled()
    for _ in range(10):
        work = _reads(desk, UNIT)
        heard += alarms(work)
        _answers(desk, work)
    (message,) = heard
    assert "the venue's position is 1, the ledger's 0.1" in message
    assert desk.core.state.mode is Mode.ACTIVE
    assert desk.core.state.halts["BTCUSDT"] in message
    (agrees,) = alarms(_reads(desk, _HELD))
    assert "Resume" in agrees
    assert desk.core.state.halts


def test_resumed_difference_holds_nothing_up() -> None:
    """A person knows of the position: the same difference neither halts again nor refuses entries."""
    desk = Desk()
    desk.filled()
    for _ in range(10):
        _answers(desk, _reads(desk, UNIT))
    desk.tell(messages.ResumeSymbol("BTCUSDT", "a position by hand", "me"))
    desk.price(100)
    _answers(desk, _reads(desk, UNIT))
    assert desk.place(client_id="a-2") is None
    assert not desk.core.state.halts


def test_difference_holds_entries() -> None:
    """From the first reading on until one agrees; orders that reduce pass, and so do other symbols."""
    desk = Desk()
    desk.filled()
    _reads(desk, 0)
    refusal = desk.place(client_id="a-2")
    assert refusal is not None
    assert (refusal.code, "-0.1." in refusal.message) == ("position_differs", True)
    assert desk.place(client_id="r-1", reduce_only=True) is None
    assert AskPositions() in desk.tell(messages.Timer(), after=5_000).effects
    assert not desk.core.state.halts
    _reads(desk, _HELD, after=0)
    assert desk.place(client_id="a-3") is None


def test_booked_trade_ends_the_wait() -> None:
    """Most differences are trades under way: entries pass once the trade is booked."""
    desk = Desk()
    assert desk.place() is None
    desk.tell(messages.Accepted("a-1", "v-a-1"))
    _reads(desk, _HELD)
    refusal = desk.place(client_id="a-2")
    assert refusal is not None
    assert refusal.code == "position_differs"
    desk.tell(messages.FillSeen(fill_of(ORDER, 1, 100, desk.now)), after=50)
    assert desk.place(client_id="a-3") is None


def test_unanswered_trades_do_not_halt() -> None:
    desk = Desk()
    desk.filled()
    for _ in range(10):
        _reads(desk, 0)
    assert not desk.core.state.halts


def test_unknown_order_explains_difference() -> None:
    desk = Desk()
    desk.place()
    desk.tell(messages.Unanswered("a-1", "-1007"))
    for _ in range(10):
        _answers(desk, _reads(desk, _HELD))
    assert not desk.core.state.halts
    for _ in range(10):
        _answers(desk, _reads(desk, 2 * _HELD))
    assert desk.core.state.halts.keys() == {"BTCUSDT"}


def test_reading_before_fill_means_nothing() -> None:
    desk = Desk()
    asked_at = desk.now
    desk.now += 100
    desk.filled()
    for _ in range(3):
        assert not desk.tell(messages.PositionsRead(asked_at, {})).effects


def test_asks_again_about_absent_order() -> None:
    """For an hour, each minute: a venue may show an order late."""
    desk = Desk()
    desk.place()
    desk.tell(messages.Unanswered("a-1", "-1007"))
    _reads(desk, 0, after=66_000)
    desk.tell(messages.OrderMissing("a-1", desk.now))
    desk.tell(messages.TradesRead("BTCUSDT", desk.now - 100_000, desk.now, ()))
    assert desk.core.state.orders["a-1"].status is Status.NOT_PLACED
    question = AskOrder("a-1", "BTCUSDT")
    assert question in desk.tell(messages.Timer(), after=60_000).effects
    assert question not in desk.tell(messages.Timer(), after=1_000).effects
    assert question not in desk.tell(messages.Timer(), after=3_600_000).effects
