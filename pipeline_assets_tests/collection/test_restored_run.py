"""A backup that is taken while a run is under way: PostgreSQL by pg_dump, then the lake. Restored elsewhere,
the run is ended and repeated, and no candle is lost or doubled. docs/backup.md has the order of the copy.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry

from pipeline_assets.dagster_instance.run_leases import LeaseWatch, end_dead_runs
from pipeline_assets_tests.collection.test_restored_lake import (
    EVENING,
    SYMBOLS,
    lost,
    pass_minutes,
)
from pipeline_assets_tests.fixtures.dagster_home import OURS, STORAGE_URL
from pipeline_assets_tests.fixtures.faulty_s3 import Exchanged, Fault, faulty_s3
from pipeline_assets_tests.fixtures.lake_copy import DOCUMENTS, OBJECTS, copy_pass
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.postgres import PostgresServer
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Bucket, S3Server, make_bucket

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(600),
    # The server of PostgreSQL is one for all tests.
    pytest.mark.xdist_group("postgres"),
]


class At(Fault):
    """Does something once, as soon as an object below a prefix is stored; the run waits meanwhile."""

    def __init__(self, prefix: str, action: Callable[[], None]) -> None:
        self._prefix, self._action = prefix, action
        self._first = threading.Lock()

    def after(self, exchanged: Exchanged) -> None:
        stored = exchanged.method == "PUT" and exchanged.status < 300
        if stored and f"/{self._prefix}" in exchanged.path and self._first.acquire(blocking=False):
            self._action()


@pytest.fixture
def copy(s3_server: S3Server) -> S3Bucket:
    """Provide the bucket for the copy."""
    return make_bucket(s3_server)


@pytest.fixture
def retrying(postgres_home: Path) -> Path:
    """Provide a home with a database, whose dagster.yaml repeats dead runs as the product's does."""
    file, held = postgres_home / "dagster.yaml", yaml.safe_load(OURS.read_text(encoding="utf-8"))
    chosen = yaml.safe_load(file.read_text(encoding="utf-8"))
    chosen["run_retries"] = held["run_retries"]
    file.write_text(yaml.safe_dump(chosen), encoding="utf-8")
    return postgres_home


@contextmanager
def restored_instance(
    dump: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """Provide Dagster over a new database that holds the dump."""
    database = server.restored(dump)
    monkeypatch.setenv(STORAGE_URL, server.url(database=database).get_secret_value())
    with DagsterInstance.get() as instance:
        yield instance
    server.drop(database)


def ended(restored: Platform) -> DagsterRun:
    """End the run that was under way, as run monitoring does at its second look; return the run."""
    watch = LeaseWatch(restored.settings.redis)
    [run] = restored.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
    assert end_dead_runs(restored.instance, watch) == []
    assert end_dead_runs(restored.instance, watch) == [run.run_id]
    [found] = restored.instance.get_runs(RunsFilter(run_ids=[run.run_id]))
    return found


# The run has begun, and nothing of its candles is stored; some of its objects are stored; all are, and the
# document that says so comes next.
@pytest.mark.parametrize("moment", ["raw/", "ohlcv/1m/", "state/"])
def test_run_under_way_is_repeated(
    moment: str,
    minutes: Platform,
    copy: S3Bucket,
    retrying: Path,
    postgres_server: PostgresServer,
    storage_database: str,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dump holds a started run, which ends without its lease. Its repetition stores what is missing."""
    dump = retrying / "dagster.dump"

    def back_up() -> None:
        postgres_server.dump(storage_database, dump)
        for filters in (DOCUMENTS, OBJECTS, OBJECTS):
            copy_pass(minutes.bucket, copy, filters)

    minutes.exchange.set_clock(EVENING)
    with DagsterInstance.get() as instance, faulty_s3(minutes.bucket.endpoint) as proxy:
        running = replace(
            minutes.with_settings(symbols=SYMBOLS, s3={"endpoint_url": proxy.endpoint}),
            instance=instance,
        )
        pass_minutes(running, 0)
        proxy.fault = At(moment, back_up)
        pass_minutes(running, 2)
        assert lost(running) == 0
        whole = len(instance.get_runs())
    redis_server.client().flushall()
    with restored_instance(dump, postgres_server, monkeypatch) as instance:
        restored = replace(
            minutes.with_settings(symbols=SYMBOLS, s3={"bucket": copy.name}),
            bucket=copy,
            instance=instance,
        )
        run = ended(restored)
        assert len(instance.get_runs()) == whole
        assert should_retry(run, instance)
        if moment == "raw/":
            assert lost(restored) > 0
        again = restored.run_failed_steps_again(run)
        assert again.status is DagsterRunStatus.SUCCESS
        assert lost(restored) == 0
        pass_minutes(restored, 1)
        assert lost(restored) == 0
        stored = restored.stored("1m").select("symbol", "open_time")
        assert not stored.is_duplicated().any()
        assert {len(restored.slots(symbol)) for symbol in SYMBOLS} == {15}
