"""The venue `demo` against the replay exchange over real sockets: orders, answers, queries, stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pipeline_assets.market.trading_rules import units
from pipeline_assets.trading import messages
from pipeline_assets.trading.binance_checks import AccountUnfitError
from pipeline_assets.trading.binance_queries import VenueRefusedError
from pipeline_assets.trading.order_types import Status
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.trading.binance_bench import (
    VenueBench,
    new_order,
    posts,
    prepared,
    settings_at,
    venue_bench,
)

Play = Callable[[VenueBench], Awaitable[None]]
_UNSURE = ("order_503_accepted", "order_408_accepted", "order_cut_after")
_LOST = ("order_503_lost", "order_408_lost", "order_cut_before")
_FAILED = ("order_503_failed", "order_503_overloaded")


@pytest.fixture
def play(running: ExchangeHandle, redis_url: str) -> Callable[..., None]:
    """Play a scene with a started venue."""

    def run(scene: Play, **trading: Any) -> None:
        async def whole() -> None:
            async with venue_bench(settings_at(running, redis_url, **trading)) as bench:
                await scene(bench)

        asyncio.run(whole())

    return run


def test_entry_is_filled_and_read(play, running):
    """A client id with `/` and `:` is signed as it is sent."""

    async def scene(bench: VenueBench) -> None:
        sent = await bench.send(new_order("a/1:b"))
        assert isinstance(sent, messages.Accepted)
        seen = await bench.until(messages.FillSeen)
        assert (seen.fill.client_id, seen.fill.quantity) == ("a/1:b", units("0.01"))
        await bench.until(messages.OrderSeen, lambda each: each.status is Status.FILLED)
        read = await bench.venue.ask_trades("BTCUSDT", bench.now() - 60_000)
        assert read.fills == (seen.fill,)
        assert (await bench.venue.ask_positions()).quantities == {"BTCUSDT": units("0.01")}
        counts = await bench.until(messages.OrderCounts)
        assert counts == messages.OrderCounts(1, 1)

    play(scene)
    assert posts(running) == {"a/1:b": 1}


@pytest.mark.parametrize("fault", _UNSURE)
def test_unsure_answer_is_sent_once(play, running, fault):
    """The order exists: the answer says neither yes nor no, and a query finds the order."""

    async def scene(bench: VenueBench) -> None:
        running.faults(trading={fault: 1})
        assert isinstance(await bench.send(new_order("a-1")), messages.Unanswered)
        seen = await bench.venue.ask_order("a-1", "BTCUSDT")
        assert isinstance(seen, messages.OrderSeen)
        read = await bench.venue.ask_trades("BTCUSDT", bench.now() - 60_000)
        assert [fill.client_id for fill in read.fills] == ["a-1"]

    play(scene)
    assert posts(running) == {"a-1": 1}


@pytest.mark.parametrize("fault", _LOST)
def test_lost_order_is_sent_once(play, running, fault):
    async def scene(bench: VenueBench) -> None:
        running.faults(trading={fault: 1})
        assert isinstance(await bench.send(new_order("a-1")), messages.Unanswered)
        assert isinstance(await bench.venue.ask_order("a-1", "BTCUSDT"), messages.OrderMissing)

    play(scene)
    assert posts(running) == {"a-1": 1}


@pytest.mark.parametrize("fault", _FAILED)
def test_failed_service_refuses(play, running, fault):
    async def scene(bench: VenueBench) -> None:
        running.faults(trading={fault: 1})
        assert isinstance(await bench.send(new_order("a-1")), messages.Refused)

    play(scene)
    assert posts(running) == {"a-1": 1}


def test_hidden_order_is_missing_first(play, running):
    async def scene(bench: VenueBench) -> None:
        running.faults(trading={"order_hidden": 1, "event_lost": 1})
        assert isinstance(await bench.send(new_order("a-1")), messages.Accepted)
        assert isinstance(await bench.venue.ask_order("a-1", "BTCUSDT"), messages.OrderMissing)

    play(scene)


def test_stop_rests_and_is_cancelled(play):
    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        price = (await bench.until(messages.FillSeen)).fill.price
        stop = new_order("s-1", kind="stop", side="sell", price=price // 2, reduce_only=True)
        assert isinstance(await bench.send(stop), messages.Accepted)
        (open_order,) = (await bench.venue.ask_open_orders()).orders
        assert (open_order.client_id, open_order.conditional) == ("s-1", True)
        wanted = ("s-1", "BTCUSDT")
        first = await bench.venue.cancel(*wanted, conditional=True)
        again = await bench.venue.cancel(*wanted, conditional=True)
        assert (first.gone, again.gone) == (False, True)
        seen = await bench.venue.ask_order(*wanted, conditional=True)
        assert isinstance(seen, messages.OrderSeen)
        assert seen.status is Status.CANCELED

    play(scene)


def test_triggered_stop_has_its_trades(play, running):
    """Minutes pass until the price has reached the stop; the clock is synchronized by itself."""

    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        price = (await bench.until(messages.FillSeen)).fill.price
        near = {"kind": "stop", "side": "sell", "price": price - units("50"), "reduce_only": True}
        stop = new_order("s-1", **near)
        sent = await bench.send(stop)
        assert isinstance(sent, messages.Accepted), sent
        for _ in range(200):
            running.advance(300)
            await bench.account.measure()
            seen = await bench.venue.ask_order("s-1", "BTCUSDT", conditional=True)
            if isinstance(seen, messages.OrderSeen) and seen.status is Status.FILLED:
                break
        assert (seen.status, seen.executed) == (Status.FILLED, units("0.01"))
        assert seen.triggered_id
        event = await bench.until(messages.FillSeen, lambda each: each.fill.side == "sell")
        read = await bench.venue.ask_trades("BTCUSDT", bench.now() - 200_000_000)
        assert event.fill in read.fills
        assert (event.fill.client_id, event.fill.venue_id) == ("s-1", seen.triggered_id)

    play(scene)


def test_wrong_clock_refuses_and_is_set(play, running):
    """A timestamp of ten seconds ago is refused for certain, and the venue's time is taken again."""

    async def scene(bench: VenueBench) -> None:
        running.advance(10)
        refused = await bench.send(new_order("a-1"))
        assert isinstance(refused, messages.Refused)
        assert refused.reason.startswith("-1021")
        sent = 0
        while not isinstance(await bench.send(new_order(f"b-{sent}")), messages.Accepted):
            sent += 1
            await asyncio.sleep(0.05)

    play(scene)
    assert set(posts(running).values()) == {1}


