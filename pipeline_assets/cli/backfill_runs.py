"""Backfilling a range in runs of limited length, and repeating what did not come whole. Workers execute the
runs, or this process does (run_executor.py). Options and printing are in backfill.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline_assets.cli.run_executor import Execute, Say, executor
from pipeline_assets.cli.run_outcomes import BackfillError, Outcome, StoppedError
from pipeline_assets.collection.run_names import backfill_job, repair_job
from pipeline_assets.market.intervals import Interval
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.collection.progress import Progress
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.staging import Staged

__all__ = ["BackfillError", "BackfillResult", "StoppedError", "backfill", "chunks"]

# The rows lost when a run is killed while it fetches: less than two minutes of the exchange's limit.
_ROWS_PER_RUN = 1_000_000
_ALL_SYMBOLS = 500  # about as many as trade, where the universe was never read
_ATTEMPTS = 3


@dataclass
class BackfillResult:
    """The result of a backfill, with an entry in `problems` for each thing that needs a person."""

    interval: Interval
    start: date
    end: date
    runs: list[str] = field(default_factory=list)
    rows: int = 0
    objects: int = 0
    weight: int = 0
    stored_before: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, runs: "Sequence[_Ran]", problems: Sequence[str]) -> None:
        """Count a run and its repetitions, and what was wrong in the end."""
        for ran in runs:
            self.runs.append(ran.run_id)
            self.rows += ran.rows
            self.objects += ran.objects
            self.weight += ran.weight
        self.stored_before += runs[0].stored_before
        self.problems += problems

    def to_dict(self) -> dict[str, Any]:
        """Return the result for a program."""
        return asdict(self)


@dataclass
class _Ran:
    """One run. `incomplete` counts the symbol-days that may miss candles which the exchange has;
    `failed` are the symbols that could not be fetched.
    """

    run_id: str
    rows: int
    objects: int
    weight: int
    stored_before: int
    incomplete: int
    failed: list[str]
    problems: list[str] = field(default_factory=list)


def chunks(start: date, end: date, days: int) -> Iterator[tuple[date, date]]:
    """Split the range into runs of limited length: the first and last day of each, both included."""
    while start < end:
        last = min(start + timedelta(days=days), end) - timedelta(days=1)
        yield start, last
        start = last + timedelta(days=1)


def backfill(  # noqa: PLR0913 - the request, and where it is reported
    settings: Settings,
    interval: Interval,
    symbols: Sequence[str] | None,
    start: date,
    end: date,
    progress: "Progress | None" = None,
    *,
    refresh: bool = False,
    judge: bool = False,
    say: Say | None = None,
) -> BackfillResult:
    """Materialize the days from `start` to before `end`. A Dagster run has 31 days, or fewer if there are
    many symbols.

    The call may be repeated, also beside ingest runs: stored candles are merged, never lost. After a kill,
    the repeated call continues: complete days are not fetched again, and a run that a worker still executes
    is followed.

    Args:
        settings: the settings.
        interval: the candles' interval.
        symbols: only these symbols; None for those of the settings.
        start: first UTC day.
        end: the UTC day before which to stop.
        progress: receives the progress; by default plain lines in the run's log.
        refresh: fetch complete days as well.
        judge: write the gap ledger of these days afterwards, on the lake and in the warehouse.
        say: prints a line for a person: who executes the runs, and how far runs on workers are; by default
            on standard error.

    Raises:
        BackfillError: the first run of some days failed. A repetition that fails is only a problem of
            the result, since the rows of the first run are stored.
        StoppedError: a signal came.
        DagsterWebError: Dagster stopped answering. Runs on workers go on.
    """
    from pipeline_assets.market.partition_keys import DAYS_PER_RUN
    from pipeline_assets.resources.object_store import ObjectStore

    job = repair_job(interval) if judge else backfill_job(interval)
    result = BackfillResult(interval, start, end)
    per_day = interval.per_day * _count(settings, symbols)
    length = min(max(_ROWS_PER_RUN // per_day, 1), DAYS_PER_RUN)
    store = ObjectStore(settings.s3)
    with executor(settings, job, progress, say) as execute:
        for first, last in chunks(start, end, length):
            if progress is not None:
                progress.later = per_day * ((end - last).days - 1)
            config = {"symbols": list(symbols) if symbols else None, "refresh": refresh}
            days = (first, last)
            result.add(*_repeated(partial(_run, execute, store, interval, days), config))
    return result


def _repeated(
    run: Callable[[Mapping[str, Any]], _Ran], config: Mapping[str, Any]
) -> tuple[list[_Ran], list[str]]:
    """Run, then run again what is not complete: a row that came malformed, a symbol that failed.

    Returns:
        The runs, and what a person has to look at in the end.
    """
    ran = [run(config)]
    of_all, reported = ran[0], []

    def again(**changes: Any) -> _Ran | None:
        try:
            ran.append(run({**config, **changes}))
        except BackfillError as error:
            reported.append(f"A repetition failed: {error}")
            return None
        return ran[-1]

    # The stored days of failed symbols count as complete: a run without refresh would skip them.
    unrefreshed = of_all if config["refresh"] and of_all.failed else None
    for _ in range(1, _ATTEMPTS):
        if unrefreshed is None or not unrefreshed.failed:
            break
        unrefreshed = again(symbols=unrefreshed.failed, refresh=True)
    for _ in range(1, _ATTEMPTS):
        if not of_all.incomplete or (repeated := again(refresh=False)) is None:
            break
        of_all = repeated
    if unrefreshed is not None and unrefreshed.failed:
        reported += unrefreshed.problems
    return ran, list(dict.fromkeys(of_all.problems + reported))


def _count(settings: Settings, symbols: Sequence[str] | None) -> int:
    """Return how many symbols a backfill has, as far as it is known before it asks the exchange."""
    from pipeline_assets.collection.overview import collected_symbols
    from pipeline_assets.resources.object_store import ObjectStore

    if symbols:
        return len(symbols)
    if settings.symbols != "all":
        return len(settings.symbols)
    return len(collected_symbols(settings, ObjectStore(settings.s3))) or _ALL_SYMBOLS


def _run(
    execute: Execute,
    store: "ObjectStore",
    interval: Interval,
    days: tuple[date, date],
    config: Mapping[str, Any],
) -> _Ran:
    from pipeline_assets.assets import layer
    from pipeline_assets.collection.findings import FAILED
    from pipeline_assets.resources.staging import Staged

    first, last = days
    raw = layer.name(layer.RAW, interval)
    outcome = execute(first, last, {"ops": {raw: {"config": dict(config)}}})
    ran = _ran(outcome, store, Staged(interval, *days, outcome.made_by[raw]))
    for check in outcome.checks:
        # The check `complete` reports missing candles. `window` counts only where it names failed symbols.
        if check.name == "window" and FAILED not in check.labels:
            continue
        # A range's summary repeats what its days said.
        if not check.passed and check.is_error and (check.partition is not None or first == last):
            day = check.partition or first
            ran.problems.append(f"{day} {check.name}: {check.description}")
    return ran


def _ran(outcome: Outcome, store: "ObjectStore", staged: "Staged") -> _Ran:
    from pipeline_assets.assets import layer
    from pipeline_assets.assets.objects import INCOMPLETE
    from pipeline_assets.collection.fetch_plan import FetchPlan
    from pipeline_assets.collection.findings import FAILED
    from pipeline_assets.resources.staging import read_document

    def value(name: str, key: str) -> int:
        return int(outcome.metadata[layer.name(name, staged.interval)].get(key, "0"))

    failed: list[str] = []
    if value(layer.RAW, FAILED):
        # The metadata name the first few only, and those too that no repetition brings: misspelt ones.
        plan = FetchPlan.from_dict(read_document(store, staged.plan))
        failed = sorted(plan.failures.keys() & plan.windows.keys())
    return _Ran(
        run_id=outcome.run_id,
        rows=value(layer.FORMATTED, "rows"),
        objects=value(layer.OBJECTS, "objects"),
        weight=value(layer.RAW, "weight spent"),
        stored_before=value(layer.RAW, "symbol-days stored before"),
        incomplete=value(layer.OBJECTS, INCOMPLETE) + len(failed),
        failed=failed,
    )
