"""The control interface of a replay exchange, asked in the running event loop. No tests here."""

from collections.abc import Sequence
from typing import Any, Self

from aiohttp import ClientSession

from pipeline_assets.settings import TradingSettings
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle


class ExchangeControls:
    """One connection to the controls of an exchange."""

    def __init__(self, exchange: ExchangeHandle) -> None:
        self._address = f"{exchange.url.removesuffix('/fapi')}/control"
        self._session: ClientSession

    async def __aenter__(self) -> Self:
        self._session = await ClientSession().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def __call__(self, what: str, document: Any = None) -> Any:
        """Ask, or change by a document; return the answer, which may be a refusal."""
        method = "GET" if document is None else "POST"
        async with self._session.request(
            method, f"{self._address}/{what}", json=document
        ) as response:
            return await response.json(content_type=None)

    async def begin_anew(self, trading: TradingSettings, symbols: Sequence[str]) -> None:
        """Empty the exchange, and set its account up as the settings say."""
        await self("reset", {})
        await self(
            "trading/account",
            {
                "leverage": dict.fromkeys(symbols, trading.leverage),
                "margin_type": dict.fromkeys(symbols, trading.margin_type.upper()),
            },
        )
