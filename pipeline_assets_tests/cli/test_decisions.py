"""The command `decisions` over a real S3 server, by the replay exchange's clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from pipeline_assets.cli.main import cli
from pipeline_assets.errors import PipelineError
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.decision_store import LakeDecisions, decisions_key
from pipeline_assets.trading.decisions import MinuteDecisions, decided
from pipeline_assets.trading.record_objects import Kind, merge_records, object_key
from pipeline_assets.trading.record_rows import decision_row
from pipeline_assets_tests.fixtures.judge import FakeJudge, decider
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.shell import Shell

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
Run = Callable[..., Result]


@pytest.fixture
def store(minutes: Platform) -> ObjectStore:
    return ObjectStore(minutes.settings.s3)


@pytest.fixture
def run(lonely: Shell) -> Run:
    """A command in this process, over the platform's servers."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ("decisions", *arguments), env=lonely.environment)

    return run


def judged(store: ObjectStore, start: datetime, symbols: int = 1) -> None:
    """Fix decisions of the inference service about one minute."""
    found = candidates(symbols=symbols, start=start)
    lake = LakeDecisions(store)
    lake.fix(to_minute(start), MinuteDecisions(decisions=()))
    decider(lake, FakeJudge(), to_milliseconds(start) + 70_000).decide(found)


def declined(store: ObjectStore, start: datetime, author: str = "trader") -> None:
    """Fix a trader's decisions about two candidates of one minute."""
    found = decided(candidates(symbols=2, start=start), "position_held", author, start)
    LakeDecisions(store).fix(to_minute(start), MinuteDecisions(decisions=tuple(found)))


def printed(done: Result) -> list[dict[str, object]]:
    assert done.exit_code == 0, (done.output, done.exception)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_today_is_read_from_documents(run: Run, store: ObjectStore) -> None:
    """A person sees verdict, reason and what the model expected; a program the same values."""
    declined(store, TODAY)
    judged(store, TODAY + timedelta(minutes=1))
    done = run()
    assert done.exit_code == 0, done.exception
    assert "2026-11-20 UTC: 3, of them 1 accepted and 2 declined" in done.stdout
    assert "position_held: another strategy holds the symbol" in done.stdout
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "00:00 COIN1USDT short rsi_reversal 101.25 decline position_held" in rows
    assert "00:01 COIN0USDT long rsi_reversal 100.25 accept 60% +1.00%" in rows
    assert any("model m-1: f15_return=none (+20.0)" in row for row in rows)
    *_, last = printed(run("--json"))
    assert (last["probability"], last["expected_value"], last["model"]) == (0.6, 0.01, "m-1")
    assert last["reasons"] == [{"input": "f15_return", "value": None, "effect": 0.2}]
    assert last["open_time"] == "2026-11-20T00:01:00+00:00"


def test_earlier_day_is_read_from_object(run: Run, store: ObjectStore) -> None:
    """The object counts on a day that is over; without an object, the documents."""
    day = TODAY - timedelta(days=1)
    declined(store, day)
    assert len(printed(run("--day", "2026-11-19", "--json"))) == 2
    found = decided(candidates(symbols=3, start=day), "stale", "test", day)
    merge_records(store, Kind.DECISIONS, day.date(), map(decision_row, found))
    assert [each["reason"] for each in printed(run("--day", "2026-11-19", "--json"))] == [
        "stale"
    ] * 3


def test_options_choose_rows(run: Run, store: ObjectStore) -> None:
    """Each option leaves rows out; what matches nothing names what there is."""
    declined(store, TODAY)
    judged(store, TODAY + timedelta(minutes=1), symbols=2)
    for options, count in (
        (("--symbols", "COIN1USDT"), 2),
        (("--verdict", "accept"), 2),
        (("--strategy", "rsi_reversal", "--last", "3"), 3),
        (("--strategy", "macd_cross"), 0),
    ):
        assert len(printed(run(*options, "--json"))) == count, options
    none = run("--strategy", "macd_cross")
    assert "None of 4 decisions of the day is as asked. They are of: rsi_reversal." in none.stdout
    assert "neither trader nor inference service runs" in run("--day", "2026-11-10").stdout


def test_outside_text_cannot_steer_terminal(run: Run, store: ObjectStore) -> None:
    """Another program's document cannot send escape sequences or rich's markup to a terminal."""
    declined(store, TODAY, author="\x1b[2J[red]who\x9b")
    for options in ((), ("--json",)):
        done = run(*options)
        assert done.exit_code == 0
        assert not {"\x1b", "\x9b"} & set(done.stdout)
    assert "by \\x1b[2J[red]who\\x9b" in run().stdout


def test_what_cannot_be_shown_is_named(run: Run, store: ObjectStore) -> None:
    """A day to come, a damaged object and a document of another version give one message each."""
    store.put(object_key(Kind.DECISIONS, TODAY.date() - timedelta(days=1)), b"PAR1 and no more")
    store.put(decisions_key(TODAY), b'{"decisions": [{"schema_version": 9}]}')
    for day, status, words in (
        ("2026-11-21", 2, "lies in the future"),
        ("2026-11-19", 1, "decisions/20261119.parquet is damaged"),
        ("2026-11-20", 1, "use the version that wrote it"),
    ):
        done = run("--day", day)
        assert isinstance(done.exception, PipelineError), day
        assert done.exception.exit_status == status
        assert words in str(done.exception)