def test_late_order_never_leaves(play, running):
    async def scene(bench: VenueBench) -> None:
        refused = await bench.send(new_order("a-1"), bench.now() - 5_001)
        assert isinstance(refused, messages.Refused)

    play(scene)
    assert posts(running) == {}


def test_unfit_order_never_leaves(play, running):
    async def scene(bench: VenueBench) -> None:
        refused = await bench.send(new_order("a-1", quantity=1))
        assert isinstance(refused, messages.Refused)
        assert "MARKET_LOT_SIZE" in refused.reason

    play(scene)
    assert posts(running) == {}


def test_refused_order_names_code(play):
    """Nothing is open, so an order that only reduces is refused."""

    async def scene(bench: VenueBench) -> None:
        refused = await bench.send(new_order("a-1", side="sell", reduce_only=True))
        assert isinstance(refused, messages.Refused)
        assert refused.reason.startswith("-2022")

    play(scene)


def test_blocked_address_sends_nothing(play, running):
    """Another process was banned: the gateway sends nothing, and says until when."""

    async def scene(bench: VenueBench) -> None:
        budget = bench.account._budget
        until = bench.account.now() + 90_000
        budget.block_until(until, 90_000, "HTTP 418 to a test")
        trouble = await bench.until(messages.VenueTrouble)
        assert isinstance(await bench.send(new_order("a-1")), messages.Refused)
        assert trouble.kind is messages.Trouble.BAN
        assert abs(trouble.until - until) < 1_000

    play(scene)
    assert posts(running) == {}


def test_ban_stops_orders_and_is_reported(play, running):
    """An answer 418 to an order refuses it for certain; the next orders do not leave."""

    async def scene(bench: VenueBench) -> None:
        running.faults(ban_seconds=60)
        for client_id in ("a-1", "b-1"):
            refused = await bench.send(new_order(client_id))
            assert isinstance(refused, messages.Refused)
            assert refused.reason.startswith("-1003")
        trouble = await bench.until(messages.VenueTrouble)
        assert trouble.kind is messages.Trouble.BAN
        assert 30_000 < trouble.until - bench.now() <= 60_000

    play(scene)
    assert posts(running) == {"a-1": 1}


