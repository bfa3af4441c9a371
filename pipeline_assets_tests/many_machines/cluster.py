"""The hosts, their services and settings, as docs/production.md has a deployment.

| host | runs |
|---|---|
| `first-db`, `second-db` | PostgreSQL, and the standby that follows it |
| `stores` | Redis, and the stand-ins for the exchange, S3, Snowflake and Kafka |
| `control` | Dagster's code server and daemon |
| `left`, `right` | a worker each, with a disk of its own |

Failures are in cases.py.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Thread

import redis
from dagster import DagsterInstance

from pipeline_assets.local.environment import dagster_environment, settings_environment
from pipeline_assets.local.ports import http_answers, tcp_answers
from pipeline_assets.local.redis_server import redis_command
from pipeline_assets.local.s3_server import HEALTH_PATH
from pipeline_assets.local.store_services import create_bucket
from pipeline_assets.resources.workers import WorkerRegistry
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.airflow import Airflow
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.many_machines.databases import Database, url
from pipeline_assets_tests.many_machines.hosts import Host
from pipeline_assets_tests.many_machines.laboratory import make_switch
from pipeline_assets_tests.many_machines.minutes import Minutes

EXCHANGE, S3, REDIS, SNOWFLAKE, KAFKA, CODE_SERVER = 28080, 28081, 28082, 28083, 28084, 24000
SYMBOLS = "BTCUSDT,ETHUSDT,币安人生USDT"
# Low, so that a repeated run can exceed what is left of a minute: an ingest run takes some 5.
WEIGHT_LIMIT, WEIGHT_MARGIN = 60, 10
WORKERS = ("left", "right")
SECRET = "s3cret-of-the-laboratory"
_LOGS = "dagster-logs"


class Cluster:
    """All hosts with what runs on them."""

    def __init__(self, directory: Path) -> None:
        """Describe the hosts; their disks are below `directory`. Nothing is started."""
        self.directory = directory
        names = ("first-db", "second-db", "stores", "control", *WORKERS)
        self.hosts = {
            name: Host(name, number, directory / name) for number, name in enumerate(names, 1)
        }
        self.first, self.second = (Database(self.hosts[name]) for name in names[:2])
        self.settings = self._settings("laboratory")
        self.minutes = Minutes(self.settings)

    def _settings(self, host: str) -> Settings:
        """Return the settings on a host: the same everywhere, but for the place of its files."""
        stores = self.hosts["stores"].address
        return Settings.model_validate(
            {
                "data_dir": self.directory / host / "data",
                "symbols": SYMBOLS,
                "allowed_hosts": stores,
                "binance": {
                    "rest_url": f"http://{stores}:{EXCHANGE}",
                    "stream_url": f"ws://{stores}:{EXCHANGE}/",
                    "archive_url": f"http://{stores}:{EXCHANGE}",
                    "archive": False,
                    "weight_limit": WEIGHT_LIMIT,
                    "weight_margin": WEIGHT_MARGIN,
                },
                "s3": {
                    "endpoint_url": f"http://{stores}:{S3}",
                    "access_key_id": "LABORATORY",
                    "secret_access_key": SECRET,
                },
                "redis": {"url": f"redis://{stores}:{REDIS}/0", "password": SECRET},
                "snowflake": {"host": stores, "port": SNOWFLAKE, "password": SECRET},
                "kafka": {"bootstrap_servers": f"{stores}:{KAFKA}"},
                "features": {"enabled": False},
                "dagster": {
                    "code_server_port": CODE_SERVER,
                    "schedules": True,
                    "storage_url": url(self.first, self.second),
                    "log_bucket": _LOGS,
                },
            }
        )

    def environment(self, host: str, **more: str) -> dict[str, str]:
        """Return the variables of a program on a host; its DAGSTER_HOME is made."""
        return {**dagster_environment(self._settings(host)), **more}

    # The start, in the order of docs/production.md

    def start(self) -> None:
        """Give every host power, and start everything; takes a minute or two."""
        make_switch()
        for host in self.hosts.values():
            host.power_on()
        self.first.make()
        self.first.start(os.environ)
        self.second.follow(self.first, os.environ)
        self.start_stores()
        os.environ.update(self.environment("laboratory"))
        self.start_control()
        for name in WORKERS:
            self.start_worker(name)

    def start_stores(self) -> None:
        """Start the stores and the exchange, and wait until each answers."""
        host, settings = self.hosts["stores"], self._settings("stores")
        environment = settings_environment(settings)
        self.start_redis()
        key = ("--access-key-id", "LABORATORY", "--secret-access-key-env")
        data = str(host.directory)
        self._serve("s3", S3, "--data-dir", f"{data}/s3", *key, "PIPELINE_S3__SECRET_ACCESS_KEY")
        endpoint = str(settings.s3.endpoint_url)
        eventually(lambda: http_answers(f"{endpoint}{HEALTH_PATH}"), "S3 answers", 60)
        create_bucket(settings)
        logs = settings.s3.model_copy(update={"bucket": _LOGS})
        create_bucket(settings.model_copy(update={"s3": logs}))
        self._serve("snowflake", SNOWFLAKE, "--data-dir", f"{data}/db", "--s3-endpoint", endpoint)
        host.start("kafka", self._module("kafka", KAFKA), environment)
        options = ("--symbols", SYMBOLS, "--weight-limit", str(WEIGHT_LIMIT))
        exchange = [*self._module("exchange", EXCHANGE), *options]
        host.start("exchange", exchange, environment)
        for name, port in (("exchange", EXCHANGE), ("snowflake", SNOWFLAKE), ("kafka", KAFKA)):
            eventually(lambda p=port: tcp_answers(host.address, p), f"{name} answers", 60)

    def start_redis(self) -> None:
        """Start Redis, which is the broker too, with what it held."""
        host, password = self.hosts["stores"], self.settings.redis.password
        command = redis_command(host.directory / "redis", REDIS, password)
        host.start("redis", [*command, "--bind", host.address], os.environ)
        eventually(self._redis_answers, "Redis answers", 60)

    def start_control(self) -> None:
        """Start Dagster's code server, and the daemon once the definitions are loaded."""
        host, environment = self.hosts["control"], self.environment("control")
        module = ("-m", "pipeline_assets.definitions")
        listens = ("-h", "0.0.0.0", "-p", str(CODE_SERVER))
        code_server = ("dagster", "code-server", "start", *listens, *module)
        host.start("code-server", [sys.executable, "-m", *code_server], environment)
        answers = lambda: tcp_answers(host.address, CODE_SERVER)  # noqa: E731
        eventually(answers, "the code server answers", 240)
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start Dagster's daemon."""
        workspace = self.hosts["control"].directory / "workspace.yaml"
        workspace.write_text(
            f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {CODE_SERVER}, "
            "location_name: pipeline_assets}}]\n"
        )
        daemon = ("dagster._daemon", "run", "-w", str(workspace))
        environment = self.environment("control")
        self.hosts["control"].start("daemon", [sys.executable, "-m", *daemon], environment)

    def start_worker(self, name: str) -> None:
        """Start the worker of a host, and wait until it has reported that it lives."""
        worker = ("pipeline_assets.services.worker", "--name", name, "--concurrency", "3")
        host = self.hosts[name]
        host.start("worker", [sys.executable, "-m", *worker], self.environment(name))
        eventually(lambda: name in self.living_workers(), f"the worker {name} lives", 240)

    # Looking

    def living_workers(self) -> set[str]:
        """Return the names of the workers that have reported recently."""
        return {each.name for each in WorkerRegistry(self.settings.redis).living()}

    def host_of_run(self, run_id: str) -> str | None:
        """Return the host whose worker executes a run, by the workers' logs."""
        found = [
            name for name in WORKERS if run_id in self.hosts[name].log("worker").read_text("utf-8")
        ]
        return found[-1] if found else None

    @cached_property
    def instance(self) -> DagsterInstance:
        """Dagster, as this program sees it over the network."""
        return DagsterInstance.get()

    @cached_property
    def platform(self) -> Platform:
        """The stored candles, and the exchange's truth."""
        return Airflow(self.settings, {}).platform

    @property
    def exchange(self) -> ExchangeHandle:
        return self.platform.exchange

    def leases(self) -> set[str]:
        """Return the runs whose lease a process holds."""
        with self._redis() as client:
            return {key.decode().partition(":")[2] for key in client.scan_iter("leases:*")}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the slots for the length of a block."""
        thread = Thread(target=self.minutes.watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.minutes.stop()
            thread.join(10)

    def _serve(self, name: str, port: int, *options: str) -> None:
        environment = settings_environment(self._settings("stores"))
        self.hosts["stores"].start(name, [*self._module(name, port), *options], environment)

    def _module(self, name: str, port: int) -> list[str]:
        found = "exchange" if name == "exchange" else f"{name}_server"
        listens = ("--host", self.hosts["stores"].address, "--port", str(port))
        return [sys.executable, "-m", f"pipeline_assets.local.{found}", *listens]

    def _redis(self) -> "redis.Redis":
        address = self.hosts["stores"].address
        return redis.Redis(address, REDIS, password=SECRET, socket_timeout=2)

    def _redis_answers(self) -> bool:
        try:
            with self._redis() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
