"""Failures between machines: after each nothing is missing, doubled, left over or above the limits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_assets_tests.many_machines.cases import CASES

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600), pytest.mark.xdist_group("machines")]


def test_nothing_is_lost_between_machines(tmp_path: Path) -> None:
    """Every case of the table, on one cluster, without a count that is not 0.

    The program enters namespaces, which a process with threads cannot, so it is a process of its own.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline_assets_tests.many_machines", "--directory", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(CASES), f"{ran.stdout[-3000:]}\n{ran.stderr[-6000:]}"
    print(ran.stdout)
    assert {each["case"]: each["wrong"] for each in found if any(each["wrong"].values())} == {}
    assert all(each["candles"] > 0 for each in found)
