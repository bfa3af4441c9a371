"""A lease has one holder, ends by Redis' clock, and without it nothing is written."""

import threading
from collections.abc import Callable, Iterator

import polars as pl
import pytest

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources import write_guard
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.indicator_state import IndicatorStateStore
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError, lease_key
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.resources.write_guard import (
    HeldLease,
    LeaseLostError,
    LeaseTakenError,
    holding_lease,
    require_lease,
)
from pipeline_assets.settings import KafkaSettings, RedisSettings, S3Settings, Settings
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually

RUN = "a-run"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def leases(redis_url: str, redis_server: RedisServer) -> LeaseStore:
    return LeaseStore(redis_server.settings())


def test_lease_has_one_holder(leases: LeaseStore) -> None:
    """No process takes, extends or releases the lease of another."""
    assert leases.holder(RUN) is None
    token = leases.take(RUN, "a host pid 1")
    assert token is not None
    assert leases.take(RUN) is None
    assert leases.holder(RUN) == "a host pid 1"
    assert not leases.renew(RUN, "another")
    leases.release(RUN, "another")
    assert leases.held([RUN, "free"]) == {RUN}
    assert leases.renew(RUN, token)
    leases.release(RUN, token)
    leases.release(RUN, token)
    assert leases.held([RUN]) == frozenset()
    assert not leases.renew(RUN, token), "an ended lease is not revived"


def test_lease_ends_by_redis_clock(redis_url: str, redis_server: RedisServer) -> None:
    leases = LeaseStore(redis_server.settings(), seconds=0.05)
    assert leases.take(RUN)
    assert redis_server.client().pttl(lease_key(RUN)) <= 50
    eventually(lambda: not leases.held([RUN]), "the lease has ended", 10)
    assert leases.take(RUN)


def test_holder_writes_within_its_block(leases: LeaseStore) -> None:
    """A second process is refused, an inner block is the same lease, and the end gives it back."""
    with holding_lease(leases, RUN) as outer:
        require_lease()
        with holding_lease(leases, RUN) as inner:
            assert inner is outer
        assert leases.held([RUN])
        write_guard._held.clear()
        with pytest.raises(LeaseTakenError, match="another process"), holding_lease(leases, RUN):
            pass
        write_guard._held.append(outer)
    assert not leases.held([RUN])
    require_lease()


def test_paused_holder_does_not_write(leases: LeaseStore) -> None:
    """Who could not renew for 24 s writes nothing more, even if Redis still has the lease."""
    clock = Clock()
    with holding_lease(leases, RUN, clock) as lease:
        clock.seconds += 23
        require_lease()
        lease.renew()
        clock.seconds += 25
        with pytest.raises(LeaseLostError, match="25 s ago"):
            require_lease()
        lease.renew()
        with pytest.raises(LeaseLostError):
            require_lease()


def test_forgotten_lease_is_lost(leases: LeaseStore, redis_server: RedisServer) -> None:
    """A Redis that restarted empty has forgotten the lease: the run may count as dead already."""
    with holding_lease(leases, RUN) as lease:
        redis_server.client().flushall()
        lease.renew()
        with pytest.raises(LeaseLostError, match="Redis does not hold its lease"):
            require_lease()


def test_silent_redis_does_not_lose_lease_at_once(tmp_path, own_redis_server) -> None:
    """A renewal that fails is repeated, and only the time counts."""
    clock = Clock()
    leases = LeaseStore(own_redis_server.settings(retry_seconds=0, timeout_seconds=0.2))
    with holding_lease(leases, RUN, clock) as lease:
        own_redis_server.kill()
        clock.seconds += 20
        lease.renew()
        require_lease()
        with pytest.raises(LeaseStoreError):
            leases.held([RUN])
        own_redis_server.start()
        lease.renew()
        clock.seconds += 20
        require_lease()


class Waits(threading.Event):
    """Stands for the end of the block: keeps the waits for it, does something in each, and comes at last."""

    def __init__(self, *between: Callable[[], object]) -> None:
        super().__init__()
        self.between, self.seconds = list(between), []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        if not self.between:
            return True
        self.between.pop(0)()
        return False


def test_failed_renewal_is_repeated_soon(own_redis_server: RedisServer) -> None:
    """Redis is asked again sooner after a failure than after a renewal, or it would be back in vain."""
    leases = LeaseStore(own_redis_server.settings(retry_seconds=0, timeout_seconds=0.2))
    token = leases.take(RUN)
    assert token is not None
    lease = HeldLease(leases, RUN, token, 0.0, lambda: 0.0)
    lease._released = Waits(lambda: None, own_redis_server.kill, own_redis_server.start)
    lease._renew_on()
    first, renewed, failed, renewed_again = lease._released.seconds
    assert first == renewed == renewed_again
    assert failed <= renewed / 4


@pytest.fixture
def lost(leases: LeaseStore) -> Iterator[None]:
    """Provide a process whose lease is lost."""
    clock = Clock()
    with holding_lease(leases, RUN, clock):
        clock.seconds += 100
        # At once, for good: on a busy machine the lease was renewed before the test came to ask.
        with pytest.raises(LeaseLostError):
            require_lease()
        yield


def writes() -> dict[str, Callable[[], object]]:
    store = ObjectStore(S3Settings(endpoint_url="http://127.0.0.1:1"))
    redis = RedisSettings(url="redis://127.0.0.1:1/0")
    return {
        "put": lambda: store.put("a", b""),
        "put_if": lambda: store.put_if("a", b"", None),
        "delete": lambda: store.delete(["a"]),
        "slots": lambda: CandleSlots(redis).write(pl.DataFrame()),
        "indicator state": lambda: IndicatorStateStore(redis).write({}, {}),
        "candidates": lambda: CandidateTopic(KafkaSettings()).publish(
            [Candidate.model_construct()]
        ),
    }


@pytest.mark.parametrize("name", writes())
def test_lost_lease_stops_write(lost: None, name: str) -> None:
    """Each client that writes checks the lease before it connects."""
    with pytest.raises(LeaseLostError):
        writes()[name]()


def test_lost_lease_sends_no_request(lost: None, exchange: ExchangeHandle, redis_url: str) -> None:
    """A run that counts as dead spends no weight beside the run that repeats it."""
    url = exchange.url.removesuffix("/fapi")
    settings = Settings(binance={"rest_url": url}, redis={"url": redis_url})
    before = exchange.state()["requests"]
    client = Exchange(settings).client(Priority.BACKFILL, patient=True)
    with pytest.raises(LeaseLostError), client as reader:
        reader.server_time()
    assert exchange.state()["requests"] == before


def test_lost_lease_stops_warehouse(lost: None) -> None:
    """A load checks before its landing table and again before the MERGE."""
    from pipeline_assets.resources.warehouse import Warehouse
    from pipeline_assets.settings import SnowflakeSettings

    warehouse = Warehouse(SnowflakeSettings(), S3Settings())
    statements = warehouse.sql.load(Interval.ONE_HOUR, ["1h/A/20260101_0000.parquet"], "load")
    with pytest.raises(LeaseLostError):
        warehouse._run_load(None, statements, 1)  # type: ignore[arg-type]


def test_renewing_ends_with_the_block(leases: LeaseStore) -> None:
    with holding_lease(leases, RUN) as lease:
        assert isinstance(lease, HeldLease)
        assert lease._thread.is_alive()
    assert not lease._thread.is_alive()
