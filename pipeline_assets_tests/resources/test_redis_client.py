"""A process that lives on while its Redis fails over, restarts, hangs or is cut off: real servers, and a
proxy for an address that moves. The answers themselves are tested beside each store."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline_assets.errors import PipelineError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.indicator_state import IndicatorStateStore
from pipeline_assets.resources.slots import CandleSlots, SlotsError
from pipeline_assets.resources.weight_budget import Priority, WeightBudget
from pipeline_assets.settings import RedisSettings
from pipeline_assets_tests.fixtures.redis import RedisServer, free_port
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.fixtures.tcp_proxy import TcpProxy
from pipeline_assets_tests.resources.test_slots import candles

NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)
NOW = int(NOON.timestamp() * 1000)
LONG = 60  # seconds: as long as a busy machine may take; a test ends when the operation does
BTC = "BTCUSDT"


class Stores:
    """Everything that the platform keeps in Redis, as a long-lived process holds it."""

    def __init__(self, settings: RedisSettings) -> None:
        self.slots = CandleSlots(settings)
        self.states = IndicatorStateStore(settings)
        self.budget = WeightBudget(settings, "203.0.113.7", limit=2400, margin=60)

    def write_slot(self, minute: int) -> None:
        self.slots.write(candles(BTC, [minute]), NOON)

    def write_state(self, minute: int) -> None:
        held, _ = self.states.read_due([BTC])
        moment = candles(BTC, [minute])["open_time"][0]
        assert self.states.write({BTC: (moment, b"state")}, held)

    def reserve(self, weight: int) -> None:
        assert self.budget.reserve(Priority.INGEST_1M, weight, NOW).weight == weight

    def operations(self) -> dict[str, Callable[[], Any]]:
        return {
            "write slots": lambda: self.write_slot(1),
            "read slots": lambda: self.slots.read([BTC]),
            "read states": lambda: self.states.read_due([BTC]),
            "write states": lambda: self.write_state(1),
            "reserve weight": lambda: self.reserve(10),
            "expect weight": lambda: self.budget.expect(
                Priority.INGEST_1M, Interval.ONE_MINUTE, 5, NOW
            ),
            "correct weight": lambda: self.budget.correct(NOW, 20),
            "block": lambda: self.budget.block_until(NOW - 1, 0),
            "read the block": self.budget.blocked_until,
            "read the use": lambda: self.budget.use(NOW),
        }


@pytest.fixture
def worker() -> Iterator[Callable[[Callable[[], Any]], "Future[Any]"]]:
    """Runs an operation beside the test."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Provide a primary and a replica that follows it."""
    with (
        RedisServer(tmp_path / "primary") as primary,
        RedisServer(tmp_path / "replica", options=("--repl-diskless-sync-delay", "0")) as replica,
    ):
        primary.client().config_set("repl-diskless-sync-delay", 0)
        follow(replica, primary)
        yield primary, replica


def follow(replica: RedisServer, primary: RedisServer) -> None:
    replica.client().replicaof("127.0.0.1", primary.port)
    eventually(
        lambda: replica.client().info("replication")["master_link_status"] == "up",
        "the replica follows",
    )


def fail_over(primary: RedisServer, replica: RedisServer) -> None:
    """As an operator or a manager of replicas does: the old primary stays, and follows the new one."""
    eventually(lambda: primary.client().wait(1, 1000) == 1, "the replica has what the primary has")
    replica.client().replicaof("NO", "ONE")
    primary.client().replicaof("127.0.0.1", replica.port)


def proxied(proxies: list[TcpProxy], server: RedisServer, **changes: Any) -> tuple[TcpProxy, Any]:
    """Return a proxy before a server, and settings that lead through it."""
    proxy = TcpProxy(server.port)
    proxies.append(proxy)
    return proxy, server.settings(url=f"redis://127.0.0.1:{proxy.port}/0", **changes)


def refusals(server: RedisServer, code: str) -> int:
    """Return how often a server has given this answer since it was last asked to forget."""
    reported = server.client().info("errorstats").get(f"errorstat_{code}", {"count": 0})
    return int(reported["count"])


