"""The commands `backtest` and `lookahead` over stored candles, and what they refuse."""

from __future__ import annotations

import json
import re
import resource
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline_assets.cli.main import cli
from pipeline_assets.cli.whole_file import FileNotWrittenError, write_whole
from pipeline_assets.errors import InputError, PipelineError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets_tests.fixtures.commands import Commands
from pipeline_assets_tests.fixtures.damage import encoded_day, flip_bit, store_damaged
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.shell import Shell

pytestmark = pytest.mark.xdist_group("compiled")

SYMBOLS = ("BTCUSDT", "ETHUSDT")
DAYS = [datetime(2026, 11, number, tzinfo=UTC) for number in (12, 13, 14, 15)]
SPAN = ("--symbols", ",".join(SYMBOLS), "--start", "2026-11-14", "--end", "2026-11-16")
STRATEGIES = '[{"name":"macd_cross","fast":5,"slow":10,"rules":{"stop":0.01,"target":0.02}}]'
Run = Callable[..., Result]


@pytest.fixture
def shell(minutes: Platform, tmp_path: Path, commands: Commands) -> Shell:
    """A shell over a lake with four days of two symbols."""
    for symbol in SYMBOLS:
        for day in DAYS:
            body = encoded_day(symbol, day.date())
            store_damaged(minutes.bucket, key_of(symbol, day), body, body)
    made = Shell(minutes, tmp_path, commands)
    made.environment["PIPELINE_STRATEGIES"] = STRATEGIES
    return made


@pytest.fixture
def run(shell: Shell) -> Run:
    """A command in this process, where the engine is compiled already."""

    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(cli, arguments, env=shell.environment | environment)

    return run


def key_of(symbol: str, day: datetime) -> str:
    return object_key(Interval.ONE_MINUTE, symbol, day)


def refusal(done: Result) -> str:
    """The message of a command that refused its use."""
    if isinstance(done.exception, InputError):
        return str(done.exception)
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


def test_shows_costs_and_holding_apart(run: Run, tmp_path: Path) -> None:
    """The table fits 80 columns; report and trades are written; JSON has the same figures."""
    html, trades = tmp_path / "report.html", tmp_path / "trades.parquet"
    files = ("--html", str(html), "--trades", str(trades))
    done = run("backtest", "--strategy", "macd_cross", *SPAN, *files, COLUMNS="80")
    assert done.exit_code == 0, (done.output, done.exception)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Written: ")]
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(done.stdout.splitlines()) - 2
    for words in ("before costs", "slippage", "fees", "funding", "buy and hold", "macd_cross 1-"):
        assert words in done.stdout
    assert "funding rates are missing" in done.stdout
    again = run("backtest", "--strategy", "macd_cross", *SPAN, "--json")
    reported = json.loads(again.stdout)
    request = reported["request"]
    assert (request["start"], request["end"]) == ("2026-11-14T00:00Z", "2026-11-16T00:00Z")
    assert (request["capital"], request["slippage"]) == ("10000", "0.0002")
    held = pq.read_table(trades)
    total = reported["metrics"]["total"]
    assert held.num_rows == total["trades"] + total["open_trades"] > 10
    assert sum(held["net"].to_pylist()) == pytest.approx(total["net"])
    assert total["fees"] > 0 < total["slippage"]
    assert (total["cagr"], total["sharpe"]) == (None, None)
    assert "2.0 days" in reported["metrics"]["yearly_left_out"]
    page = html.read_text("utf-8")
    assert reported["checksum"] in page
    assert not re.search(r'(?:src|href)="(?!https://www\.tradingview\.com/)', page)


def test_repeats_to_the_same_bytes(run: Run, tmp_path: Path) -> None:
    """Two runs over the same candles write the same report and the same trades."""
    made = []
    for name in ("first", "second"):
        html, trades = tmp_path / f"{name}.html", tmp_path / f"{name}.parquet"
        run("backtest", *SPAN, "--html", str(html), "--trades", str(trades))
        made.append((html.read_bytes(), trades.read_bytes()))
    assert made[0] == made[1]


def test_parameters_and_rules_are_set(run: Run) -> None:
    """--set changes a parameter or a rule; the version says so."""
    options = ("--set", "fast=4", "--set", "macd_cross.slow=9", "--set", "rules.sizing.value=500")
    done = run("backtest", *SPAN, "--json", *options)
    [strategy] = json.loads(done.stdout)["request"]["strategies"]
    assert (strategy["parameters"]["fast"], strategy["parameters"]["slow"]) == (4, 9)
    assert float(strategy["rules"]["sizing"]["value"]) == 500
    assert float(strategy["rules"]["stop"]) == 0.01


WRONG = (
    (("--strategy", "macd_cros", *SPAN), "bollinger_breakout, ema_trend, macd_cross, rsi_reversal"),
    ((*SPAN, "--set", "fats=8"), "there are fast, slow, signal"),
    ((*SPAN, "--set", "fast=300"), "fast: Input should be less than or equal to 200"),
    ((*SPAN, "--set", "fast"), "write it as fast=8"),
    ((*SPAN, "--set", "ema_trend.fast=8"), "chosen are macd_cross"),
    ((*SPAN, "--set", "rules.stopp=1"), "trailing_stop"),
    ((*SPAN[:2], "--start", "2026-11-16", "--end", "2026-11-14"), "must come after --start"),
    ((*SPAN[:2], "--start", "2026-11-14", "--end", "2026-11-14"), "holds no day"),
    (("--symbols", "BTCUSD", *SPAN[2:]), "BTCUSD was never on the exchange; did you mean BTCUSDT?"),
    ((*SPAN, "--capital", "much"), "'much' is no number"),
    ((*SPAN, "--capital", "1"), "raise the capital of 1"),
    ((*SPAN, "--html", "absent/report.html"), "there is no directory absent"),
    ((*SPAN, "--trades", "/"), "is a directory"),
    ((*SPAN, "--capital", "nan"), "'nan' is no number"),
    ((*SPAN, "--set", "fast=2026-13-45"), "has a value that is no number"),
    ((*SPAN, "--set", "stop=0.01"), "A position rule is written rules.stop=0.01."),
    ((*SPAN, "--html", "/dev/null"), "is no regular file"),
    ((*SPAN, "--html", "same", "--trades", "./same"), "name the same file"),
)  # fmt: skip


