"""Helpers of every benchmark: its line of JSON, and how busy the machine was. The measurements are in
the bench_ modules; starting the whole product is in product.py.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def report(
    benchmark: str,
    figure: float,
    unit: str,
    target: float,
    *,
    ratio: float | None,
    against: str,
    at_least: bool = False,
    met: bool | None = None,
    **more: Any,
) -> bool:
    """Print one figure as one JSON line; return whether its target is met.

    Args:
        benchmark: the name of the measurement.
        figure: the result.
        unit: the unit of the figure.
        target: the upper limit of the figure, or the lower limit if `at_least`.
        ratio: the figure divided by that of `against`, for comparisons between machines; None if that was
            not measured.
        against: another measurement of the same run.
        at_least: whether more is better.
        met: whether the target is met, if the target is more than one number.
        more: further values that explain the figure.
    """
    if met is None:
        met = figure >= target if at_least else figure <= target
    line = {
        "benchmark": benchmark,
        "figure": _short(figure),
        "unit": unit,
        "target": _short(target),
        "met": met,
        "ratio": None if ratio is None else round(ratio, 2),
        "against": against,
        **{name: _short(value) for name, value in more.items()},
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)
    return met


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(each) for each in value]
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value


@dataclass(frozen=True)
class ImportCost:
    """The cost of a Python process that imports Dagster and ends."""

    wall: float
    cpu: float

    NAME = "python -c 'import dagster' in this run, median of three"


def import_dagster() -> ImportCost:
    """Seconds for a bare `import dagster` in a new process: what no run can do without."""
    walls, cpus = [], []
    for _ in range(3):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", "import dagster"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - began)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return ImportCost(statistics.median(walls), statistics.median(cpus))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