# The address moves


def test_operations_continue_after_failover(replicated, tcp_proxies):
    """After a failover every operation continues at the new primary.

    The connections to the old primary stay open, as they do behind a name or a virtual address.
    """
    primary, replica = replicated
    proxy, settings = proxied(tcp_proxies, primary)
    before = Stores(settings)
    for operation in before.operations().values():
        operation()
    fail_over(primary, replica)
    proxy.target = replica.port
    before.write_slot(2)
    before.write_state(2)
    before.reserve(30)
    after = Stores(replica.settings())
    assert after.slots.read([BTC])["open_time"].to_list() == [
        *candles(BTC, [1, 2])["open_time"],
    ]
    held, _ = after.states.read_due([BTC])
    assert held[BTC].open_time == candles(BTC, [2])["open_time"][0]
    assert after.budget.use(NOW).used == 50


def test_each_operation_survives_a_failover_alone(replicated, tcp_proxies):
    """Run each operation in its own process, as the first one after the failover."""
    primary, replica = replicated
    proxy, settings = proxied(tcp_proxies, primary)
    names = Stores(settings).operations().keys()
    processes = {name: Stores(settings) for name in names}
    for each in processes.values():
        each.slots.read([BTC])
        each.states.read_due([BTC])
        each.budget.blocked_until()
    fail_over(primary, replica)
    proxy.target = replica.port
    for name, each in processes.items():
        each.operations()[name]()


def test_operation_waits_for_moved_address(replicated, tcp_proxies, worker):
    """An operation waits until the address points to the new server."""
    primary, replica = replicated
    proxy, settings = proxied(tcp_proxies, primary, retry_seconds=LONG)
    stores = Stores(settings)
    stores.write_slot(1)
    fail_over(primary, replica)
    writing = worker(lambda: stores.write_slot(2))
    eventually(lambda: refusals(primary, "READONLY") >= 2, "the write was refused twice")
    proxy.target = replica.port
    writing.result(LONG)
    assert CandleSlots(replica.settings()).read([BTC]).height == 2


def test_cluster_is_recognized_by_redirections(tmp_path):
    """A cluster is recognized by its redirections.

    Two nodes, each with half of the keys; the address is that of one of them.
    """
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                RedisServer(
                    tmp_path / name,
                    options=("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                )
            )
            for name in ("first", "second")
        ]
        first, second = (node.client() for node in nodes)
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        second.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
        bus = nodes[0].options[-1]
        second.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, bus)
        for node in (first, second):
            eventually(
                lambda node=node: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok",
                "the cluster serves",
            )
        symbols = [f"S{number}USDT" for number in range(10)]
        frame = pl.concat([candles(symbol, [1]) for symbol in symbols])
        stores = Stores(nodes[0].settings(retry_seconds=LONG))
        stores.slots.write(frame, NOON)
        assert stores.slots.read(symbols).height == 10
        stores.reserve(10)
        assert first.dbsize() + second.dbsize() == 11
        assert min(first.dbsize(), second.dbsize()) > 0


# The server runs and does not serve for a while


@pytest.mark.parametrize(
    ("code", "begin", "end"),
    [
        (
            "READONLY",
            lambda client: client.replicaof("127.0.0.1", 1),
            lambda client: client.replicaof("NO", "ONE"),
        ),
        (
            "MASTERDOWN",
            lambda client: (
                client.config_set("replica-serve-stale-data", "no"),
                client.replicaof("127.0.0.1", 1),
            ),
            lambda client: client.replicaof("NO", "ONE"),
        ),
        (
            "NOREPLICAS",
            lambda client: client.config_set("min-replicas-to-write", 1),
            lambda client: client.config_set("min-replicas-to-write", 0),
        ),
    ],
)
def test_operation_waits_for_writable_server(own_redis_server, worker, code, begin, end):
    """An operation waits until the server takes writes."""
    stores = Stores(own_redis_server.settings(retry_seconds=LONG))
    hurried = Stores(own_redis_server.settings(retry_seconds=0))
    stores.write_slot(1)
    begin(own_redis_server.client())
    with pytest.raises(SlotsError, match=own_redis_server.url):
        hurried.write_slot(2)
    reported = refusals(own_redis_server, code)
    assert reported >= 2
    writing = worker(lambda: stores.write_slot(2))
    eventually(lambda: refusals(own_redis_server, code) >= reported + 2, f"{code} was said twice")
    end(own_redis_server.client())
    writing.result(LONG)
    hurried.write_slot(3)
    assert stores.slots.read([BTC]).height == 3


