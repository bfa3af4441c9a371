"""Certificates that expire while clients are connected: open connections go on, new ones are refused by name,
and a renewed certificate is taken without a restart."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from pipeline_assets.dagster_instance.postgres_engine import Address, StorageUnreachableError
from pipeline_assets.dagster_instance.postgres_storage import PooledPostgresRunStorage
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.journal import JournalError
from pipeline_assets.resources.journal_postgres import PostgresJournal
from pipeline_assets.resources.kafka_clients import BrokerError
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.settings import KafkaSettings, RedisSettings
from pipeline_assets_tests.fixtures.kafka import KafkaServer, candidates
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Bucket, eventually, passed_check
from pipeline_assets_tests.fixtures.tls import Tls, TlsProxy

pytestmark = [pytest.mark.matrix, pytest.mark.xdist_group("postgres")]
# Long enough for the first connections on a machine with much to do.
VALID = timedelta(seconds=20)
FOREVER = timedelta(days=1)
SYSTEMS = ("Redis", "S3", "Kafka", "storage", "journal")


@dataclass
class Connected:
    """A client that is connected by TLS, and an operation that it can repeat."""

    proxy: TlsProxy
    operate: Callable[[], object]
    error: type[Exception]
    handshakes: int = field(default=0)


class Systems:
    """Clients of all systems, each behind a TLS server."""

    def __init__(self, tls: Tls, server: trustme.LeafCert, *, asks_clients: bool) -> None:
        self.tls, self._server, self._asks = tls, server, asks_clients
        self.connected: dict[str, Connected] = {}
        # X.509 counts whole seconds.
        self._expires = datetime.now(UTC) + VALID + timedelta(seconds=1)

    def proxy(self, target: int) -> TlsProxy:
        made = self.tls.proxy(target, self._server, asks_clients=self._asks)
        # By a ticket S3's client would resume its session, for which no certificate is looked at.
        made.context.num_tickets = 0
        return made

    def files(self) -> dict[str, Any]:
        """Return the settings of both sides' certificates."""
        given: dict[str, Any] = {"ssl_ca_location": self.tls.ca_file}
        if self._asks:
            names = "ssl_certificate_location", "ssl_key_location"
            given |= dict(zip(names, self.tls.client_files, strict=True))
        return given

    def redis(self, server: RedisServer) -> None:
        proxy = self.proxy(server.port)
        given = {"url": f"rediss://127.0.0.1:{proxy.port}/0", "retry_seconds": 0.3}
        leases = LeaseStore(RedisSettings.model_validate(given | self.files()))
        self.connected["Redis"] = Connected(proxy, lambda: leases.held(["run"]), LeaseStoreError)

    def s3(self, bucket: S3Bucket) -> None:
        proxy = self.proxy(int(bucket.endpoint.rpartition(":")[2]))
        endpoint = f"https://127.0.0.1:{proxy.port}"
        passed_check(endpoint, bucket.name)
        settings = bucket.settings(endpoint_url=endpoint, ssl_ca_location=self.tls.ca_file)
        store = ObjectStore(settings, PERSON_PATIENCE)
        self.connected["S3"] = Connected(proxy, lambda: store.put("key", b"x"), ObjectStoreError)

    def kafka(self, server: KafkaServer) -> KafkaSettings:
        proxy = self.proxy(server.port)
        server.kill()
        server.start_behind(proxy.port)
        given = {
            "bootstrap_servers": f"127.0.0.1:{proxy.port}",
            "security_protocol": "SSL",
            "delivery_timeout_ms": 10_000,
        }
        settings = KafkaSettings.model_validate(given | self.files())
        topic = CandidateTopic(settings)
        publish = lambda: topic.publish(candidates())  # noqa: E731
        self.connected["Kafka"] = Connected(proxy, publish, BrokerError)
        return settings

    def postgres(self, server: PostgresServer, database: str) -> None:
        words = {"sslmode": "verify-full", "sslrootcert": str(self.tls.ca_file)}
        if self._asks:
            words |= dict(zip(("sslcert", "sslkey"), map(str, self.tls.client_files), strict=True))
        options = "&".join(f"{name}={value}" for name, value in words.items())
        for name in ("storage", "journal"):
            proxy = self.proxy(server.port)
            url = server.url(port=proxy.port, database=database).get_secret_value()
            address = SecretStr(f"{url}?{options}")
            self.connected[name] = (
                Connected(proxy, self._storage(address), StorageUnreachableError)
                if name == "storage"
                else Connected(proxy, self._journal(address), JournalError)
            )

    def connect(
        self, redis: RedisServer, kafka: KafkaServer, postgres: PostgresServer, database: str
    ) -> None:
        self.redis(redis)
        self.kafka(kafka)
        self.postgres(postgres, database)

    @staticmethod
    def _storage(address: SecretStr) -> Callable[[], object]:
        storage = PooledPostgresRunStorage(Address(address))
        return storage.get_runs

    @staticmethod
    def _journal(address: SecretStr) -> Callable[[], object]:
        # The gateway ends where the journal's connection does, and opens the journal when it starts.
        return lambda: PostgresJournal(address, "gateway_journal_paper", answer_seconds=10).close()

    def operate(self) -> None:
        """Operate everywhere, by whichever connection is open."""
        for each in self.connected.values():
            each.operate()
            each.handshakes = each.proxy.handshakes

    def keep_connections(self, *names: str) -> bool:
        """Operate again; return whether no client of these systems made a new connection."""
        for name in names:
            self.connected[name].operate()
        return all(
            self.connected[name].proxy.handshakes == self.connected[name].handshakes
            for name in names
        )

    def refusals_once_expired(self) -> dict[str, str]:
        """Operate before and after the end of the certificate; return the errors of new connections."""
        self.operate()
        eventually(lambda: datetime.now(UTC) > self._expires, "the certificate expires", 60)
        # The S3 server closes a connection that is idle for some seconds.
        assert self.keep_connections("Redis", "Kafka", "storage")
        return self.refusals()

    def refusals(self) -> dict[str, str]:
        """End all connections, and operate: return the errors."""
        found = {}
        for name, each in self.connected.items():
            each.proxy.disconnect()
            with pytest.raises(each.error) as raised:
                each.operate()
            found[name] = str(raised.value)
            assert PASSWORD not in found[name]
        return found


