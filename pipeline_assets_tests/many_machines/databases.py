"""PostgreSQL on a host: a primary, and a standby that follows it and takes its place."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pipeline_assets_tests.fixtures.postgres import program
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.many_machines.hosts import Host
from pipeline_assets_tests.many_machines.laboratory import NETWORK

PORT, USER, PASSWORD = 25432, "pipeline", "s3cret-of-the-laboratory"
_SETTINGS = (
    *("autovacuum=off", "max_logical_replication_workers=0", "io_method=sync"),
    *("recovery_init_sync_method=syncfs", "unix_socket_directories=", "max_connections=100"),
    *("wal_sender_timeout=10s", "wal_receiver_timeout=10s"),
)


@dataclass
class Database:
    """A server on a host."""

    host: Host

    @property
    def data(self) -> Path:
        return self.host.directory / "postgres"

    def make(self) -> None:
        """Make an empty data directory that other hosts may connect to by password."""
        secret = self.host.directory / "password"
        secret.write_text(PASSWORD)
        options = (f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        self._run("initdb", f"--pgdata={self.data}", "--locale=C", "--encoding=UTF8", *options)
        with (self.data / "pg_hba.conf").open("a") as rules:
            for database in ("all", "replication"):
                rules.write(f"host {database} all {NETWORK}.0/24 scram-sha-256\n")

    def follow(self, primary: "Database", environment: Mapping[str, str]) -> None:
        """Copy a running primary and follow it. Each commit of the primary then waits for this copy."""
        address = f"host={primary.host.address} port={PORT} user={USER} password={PASSWORD}"
        where = (f"--pgdata={self.data}", "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        self._run("pg_basebackup", f"--dbname={address}", *where)
        self.start(environment)
        with primary.connected() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the server, and wait until it answers."""
        options = [word for each in _SETTINGS for word in ("-c", each)]
        where = ("-D", str(self.data), "-h", self.host.address, "-p", str(PORT))
        self.host.start("postgres", [str(program("postgres")), *where, *options], environment)
        eventually(self.answers, f"PostgreSQL on {self.host.name} answers", 60)

    def promote(self) -> None:
        """Let a standby take writes."""
        with self.connected() as connection:
            connection.execute("SELECT pg_promote(true, 60)")

    def answers(self) -> bool:
        with suppress(psycopg.OperationalError), self.connected() as connection:
            connection.execute("SELECT 1")
            return True
        return False

    def connected(self) -> "psycopg.Connection[tuple[object, ...]]":
        """Return a connection of this program, on which each statement is a transaction of its own."""
        address = f"host={self.host.address} port={PORT} user={USER} password={PASSWORD}"
        return psycopg.connect(f"{address} dbname=postgres connect_timeout=3", autocommit=True)

    def _run(self, name: str, *arguments: str) -> None:
        with self.host.log(name).open("ab") as log:
            subprocess.run([program(name), *arguments], check=True, stdout=log, stderr=log)


def url(*databases: Database) -> str:
    """Return the address of the one of these servers that takes writes."""
    hosts = ",".join(f"{each.host.address}:{PORT}" for each in databases)
    return f"postgresql://{USER}:{PASSWORD}@{hosts}/postgres?connect_timeout=3"
