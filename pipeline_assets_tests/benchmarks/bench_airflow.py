"""Thirty real minutes under Airflow, across a full hour's turn: whether an ingest run is missed, how soon
its slots are written, and what Airflow and Dagster cost. bench_tick measures a single ingest run.

Run `python -m pipeline_assets_tests.benchmarks.bench_airflow` alone. It waits until the next full hour's
turn lies within its thirty minutes, so it takes up to an hour and a half.
"""

import json
import sys
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets_tests.benchmarks.harness import import_dagster, median, report
from pipeline_assets_tests.benchmarks.product import Product, running_product

SYMBOLS = 100
MINUTES = 30
MINUTE = timedelta(minutes=1)
WARM_UP = 4 * MINUTE
SCHEDULERS = (
    "airflow",
    "airflow-scheduler",
    "airflow-dag-processor",
    "code-server",
    "webserver",
    "daemon",
    "worker",
)
RUNS = """
query ($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 500) { ... on Runs { results {
  runId status tags { key value } stepStats { stepKey status endTime }
} } } }"""


@dataclass(frozen=True)
class IngestRun:
    """The ingest run of a minute: when it was due, and how many seconds later its slots were written."""

    due: datetime
    seconds: float
    status: str


def cpu_seconds(product: Product) -> dict[str, float]:
    """Return what each scheduling service has used with all its children, the ended ones too."""
    used = {}
    for service in product.status.services:
        if service.name in SCHEDULERS and service.pid is not None:
            root = psutil.Process(service.pid)
            family = [root]
            try:
                family += root.children(recursive=True)
            except psutil.NoSuchProcess:
                family = [root]
            used[service.name] = sum(_with_reaped(each) for each in family)
    return used


def _with_reaped(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        # It ended just now: the parent has counted it, or will before the next reading.
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def graphql(product: Product, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Ask the stack's Dagster."""
    url = f"http://127.0.0.1:{product.settings.dagster.webserver_port}/graphql"
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)["data"]
    return answer


def ingest_runs(product: Product, first: datetime) -> dict[datetime, IngestRun]:
    """Return the ingest runs of the measured minutes that wrote slots, by the minute when each was due."""
    filter_ = {"tags": [{"key": "airflow/dag_id", "value": "candles_1m"}]}
    runs = graphql(product, RUNS, {"filter": filter_})["runsOrError"]["results"]
    found = {}
    for run in runs:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        begins = datetime.fromisoformat(tags["airflow/run_id"].split("__")[1])
        # The scheduled run's name is the beginning of its data interval, or what it ran after.
        due = begins.replace(second=0, microsecond=0)
        ends = [
            each["endTime"]
            for each in run["stepStats"]
            if each["stepKey"] == "candle_slots_1m" and each["status"] == "SUCCESS"
        ]
        if ends and first <= due < first + MINUTES * MINUTE:
            found[due] = IngestRun(due, ends[0] - due.timestamp(), run["status"])
    return found


def begin_of_measuring(now: datetime) -> datetime:
    """Return the first measured minute: soon if an hour turns within the measured ones, else before it."""
    soonest = now.replace(second=0, microsecond=0) + MINUTE
    turn = (soonest + timedelta(hours=1)).replace(minute=0)
    return max(soonest, turn - (MINUTES - 5) * MINUTE)


def measure(product: Product) -> bool:
    """Watch the minutes go by, then look at what became of each."""
    first = begin_of_measuring(datetime.now(UTC) + WARM_UP)
    sleep_until(first)
    before, began = cpu_seconds(product), time.monotonic()
    spent = [sum(before.values())]
    for minute in range(1, MINUTES + 1):
        sleep_until(first + minute * MINUTE)
        spent.append(sum(cpu_seconds(product).values()))
        print(f"minute {minute} of {MINUTES}: {spent[-1] - spent[-2]:.1f} CPU s", file=sys.stderr)
    after, minutes = cpu_seconds(product), (time.monotonic() - began) / 60
    # The ingest run of the last minute is still running.
    sleep_until(first + MINUTES * MINUTE + timedelta(seconds=40))
    found = ingest_runs(product, first)
    return reported(product, first, found, {n: (after[n] - before[n]) / minutes for n in after})


def reported(
    product: Product, first: datetime, found: dict[datetime, IngestRun], cpu: dict[str, float]
) -> bool:
    """Report the figures, and return whether the slots hold what they should."""
    bare = import_dagster()
    due = [first + n * MINUTE for n in range(MINUTES)]
    missed = [f"{each:%H:%M}" for each in due if each not in found]
    failed = [f"{t.due:%H:%M}" for t in found.values() if t.status != "SUCCESS"]
    seconds = [found[each].seconds for each in due if each in found]
    held = CandleSlots(product.settings.redis).summary(product.stored_symbols())
    late = held.filter(held["newest_open_time"] < due[-1] - MINUTE)
    worst = max(found.values(), key=lambda ingest_run: ingest_run.seconds)
    met = [
        report(
            f"airflow_{SYMBOLS}_ticks_missed",
            len(missed) + len(failed) + late.height,
            f"of {MINUTES} minutes from {first:%H:%M} UTC",
            0,
            ratio=len(seconds) / MINUTES,
            against="ingest runs that were due",
            missed=missed,
            failed=failed,
            symbols_late=late.height,
        ),
        report(
            f"airflow_{SYMBOLS}_slots_written_median",
            median(seconds),
            "s after the minute",
            5,
            ratio=median(seconds) / bare.wall,
            against=bare.NAME,
            runs=seconds,
        ),
        report(
            f"airflow_{SYMBOLS}_slots_written_worst",
            worst.seconds,
            "s after the minute",
            10,
            ratio=worst.seconds / median(seconds),
            against="the median",
            at=f"{worst.due:%H:%M}",
        ),
        report(
            f"airflow_{SYMBOLS}_cpu",
            sum(cpu.values()),
            "CPU s a minute",
            10,
            ratio=sum(cpu.values()) / bare.cpu,
            against=bare.NAME,
            services=cpu_rounded(cpu),
        ),
    ]
    return all(met)


def cpu_rounded(cpu: dict[str, float]) -> dict[str, float]:
    """Return CPU seconds, rounded for people."""
    return {name: round(value, 2) for name, value in cpu.items()}


def sleep_until(moment: datetime) -> None:
    """Wait for a moment (UTC); not at all if it has passed."""
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


def main() -> int:
    with running_product(SYMBOLS, None, airflow=True) as product:
        return 0 if measure(product) else 1


if __name__ == "__main__":
    sys.exit(main())