def test_silent_stream_is_connected_again(play, running):
    """The connection is open and says nothing about an order that was accepted."""

    async def scene(bench: VenueBench) -> None:
        running.faults(trading={"stream_silent": True})
        assert isinstance(await bench.send(new_order("a-1")), messages.Accepted)
        bench.passed += 11
        await bench.until_again(messages.StreamConnected)

    play(scene)


def test_event_before_answer_is_no_silence(play, monkeypatch):
    """The only event of a resting order comes before the answer to its request."""

    async def scene(bench: VenueBench) -> None:
        send = bench.account.send

        async def answered_late(*arguments: Any) -> Any:
            reply = await send(*arguments)
            await bench.until(messages.OrderSeen)
            return reply

        monkeypatch.setattr(bench.account, "send", answered_late)
        resting = new_order("a-1", kind="limit", price=units("80000"))
        assert isinstance(await bench.send(resting), messages.Accepted)
        bench.passed += 11
        bench.venue.stream._require_events()

    play(scene)


@pytest.mark.parametrize("end", ["connections", "listen_key"])
def test_ended_stream_is_connected_again(play, running, end):
    """The connection is cut, or its listen key expires."""

    async def scene(bench: VenueBench) -> None:
        running.trading("streams", end=end)
        await bench.until_again(messages.StreamConnected)
        await bench.send(new_order("a-1"))
        await bench.until(messages.FillSeen)

    play(scene)


def test_liquidation_keeps_its_name(play, running):
    """The stream loses the event: the reading of trades asks whose order it was."""

    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        await bench.until(messages.FillSeen)
        running.faults(trading={"event_lost": 1})
        running.trading("close", symbol="BTCUSDT", by="liquidation")
        read = await bench.venue.ask_trades("BTCUSDT", bench.now() - 60_000)
        assert read.fills[-1].client_id.startswith("autoclose-")

    play(scene)


def test_foreign_order_is_reported(play, running):
    async def scene(bench: VenueBench) -> None:
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        running.trading("order", order=order)
        seen = await bench.until(messages.OrderSeen)
        assert (seen.symbol, seen.client_id.startswith("web_")) == ("BTCUSDT", True)

    play(scene)


def test_revoked_key_is_trouble(play, running):
    async def scene(bench: VenueBench) -> None:
        running.trading("account", revoked=True)
        refused = await bench.send(new_order("a-1"))
        assert isinstance(refused, messages.Refused)
        assert refused.reason.startswith("-2015")
        trouble = await bench.until(messages.VenueTrouble)
        assert trouble.kind is messages.Trouble.KEY
        with pytest.raises(VenueRefusedError, match="-2015"):
            await bench.venue.ask_positions()

    play(scene)


def test_leverage_changed_by_person_refuses(play, running):
    """Someone moves the leverage in the app: entries are refused, closing is not."""

    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        await bench.until(messages.FillSeen)
        running.trading("account", leverage={"BTCUSDT": 5})
        while isinstance(
            refused := await bench.send(new_order(f"b-{bench.now()}")), messages.Accepted
        ):
            await asyncio.sleep(0.05)
        assert "leverage" in refused.reason
        exit_order = new_order("c-1", side="sell", reduce_only=True)
        assert isinstance(await bench.send(exit_order), messages.Accepted)

    play(scene)


