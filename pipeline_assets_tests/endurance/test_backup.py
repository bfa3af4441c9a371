"""A running stack is copied by deploy/backup/backup.sh, restored elsewhere, and goes on there.

The test needs the programs rclone and sqlite3, and takes some ten minutes.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.local.stack import running_stack, settings_environment
from pipeline_assets.resources.candidate_objects import read_candidates
from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.resources.journals import beside
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.trading.paper_records import PAPER_RECORDS, PaperAccepted
from pipeline_assets.trading.records import GATEWAY_RECORDS, OrderSending
from pipeline_assets_tests.fixtures.airflow import Airflow, stack_settings
from pipeline_assets_tests.fixtures.lake_copy import BACKUP
from pipeline_assets_tests.fixtures.s3 import S3Server, eventually, free_port

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600)]
SYMBOLS = "BTCUSDT,ETHUSDT,SOLUSDT,BNBUSDT,XRPUSDT,DOGEUSDT"


def test_restored_stack_goes_on(tmp_path: Path) -> None:
    """Copied amid ingest runs; both go on for minutes, which must have the same candles and candidates."""
    for program in ("rclone", "sqlite3"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    before, after = (stack(tmp_path / name) for name in ("before", "after"))
    with running_stack(before):
        eventually(lambda: ingested(before) >= 2 and candidates(before).height, "candidates", 600)
        copied = ingested(before)
        back_up(before, after, tmp_path / "copy")
        # The copy must not know what comes now.
        eventually(lambda: ingested(before) >= copied + 1, "one more ingest run", 600)
        restore(tmp_path / "copy", before, after)
        with running_stack(after):
            eventually(lambda: ingested(after) >= copied + 2, "the copy goes on", 900)
            found = comparison(before, after)
    print("\n" + "\n".join(f"{name:<60} {value}" for name, value in found.items()))
    assert not {name: value for name, value in found.items() if value and "(0)" in name}


def stack(directory: Path) -> Settings:
    """Return a stack on ports of its own whose schedules are on, as `up` has it."""
    ports = {"webserver_port": free_port(), "code_server_port": free_port()}
    return stack_settings(directory, symbols=SYMBOLS, dagster={**ports, "schedules": True})


def back_up(before: Settings, after: Settings, directory: Path) -> None:
    """Run the script, with the embedded S3 server over the later data directory as its target."""
    bucket, programs = before.s3.bucket, f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with S3Server(after.data_dir / "s3") as target:
        subprocess.run(
            [BACKUP / "backup.sh", f"lake:{bucket}", f"copy:{bucket}", directory],
            check=True,
            env=settings_environment(before)
            | remote("lake", before.s3.endpoint_url, before)
            | remote("copy", target.endpoint, before)
            # rclone 1.60 takes no bundle of certificates: docs/backup.md.
            | {"RCLONE_CONFIG": os.devnull, "PATH": programs, "AWS_CA_BUNDLE": ""},
        )


def remote(name: str, endpoint: str | None, settings: Settings) -> dict[str, str]:
    """Return the environment that makes a store known to rclone."""
    secret = settings.s3.secret_access_key
    assert secret is not None
    options = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "REGION": "us-east-1",
        "ENDPOINT": str(endpoint),
        "ACCESS_KEY_ID": str(settings.s3.access_key_id),
        "SECRET_ACCESS_KEY": secret.get_secret_value(),
    }
    return {f"RCLONE_CONFIG_{name.upper()}_{key}": value for key, value in options.items()}


def restore(copy: Path, before: Settings, after: Settings) -> None:
    """Put Dagster's storage and the journals in their places; the lake is in its place already."""
    shutil.copytree(copy / "dagster", after.data_dir / "dagster", dirs_exist_ok=True)
    journal = journal_of(after)
    journal.parent.mkdir(parents=True, exist_ok=True)
    for owner in ("gateway", "paper"):
        shutil.copy(beside(copy / "journal.sqlite", owner), beside(journal, owner))