def test_server_certificate_expires(
    tls: Tls,
    redis_server: RedisServer,
    s3_bucket: S3Bucket,
    own_kafka_server: KafkaServer,
    postgres_server: PostgresServer,
    storage_database: str,
) -> None:
    """Open connections outlive the server's certificate; new ones name it, and go on once it is renewed."""
    systems = Systems(tls, tls.issue(VALID), asks_clients=False)
    systems.s3(s3_bucket)
    systems.connect(redis_server, own_kafka_server, postgres_server, storage_database)
    refusals = systems.refusals_once_expired()
    assert {name for name, said in refusals.items() if "certificate has expired" in said} == {
        *SYSTEMS
    }
    for each in systems.connected.values():
        tls.issue(FOREVER).configure_cert(each.proxy.context)
    systems.operate()


def test_client_certificate_expires(
    tls: Tls,
    redis_server: RedisServer,
    own_kafka_server: KafkaServer,
    postgres_server: PostgresServer,
    storage_database: str,
) -> None:
    """Likewise with the client's certificate: the renewed file is read without a restart."""
    tls.write_client(tls.issue(VALID, "pipeline"))
    systems = Systems(tls, tls.issue(FOREVER), asks_clients=True)
    systems.connect(redis_server, own_kafka_server, postgres_server, storage_database)
    refusals = systems.refusals_once_expired()
    assert [each for each in refusals.values() if "client.pem" not in each] == []
    tls.write_client(tls.issue(FOREVER, "pipeline"))
    systems.operate()
