"""A gateway and the replay exchange keep every promise under seeded faults, over real sockets and files.

Replay a failing seed by `python -m pipeline_assets_tests.trading.fault_history SEED`.
"""

import pytest

from pipeline_assets.trading import protecting
from pipeline_assets.trading.ledger import Ledger
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.fault_history import play

_FEW, _MANY, _PARTS = 50, 1_050, 2


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(_PARTS))
def test_seeded_faults_keep_promises(
    part: int, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer
) -> None:
    for seed in range(part, _FEW, _PARTS):
        _require_kept(seed, stepped_exchange, own_redis_server)


@pytest.mark.matrix
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("part", range(_PARTS))
def test_many_faults_keep_promises(
    part: int, stepped_exchange: ExchangeHandle, own_redis_server: RedisServer
) -> None:
    for seed in range(_FEW + part, _MANY, _PARTS):
        _require_kept(seed, stepped_exchange, own_redis_server)


@pytest.mark.timeout(900)
def test_histories_find_planted_bugs(
    stepped_exchange: ExchangeHandle,
    own_redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway that never closes what has no stop, and a ledger that books a trade again."""
    for target, name, bug in (
        (protecting, "check", lambda _: None),
        (Ledger, "has", lambda *_: False),
    ):
        with monkeypatch.context() as planted:
            planted.setattr(target, name, bug)
            found = (play(seed, stepped_exchange, own_redis_server).broken for seed in range(_FEW))
            assert any(found), name


def _require_kept(seed: int, exchange: ExchangeHandle, redis: RedisServer) -> None:
    history = play(seed, exchange, redis)
    replay = f"python -m pipeline_assets_tests.trading.fault_history {seed}"
    assert not history.broken, (replay, history.broken)
