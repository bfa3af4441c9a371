"""docs/architecture.md, "Where to add things": an interval is one entry in the registry, a sink one function
and one line."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal
from pydantic import SecretStr

from pipeline_assets.cli.generated_files import generated
from pipeline_assets.market.intervals import Definition
from pipeline_assets_tests.fixtures.platform import Platform

REPOSITORY = Path(__file__).parents[2]
PROGRAM = REPOSITORY / "pipeline_assets_tests" / "fixtures" / "new_interval.py"
ENTRY = """
    FIVE_MINUTES = "5m", Definition(timedelta(minutes=5), "*/5 * * * *", ("table", "fake"))
"""
FAKE_SINK = """
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import step_of
from pipeline_assets.collection.sinks import fill, mark_loaded
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore


class FakeSink:
    def __init__(self, step) -> None:
        self.step, self.stored = step, step.stored()

    def load(self) -> dict[str, Any]:
        if self.step.store.get("fake is down") is not None:
            raise OSError("The fake store is down.")
        for key in self.stored.objects:
            self.step.store.put(f"fake/{key}", b"")
        return {"objects": len(self.stored.objects)}

    def verify(self) -> dict[str, Any]:
        held = {each.key for each in self.step.store.objects("fake/")}
        return {"lost": len({f"fake/{key}" for key in self.stored.objects} - held)}

    def mark(self) -> None:
        mark_loaded(self.step, self.stored, "fake")


def candle_fake(interval: Interval) -> AssetsDefinition:
    name = layer.sink("fake")

    @asset(**layer.options(name, interval), deps=[layer.key(layer.OBJECTS, interval)])
    def fake(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore]
    ) -> MaterializeResult[Any]:
        sink = FakeSink(step_of(context, store, interval, layer.name(name, interval)))
        return MaterializeResult(metadata=fill(sink))

    return fake
"""


def insert(file: Path, after: str, text: str) -> None:
    before, found, rest = file.read_text("utf-8").partition(after)
    assert found, f"{file} has no {after!r}"
    file.write_text(before + found + text + rest, "utf-8")


def run(*arguments: object, directory: Path, given: str = "") -> str:
    """Return the standard output of a Python program over the package in this directory."""
    ended = subprocess.run(
        # Without the program's own directory, whose modules have the names of client libraries.
        [sys.executable, "-P", *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def changed_package(tmp_path: Path) -> Path:
    """Provide a directory with a copy of the package to which 5m and a sink were added."""
    copy = tmp_path / "copy"
    # With the compiled modules: to compile the unchanged ones anew takes seconds.
    left_out = shutil.ignore_patterns("pictures")
    shutil.copytree(REPOSITORY / "pipeline_assets", copy / "pipeline_assets", ignore=left_out)
    package = copy / "pipeline_assets"
    entry = 'ONE_HOUR = "1h", Definition(timedelta(hours=1), "0 * * * *", ("table",))'
    insert(package / "market" / "intervals.py", entry, ENTRY)
    (package / "assets" / "fake.py").write_text(FAKE_SINK, "utf-8")
    sinks = package / "assets" / "sinks.py"
    insert(
        sinks,
        "from dagster import AssetsDefinition\n",
        "from pipeline_assets.assets.fake import candle_fake\n",
    )
    insert(sinks, '    "table": candle_table,\n', '    "fake": candle_fake,\n')
    return copy


def settings_of(platform: Platform) -> str:
    def revealed(value: Any) -> Any:
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    given = platform.settings.model_dump(exclude_unset=True)
    return json.dumps({**given, "symbols": "BTCUSDT,ETHUSDT"}, default=revealed)


def test_new_interval_runs_end_to_end(platform: Platform, changed_package: Path) -> None:
    """One more interval runs end to end.

    Ingest, format, upload, table, a sink of one's own, checks, gaps, zero volume and backfill of 5m.
    """
    run("-m", "pipeline_assets.cli.generated_files", directory=changed_package)
    dags = runpy.run_path(
        str(changed_package / "pipeline_assets" / "airflow_dags" / "candle_intervals.py")
    )
    assert dags["SPANS"]["5m"] == timedelta(minutes=5)
    assert dags["CRONS"]["5m"] == "*/5 * * * *"
    assert dags["TASKS"]["5m"] == {
        "fetch": "raw_candles_5m",
        "format": "candles_5m",
        "upload": "candle_objects_5m",
        "insert_table": "candle_table_5m",
        "insert_fake": "candle_fake_5m",
    }

    found = json.loads(run(PROGRAM, directory=changed_package, given=settings_of(platform)))
    assert found["package"].startswith(str(changed_package))
    assert found["crons"]["tick_5m"] == "*/5 * * * *"
    assert found["weights"] == {"1m": 1, "15m": 1, "1h": 1, "5m": 2}
    assert found["tick"] == {"window": True, "zero_volume": True}
    # The day counts as complete only when the table and the other sink both hold it.
    assert found["finalized while a sink was down"] == []
    assert found["table loaded meanwhile"] is True
    assert found["fake"] == {"objects": 2, "lost": 0}
    assert found["finalized once it was loaded"] == ["BTCUSDT", "ETHUSDT"]
    checks = {"window": True, "zero_volume": True, "complete": True, "consistent": True}
    assert found["backfill"] == checks
    assert found["nothing missing"] == {"nothing_to_fetch": True, "outages": True}
    assert found["false volume before"] == "No run without volume looks false."
    assert found["one object lost"] == {"nothing_to_fetch": False, "outages": True}
    assert found["repair"] == checks | {"nothing_to_fetch": True, "outages": True}
    assert found["repaired rows"] == 288
    assert "12 candles without volume look false, the first 5m of ETHUSDT" in found["false volume"]

    start, end = datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    truth = platform.truth("5m", "BTCUSDT", start, end)
    assert truth.height == 288 + 144
    assert_frame_equal(platform.stored("5m", "BTCUSDT"), truth)
    assert len(platform.table("5m")) == 2 * truth.height
    objects = {key for key in platform.objects() if key.startswith("ohlcv/5m/")}
    assert set(platform.objects("fake/")) == {f"fake/{key}" for key in objects}


def test_generated_files_are_current() -> None:
    """`make generate` writes what the registry and the model of candidates say."""
    for path, text in generated().items():
        assert (REPOSITORY / "pipeline_assets" / path).read_text("utf-8") == text, path


@pytest.mark.parametrize(
    ("span", "more", "reported"),
    [
        (timedelta(minutes=7), {}, "does not divide a UTC day"),
        (timedelta(hours=2), {"open_object": timedelta(hours=1)}, "does not divide a UTC day"),
        (timedelta(minutes=45), {"archive": True}, "cannot be checked against hours"),
    ],
)
def test_unworkable_entry_is_refused(span: timedelta, more: dict[str, Any], reported: str) -> None:
    """A registry entry that cannot work is refused."""
    with pytest.raises(ValueError, match=reported):
        Definition(span, "0 * * * *", ("table",), **more)
