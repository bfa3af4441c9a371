"""The trader's process over real S3 and exchange, before there is anything to trade."""

import asyncio
import logging
from typing import Any

import pytest

from pipeline_assets.services import trader
from pipeline_assets.settings import Settings


def test_waits_for_the_first_rules(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty lake is read again and again, and reported once."""
    caplog.set_level(logging.INFO, trader.__name__)
    monkeypatch.setattr(trader, "_PAUSE_SECONDS", 0.001)
    read, reads = trader.read_trading_documents, 0

    async def test() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def counted_read(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads == 3:
                loop.call_soon_threadsafe(stop.set)
            return read(*arguments)

        monkeypatch.setattr(trader, "read_trading_documents", counted_read)
        await asyncio.wait_for(trader.run_trader(gateway_settings, stop), 120)

    asyncio.run(test())
    assert reads >= 3
    assert [each.getMessage() for each in caplog.records if each.name == trader.__name__] == [
        "No trading rules are stored yet: the trader waits for the first ingest run."
    ]
