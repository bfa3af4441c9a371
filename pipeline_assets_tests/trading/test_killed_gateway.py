"""kill -9 of a gateway's process with an open position, at every step of its work on the venue `demo`."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer

_MORE_THAN_ALL = 80


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(7, 7, id="once"),
        pytest.param(1, _MORE_THAN_ALL, id="every", marks=pytest.mark.matrix),
    ],
)
@pytest.mark.timeout(3_600)
def test_killed_process_loses_nothing(
    first: int,
    last: int,
    stepped_exchange: ExchangeHandle,
    own_redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "pipeline_assets_tests.trading.killed_gateway"]
    places = [stepped_exchange.url, own_redis_server.url, str(tmp_path / "journals")]
    ended = subprocess.run(
        [*command, *places, str(first), str(last)], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    killed = ended.stdout.count("every promise is kept")
    assert killed == 1 if first == last else 20 < killed < _MORE_THAN_ALL
