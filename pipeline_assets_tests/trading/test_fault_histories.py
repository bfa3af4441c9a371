"""A gateway and the replay exchange keep every promise under seeded faults, over real sockets and files.

Replay a failing seed by `python -m pipeline_assets_tests.trading.fault_history SEED`.
"""

from typing import Any

import pytest

from pipeline_assets.resources.binance_account import AccountClient, UnansweredError
from pipeline_assets.trading import protecting
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.fault_history import play

pytestmark = pytest.mark.matrix
_FEW, _MANY, _PARTS = 50, 1_050, 2


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(_PARTS))
def test_seeded_faults_keep_promises(
    part: int, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer
) -> None:
    for seed in range(part, _FEW, _PARTS):
        _require_kept(seed, stepped_exchange, own_redis_server)


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("part", range(_PARTS))
def test_many_faults_keep_promises(
    part: int, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer
) -> None:
    for seed in range(_FEW + part, _MANY, _PARTS):
        _require_kept(seed, stepped_exchange, own_redis_server)


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


def _require_kept(seed: int, exchange: ExchangeHandle, redis: RedisServer) -> None:
    history = play(seed, exchange, redis)
    replay = f"python -m pipeline_assets_tests.trading.fault_history {seed}"
    assert not history.broken, (replay, history.broken)