def journal_of(settings: Settings) -> Path:
    """Return the place of the gateway's journal."""
    return settings.data_dir / "trading" / f"{settings.trading.account}.sqlite"


def candidates(settings: Settings) -> pl.DataFrame:
    """Return today's candidates on the lake."""
    return read_candidates(ObjectStore(settings.s3), Airflow(settings, {}).platform.now().date())


@contextmanager
def database(settings: Settings, name: str) -> Iterator[sqlite3.Connection]:
    """Provide a file of Dagster's storage, to be read."""
    with closing(sqlite3.connect(settings.data_dir / "dagster" / name)) as connection:
        yield connection


def runs(settings: Settings) -> Counter[tuple[str, str]]:
    """Count the ended ingest runs by job and scheduled minute."""
    text = """select pipeline_name, value from runs join run_tags using (run_id)
        where key = 'dagster/run_key' and status = 'SUCCESS' and pipeline_name like 'tick%'"""
    with database(settings, "history/runs.db") as connection:
        return Counter(connection.execute(text).fetchall())


def ingested(settings: Settings) -> int:
    """Return how many minutes have an ended ingest run; 0 before Dagster made its storage."""
    try:
        return sum(job == "tick_1m" for job, _ in runs(settings))
    except sqlite3.OperationalError:
        return 0


def orders(settings: Settings) -> tuple[Counter[str], Counter[str]]:
    """Count the orders that the gateway sent, and that the venue accepted, by their ids."""
    gateway, paper = (
        SqliteJournal(beside(journal_of(settings), each)) for each in ("gateway", "paper")
    )
    with closing(gateway), closing(paper):
        sent = [e for e in GATEWAY_RECORDS.read(gateway) if isinstance(e, OrderSending)]
        accepted = [e for e in PAPER_RECORDS.read(paper) if isinstance(e, PaperAccepted)]
    return (
        Counter(each.order.client_id for each in sent),
        Counter(each.order.client_id for each in accepted),
    )


def comparison(before: Settings, after: Settings) -> dict[str, int]:
    """Compare the restored stack with the exchange and with the stack that was copied; (0) means none."""
    platform = Airflow(after, {}).platform
    found: dict[str, int] = {}
    for interval in ("1m", "15m", "1h"):
        stored = platform.stored(interval)
        first, newest = stored["open_time"].min(), stored["open_time"].max()
        truth = pl.concat(
            platform.truth(interval, symbol, first, newest) for symbol in SYMBOLS.split(",")
        )
        found[f"{interval}: candles stored"] = stored.height
        found[f"{interval}: candles lost or different (0)"] = truth.join(
            stored, on=truth.columns, how="anti"
        ).height
        found[f"{interval}: candles doubled (0)"] = int(
            stored.select("symbol", "open_time").is_duplicated().sum()
        )
    ours, theirs = candidates(after), candidates(before)
    until = min(frame["open_time"].max() for frame in (ours, theirs))
    early, late = (set(f.filter(pl.col("open_time") <= until)["id"]) for f in (theirs, ours))
    found["candidates of both stacks"] = len(early & late)
    found["candidates of one stack alone (0)"] = len(early ^ late)
    found["candidates doubled (0)"] = int(ours["id"].is_duplicated().sum())
    found["ingest runs"] = sum(runs(after).values())
    found["ingest runs of a minute that had one already (0)"] = sum(
        count - 1 for count in runs(after).values()
    )
    for name, counted in zip(("sent", "accepted"), orders(after), strict=True):
        found[f"orders {name}"] = len(counted)
        found[f"orders {name} twice (0)"] = sum(count - 1 for count in counted.values())
    found["symbols with fewer than 15 slots (0)"] = sum(
        len(platform.slots(symbol)) != 15 for symbol in SYMBOLS.split(",")
    )
    return found
