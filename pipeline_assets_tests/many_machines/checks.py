"""The counts after a failure: stored candles against the exchange's, weight, runs without an end, and steps
that ran at once. Each count that is not 0 is a fault of the product.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, product

from dagster import DagsterEventType, DagsterInstance, DagsterRun, RunsFilter

from pipeline_assets.collection.fetch_plan import OPEN_DAY_TAG
from pipeline_assets.market.intervals import Interval
from pipeline_assets_tests.many_machines.cluster import Cluster

MILLISECOND = timedelta(milliseconds=1)
NEVER = sys.maxsize
_RUN_ENDS = (
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
)
_STEP_ENDS = (DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE)


@dataclass(frozen=True)
class Step:
    """One execution of a step, from its start to its end or to the end of its run.

    Both are numbers of entries in the event log, which the database gives out: clocks of hosts may be off.
    """

    run_id: str
    name: str
    day: str
    start: int
    end: int


def wrong_candles(cluster: Cluster, since: datetime) -> tuple[int, int]:
    """Return how many candles were compared, and how many are missing, changed or not the exchange's.

    Candles of all intervals and symbols are compared, from `since` to the newest stored one.
    """
    compared = wrong = 0
    for interval, symbol in product(Interval, cluster.settings.symbols):
        stored = cluster.platform.stored(interval.value, symbol)
        stored = stored.filter(stored["open_time"] >= since)
        until = stored["open_time"].max() + MILLISECOND
        truth = cluster.platform.truth(interval.value, symbol, since, until)
        compared += truth.height
        wrong += truth.join(stored, on=truth.columns, how="anti").height
        wrong += stored.join(truth, on=truth.columns, how="anti").height
    return compared, wrong


def minutes_over_limit(cluster: Cluster, own: str) -> tuple[int, int]:
    """Return the highest weight of a minute, and the minutes above the limit, over all hosts together.

    The requests of `own`, the address of this program, are not the product's.
    """
    weight = cluster.exchange.state()["weight"]
    used: dict[str, int] = defaultdict(int)
    for address, minutes in weight["by_address"].items():
        for minute, spent in minutes.items() if address != own else ():
            used[minute] += spent
    return max(used.values(), default=0), sum(spent > weight["limit"] for spent in used.values())


def complaints(command: str) -> int:
    """Return 1 if a command about the lake, `gaps` or `verify`, has something to complain about."""
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline_assets", command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if ran.returncode:
        print(f"{command}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}", file=sys.stderr)
    return int(ran.returncode != 0)


def orphans(instance: DagsterInstance, held: Set[str], before: datetime) -> list[str]:
    """Return the runs made before that have not ended, and those whose lease is held after their end.

    Args:
        instance: Dagster.
        held: the runs whose lease a process holds.
        before: runs made later may still be under way.
    """
    made = instance.get_runs(RunsFilter(created_before=before))
    return [run.run_id for run in made if not run.is_finished or run.run_id in held]


def run_twice(instance: DagsterInstance, runs: Sequence[DagsterRun]) -> list[str]:
    """Return what was executed twice at once: ingest steps of a day that overlap, or a step that began twice.

    A run that was reported dead ends with that entry. Whether its process went on is not seen here; it could
    not write, which the comparison of candles shows.
    """
    steps = [step for run in runs if OPEN_DAY_TAG in run.tags for step in _steps(instance, run)]
    found = []
    by_key: dict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in steps:
        by_key[step.name, step.day].append(step)
    for (name, day), held in by_key.items():
        held.sort(key=lambda step: step.start)
        found += [
            f"{name} of {day} in {one.run_id[:8]} and {other.run_id[:8]}"
            for one, other in pairwise(held)
            if other.start < one.end
        ]
    return found


def _steps(instance: DagsterInstance, run: DagsterRun) -> list[Step]:
    starts: list[tuple[str, int]] = []
    ends: dict[str, int] = {}
    run_end = NEVER
    for record in instance.get_records_for_run(run.run_id).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type in _RUN_ENDS:
            run_end = min(run_end, record.storage_id)
        elif event.event_type is DagsterEventType.STEP_START and event.step_key:
            starts.append((event.step_key, record.storage_id))
        elif event.event_type in _STEP_ENDS and event.step_key:
            ends[event.step_key] = record.storage_id
    return [
        Step(run.run_id, name, run.tags[OPEN_DAY_TAG], start, min(ends.get(name, run_end), run_end))
        for name, start in starts
    ]
