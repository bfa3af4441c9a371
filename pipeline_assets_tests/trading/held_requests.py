"""Requests of an account's client that wait while the clocks are moved. No tests here.

In stepped time the clocks of exchange and gateway are moved one after the other. A timestamp or a measurement
that falls between the two moves is wrong by the whole step, and the exchange refuses the request (-1021).
Seen on busy machines, with requests that no step waits for, such as those of the upkeep.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pipeline_assets.resources.binance_account import AccountClient

_ROUND = 0.0005


class HeldRequests:
    """Counts the requests of one client that are under way, and holds new ones up before these are signed."""

    def __init__(self, account: AccountClient) -> None:
        self._under_way, self._open = 0, asyncio.Event()
        self._open.set()
        client: Any = account
        take, once, measure = client._weight.take, client._once, client.measure

        async def take_and_wait(*arguments: Any, **named: Any) -> Any:
            taken = await take(*arguments, **named)
            # The caller signs, and begins its request, before anything else runs.
            await self._open.wait()
            return taken

        async def counted(*arguments: Any, **named: Any) -> Any:
            self._under_way += 1
            try:
                return await once(*arguments, **named)
            finally:
                self._under_way -= 1

        async def wait_and_measure() -> None:
            await self._open.wait()
            await measure()

        client._weight.take, client._once, client.measure = take_and_wait, counted, wait_and_measure

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold new requests up, once those under way are answered, until the block ends.

        Raises:
            TimeoutError: one is not answered within a minute of real time.
        """
        self._open.clear()
        try:
            async with asyncio.timeout(60):
                while self._under_way:
                    await asyncio.sleep(_ROUND)
            yield
        finally:
            self._open.set()