def test_wrong_use_names_what_there_is(run: Run) -> None:
    """Wrong use ends with status 2 and says what there is."""
    for arguments, words in WRONG:
        done = run("backtest", *arguments)
        assert words in refusal(done), arguments


@pytest.mark.matrix
def test_compilation_is_announced_once(shell: Shell, tmp_path: Path) -> None:
    """A command that compiles says so on standard error; the next command finds the result."""
    shell.environment["NUMBA_CACHE_DIR"] = str(tmp_path / "compiled")
    first, second = (shell.run("backtest", *SPAN, "--json") for _ in range(2))
    assert "Compiling the backtest's loop" in first.stderr
    assert "Compiling" not in second.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)


def test_wrong_use_has_status_two(shell: Shell) -> None:
    """The command as a process: one message, status 2, no traceback."""
    done = shell.run("backtest", "--strategy", "absent", *SPAN)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: There is no strategy 'absent'")


def test_missing_days_are_named(run: Run, tmp_path: Path) -> None:
    """Days without a candle end the command before anything is written, unless they are skipped."""
    html = tmp_path / "report.html"
    longer = (*SPAN[:2], "--start", "2026-11-14", "--end", "2026-11-18")
    done = run("backtest", *longer, "--html", str(html))
    assert isinstance(done.exception, PipelineError)
    assert "BTCUSDT 2026-11-16 to 2026-11-17, ETHUSDT 2026-11-16 to" in str(done.exception)
    assert "--symbols BTCUSDT,ETHUSDT --start 2026-11-16 --end 2026-11-18" in str(done.exception)
    assert list(tmp_path.glob("*.html")) == []
    assert run("backtest", *longer, "--skip-missing").exit_code == 0


def test_symbol_without_candles_is_named(run: Run) -> None:
    """A symbol of which the span has no candle does not vanish from the result without a word."""
    both = ("--symbols", "BTCUSDT,币安人生USDT", *SPAN[2:])
    done = run("backtest", *both, "--skip-missing", "--json")
    assert json.loads(done.stdout)["counts"]["without_candles"] == ["币安人生USDT"]
    assert "No candle is stored in the span of 币安人生USDT" in done.stdout


def test_days_to_come_are_refused(run: Run) -> None:
    """Days that have not come are not called missing, with advice to fetch them."""
    done = run("backtest", *SPAN[:2], "--start", "2026-11-14", "--end", "2026-12-30")
    assert isinstance(done.exception, InputError)
    assert "2026-12-29 lies in the future" in str(done.exception)


def test_nothing_stored_says_what_to_do(run: Run) -> None:
    """A span without any candle is named with the command that fetches some."""
    done = run("backtest", *SPAN[:2], "--start", "2026-10-01", "--end", "2026-10-03")
    assert isinstance(done.exception, PipelineError)
    assert "backfill --interval 1m" in str(done.exception)


def test_damaged_object_is_named(shell: Shell, run: Run, minutes: Platform) -> None:
    """A damaged object ends the command; with --skip-damaged it is left out and named."""
    key, body = key_of("ETHUSDT", DAYS[3]), encoded_day("ETHUSDT", DAYS[3].date())
    store_damaged(minutes.bucket, key, body, flip_bit(body, 8 * len(body) // 2))
    done = run("backtest", *SPAN)
    assert isinstance(done.exception, PipelineError)
    assert key in str(done.exception)
    done = run("backtest", *SPAN, "--skip-damaged", "--json")
    reported = json.loads(done.stdout)
    assert reported["damaged"] == [key]
    assert any(key in line for line in reported["warnings"])


def test_full_disk_leaves_no_part(tmp_path: Path) -> None:
    """A file that cannot be written whole leaves the one before, and nothing beside it."""
    path = tmp_path / "report.html"
    path.write_bytes(b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(
            FileNotWrittenError, match=r"report\.html was not written: File too large"
        ):
            write_whole(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert path.read_bytes() == b"before"
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"


def test_lookahead_judges_stored_candles(run: Run) -> None:
    """The strategies of the settings pass over a stored day; JSON says how much was compared."""
    options = ("--day", "2026-11-15", "--symbols", "BTCUSDT", "--minutes", "20")
    done = run("lookahead", *options)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "1 strategies on BTCUSDT: 21 cut-off points of the history compared" in done.stdout
    reported: dict[str, Any] = json.loads(run("lookahead", *options, "--json").stdout)
    assert (reported["findings"], reported["truncations"]) == ([], 21)


def test_lookahead_without_candles_is_refused(run: Run) -> None:
    """Without a finalized day, or candles up to the named one, the command says what to fetch."""
    assert "No day of 1m candles is finalized" in str(run("lookahead").exception)
    done = run("lookahead", "--day", "2026-10-01", "--symbols", "BTCUSDT")
    assert "No 1m candle of BTCUSDT is stored" in str(done.exception)