def test_a_replica_is_named_as_such(own_redis_server):
    own_redis_server.client().replicaof("127.0.0.1", 1)
    with pytest.raises(SlotsError, match=r"is a read-only replica.*PIPELINE_REDIS__URL"):
        Stores(own_redis_server.settings()).write_slot(1)


def test_down_cluster_is_waited_for(tmp_path, worker):
    """A cluster that is down is waited for."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with RedisServer(tmp_path, options=options) as server:
        stores = Stores(server.settings(retry_seconds=LONG))
        writing = worker(lambda: stores.write_slot(1))
        eventually(lambda: refusals(server, "CLUSTERDOWN") >= 2, "CLUSTERDOWN was said twice")
        server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        writing.result(LONG)


def test_loading_server_is_waited_for(tmp_path):
    """A server that loads its data is waited for.

    Three hundred keys, each of which takes it some milliseconds to load.
    """
    server = RedisServer(tmp_path)
    with server:
        stores = Stores(server.settings(retry_seconds=LONG))
        hurried = Stores(server.settings(retry_seconds=0))
        stores.write_slot(1)
        server.client().mset({f"key:{number}": "x" * 100 for number in range(300)})
        server.client().bgrewriteaof()
        eventually(
            lambda: server.client().info("persistence")["aof_rewrite_in_progress"] == 0,
            "the file is rewritten",
        )
        server.kill()
        server.options = (
            *("--key-load-delay", "6000"),
            *("--loading-process-events-interval-bytes", "1024"),
        )
        server.launch()
        with redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as raw:
            eventually(lambda: said(raw) == "BusyLoadingError", "the server is loading")
        with pytest.raises(SlotsError, match=r"is still loading its data"):
            hurried.write_slot(2)
        stores.write_slot(2)
        assert stores.slots.read([BTC]).height == 2


def said(client: redis.Redis) -> str:
    try:
        client.ping()
    except redis.ConnectionError as error:
        return type(error).__name__
    return "PONG"


# The server is away, with or without an error


def test_operation_waits_for_restart(own_redis_server, tcp_proxies, worker):
    """An operation waits for a restart on the same port."""
    proxy, settings = proxied(tcp_proxies, own_redis_server, retry_seconds=LONG)
    stores = Stores(settings)
    stores.write_slot(1)
    own_redis_server.kill()
    before = proxy.accepted
    writing = worker(lambda: stores.write_slot(2))
    eventually(lambda: proxy.accepted >= before + 2, "the write was tried twice")
    own_redis_server.start()
    writing.result(LONG)
    assert stores.slots.read([BTC]).height == 2


def test_paused_server_reserves_once(own_redis_server, tcp_proxies, worker):
    """A server paused beyond the timeout is waited for, and reserves weight once.

    When the server resumes, it also serves the attempts that were given up before.
    """
    changes = {"retry_seconds": LONG, "timeout_seconds": 0.3}
    proxy, settings = proxied(tcp_proxies, own_redis_server, **changes)
    stores = Stores(settings)
    stores.reserve(100)
    own_redis_server.pause()
    before = proxy.accepted
    reserving = worker(lambda: stores.reserve(70))
    eventually(lambda: proxy.accepted >= before + 3, "the reservation was tried often")
    own_redis_server.resume()
    reserving.result(LONG)
    own = own_redis_server.client()
    assert stores.budget.use(NOW).used == 170
    assert len([name for name in own.hkeys(own.keys("*minute*")[0]) if "call:" in name]) == 2


@pytest.mark.parametrize("name", ["write slots", "write states", "reserve weight"])
def test_silent_connection_is_replaced(own_redis_server, tcp_proxies, name):
    """A connection that went silent is replaced by another.

    Even if the time to repeat is over, as it is for a process that was paused itself.
    """
    changes = {"retry_seconds": 0, "timeout_seconds": 0.5}
    proxy, settings = proxied(tcp_proxies, own_redis_server, **changes)
    stores = Stores(settings)
    stores.write_slot(0)
    stores.states.read_due([BTC])
    stores.budget.blocked_until()
    proxy.silence()
    stores.operations()[name]()


def test_absent_server_is_an_error(own_redis_server, worker):
    """A server that stays away is an error when the time for retries is over."""
    changes = {"retry_seconds": 0.2, "timeout_seconds": 0.1}
    stores = Stores(own_redis_server.settings(**changes))
    stores.write_slot(1)
    own_redis_server.pause()
    with pytest.raises(SlotsError, match=r"did not answer within 0\.1 s"):
        worker(lambda: stores.write_slot(2)).result(LONG)


def test_refused_credentials_are_not_tried_again(tmp_path, tcp_proxies):
    """A server may lock out who guesses on."""
    with RedisServer(tmp_path, SecretStr("the-real-secret")) as server:
        proxy, settings = proxied(
            tcp_proxies, server, password=SecretStr("another"), retry_seconds=LONG
        )
        with pytest.raises(SlotsError, match="PIPELINE_REDIS__PASSWORD"):
            Stores(settings).write_slot(1)
        assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("scheme", "path", "runs", "reported"),
    [
        (
            "redis+cluster",
            "",
            True,
            "is not a cluster. Let PIPELINE_REDIS__URL start with redis://, then",
        ),
        ("redis+sentinel", "/main", False, "no primary, for 0 s (No master found for 'main'"),
        (
            "redis+sentinel",
            "/main",
            True,
            "is no sentinel. Let PIPELINE_REDIS__URL start with redis:",
        ),
    ],
)
def test_wrong_kind_of_address_is_named(tmp_path, scheme, path, runs, reported):
    """A server that runs alone, and sentinels that are gone, give one short sentence and the remedy."""
    with RedisServer(tmp_path) as server:
        port = server.port if runs else free_port()
        settings = RedisSettings(url=f"{scheme}://127.0.0.1:{port}{path}", retry_seconds=0)
        with pytest.raises(SlotsError) as caught:
            CandleSlots(settings).candles(["BTCUSDT"])
    assert reported in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("rights", "operation", "reason"),
    [
        (("~*", "+@all", "-evalsha"), "write slots", "no permissions to run the 'evalsha' command"),
        # The server words the refusal of a command within a script in another way.
        (("~*", "+@all", "-hget"), "reserve weight", "ACL failure in script"),
        (("~other:*", "+@all"), "write slots", "No permissions to access a key"),
    ],
)
def test_missing_right_is_named(tmp_path, rights, operation, reason):
    """A user who may log in but misses a right gets an error that names it, and says nothing of passwords."""
    with RedisServer(tmp_path) as server:
        # Later rules add to earlier ones.
        login = ("ACL", "SETUSER", "pipeline", "on", ">the-users-own")
        server.client().execute_command(*login, *rights)
        url, password = server.url.replace("//", "//pipeline@"), SecretStr("the-users-own")
        stores = Stores(server.settings(url=url, password=password))
        with pytest.raises(PipelineError) as caught:
            stores.operations()[operation]()
        said = str(caught.value)
        assert reason in said
        assert "`ACL SETUSER` give the user in PIPELINE_REDIS__URL the rights" in said
        assert "PASSWORD" not in said
        assert "the-users-own" not in said
        named = said.partition("the rights `")[2].partition("`")[0].split()
        server.client().execute_command(*login, *named)
        for each in stores.operations().values():
            each()
