"""The cost of a day at 10, 100, 500 and 900 symbols: S3 requests, warehouse statements, weight.

`python -m pipeline_assets_tests.benchmarks.bench_cost [--record]`. Single runs of each kind are counted on
the stepped clock of the replay exchange, with a counting proxy in front of the S3 server, and scaled to a
day by how often the kind comes (cost_model.py). 10 symbols: all kinds. 100: all but finalizing. 500 and 900:
minutes only. The rest is scaled from fewer symbols. `--record` keeps the counts
in cost_counts.json, from which cost_table.py makes the tables of docs/production.md.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from pipeline_assets_tests.benchmarks.cost_model import (
    COUNTS,
    SYMBOLS,
    Measured,
    counts_of,
    day_of,
    measured,
    s3_dollars,
    warehouse_dollars,
    warehouse_minutes,
)
from pipeline_assets_tests.benchmarks.cost_runs import DAY, Costed, costed_platform
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.counting_s3 import requests

# Up to so many symbols other runs than minutes are measured too.
_QUARTERS_AND_HOURS, _FINALIZING = 100, 10
_LOAD_MINUTES = 15
# S3 requests for each object written, in a minute whose upload is due.
TARGET = 1.02
TARGET_FROM = 500


def measure(symbols: int) -> Iterator[list[Measured]]:
    """Count single runs, of many symbols not every kind; yield the counts so far after each part."""
    with costed_platform(symbols) as costed:
        costed.minutes()
        yield _measured(costed)
        if symbols <= _QUARTERS_AND_HOURS:
            costed.platform.snowflake.start()
            quarters_and_hours(costed)
            yield _measured(costed)
        if symbols <= _FINALIZING:
            finalizing(costed)
            costed.candidates()
            yield _measured(costed)


def _measured(costed: Costed) -> list[Measured]:
    return [
        Measured(costed.symbols, run, counts["runs"], _means(counts))
        for run, counts in costed.counts.items()
    ]


def record(found: Iterable[Measured]) -> None:
    """Keep counts for cost_table.py, one line a kind of run."""
    ordered = sorted(found, key=lambda each: (each.symbols, each.run))
    lines = ",\n".join(json.dumps(vars(each)) for each in ordered)
    COUNTS.write_text(f'{{"runs": [\n{lines}\n]}}\n', "utf-8")


def quarters_and_hours(costed: Costed) -> None:
    """Count one ingest run of 15m and of 1h each, after an uncounted one that stores the day so far."""
    hour = DAY + timedelta(hours=3)
    for job, span in (("tick_15m", timedelta(minutes=15)), ("tick_1h", timedelta(hours=1))):
        costed.run(job, hour, None)
        costed.run(job, hour + span, job)


def finalizing(costed: Costed) -> None:
    """Count the finalizing of a day whose objects of every hour are stored."""
    midnight = DAY + timedelta(days=1)
    for job in ("tick_1m", "tick_15m", "tick_1h"):
        costed.run(job, midnight, None)
    costed.run("seal", midnight + timedelta(minutes=65), "seal", str(DAY.date()))


def _means(counts: Counter[str]) -> dict[str, float]:
    runs = counts["runs"]
    return {name: round(n / runs, 2) for name, n in sorted(counts.items()) if name != "runs"}


def reported(found: Sequence[Measured], symbols: int, upload_minutes: int) -> bool:
    """Print the line of one number of symbols and one setting."""
    day = day_of(found, symbols, upload_minutes, _LOAD_MINUTES)
    upload, seen = counts_of(found, "upload", symbols)
    each = requests(Counter(upload)) / upload["objects"]
    return report(
        f"cost_{symbols}_upload_{upload_minutes}",
        round(s3_dollars(day), 2),
        "dollars of S3 requests in 30 days",
        TARGET,
        met=each <= TARGET or symbols < TARGET_FROM,
        ratio=each,
        against="the objects that a due minute writes, its requests; the target is of this ratio",
        scaled="single runs times their number in a day",
        measured_minutes=seen,
        measured_quarters_and_hours=symbols <= _QUARTERS_AND_HOURS,
        measured_finalizing=symbols <= _FINALIZING,
        warehouse_minutes_a_day=warehouse_minutes(day),
        warehouse_dollars=warehouse_dollars(day),
        **dict(sorted(day.counts.items())),
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Count what a day costs.")
    parser.add_argument("--record", action="store_true", help=f"keep the counts in {COUNTS.name}")
    parser.add_argument("--symbols", type=int, nargs="*", default=SYMBOLS)
    chosen = parser.parse_args(arguments)
    found = measured()
    for symbols in chosen.symbols:
        others = [each for each in found if each.symbols != symbols]
        for new in measure(symbols):
            found = [*others, *new]
            if chosen.record:
                record(found)
    met = [reported(found, symbols, every) for symbols in chosen.symbols for every in (1, 5, 15)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
