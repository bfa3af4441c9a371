"""kill -9 of a gateway's process with an open position, at every step of its work on the venue `demo`."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.binance_bench import settings_at
from pipeline_assets_tests.trading.fault_promises import History
from pipeline_assets_tests.trading.fault_world import FaultWorld
from pipeline_assets_tests.trading.killed_gateway import recover

_EVERY = range(1, 80)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((7,), id="once"),
        pytest.param(_EVERY, id="every", marks=pytest.mark.matrix),
    ],
)
@pytest.mark.timeout(3_600)
def test_killed_process_loses_nothing(
    steps: range, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    for step in steps:
        directory = tmp_path / str(step)
        own_redis_server.client().flushall()
        command = [sys.executable, "-m", "pipeline_assets_tests.trading.killed_gateway"]
        ended = subprocess.run(
            [*command, stepped_exchange.url, own_redis_server.url, str(directory), str(step)],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if ended.returncode == 0:
            assert int(ended.stdout) < step
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        history = asyncio.run(_recovered(stepped_exchange, own_redis_server, directory))
        assert not history.broken, (step, history.broken)
    else:
        assert steps != _EVERY, "the gateway takes more steps than are tried"


async def _recovered(exchange: ExchangeHandle, redis: RedisServer, directory: Path) -> History:
    settings = settings_at(exchange, redis.url)
    async with FaultWorld(exchange, settings, directory, 1) as world:
        return await recover(world)
