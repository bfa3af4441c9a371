"""A gateway and the replay exchange keep every promise under seeded faults, over real sockets and files.

Replay a failing seed by `python -m pipeline_assets_tests.trading.fault_history SEED`.
"""

import asyncio
from typing import Any

import pytest

from pipeline_assets.resources.binance_account import AccountClient, UnansweredError
from pipeline_assets.trading import protecting
from pipeline_assets.trading.binance_queries import BinanceQueries
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading import fault_world
from pipeline_assets_tests.trading.binance_bench import settings_at
from pipeline_assets_tests.trading.fault_history import play

_FEW, _MANY, _PARTS = 50, 1_050, 2


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(_PARTS))
def test_seeded_faults_keep_promises(
    part: int, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer
) -> None:
    _require_kept(range(part, _FEW, _PARTS), stepped_exchange, own_redis_server)


@pytest.mark.matrix
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("part", range(_PARTS))
def test_many_faults_keep_promises(
    part: int, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer
) -> None:
    _require_kept(range(_FEW + part, _MANY, _PARTS), stepped_exchange, own_redis_server)


def test_missing_close_is_found(
    stepped_exchange: ExchangeHandle, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that never closes what has no stop breaks the promise about stops."""
    monkeypatch.setattr(protecting, "check", lambda _: None)
    assert "had no stop for" in " ".join(play(7, stepped_exchange, own_redis_server).broken)


def test_repeated_order_is_found(
    stepped_exchange: ExchangeHandle, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends an order again after no answer breaks the promise about orders."""
    send = AccountClient.send

    async def send_again(*arguments: Any) -> Any:
        try:
            return await send(*arguments)
        except UnansweredError:
            return await send(*arguments)

    monkeypatch.setattr(AccountClient, "send", send_again)
    assert "was posted 2 times" in " ".join(play(2, stepped_exchange, own_redis_server).broken)


def test_endless_question_is_found(
    stepped_exchange: ExchangeHandle, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that waits for an answer without an end is a broken promise, and does not end the run."""

    async def wait(*_: Any) -> Any:
        await asyncio.Future()

    monkeypatch.setattr(BinanceQueries, "positions", wait)
    monkeypatch.setattr(fault_world, "_LONGEST_SETTLING", 1)
    (broken,) = play(0, stepped_exchange, own_redis_server).broken
    assert "did not settle" in broken
    assert "Gateway._ask > BinanceVenue.ask_positions" in broken


def _require_kept(seeds: range, exchange: ExchangeHandle, redis: RedisServer) -> None:
    settings = settings_at(exchange, redis.url)
    for seed in seeds:
        history = play(seed, exchange, redis, settings)
        replay = f"python -m pipeline_assets_tests.trading.fault_history {seed}"
        assert not history.broken, (replay, history.broken)
