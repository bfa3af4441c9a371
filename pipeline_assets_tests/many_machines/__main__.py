"""Causes the failures between machines, one after the other, and prints the table.

    python -m pipeline_assets_tests.many_machines [--directory DIR] [--only WORD] [--list]

A JSON line a case, then the table as docs/production.md has it. It takes some 30 minutes. It needs
Linux with unshare, nsenter, ip and cc, and the right to make namespaces; the error at the start names what is
missing. Exit status 1 if a count is not 0.
"""

import argparse
import inspect
import sys
import tempfile
from pathlib import Path

from pipeline_assets_tests.many_machines import laboratory


def main() -> int:
    """Run the cases that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline_assets_tests.many_machines",
        description=inspect.cleandoc(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--directory", type=Path, help="for disks and logs (default: a new one)")
    parser.add_argument("--only", default="", help="cases with one of these words, by commas")
    parser.add_argument("--list", action="store_true", help="print the cases")
    asked = parser.parse_args()
    if not laboratory.inside():
        try:
            laboratory.enter(sys.argv[1:])
        except laboratory.LaboratoryError as error:
            sys.exit(str(error))
    from pipeline_assets_tests.many_machines.cases import CASES
    from pipeline_assets_tests.many_machines.table import run_cases, table

    words = asked.only.split(",")
    cases = [case for case in CASES if any(word in case.__name__ for word in words)]
    if asked.list:
        print("\n".join(f"{case.__name__}: {case.__doc__}" for case in cases))
        return 0
    if not cases:
        parser.error(f"no case has {asked.only!r} in its name: --list prints the cases")
    directory = asked.directory or Path(tempfile.mkdtemp(prefix="many-machines-"))
    directory.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for outcome in run_cases(directory.resolve(), cases):
        print(outcome.line(), flush=True)
        outcomes.append(outcome)
    print(table(outcomes))
    return int(any(outcome.faults() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
