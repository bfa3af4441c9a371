"""The trader's process over real S3 and exchange, while it waits for rules or for a gateway."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.trading_documents import note_trading_rules
from pipeline_assets.services import trader
from pipeline_assets.settings import Settings
from pipeline_assets_tests.trading.test_core import _RULES


def run_for_sessions(settings: Settings, sessions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the trader until it has begun a number of sessions."""
    monkeypatch.setattr(trader, "_PAUSE_SECONDS", 0.001)
    read, reads = trader.read_trading_documents, 0

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def counted_read(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads == sessions:
                loop.call_soon_threadsafe(stop.set)
            return read(*arguments)

        monkeypatch.setattr(trader, "read_trading_documents", counted_read)
        await asyncio.wait_for(trader.run_trader(settings, stop), 120)

    asyncio.run(run())
    assert reads >= sessions


def test_waits_for_the_first_rules(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty lake is read again and again, and reported once."""
    caplog.set_level(logging.INFO, trader.__name__)
    run_for_sessions(gateway_settings, 3, monkeypatch)
    assert [each.getMessage() for each in caplog.records if each.name == trader.__name__] == [
        "No trading rules are stored yet: the trader waits for the first ingest run."
    ]


def test_missing_gateway_is_reported_once(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On live `up` starts no gateway: the trader says so once, and not at each of its tries."""
    caplog.set_level(logging.INFO, "pipeline_assets.services")
    note_trading_rules(ObjectStore(gateway_settings.s3), {"BTCUSDT": _RULES}, datetime.now(UTC))
    run_for_sessions(gateway_settings, 3, monkeypatch)
    (said,) = (each.getMessage() for each in caplog.records)
    assert "The gateway at 127.0.0.1" in said
    assert "`pipeline-assets gateway` start it" in said


def test_strategies_without_stop_are_named(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A position at an exchange has no protection there if its strategy's rules have no stop."""
    caplog.set_level(logging.WARNING, trader.__name__)
    cross, other = gateway_settings.strategies[:2]
    kept = other.model_copy(update={"rules": {"trailing_stop": 0.02}})
    demo = gateway_settings.trading.model_copy(update={"venue": "demo"})
    settings = gateway_settings.model_copy(update={"trading": demo, "strategies": [cross, kept]})
    run_for_sessions(settings, 1, monkeypatch)
    (said,) = (each.getMessage() for each in caplog.records if each.name == trader.__name__)
    assert f"{{name: {cross.name}, rules: {{stop: 0.01}}}}" in said
    assert "no stop on demo" in said
