"""`status` while systems hang: each part has a deadline of its own, and none hides another."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console

from pipeline_assets.cli import status as command
from pipeline_assets.cli.questions import Question
from pipeline_assets.collection.overview import lake_overview
from pipeline_assets.local.status import stack_status
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.fixtures.shell import Shell, ended
from pipeline_assets_tests.fixtures.silence import black_hole, silent_server

MACHINE_TIME = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass(frozen=True)
class Shown:
    """The output of `status` and its exit status."""

    status: int
    output: str
    errors: str


@pytest.fixture
def show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Shown]:
    """`status` in this process, which has imported the clients already."""
    monkeypatch.setattr(command, "leave", lambda _: None)

    def run(platform: Platform, *, seconds: float, as_json: bool = False) -> Shown:
        status = command.show_status(
            platform.settings,
            Console(width=140, highlight=False),
            days=1,
            seconds=seconds,
            as_json=as_json,
            machine_time=MACHINE_TIME,
            print_systems=lambda stack: print(*(each.name for each in stack.services)),
        )
        return Shown(status, *capsys.readouterr())

    return run


@pytest.fixture
def silent() -> Iterator[str]:
    with silent_server() as address:
        yield address


def rows_of(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_warehouse_that_hangs_hides_nothing_else(
    minutes: Platform, show: Callable[..., Shown], silent: str
) -> None:
    minutes.ingest("1m")
    hanging = minutes.with_settings(snowflake={"port": int(silent.rpartition(":")[2])})
    shown = show(hanging, seconds=5)
    assert shown.status == 1
    assert shown.output.startswith("exchange s3 redis snowflake ")
    assert "snowflake: no answer within 10 s (table rows are unknown)" in shown.errors
    assert "Stored, days 2026-11-20 to 2026-11-20" in shown.output
    assert "By the exchange's clock at 2026-11-20 12:00:30 UTC" in shown.output
    rows = rows_of(shown.output)
    for symbol in SYMBOLS:
        assert [symbol, "1m", "12", "720", "11-20", "11:59", "15", "0"] in rows
        assert [symbol, "1h", "0", "0", "none", "?", "12"] in rows


def test_document_parts_show_their_errors(
    minutes: Platform, show: Callable[..., Shown], silent: str
) -> None:
    """Parts of a document show their own errors."""
    minutes.ingest("1m")
    # Redis' own error comes after two attempts. A busy machine must not reach the deadline before that.
    hanging = minutes.with_settings(redis={"url": f"redis://{silent}/0", "timeout_seconds": 2})
    reported = json.loads(show(hanging, seconds=30, as_json=True).output)
    errors = {
        name: part["error"] for name, part in reported["parts"].items() if not part["answered"]
    }
    assert errors["redis"].startswith(f"Redis at redis://{silent}/0 did not answer within 2 s")
    # The exchange is not asked without the weight that Redis counts.
    assert errors["exchange"].startswith("not asked: what may be asked is kept in Redis")
    assert errors["snowflake"].startswith("not answering at http://127.0.0.1:")
    assert list(errors) == ["exchange", "redis", "snowflake"]
    assert (reported["clock"], reported["at"]) == ("this machine", "2026-11-21 00:00:00+00:00")
    minute = next(each for each in reported["symbols"] if each["interval"] == "1m")
    assert (minute["slots"], minute["missing"]) == (None, None)


def test_hanging_parts_are_named(lonely: Shell) -> None:
    """Everything that hangs is named beside the systems.

    The command is a process of its own, and hanging threads must not delay its end: S3's once took 188 s.
    """
    with ExitStack() as servers:
        exchange, snowflake = (servers.enter_context(silent_server()) for _ in range(2))
        redis = servers.enter_context(silent_server())
        s3 = servers.enter_context(silent_server())
        process = lonely.start(
            *("status", "--timeout", "0.5"),
            PIPELINE_BINANCE__REST_URL=f"http://{exchange}",
            PIPELINE_S3__ENDPOINT_URL=f"http://{s3}",
            PIPELINE_REDIS__URL=f"redis://{redis}/0",
            PIPELINE_SNOWFLAKE__PORT=snowflake.rpartition(":")[2],
        )
        done = ended(process)
    assert done.returncode == 1
    rows = rows_of(done.stdout)
    for name, address in {"exchange": exchange, "s3": s3, "redis": redis}.items():
        assert any(row[:1] == [name] and address in row[1] and "up" in row for row in rows)
    unanswered = dict.fromkeys(("s3", "redis", "snowflake"), "answer within")
    for part, why in (unanswered | {"exchange": "not asked: "}).items():
        [line] = [line for line in done.stderr.splitlines() if line.startswith(f"{part}: ")]
        assert why in line
    assert "Stored" not in done.stdout


# Databases


@pytest.mark.xdist_group("postgres")
def test_stopped_database_is_named(
    lonely: Shell, postgres_server: PostgresServer, storage_database: str
) -> None:
    """A stopped PostgreSQL is shown as down, with what does not work without it and what to do."""
    address = {
        "PIPELINE_DAGSTER__STORAGE_URL": postgres_server.url(
            database=storage_database
        ).get_secret_value(),
        "PIPELINE_TRADING__JOURNAL_URL": postgres_server.url().get_secret_value(),
    }
    well = lonely.call("status", **address)
    assert [row[2] for row in rows_of(well.stdout) if row[:1] == ["dagster-storage"]] == [
        "(external)"
    ]
    assert "dagster-storage" not in well.stderr
    postgres_server.stop()
    down = lonely.call("status", **address)
    postgres_server.start()
    place = f"127.0.0.1:{postgres_server.port}"
    assert down.returncode == 1
    for name, setting, missed in (
        (f"dagster-storage at {place}/{storage_database}", "DAGSTER__STORAGE_URL", "no run starts"),
        (f"journal at {place}/postgres", "TRADING__JOURNAL_URL", "no order is sent"),
    ):
        [line] = [line for line in down.stderr.splitlines() if line.startswith(name)]
        assert "is not answering" in line
        assert missed in line
        assert f"check that it runs and PIPELINE_{setting}" in line
    assert PASSWORD not in down.stdout + down.stderr


def test_system_is_up_by_any_host(minutes: Platform) -> None:
    """A database, sentinels and brokers are up if any of the servers accepts connections."""
    with silent_server() as living, silent_server() as other:
        dead = f"127.0.0.1:{free_port()}"
        several = minutes.with_settings(
            redis={"url": f"redis+sentinel://{dead},{living}/mymaster/0"},
            kafka={"bootstrap_servers": f"{dead},{other}"},
            dagster={"storage_url": SecretStr(f"postgresql://u:p@{dead},{living}/dagster")},
            trading={"journal_url": SecretStr(f"postgresql://u:p@{dead}/trading")},
        )
        found = {each.name: each.alive for each in stack_status(several.settings).services}
    names = ("redis", "kafka", "dagster-storage", "journal")
    assert [found[name] for name in names] == [True, True, True, False]


@pytest.mark.xdist_group("postgres")
def test_refused_login_to_database_is_named(
    minutes: Platform, show: Callable[..., Shown], postgres_server: PostgresServer
) -> None:
    """A database that answers and refuses the login is no system that works."""
    url = postgres_server.url(password="hidden-word").get_secret_value()
    address = SecretStr(url.replace("postgresql:", "postgresql+psycopg2:"))
    refused = minutes.with_settings(dagster={"storage_url": address})
    part = json.loads(show(refused, seconds=5, as_json=True).output)["parts"]["dagster-storage"]
    assert not part["answered"]
    assert "password authentication failed" in part["error"]
    assert "PIPELINE_DAGSTER__STORAGE_URL" in part["error"]
    assert "hidden-word" not in part["error"]


@pytest.mark.xdist_group("postgres")
def test_paused_database_is_named(
    minutes: Platform, show: Callable[..., Shown], postgres_server: PostgresServer
) -> None:
    """A frozen server accepts connections, so only a question finds it."""
    frozen = minutes.with_settings(trading={"journal_url": postgres_server.url()})
    postgres_server.pause()
    try:
        shown = show(frozen, seconds=0.5)
    finally:
        postgres_server.resume()
    assert shown.status == 1
    assert "journal: no answer within 1 s (until it answers" in shown.errors


def test_symbols_of_hanging_lake_are_unknown(minutes: Platform, show: Callable[..., Shown]) -> None:
    """Symbols that only a hanging lake knows are said to be unknown."""
    with black_hole() as s3:
        hanging = minutes.with_settings(symbols="all", s3={"endpoint_url": f"http://{s3}"})
        reported = json.loads(show(hanging, seconds=0.5, as_json=True).output)
    assert not reported["parts"]["s3"]["answered"]
    assert "the symbols of `all` are on S3" in reported["parts"]["redis"]["error"]


def test_gaps_need_the_exchanges_clock(minutes: Platform, show: Callable[..., Shown]) -> None:
    """Gaps are unknown without the exchange's clock."""
    minutes.ingest("1m")
    minutes.exchange.process.send_signal(signal.SIGSTOP)
    try:
        shown = show(minutes, seconds=5)
    finally:
        minutes.exchange.process.send_signal(signal.SIGCONT)
    assert shown.status == 1
    assert "exchange: no answer within 5 s (gaps are unknown" in shown.errors
    assert "By this machine's clock at 2026-11-21 00:00:00 UTC" in shown.output
    minute = next(row for row in rows_of(shown.output) if row[:2] == ["BTCUSDT", "1m"])
    assert minute[-2:] == ["15", "?"]


