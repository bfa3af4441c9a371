"""The embedded Airflow's command, files and environment, which holds no secret that it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline_assets.cli.main import cli
from pipeline_assets.local.airflow import PLUGINS, airflow_environment, airflow_services, login
from pipeline_assets.local.stack import stack_services, systems
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer
from pipeline_assets_tests.fixtures.s3 import HARD_NAME

NAMES = ["airflow", "airflow-scheduler", "airflow-dag-processor"]


def settings(directory: Path, **changes: object) -> Settings:
    return Settings(
        **{
            "data_dir": directory,
            "airflow": {"enabled": True, "port": 26123},
            "s3": {"access_key_id": "AKIALAKE", "secret_access_key": "the lake's secret"},
            "snowflake": {"password": "the warehouse's secret"},
            "alerts": {"webhook_url": "http://127.0.0.1:9/the-webhook's-secret"},
        }
        | changes
    )


def test_airflow_starts_only_on_request(tmp_path: Path) -> None:
    """Airflow is started only if the settings ask for it."""
    asked = [service.name for service in stack_services(settings(tmp_path))]
    assert asked[-4:] == [*NAMES, "watchdog"]
    assert [system.name for system in systems(settings(tmp_path))][-3:] == NAMES
    left_out = settings(tmp_path, airflow={"enabled": False})
    assert not {service.name for service in stack_services(left_out)} & set(NAMES)
    without_dagster = stack_services(settings(tmp_path), with_dagster=False)
    assert not {service.name for service in without_dagster} & set(NAMES)


def test_airflow_knows_no_store_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's environment holds Dagster's address and no secret of the stores."""
    monkeypatch.setenv("PIPELINE_S3__SECRET_ACCESS_KEY", "the lake's secret")
    environment = airflow_environment(settings(tmp_path, dagster={"webserver_port": 23123}))
    dagster = json.loads(environment["AIRFLOW_CONN_DAGSTER"])
    assert (dagster["host"], dagster["port"]) == ("127.0.0.1", 23123)
    reported = json.dumps(environment)
    assert "the lake's secret" not in reported
    assert "the warehouse's secret" not in reported
    assert "webhook's-secret" in environment["AIRFLOW_CONN_CANDLE_ALERTS"]
    shown = repr([(service, service.argv) for service in airflow_services(settings(tmp_path))])
    for secret in ("webhook's-secret", login(settings(tmp_path))[1]):
        assert secret not in shown


def test_login_and_keys_survive_restarts(tmp_path: Path) -> None:
    """The login and the keys stay the same from one start to the next."""
    first, again = (airflow_environment(settings(tmp_path)) for _ in range(2))
    assert first == again
    user, password = login(settings(tmp_path))
    passwords = Path(first["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    assert json.loads(passwords.read_text()) == {user: password}
    for file in (passwords, tmp_path / "airflow" / "secrets.json"):
        assert file.stat().st_mode & 0o077 == 0
    other = tmp_path / "other"
    assert login(settings(other))[1] != password
    assert (
        airflow_environment(settings(other))["AIRFLOW__API_AUTH__JWT_SECRET"]
        != first["AIRFLOW__API_AUTH__JWT_SECRET"]
    )


PATHS = """
import sys
from airflow.configuration import conf as core
from airflow.sdk.configuration import conf as tasks
for conf in (core, tasks):
    print(conf.get("logging", "base_log_folder"))
    print(conf.get("logging", "dag_processor_child_process_log_directory"))
    print(conf.get("core", "plugins_folder"))
    print(conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///"))
"""


def test_airflow_directory_may_have_any_name(tmp_path: Path) -> None:
    """Airflow keeps its files in its directory, whatever the directory's name.

    With a quote or a % in the path, Airflow's defaults create a directory named `{AIRFLOW_HOME}`.
    """
    directory = tmp_path / HARD_NAME
    printed = subprocess.run(
        [sys.executable, "-c", PATHS],
        env=airflow_environment(settings(directory)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-8:]
    home = directory / "airflow"
    logs, database = home / "logs", home / "airflow.db"
    assert printed == [*map(str, (logs, logs / "dag_processor", PLUGINS, database))] * 2
    assert [path.name for path in tmp_path.iterdir()] == [HARD_NAME]


ON_POSTGRES = """
import asyncio, subprocess, sys
subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
from airflow.utils.session import create_session, create_session_async
from sqlalchemy import text

async def by_coroutine():
    async with create_session_async() as session:
        return (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar()

with create_session() as session:
    by_thread = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
print("FOUND", by_thread, asyncio.run(by_coroutine()))
clean = ("db", "clean", "--yes", "--skip-archive", "--error-on-cleanup-failure", "--batch-size", "500")
clean += ("--clean-before-timestamp", "2026-01-01T00:00:00+00:00")
sys.exit(subprocess.run([sys.executable, "-m", "airflow", *clean]).returncode)
"""


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("postgres")
def test_airflow_keeps_records_in_postgres(
    tmp_path: Path, postgres_server: PostgresServer, storage_database: str
) -> None:
    """With an address in the settings, Airflow uses that database, and its copy from a backup."""
    used_by_airflow(tmp_path, postgres_server, storage_database)
    postgres_server.execute(
        "INSERT INTO variable (key, val, is_encrypted) VALUES ('a_day', '2026-11-20', false)",
        database=storage_database,
    )
    postgres_server.dump(storage_database, tmp_path / "airflow.dump")
    restored = postgres_server.restored(tmp_path / "airflow.dump")
    used_by_airflow(tmp_path, postgres_server, restored)
    assert postgres_server.execute("SELECT val FROM variable", database=restored) == [
        ("2026-11-20",)
    ]
    postgres_server.drop(restored)


def used_by_airflow(directory: Path, server: PostgresServer, database: str) -> None:
    """Let Airflow migrate, read and clean a database, and no file; check that it shows no password."""
    url = server.url(database=database).get_secret_value()
    chosen = settings(directory, airflow={"enabled": True, "port": 26123, "database_url": url})
    done = subprocess.run(
        [sys.executable, "-c", ON_POSTGRES],
        env=airflow_environment(chosen),
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [(version,)] = server.execute("SELECT version_num FROM alembic_version", database=database)
    assert f"FOUND {version} {version}" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    assert not (directory / "airflow" / "airflow.db").exists()
    assert PASSWORD not in repr([each.argv for each in airflow_services(chosen)])


@pytest.mark.parametrize(
    ("arguments", "airflow", "dagster"),
    [
        ([], False, True),
        (["--airflow"], True, False),
        (["--no-schedules"], False, False),
        (["--airflow", "--no-schedules"], True, False),
    ],
)
def test_either_airflow_or_dagster_schedules(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    airflow: bool,
    dagster: bool,
) -> None:
    """Either Airflow or Dagster schedules, never both."""
    for name in ("PIPELINE_AIRFLOW__ENABLED", "PIPELINE_DAGSTER__SCHEDULES"):
        # Set first, so that what the command sets is undone after the test.
        monkeypatch.setenv(name, "false")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path))
    started: list[Settings] = []
    monkeypatch.setattr(
        "pipeline_assets.local.stack.run_stack", lambda given, **_: started.append(given)
    )
    result = CliRunner().invoke(cli, ["up", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert (started[0].airflow.enabled, started[0].dagster.schedules) == (airflow, dagster)
