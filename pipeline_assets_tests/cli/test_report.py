"""The command `report`: spans that it refuses, reports that it makes again, and systems that are missing."""

import json
import tempfile
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline_assets.cli.main import cli
from pipeline_assets.errors import InputError
from pipeline_assets.research.daily_report.parts import Edition
from pipeline_assets.research.daily_report.stored_edition import keep_report
from pipeline_assets.resources import warehouse_connection
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.fixtures.snowflake import PASSWORD, USER, SnowflakeServer
from pipeline_assets_tests.research.daily_report.made_report import empty_report

TODAY = datetime.now(UTC).date()
DAY = TODAY - timedelta(days=1)
Run = Callable[..., Result]


@pytest.fixture
def environment(
    s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Provide settings of the test's bucket, of no warehouse that answers, and of no Dagster."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return s3_bucket.environment() | {
        "PIPELINE_DATA_DIR": str(tmp_path / "data"),
        "PIPELINE_SNOWFLAKE__USER": USER,
        "PIPELINE_SNOWFLAKE__PASSWORD": PASSWORD,
        "PIPELINE_SNOWFLAKE__PORT": str(free_port()),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Provide the command in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ("report", *arguments), env=environment)

    return run


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def keep(store: ObjectStore, *warnings: str) -> None:
    """Store yesterday's report, made when the day was over."""
    edition = Edition.of("day", DAY)
    made = replace(empty_report(edition), made_at=edition.end, warnings=warnings)
    keep_report(store, made, None)


def test_wrong_day_has_example() -> None:
    """Neither help nor refusal shows the formats of strftime."""
    refused = CliRunner().invoke(cli, ("report", "yesterday"))
    assert refused.exit_code == 2
    assert "'[DAY]': 'yesterday' is not a day such as 2026-11-28." in refused.stderr
    assert "%" not in refused.stderr
    option = CliRunner().invoke(cli, ("verify", "--start", "2026-13-01"))
    assert "'--start': '2026-13-01' is not a day such as 2026-11-28." in option.stderr


@pytest.mark.parametrize("span", [(), ("--week",), ("--month",)])
@pytest.mark.parametrize("day", ["0001-01-01", "2019-08-31", str(TODAY + timedelta(days=1))])
def test_impossible_spans_are_refused(run: Run, day: str, span: tuple[str, ...]) -> None:
    """Neither a time before the exchange opened nor the future has a report."""
    refused = run(day, *span)
    assert isinstance(refused.exception, InputError)
    assert "There is no report of" in str(refused.exception)


def test_down_warehouse_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the system and says what to check, and nothing is stored."""
    monkeypatch.setattr(warehouse_connection, "LOGIN_TIMEOUT_SECONDS", 1)
    error = run(str(DAY)).exception
    assert isinstance(error, WarehouseError)
    assert error.exit_status == 1
    assert str(error).startswith("Snowflake account")
    assert "Is it running (`pipeline-assets status`)?" in str(error)


def test_file_without_browser_is_named(
    run: Run, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no browser is, the command says which file to open, and ends with status 1."""
    keep(store)
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shown = run(str(DAY), "--open", "--json")
    assert shown.exit_code == 1
    page = json.loads(shown.stdout)["files"]["html"]
    assert f"Open {page} yourself." in shown.stderr
    assert Path(page).read_text("utf-8").startswith("<!DOCTYPE html>")


def test_figures_of_runs_stay(run: Run, store: ObjectStore) -> None:
    """A report is not made again where its figures of runs would be lost."""
    keep(store)
    assert "(--again makes it anew)" in run(str(DAY)).stdout
    refused = run(str(DAY), "--again")
    assert isinstance(refused.exception, InputError)
    assert "would lose these" in str(refused.exception)


def test_report_is_made_again(
    run: Run,
    store: ObjectStore,
    environment: dict[str, str],
    snowflake_server: SnowflakeServer,
    tmp_path: Path,
) -> None:
    """A report without figures of runs stays until it is made again, where Dagster's records are read."""
    missing = "Figures of runs (request weight, delays, the warehouse's time) are missing: "
    keep(store, missing)
    environment["PIPELINE_SNOWFLAKE__PORT"] = str(snowflake_server.port)
    environment["DAGSTER_HOME"] = str(tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert missing in run(str(DAY)).stdout
    made = json.loads(run(str(DAY), "--again", "--json").stdout)
    assert made["made_at"] > Edition.of("day", DAY).end.isoformat()
    assert made["warnings"] == ["Nothing is stored of this span, so the report has no figures."]