def test_changed_tick_is_read_again(play, running):
    """A price on the old grid is refused by the exchange; the next one is rounded to the new grid."""

    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        price = (await bench.until(messages.FillSeen)).fill.price // units("10") * units("10")
        running.trading("contract", symbol="BTCUSDT", tick_size="5.0")
        number = 0

        def stop() -> Any:
            fields = {"kind": "stop", "side": "sell", "reduce_only": True}
            return new_order(f"s-{number}", price=price // 2 + units("0.3"), **fields)

        while isinstance(await bench.send(stop()), messages.Refused):
            number += 1
            await asyncio.sleep(0.05)
        assert number > 0
        (rests,) = (await bench.venue.ask_open_orders()).orders
        assert rests.price % units("5") == 0

    play(scene)


def test_funding_is_reported(play, running):
    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        await bench.until(messages.FillSeen)
        running.advance(4 * 3_600)
        await bench.account.measure()
        await bench.venue.ask_positions()
        paid = await bench.until(messages.FundingPaid)
        assert (paid.symbol, paid.time % 3_600_000 < 60_000) == ("BTCUSDT", True)

    play(scene)


def test_ended_part_is_reported(play, monkeypatch):
    """An unexpected error in what runs in the background reaches the gateway."""

    async def scene(bench: VenueBench) -> None:
        async def fail() -> None:
            raise KeyError("serverTime")

        monkeypatch.setattr(bench.venue.upkeep, "_measure", fail)
        bench.venue.upkeep.measure_soon()
        ended = await bench.until(messages.PartEnded)
        assert "serverTime" in ended.text

    play(scene)


def test_cancelled_stop_closes_connections(play):
    """A gateway that fails is cancelled by its process while it stops: its pool was left open then."""

    async def scene(bench: VenueBench) -> None:
        stopping = asyncio.ensure_future(bench.venue.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert bench.account._client.session.closed

    play(scene)


def test_account_is_checked_at_start(running, redis_url):
    """Every difference is named with its fix, and nothing was sent."""

    async def scene() -> str:
        settings = settings_at(running, redis_url, leverage=3)
        flags = {"dual_side": True, "multi_assets": True, "can_withdraw": True}
        running.trading("account", **flags)
        bench = VenueBench(settings)
        with pytest.raises(AccountUnfitError) as caught:
            await bench.venue.start(bench.hear)
        return str(caught.value)

    said = asyncio.run(scene())
    for fix in ("One-way", "Single-Asset", "withdraw", "leverage is not 3", "gateway prepare"):
        assert fix in said
    assert posts(running) == {}


def test_fix_on_live_has_the_second_switch(running, redis_url):
    """The command that the error names can be run as it stands."""

    async def scene() -> None:
        settings = settings_at(running, redis_url, leverage=3)
        live = settings.trading.model_copy(update={"venue": "live"})
        bench = VenueBench(settings.model_copy(update={"trading": live}))
        fix = f"`pipeline-assets gateway prepare --live {live.account}`"
        with pytest.raises(AccountUnfitError, match=fix):
            await bench.venue.start(bench.hear)

    asyncio.run(scene())


def test_other_leverage_lets_positions_close(play, running, redis_url):
    """A gateway that starts after the leverage was changed refuses entries, and closes what is open."""

    async def scene(bench: VenueBench) -> None:
        await bench.send(new_order("a-1"))
        await bench.until(messages.FillSeen)
        running.trading("account", leverage={"BTCUSDT": 5})
        later = VenueBench(settings_at(running, redis_url))
        await later.venue.start(later.hear)
        refused = await later.send(new_order("b-1"))
        closed = await later.send(new_order("c-1", side="sell", reduce_only=True))
        await later.venue.stop()
        assert isinstance(refused, messages.Refused)
        assert isinstance(closed, messages.Accepted)

    play(scene)


def test_live_needs_every_answer(running, redis_url):
    """An endpoint that does not exist is a note on demo, and a reason not to start on live."""

    async def scene() -> None:
        elsewhere = running.url.replace("/fapi", "/elsewhere")
        settings = settings_at(running, redis_url, key_url=elsewhere)
        await prepared(settings)
        live = settings.trading.model_copy(update={"venue": "live"})
        bench = VenueBench(settings.model_copy(update={"trading": live}))
        with pytest.raises(AccountUnfitError, match="which rights the key has is not known"):
            await bench.venue.start(bench.hear)

    asyncio.run(scene())


def test_other_clock_refuses_to_start(running, redis_url):
    async def scene() -> None:
        settings = settings_at(running, redis_url)
        await prepared(settings)
        bench = VenueBench(settings)
        bench.now = lambda: bench.account.now() - 4_000
        with pytest.raises(AccountUnfitError, match="clock"):
            await bench.venue.start(bench.hear)

    asyncio.run(scene())


def test_secrets_stay_out_of_errors(running, redis_url, caplog):
    """The exchange goes away: no error and no log line has key, signature or listen key."""

    async def scene() -> None:
        async with venue_bench(settings_at(running, redis_url)) as bench:
            running.faults(reset=1)
            answer = await bench.send(new_order("a-1"))
            assert isinstance(answer, messages.Unanswered)
            with pytest.raises(Exception, match="gave no whole answer") as caught:
                await bench.venue.ask_order("a-1", "BTCUSDT")
            said.extend((answer.reason, str(caught.value), repr(caught.value.__context__)))
            while not [each for each in caplog.records if "stream" in each.getMessage()]:
                running.trading("streams", end="connections")
                await asyncio.sleep(0.05)

    said: list[str] = []
    asyncio.run(scene())
    for text in (*said, caplog.text):
        assert "signature" not in text
        assert "listenKey=" not in text
        assert "secret" not in text.lower().replace("secrets_stay_out", "")