def test_progress_moves_the_deadline() -> None:
    """A lake with much to list is heard out; the time since the last step counts."""
    asked, moved, end = Event(), Event(), Event()

    def work(progress: Any) -> None:
        asked.wait()
        progress()
        moved.set()
        end.wait()

    question = Question(work, 3600, ())
    before = question.deadline
    asked.set()
    assert moved.wait(60)
    assert question.deadline > before
    end.set()


def test_expected_error_is_shown_bug_raised() -> None:
    """An expected error of a part is shown as its answer, and a bug of this program is raised."""

    def fail(_: Any) -> None:
        raise ValueError("the server refused")

    assert Question(fail, 60, (ValueError,)).answer().error == "the server refused"
    with pytest.raises(ValueError, match="refused"):
        Question(fail, 60, (KeyError,)).answer()


def test_hanging_part_ends_at_deadline() -> None:
    """A part that hangs is left at the deadline."""
    forever = Event()
    question = Question(lambda _: forever.wait(), 0.05, ())
    assert question.answer().error == "no answer within 0.05 s"
    assert not question.over
    forever.set()


def test_damaged_object_hides_own_candles(
    minutes: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged object hides only its own candles."""
    now = datetime(2026, 11, 20, 2, 30, 5, tzinfo=UTC)
    minutes.exchange.set_clock(now)
    minutes.ingest("1m")
    store, key = ObjectStore(minutes.settings.s3), f"ohlcv/1m/{SYMBOLS[1]}/20261120_0100.parquet"
    minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b"garbage")
    found = lake_overview(minutes.settings, store, SYMBOLS, now.date(), now)
    assert [found[symbol, Interval.ONE_MINUTE].rows for symbol in SYMBOLS] == [150, 90, 150]
    assert [found[symbol, Interval.ONE_MINUTE].missing for symbol in SYMBOLS] == [0, 60, 0]
    assert key in caplog.text


def test_newer_marks_hide_one_day(minutes: Platform) -> None:
    """A day whose marks a newer release wrote is named, and none of its candles counts as missing."""
    now = datetime(2026, 11, 20, 2, 0, 5, tzinfo=UTC)
    minutes.exchange.set_clock(now)
    minutes.ingest("1m")
    store = ObjectStore(minutes.settings.s3)
    store.put("state/sealed/1m/20261119.json", b'{"version": 2}')
    unread: list[str] = []
    found = lake_overview(
        minutes.settings, store, SYMBOLS[:1], date(2026, 11, 18), now, unread=unread
    )
    assert found[SYMBOLS[0], Interval.ONE_MINUTE].missing == 1440
    assert found[SYMBOLS[0], Interval.ONE_HOUR].missing == 50
    [line] = unread
    assert line.startswith("1m of 2026-11-19 is not judged: ")
    assert "update this installation" in line


def test_later_minutes_raise_no_alarm(minutes: Platform, caplog: pytest.LogCaptureFixture) -> None:
    """An overview up to an earlier time accepts minutes that ingest runs have stored since."""
    now = datetime(2026, 11, 20, 3, 30, 5, tzinfo=UTC)
    minutes.exchange.set_clock(now)
    minutes.ingest("1m")
    store, earlier = ObjectStore(minutes.settings.s3), now - timedelta(minutes=5)
    asked = (minutes.settings, store, SYMBOLS, now.date(), earlier)
    found = lake_overview(*asked, read_at=now)
    assert [found[symbol, Interval.ONE_MINUTE].missing for symbol in SYMBOLS] == [0, 0, 0]
    assert [each for each in caplog.records if each.name.startswith("pipeline_assets")] == []
    lake_overview(*asked)
    assert "newest open time 2026-11-20 03:29 lies after 2026-11-20 03:26" in caplog.text
