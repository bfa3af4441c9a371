"""Harms a running stack in every way that the list below names and prints the results.

    python -m pipeline_assets_tests.endurance --directory DIR [--airflow] [--only WORD] [--list]

One row a fault: the longest time between two new minutes in the slots, when `status` showed all up
again, candles lost, and the alerts. A JSON line each goes to DIR/outcomes.jsonl.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from pipeline_assets_tests.endurance.stack import (
    INNER_CODE_SERVER,
    SYMBOLS,
    Outcome,
    RunningStack,
    running,
    texts,
    wait_until,
)
from pipeline_assets_tests.fixtures.airflow import stack_settings
from pipeline_assets_tests.fixtures.s3 import free_port
from pipeline_assets_tests.fixtures.webhook import receiving

# A fault may take that long to heal, and its last alert that long to come.
HEALS_WITHIN, SETTLES = 420, 40
FROZEN = (40, 60, 150)


def faults(stack: RunningStack) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield every fault by its name: each process killed and stopped in turn, then all frozen."""
    roles = sorted(stack.processes(), key=lambda role: (role != INNER_CODE_SERVER, role))
    for role in roles:
        for number in (signal.SIGKILL, signal.SIGSTOP):
            yield f"{number.name} {role}", lambda r=role, n=number: stack.signal(r, n)
    for seconds in FROZEN:
        yield f"all frozen for {seconds} s", lambda s=seconds: stack.freeze(s)


def try_fault(stack: RunningStack, name: str, harm: Callable[[], None]) -> Outcome:
    """Cause the fault and wait until everything is up and two new minutes have come."""
    known, begun = len(stack.alerts()), time.monotonic()
    harm()
    struck = stack.minutes.newest()
    # `status` is true only once it has noticed; so first a moment in which it may.
    wait_until(lambda: not stack.all_up(), 30)
    healed = wait_until(
        lambda: stack.all_up() and stack.minutes.newest() >= struck + 120, HEALS_WITHIN, 1.0
    )
    healthy_after = None if healed is None else time.monotonic() - begun
    wait_until(lambda: False, SETTLES)
    until = time.monotonic()
    return Outcome(
        fault=name,
        longest_wait=round(stack.minutes.longest_wait(begun, until), 1),
        healthy_after=healthy_after,
        lost=stack.lost() if stack.all_up() else -1,
        alerts=texts(stack.alerts()[known:]),
        seconds=round(until - begun),
    )


def main() -> int:
    """Run what the command line asks for; 1 if a fault was not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--airflow", action="store_true")
    parser.add_argument("--only", default="", help="only faults with one of these words, by commas")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    asked.directory.mkdir(parents=True, exist_ok=True)
    bad = 0
    with receiving() as webhook:
        settings = stack_settings(
            asked.directory / "data",
            symbols=",".join(SYMBOLS),
            alerts={"webhook_url": webhook.url},
            airflow={"enabled": asked.airflow, "port": free_port()},
        )
        with running(settings, webhook, *(["--airflow"] if asked.airflow else [])) as stack:
            if wait_until(lambda: stack.all_up() and stack.minutes.newest() > 0, 300) is None:
                print("the stack did not start:", stack.status())
                return 1
            words = [word for word in asked.only.split(",") if word]
            for name, harm in faults(stack):
                if words and not any(word in name for word in words):
                    continue
                if asked.list:
                    print(name)
                    continue
                outcome = try_fault(stack, name, harm)
                print(outcome.line, flush=True)
                with (asked.directory / "outcomes.jsonl").open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
                bad += outcome.healthy_after is None or outcome.lost != 0
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
