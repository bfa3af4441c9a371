"""All that the platform keeps in Redis, on a cluster of three nodes and under a sentinel: real servers, real
failovers. A single server that moves or restarts is in test_redis_client.py."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr
from redis.crc import key_slot

from pipeline_assets.resources.funding_budget import FundingBudget
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError, lease_key
from pipeline_assets.resources.slots import SlotsError, slot_key, state_key
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.resources.workers import Worker, WorkerRegistry
from pipeline_assets.settings import RedisSettings
from pipeline_assets_tests.fixtures.redis import RedisServer, free_port
from pipeline_assets_tests.fixtures.redis_groups import (
    SERVICE,
    ClusterServers,
    Sentinel,
    WatchedServers,
)
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.resources.test_redis_client import BTC, LONG, NOW, Stores, refusals
from pipeline_assets_tests.resources.test_slots import candles

SYMBOLS = [f"S{number}USDT" for number in range(20)]


class AllStores(Stores):
    """Everything that the platform keeps in Redis, leases and workers too."""

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(settings)
        self.leases = LeaseStore(settings)
        self.workers = WorkerRegistry(settings)
        self.funding = FundingBudget(settings, "203.0.113.7", 500)

    def operations(self) -> dict[str, Callable[[], Any]]:
        return {
            **super().operations(),
            "take a lease": lambda: self.leases.take("run", "here"),
            "read leases": lambda: self.leases.held([f"run-{number}" for number in range(9)]),
            "read the block's cause": self.budget.block,
            "report a worker": lambda: self.workers.beat(Worker("w", ("ingest",), "code")),
            "read workers": self.workers.living,
            "publish the code": lambda: self.workers.publish_code("code"),
            "end a worker": lambda: self.workers.leave("w"),
            "reserve requests": lambda: self.funding.reserve(Priority.BACKFILL, 3, NOW),
        }

    def write_all(self, minute: int) -> None:
        for symbol in SYMBOLS:
            self.slots.write(candles(symbol, [minute]))

    def minutes(self) -> dict[str, int]:
        """Return how many minutes of each symbol are stored."""
        return {symbol: len(held) for symbol, held in self.slots.candles(SYMBOLS).items()}


def test_all_operations_span_a_cluster(cluster_servers: ClusterServers) -> None:
    """Every operation works on three nodes, and one call reads and writes the keys of all of them."""
    stores = AllStores(cluster_servers.settings())
    for operation in stores.operations().values():
        operation()
    stores.write_all(1)
    assert stores.minutes() == dict.fromkeys(SYMBOLS, 1)
    held, _ = stores.states.read_due(SYMBOLS)
    moment = candles(BTC, [1])["open_time"][0]
    written = stores.states.write(dict.fromkeys(SYMBOLS, (moment, b"state")), held)
    assert written == frozenset(SYMBOLS)
    assert stores.leases.held(["run", "free"]) == {"run"}
    for node in cluster_servers.nodes:
        assert {slot_key(each) for each in SYMBOLS} & set(node.client().keys("ohlcv*"))


def test_operations_follow_a_moving_slot(cluster_servers: ClusterServers) -> None:
    """While a slot moves, reads follow ASK and scripts wait; afterwards both follow MOVED.

    A node answers TRYAGAIN to a script that names several keys of such a slot.
    """
    settings = cluster_servers.settings(retry_seconds=LONG)
    writing, reading = AllStores(settings), AllStores(settings)
    source = cluster_servers.owner(slot_key(BTC))
    target = next(node for node in cluster_servers.nodes if node is not source)
    writing.write_slot(1)
    source.client().delete(
        state_key(BTC)
    )  # a missing key is what the node cannot tell from a moved one
    reading.slots.candles([BTC])
    begin_move(BTC, source, target)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: writing.write_slot(2))
        eventually(lambda: refusals(source, "TRYAGAIN") >= 1, "the script was refused for now")
        move_keys(BTC, source, target)
        assert len(reading.slots.candles([BTC])[BTC]) == 1
        assert refusals(source, "ASK") >= 1
        end_move(BTC, cluster_servers, target)
        waiting.result(LONG)
    assert len(reading.slots.candles([BTC])[BTC]) == 2
    assert target.client().exists(slot_key(BTC))


def begin_move(symbol: str, source: RedisServer, target: RedisServer) -> None:
    slot = key_slot(slot_key(symbol).encode())
    source.client().config_resetstat()
    for node, how, other in ((target, "IMPORTING", source), (source, "MIGRATING", target)):
        name = other.client().execute_command("CLUSTER", "MYID")
        node.client().execute_command("CLUSTER", "SETSLOT", slot, how, name)


def move_keys(symbol: str, source: RedisServer, target: RedisServer) -> None:
    for key in (slot_key(symbol), state_key(symbol)):
        source.client().migrate("127.0.0.1", target.port, key, 0, 5000)


def end_move(symbol: str, servers: ClusterServers, target: RedisServer) -> None:
    slot = key_slot(slot_key(symbol).encode())
    name = target.client().execute_command("CLUSTER", "MYID")
    for node in (target, *(each for each in servers.nodes if each is not target)):
        node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)


def test_forgotten_script_needs_one_node(own_cluster_servers: ClusterServers) -> None:
    """A node that forgot the scripts is given one while another node is away."""
    servers = own_cluster_servers
    for node in servers.nodes:
        node.client().config_set("cluster-require-full-coverage", "no")
    stores = AllStores(servers.settings(retry_seconds=LONG))
    stores.slots.write(candles(BTC, [1]))
    owner = servers.owner(slot_key(BTC))
    next(node for node in servers.nodes if node is not owner).kill()
    owner.client().script_flush()
    stores.slots.write(candles(BTC, [2]))
    assert len(stores.slots.candles([BTC])[BTC]) == 2


def test_replica_takes_over_in_cluster(own_cluster_servers: ClusterServers) -> None:
    """After a node was killed, its replica serves its keys, and no node of the settings is needed."""
    servers = own_cluster_servers
    killed = servers.owner(slot_key(BTC))
    servers.add_replica(killed)
    stores = AllStores(servers.settings(url=f"redis://127.0.0.1:{killed.port}", retry_seconds=LONG))
    stores.write_all(1)
    stores.slots.write(candles(BTC, [1]))
    eventually(lambda: killed.client().wait(1, 1000) == 1, "the replica has what was written")
    killed.kill()
    stores.write_all(2)
    stores.slots.write(candles(BTC, [2]))
    assert len(stores.slots.candles([BTC])[BTC]) == 2
    assert stores.minutes() == dict.fromkeys(SYMBOLS, 2)


def test_refused_cluster_credentials_end_retries(cluster_servers: ClusterServers) -> None:
    """A wrong password is reported as such, and is not tried again for the time of retries."""
    url = cluster_servers.url.replace("://", "://nobody@")
    wrong = cluster_servers.settings(url=url, password=SecretStr("wrong"), retry_seconds=100)
    with pytest.raises(SlotsError, match="PIPELINE_REDIS__PASSWORD"):
        AllStores(wrong).write_slot(1)


@pytest.mark.parametrize("how", ["killed", "demoted"])
def test_operations_survive_sentinel_failover(watched_servers: WatchedServers, how: str) -> None:
    """After a failover by the sentinel every operation goes on at the new primary."""
    servers = watched_servers
    stores = AllStores(servers.settings(retry_seconds=LONG))
    for operation in stores.operations().values():
        operation()
    eventually(lambda: servers.primary.client().wait(1, 1000) == 1, "the replica has all")
    if how == "killed":
        servers.primary.kill()
    else:
        servers.sentinel.client().execute_command("SENTINEL", "FAILOVER", SERVICE)
        eventually(lambda: role(servers.primary) == "slave", "the primary is a replica")
    for operation in stores.operations().values():
        operation()
    assert role(servers.replica) == "master"
    assert set(stores.leases.held(["run", "free"])) == {"run"}
    assert servers.replica.client().exists(slot_key(BTC), lease_key("run")) == 2


def role(server: RedisServer) -> str:
    return str(server.client().info("replication")["role"])


def test_sentinel_that_is_gone_is_passed(watched_servers: WatchedServers) -> None:
    """One sentinel of the settings that answers is enough."""
    servers = watched_servers
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{servers.sentinel.port}/{SERVICE}"
    AllStores(servers.settings(url=url)).write_slot(1)
    assert servers.primary.client().exists(slot_key(BTC))


def test_sentinel_errors_name_the_setting(tmp_path, redis_server: RedisServer) -> None:
    """An unknown name and a missing password of the sentinel are reported, without the password."""
    (tmp_path / "sentinel").mkdir()
    with Sentinel(tmp_path / "sentinel", redis_server, "sentinels-own") as sentinel:
        with pytest.raises(LeaseStoreError, match="PIPELINE_REDIS__SENTINEL_PASSWORD"):
            LeaseStore(redis_server.settings(url=sentinel.service_url)).held(["run"])
        known = {"url": sentinel.service_url, "sentinel_password": "sentinels-own"}
        LeaseStore(redis_server.settings(**known)).held(["run"])
        unknown = known | {"url": sentinel.service_url.replace(SERVICE, "another")}
        with pytest.raises(LeaseStoreError, match=r"No master found for 'another'") as raised:
            LeaseStore(redis_server.settings(**unknown)).held(["run"])
    assert "sentinels-own" not in str(raised.value)


def test_sentinel_that_is_away_says_why(redis_server: RedisServer) -> None:
    """The error has the cause, and no description of the client before it."""
    url = f"redis+sentinel://127.0.0.1:{free_port()}/{SERVICE}"
    with pytest.raises(LeaseStoreError, match=r"'\w+' : network:ConnectionError\)") as raised:
        LeaseStore(redis_server.settings(url=url, retry_seconds=0)).held(["run"])
    assert "redis.client" not in str(raised.value)


class Ingest:
    """Minutes that are written one after another, as ingest runs do, with weight and leases."""

    def __init__(self, settings: RedisSettings) -> None:
        self.stores = AllStores(settings)
        self.granted = 0
        self.written = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            self.granted += self.stores.budget.reserve(Priority.INGEST_1M, 10, NOW).weight
            self.stores.write_all(self.written)
            self.stores.leases.take(f"run-{self.written}")
            self.written += 1

    def more(self, minutes: int = 3) -> None:
        """Wait until so many further minutes are written."""
        wanted = self.written + minutes
        eventually(lambda: self.written >= wanted, "ingest goes on", LONG)


@pytest.mark.matrix
@pytest.mark.parametrize("place", [0, 1, 2])
def test_ingest_outlives_each_killed_node(own_cluster_servers: ClusterServers, place: int) -> None:
    """Each node of a cluster in turn is killed during ingest: its replica takes over, or it comes again."""
    servers = own_cluster_servers
    ingest = Ingest(servers.settings(retry_seconds=LONG))
    replica = servers.add_replica(servers.nodes[place])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingest.run)
        ingest.more()
        servers.nodes[place].kill()
        ingest.more()
        assert role(replica) == "master"
        servers.nodes[(place + 1) % 3].kill()  # it has no replica
        servers.nodes[(place + 1) % 3].start()
        ingest.more()
        ingest.ended.set()
        running.result(LONG)
    newest_minute_is_stored(ingest)


@pytest.mark.matrix
def test_ingest_outlives_repeated_failovers(watched_servers: WatchedServers) -> None:
    """The sentinel fails over during ingest, back and forth."""
    servers = watched_servers
    ingest = Ingest(servers.settings(retry_seconds=LONG))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingest.run)
        primary, replica = servers.primary, servers.replica
        for _ in range(3):
            ingest.more()
            primary.kill()
            eventually(lambda replica=replica: role(replica) == "master", "it takes over", LONG)
            ingest.more()
            primary.start()
            eventually(lambda primary=primary: role(primary) == "slave", "it follows", LONG)
            servers.wait_until_watched()
            primary, replica = replica, primary
        ingest.ended.set()
        running.result(LONG)
    newest_minute_is_stored(ingest)


def newest_minute_is_stored(ingest: Ingest) -> None:
    """Check the slots of all symbols, and that no more weight was granted than the limit."""
    newest = candles(BTC, [ingest.written - 1])["open_time"][0].timestamp() * 1000
    found = ingest.stores.slots.candles(SYMBOLS)
    assert {max(each["open_time"] for each in held) for held in found.values()} == {newest}
    assert ingest.granted <= ingest.stores.budget.capacity
