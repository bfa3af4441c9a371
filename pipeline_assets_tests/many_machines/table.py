"""A case from its begin to its counts, and the table of all cases."""

import inspect
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster import RunsFilter

from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.many_machines import checks
from pipeline_assets_tests.many_machines.cluster import Cluster
from pipeline_assets_tests.many_machines.laboratory import OWN_ADDRESS

Case = Callable[[Cluster], dict[str, float]]
# Later, nothing would come any more.
HEALS_WITHIN = 420
# A run that was lost on its way is found by a sensor within two minutes, and a dead one within 48 s.
ENDS_WITHIN = 180
# The candles before a case that are compared again after it.
COMPARED = timedelta(hours=2, minutes=10)


@dataclass(frozen=True)
class Outcome:
    """The effect of a failure. Counts that should be 0 are in `wrong`.

    Attributes:
        case: its name.
        failure: what failed, in a sentence.
        took: seconds of the whole case.
        seconds: measured by the case.
        latest_minute: the longest time from a minute's close to its candles in the slots, in seconds.
        runs: runs by how they ended, of those that were made during the case.
        candles: how many stored candles were compared with the exchange's.
        weight: the highest weight of a minute, over all hosts together, and the limit.
        wrong: counts of candles, minutes above the weight limit, orphans, and steps run twice at once.
    """

    case: str
    failure: str
    took: float
    seconds: dict[str, float]
    latest_minute: float
    runs: dict[str, int]
    candles: int
    weight: tuple[int, int]
    wrong: dict[str, int]

    def faults(self) -> dict[str, int]:
        """Return the counts that are not 0."""
        return {name: count for name, count in self.wrong.items() if count}

    def line(self) -> str:
        """Return the outcome as a JSON line."""
        return json.dumps(asdict(self), ensure_ascii=False)


def run_cases(directory: Path, cases: Sequence[Case]) -> Iterator[Outcome]:
    """Start the hosts, and cause one failure after the other on them; each begins once all is well."""
    cluster = Cluster(directory)
    cluster.start()
    with cluster.watched():
        # The start's own minute comes late, and would count for the first case.
        for _ in range(2):
            _wait_for_calm(cluster)
        for case in cases:
            yield run_case(cluster, case)


def run_case(cluster: Cluster, case: Case) -> Outcome:
    """Cause a failure, wait until nothing of it is left to do, and count."""
    begun, started = datetime.now(UTC), time.monotonic()
    # The run that a failure strikes may have begun by then.
    before = begun - timedelta(minutes=1)
    seconds = case(cluster)
    moment = _wait_for_calm(cluster)
    until = time.time()
    compared, wrong = checks.wrong_candles(cluster, begun - COMPARED)
    highest, over = checks.minutes_over_limit(cluster, OWN_ADDRESS)
    runs = cluster.instance.get_runs(RunsFilter(created_after=before, created_before=moment))
    orphans = checks.orphans(cluster.instance, cluster.leases(), moment)
    state = cluster.exchange.state()
    return Outcome(
        case=case.__name__,
        failure=inspect.cleandoc(case.__doc__ or ""),
        took=round(time.monotonic() - started),
        seconds={name: round(value, 1) for name, value in seconds.items()},
        latest_minute=round(cluster.minutes.longest_delay(before.timestamp(), until), 1),
        runs=dict(Counter(run.status.value for run in runs)),
        candles=compared,
        weight=(highest, state["weight"]["limit"]),
        wrong={
            "candles": wrong,
            "minutes above the limit": over,
            "refused requests": state["sent_429"] + state["sent_418"],
            "orphans": len(orphans),
            "complaints of `gaps`": checks.complaints("gaps"),
            "complaints of `verify`": checks.complaints("verify"),
            "run twice": len(checks.run_twice(cluster.instance, runs)),
        },
    )


def _wait_for_calm(cluster: Cluster) -> datetime:
    """Wait until one more minute came; return the time by which all runs made until then have ended.

    Runs that have not ended in time are no error here: they are counted.
    """
    newest = cluster.minutes.newest()
    eventually(lambda: cluster.minutes.newest() > newest, "one more minute came", HEALS_WITHIN)
    moment = datetime.now(UTC)
    with suppress(AssertionError):
        eventually(
            lambda: not checks.orphans(cluster.instance, cluster.leases(), moment),
            "no run is left",
            ENDS_WITHIN,
        )
    return moment


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table as Markdown."""
    rows = [
        "| failure | seconds | latest minute | runs | candles compared | counts that should be 0 |"
    ]
    rows.append("|---|---|---|---|---|---|")
    for each in outcomes:
        seconds = ", ".join(f"{name} {value:.0f}" for name, value in each.seconds.items())
        runs = ", ".join(f"{count} {status}" for status, count in each.runs.items())
        wrong = ", ".join(f"{count} {name}" for name, count in each.faults().items()) or "all 0"
        cells = (
            each.failure,
            seconds,
            f"{each.latest_minute:.0f} s",
            runs,
            f"{each.candles:,}",
            wrong,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
