"""Trailing stops at a venue that refuses the new one."""

from __future__ import annotations

import pytest

from pipeline_assets.trading import messages
from pipeline_assets_tests.trading.paper_bench import bar
from pipeline_assets_tests.trading.paper_world import World
from pipeline_assets_tests.trading.test_outside_closes import _minutes, _signal
from pipeline_assets_tests.trading.test_trader import SYMBOLS, _in_world

pytestmark = pytest.mark.xdist_group("compiled")


def test_old_stop_outlives_refused_one() -> None:
    """The old stop rests until the venue has confirmed a nearer one, and a later minute tries again."""

    async def test(world: World) -> None:
        _signal(world, "long")
        await _minutes(world, 3)
        (trade,) = world.trader._orders.trades.values()
        first, send = trade.stop_id, world.venue.send
        assert first in world.venue.book.open

        async def refuse(effect: messages.Send) -> messages.Event:
            if effect.order.kind == "stop":
                return messages.Refused(effect.order.client_id, "-2021: would trigger at once")
            return await send(effect)

        world.venue.send = refuse  # type: ignore[assignment,method-assign]
        for price in (50_100, 50_200):
            higher = dict.fromkeys(SYMBOLS, bar(price, price, price, price))
            await world.minute(world.clock.minute + 1, higher)
            assert first in world.venue.book.open
        assert trade.stop_id == first
        world.venue.send = send  # type: ignore[method-assign]
        await world.minute(world.clock.minute + 1, higher)
        assert trade.stop_id != first
        assert trade.stop_id in world.venue.book.open
        assert first not in world.venue.book.open

    _in_world(test)
