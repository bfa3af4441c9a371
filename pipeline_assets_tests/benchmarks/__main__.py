"""All benchmarks, one after the other: `python -m pipeline_assets_tests.benchmarks [NAME…]`.

Standard output is their lines of JSON, standard error a summary for people. The exit status is 1 if a
target was missed or a benchmark failed.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_LONG = (
    "backfill",
    "full_hour",
    "tick",
    "launch",
    "storage",
    "soak",
    "airflow",
    "airflow_candidates",
)


def names() -> list[str]:
    """Return every benchmark there is; those of the whole product take longest and come last."""
    found = [path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py")]
    return sorted(found, key=lambda name: (_LONG.index(name) if name in _LONG else -1, name))


def run(name: str) -> tuple[list[dict[str, object]], bool]:
    """Return the figures of one benchmark, passed on as they come, and whether it ended well."""
    module = f"{__package__}.bench_{name}"
    print(f"-- {name}", file=sys.stderr, flush=True)
    figures: list[dict[str, object]] = []
    with subprocess.Popen(
        [sys.executable, "-m", module], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
            figures.append(json.loads(line))
    return figures, child.returncode == 0 and all(figure["met"] for figure in figures)


def summary(figure: dict[str, object]) -> str:
    """One line for people."""
    verdict = "met   " if figure["met"] else "MISSED"
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']} x "
    return (
        f"{verdict} {figure['benchmark']}: {figure['figure']} {figure['unit']} "
        f"(target {figure['target']}; {ratio}{figure['against']})"
    )


def main(chosen: list[str]) -> int:
    unknown = set(chosen) - set(names())
    if unknown:
        raise SystemExit(
            f"No benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}"
        )
    results = {name: run(name) for name in chosen or names()}
    for name, (figures, well) in results.items():
        for figure in figures:
            print(summary(figure), file=sys.stderr)
        if not well and all(figure["met"] for figure in figures):
            print(f"FAILED {name}: it ended before its last figure", file=sys.stderr)
    return 0 if all(well for _, well in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
