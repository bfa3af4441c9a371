"""How these tests talk to an exchange: by python-binance, and by plain aiohttp for what it hides."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from binance import AsyncClient

Result = TypeVar("Result")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def by_client(url: str, ask: Callable[[AsyncClient], Awaitable[Result]]) -> Result:
    """Return what `ask` gets from the exchange through python-binance's own client."""

    async def run() -> Result:
        client = AsyncClient()
        client.FUTURES_URL = url
        try:
            return await ask(client)
        finally:
            await client.close_connection()

    return asyncio.run(run())


def klines(url: str, **parameters: Any) -> list[list[Any]]:
    return by_client(url, lambda client: client.futures_klines(**parameters))


def get(url: str, path: str, timeout: float = 20, **parameters: Any) -> Reply:
    """Send one GET; return the reply whatever its status."""

    async def run() -> Reply:
        limit = aiohttp.ClientTimeout(total=timeout)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.get(f"{url}/v1/{path}", params=parameters) as response,
        ):
            body = await response.read()
            return Reply(response.status, dict(response.headers), body)

    return asyncio.run(run())
