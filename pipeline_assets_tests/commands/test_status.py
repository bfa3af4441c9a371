"""`status` while systems hang: each part has a deadline of its own, and none hides another."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pipeline_assets.commands.questions import Question
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform
from pipeline_assets_tests.fixtures.silence import black_hole, silent_server
from pipeline_assets_tests.test_cli import Shell, ended


@pytest.fixture
def silent() -> Iterator[str]:
    with silent_server() as address:
        yield address


@pytest.fixture
def lonely(minutes: Platform, tmp_path: Path) -> Shell:
    """A shell without a Snowflake server."""
    return Shell(minutes, tmp_path)


def rows_of(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def symbols_of(told: dict[str, Any], interval: str) -> list[dict[str, Any]]:
    return [each for each in told["symbols"] if each["interval"] == interval]


def test_warehouse_that_hangs_hides_nothing_else(
    minutes: Platform, lonely: Shell, silent: str
) -> None:
    minutes.tick("1m")
    hanging = {"PIPELINE_SNOWFLAKE__PORT": silent.rpartition(":")[2]}
    options = ("status", "--days", "1", "--timeout", "5")
    person, program = lonely.start(*options, **hanging), lonely.start(*options, "--json", **hanging)
    shown, document = ended(person), ended(program)
    assert (shown.returncode, document.returncode) == (1, 1)
    assert "snowflake: no answer within 10 s (table rows are unknown)" in shown.stderr
    assert "Stored, days 2026-11-20 to 2026-11-20" in shown.stdout
    assert "By the exchange's clock at 2026-11-20 12:00:30 UTC" in shown.stdout
    rows = rows_of(shown.stdout)
    for symbol in SYMBOLS:
        assert [symbol, "1m", "12", "720", "11-20", "11:59", "15", "0"] in rows
        assert [symbol, "1h", "0", "0", "none", "?", "12"] in rows
    told = json.loads(document.stdout)
    assert told["parts"]["snowflake"] == {"answered": False, "error": "no answer within 10 s"}
    for part in ("systems", "exchange", "s3", "redis"):
        assert told["parts"][part] == {"answered": True, "error": None}
    assert [each["slots"] for each in symbols_of(told, "1m")] == [15] * 3
    assert [each["table_rows"] for each in symbols_of(told, "1h")] == [None] * 3


def test_everything_that_hangs_is_named_beside_the_systems(lonely: Shell) -> None:
    """Clients would go on for minutes: for 188 s with S3."""
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
    for part in ("s3", "redis", "snowflake", "exchange"):
        [line] = [line for line in done.stderr.splitlines() if line.startswith(f"{part}: ")]
        assert "no answer within" in line or "did not answer within" in line
    assert "Stored" not in done.stdout


def test_symbols_that_only_a_hanging_lake_knows_are_said_to_be_unknown(lonely: Shell) -> None:
    with black_hole() as s3:
        done = lonely.run(
            *("status", "--timeout", "0.5", "--json"),
            PIPELINE_SYMBOLS="all",
            PIPELINE_S3__ENDPOINT_URL=f"http://{s3}",
        )
    assert done.returncode == 1
    parts = json.loads(done.stdout)["parts"]
    assert not parts["s3"]["answered"]
    assert "the symbols of `all` are on S3" in parts["redis"]["error"]


def test_gaps_are_unknown_without_the_exchanges_clock(minutes: Platform, lonely: Shell) -> None:
    minutes.tick("1m")
    minutes.exchange.process.send_signal(signal.SIGSTOP)
    try:
        done = lonely.run("status", "--timeout", "5")
    finally:
        minutes.exchange.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "exchange: no answer within 5 s (gaps are unknown" in done.stderr
    assert "this machine's clock" in done.stdout
    minute = next(row for row in rows_of(done.stdout) if row[:2] == ["BTCUSDT", "1m"])
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


def test_error_of_a_part_is_its_answer_and_a_fault_of_ours_is_raised() -> None:
    def fail(_: Any) -> None:
        raise ValueError("the server refused")

    assert Question(fail, 60, (ValueError,)).answer().error == "the server refused"
    with pytest.raises(ValueError, match="refused"):
        Question(fail, 60, (KeyError,)).answer()


def test_what_hangs_is_left_at_the_deadline() -> None:
    forever = Event()
    question = Question(lambda _: forever.wait(), 0.05, ())
    assert question.answer().error == "no answer within 0.05 s"
    assert not question.over
    forever.set()
