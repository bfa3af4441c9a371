"""The failures, one function each: it causes the failure, ends it, and returns the seconds that it measured.
The counts afterwards are in checks.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from dagster import DagsterRun, DagsterRunStatus, RunsFilter

from pipeline_assets.collection.run_names import ingest_job
from pipeline_assets.market.intervals import Interval
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.many_machines.cluster import WORKERS, Cluster

Seconds = dict[str, float]
# A reply so late lets a run last for ten seconds and more, so that it can be met.
_LATE_MS = 4000
CUT_SECONDS, DOWN_SECONDS, DATABASE_DOWN_SECONDS, OFF_SECONDS = 120, 20, 10, 30


def nothing(cluster: Cluster) -> Seconds:
    """Nothing fails, for comparison."""
    with _run_under_way(cluster):
        return {}


def worker_host_dies(cluster: Cluster) -> Seconds:
    """A worker's host loses power during a run, and comes back once the run was repeated."""
    with _run_under_way(cluster) as (run, name):
        cluster.hosts[name].power_off()
    measured = _ended_and_repeated(cluster, run)
    cluster.hosts[name].power_on()
    cluster.start_worker(name)
    return measured


def worker_host_is_cut_off(cluster: Cluster) -> Seconds:
    """A worker's host is cut off during a run, for two minutes; the other worker goes on."""
    with _run_under_way(cluster) as (run, name):
        cluster.hosts[name].unplug()
    begun = time.monotonic()
    measured = _ended_and_repeated(cluster, run)
    Event().wait(max(0.0, begun + CUT_SECONDS - time.monotonic()))
    cluster.hosts[name].plug_in()
    return measured | _workers_back(cluster)


def all_workers_are_cut_off(cluster: Cluster) -> Seconds:
    """Both workers' hosts are cut off from all others during a run, for two minutes."""
    with _run_under_way(cluster):
        for name in WORKERS:
            cluster.hosts[name].unplug()
    Event().wait(CUT_SECONDS)
    for name in WORKERS:
        cluster.hosts[name].plug_in()
    return _workers_back(cluster)


def daemon_host_dies(cluster: Cluster) -> Seconds:
    """The host of Dagster's daemon and code server loses power during a run, and starts again."""
    with _run_under_way(cluster):
        cluster.hosts["control"].power_off()
    Event().wait(DOWN_SECONDS)
    begun = time.monotonic()
    cluster.hosts["control"].power_on()
    cluster.start_control()
    return {"start of the host": time.monotonic() - begun + DOWN_SECONDS}


def broker_dies(cluster: Cluster) -> Seconds:
    """Redis (broker, slots, leases, budget) is killed during a run, and started again."""
    with _run_under_way(cluster):
        cluster.hosts["stores"].kill("redis")
    Event().wait(DOWN_SECONDS)
    cluster.start_redis()
    return _workers_back(cluster)


def database_restarts(cluster: Cluster) -> Seconds:
    """PostgreSQL is killed during a run, and started again."""
    with _run_under_way(cluster):
        cluster.hosts["first-db"].kill("postgres")
    Event().wait(DATABASE_DOWN_SECONDS)
    cluster.first.start({})
    return {}


def database_fails_over(cluster: Cluster) -> Seconds:
    """PostgreSQL's host loses power during a run, and the standby takes its place."""
    with _run_under_way(cluster):
        cluster.hosts["first-db"].power_off()
    begun = time.monotonic()
    Event().wait(DATABASE_DOWN_SECONDS)
    cluster.second.promote()
    return {"promoted": time.monotonic() - begun}


def daemon_clock_is_behind(cluster: Cluster) -> Seconds:
    """For minutes, the clock of the daemon's host is 30 s behind, and that of a worker's host 30 s ahead."""
    return _with_clocks(cluster, {"left": OFF_SECONDS, "control": -OFF_SECONDS})


def daemon_clock_is_ahead(cluster: Cluster) -> Seconds:
    """For minutes, the clock of the daemon's host is 30 s ahead, and that of a worker's host 30 s behind."""
    return _with_clocks(cluster, {"left": -OFF_SECONDS, "control": OFF_SECONDS})


# The failover comes last: the first database has no place afterwards.
CASES: tuple[Callable[[Cluster], Seconds], ...] = (
    nothing,
    worker_host_dies,
    worker_host_is_cut_off,
    all_workers_are_cut_off,
    daemon_host_dies,
    broker_dies,
    database_restarts,
    daemon_clock_is_behind,
    daemon_clock_is_ahead,
    database_fails_over,
)


def _with_clocks(cluster: Cluster, ahead: dict[str, int]) -> Seconds:
    """Start hosts anew under clocks that are off, and after two minutes under right ones."""
    for moved in (ahead, dict.fromkeys(ahead, 0)):
        for name, seconds in moved.items():
            host = cluster.hosts[name]
            host.power_off()
            host.ahead = seconds
            host.power_on()
            if name == "control":
                cluster.start_control()
            else:
                cluster.start_worker(name)
        begun = cluster.minutes.newest()
        if moved is ahead:
            eventually(lambda b=begun: cluster.minutes.newest() >= b + 120, "two minutes", 420)
    return {}


@contextmanager
def _run_under_way(cluster: Cluster) -> Iterator[tuple[DagsterRun, str]]:
    """Provide an ingest run that is being executed, and the host that does; replies are late meanwhile."""
    cluster.exchange.faults(latency_ms=_LATE_MS)

    def found() -> tuple[DagsterRun, str] | None:
        chosen = RunsFilter(
            job_name=ingest_job(Interval.ONE_MINUTE), statuses=[DagsterRunStatus.STARTED]
        )
        for run in cluster.instance.get_runs(chosen):
            name = cluster.host_of_run(run.run_id)
            if name is not None and run.run_id in cluster.leases():
                return run, name
        return None

    try:
        yield eventually(found, "an ingest run is executed", 180)
    finally:
        cluster.exchange.faults()


def _ended_and_repeated(cluster: Cluster, run: DagsterRun) -> Seconds:
    """Wait until a dead run has ended and its repetition too; return the seconds from now on."""
    begun = time.monotonic()

    def ended() -> bool:
        now = cluster.instance.get_run_by_id(run.run_id)
        return now is not None and now.is_finished

    def repeated() -> bool:
        chosen = RunsFilter(tags={"dagster/parent_run_id": run.run_id})
        return any(each.is_success for each in cluster.instance.get_runs(chosen))

    eventually(ended, "the dead run has ended", 300)
    after = time.monotonic() - begun
    eventually(repeated, "the dead run was repeated", 300)
    return {"ended": after, "repeated": time.monotonic() - begun}


def _workers_back(cluster: Cluster) -> Seconds:
    begun = time.monotonic()
    eventually(lambda: set(WORKERS) <= cluster.living_workers(), "all workers live", 300)
    return {"workers back": time.monotonic() - begun}
