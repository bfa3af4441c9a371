"""The cost of a backfill: 20 symbols and 30 days of minutes, all columns, from the replay exchange into
objects on S3.

`python -m pipeline_assets_tests.benchmarks.bench_backfill`. Our figure is for the command `pipeline-assets
backfill` in a process of its own, so its start, Dagster, checks and repeated requests count. The other
clients fetch a few symbols, as shipped, and store nothing on S3. ccxt and freqtrade are measured
if BENCH_CLIENTS names a Python that has them: freqtrade cannot be installed beside Dagster, and
ccxt installs a DNS resolver that our aiohttp would then use.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    S3Bucket,
    S3Server,
    make_bucket,
)

SYMBOLS, DAYS = 20, 30
END = date(2026, 11, 20)
ROWS = SYMBOLS * DAYS * 1440
LIMIT = 2400
# Rows that the limit allows a minute at 499 a request of weight 2.
POSSIBLE = LIMIT // 2 * 499
MONTH_DAYS, MONTH_END = 31, date(2026, 11, 1)  # all of October
CLOCK = f"stepped:{END}T00:05:30Z"
RUNNING = f"start:{END}T00:05:30Z"
EVENTS = (500, 2)  # symbols, days
YEARS = (365, 730)
OTHERS = (2, 10)  # symbols, days
CLIENTS = "BENCH_CLIENTS"


@dataclass
class Spent:
    """One process: its wall and CPU seconds, peak memory, and what it printed."""

    wall: float
    cpu: float
    peak_mb: float
    out: str


@dataclass
class Servers:
    """Exchange, S3 and Redis, and the environment that makes the command use them."""

    exchange: ExchangeHandle
    bucket: S3Bucket
    redis: RedisServer
    directory: Path

    @property
    def address(self) -> str:
        return self.exchange.url.removesuffix("/fapi")

    def environment(self, **changes: str) -> dict[str, str]:
        # Each backfill has a Dagster instance of its own, as a person's first one has.
        data = tempfile.mkdtemp(dir=self.directory)
        named = {
            "PIPELINE_DATA_DIR": data,
            "PIPELINE_BINANCE__REST_URL": self.address,
            "PIPELINE_BINANCE__WEIGHT_LIMIT": "10000000",
            "PIPELINE_BINANCE__ARCHIVE": "false",
            "PIPELINE_S3__ENDPOINT_URL": self.bucket.endpoint,
            "PIPELINE_S3__BUCKET": self.bucket.name,
            "PIPELINE_S3__ACCESS_KEY_ID": ACCESS_KEY_ID,
            "PIPELINE_S3__SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "PIPELINE_REDIS__URL": self.redis.url,
        }
        return {**os.environ, **named, **changes}

    def listed(self) -> list[str]:
        """Return the trading symbols, those that were listed first before the others."""
        with urllib.request.urlopen(f"{self.exchange.url}/v1/exchangeInfo", timeout=30) as reply:
            entries = json.load(reply)["symbols"]
        trading = [entry for entry in entries if entry["status"] == "TRADING"]
        return [e["symbol"] for e in sorted(trading, key=lambda e: e["onboardDate"])]

    def empty(self) -> None:
        """Remove everything stored, and what the exchange and the budget counted."""
        store = ObjectStore(self.bucket.settings())
        store.delete([each.key for each in store.objects("")])
        self.redis.client().flushall()

    def refused(self) -> int:
        state = self.exchange.state()
        return int(state["sent_429"]) + int(state["sent_418"])


@contextmanager
def servers(directory: Path, **options: Any) -> Iterator[Servers]:
    """Provide all servers as processes of their own."""
    directory.mkdir()
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(directory))
        s3 = stack.enter_context(S3Server(directory / "s3"))
        exchange = stack.enter_context(start_exchange(**options))
        yield Servers(exchange, make_bucket(s3), redis, directory)


def run(command: Sequence[str], environment: dict[str, str]) -> Spent:
    """Run a process to its end; one that fails ends the benchmark."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watched, peak = psutil.Process(process.pid), 0.0
    while True:
        try:
            out, err = process.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, _peak_mb(watched.pid))
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed: {err[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall, cpu, peak, out)


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    held = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(held[0].split()[1]) / 1024 if held else 0.0


def backfill(
    at: Servers, symbols: Sequence[str], days: int, end: date = END, **changes: str
) -> tuple[Spent, dict[str, Any]]:
    """Our command over these symbols, and what it says it did; problems end the benchmark."""
    command = [
        *(sys.executable, "-m", "pipeline_assets", "backfill", "--interval", "1m", "--json"),
        *("--symbols", ",".join(symbols), "--start", str(end - timedelta(days=days))),
        *("--end", str(end)),
    ]
    spent = run(command, at.environment(**changes))
    reported = json.loads(spent.out)
    if reported["problems"] or reported["rows"] != len(symbols) * days * 1440:
        raise RuntimeError(
            f"The backfill stored {reported['rows']} rows: {reported['problems'][:3]}"
        )
    return spent, reported


def others(at: Servers, symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the other clients reach over a few symbols and days: rows/s, or why they gave up."""
    python = {"python_binance": sys.executable}
    if CLIENTS in os.environ:
        python |= dict.fromkeys(("ccxt", "freqtrade"), os.environ[CLIENTS])
    found = {}
    program = Path(__file__).with_name("other_clients.py")
    for name, interpreter in python.items():
        command = [interpreter, str(program), name, at.address, str(OTHERS[1]), str(END)]
        reported = json.loads(run([*command, *symbols[: OTHERS[0]]], dict(os.environ)).out)
        found[name] = {**reported, "rows_per_s": reported["rows"] / reported["seconds"]}
    return found


def unthrottled(directory: Path) -> list[bool]:
    """Measure without the exchange's limit, with 0 and 60 ms to the exchange, and the other clients."""
    with servers(directory, symbols=2 * SYMBOLS, clock=CLOCK, weight_limit=0) as at:
        symbols = at.listed()[:SYMBOLS]
        backfill(at, symbols, DAYS)  # the exchange makes its candles once
        at.empty()
        start, _ = backfill(at, symbols[:1], 1)
        at.empty()
        spent, reported = backfill(at, symbols, DAYS)
        compared = others(at, symbols)
        at.empty()
        at.exchange.faults(latency_ms=60)
        far, _ = backfill(at, symbols, DAYS)
        far_compared = others(at, symbols[:1])
    rates = {name: each["rows_per_s"] for name, each in compared.items()}
    against = "python-binance's futures_historical_klines as shipped, into memory"
    own = ROWS / (spent.wall - start.wall)
    return [
        report(
            "backfill.stored",
            own,
            "rows/s into objects, the command's start left out",
            150_000,
            at_least=True,
            ratio=own / rates["python_binance"],
            against=against,
            with_start=ROWS / spent.wall,
            start_s=start.wall,
            weight=reported["weight"],
            **{f"{name}_rows_per_s": rate for name, rate in rates.items()},
            ratios={name: round(own / rate, 1) for name, rate in rates.items() if rate},
            gave_up={name: e["error"] for name, e in compared.items() if "error" in e},
        ),
        report(
            "backfill.cpu",
            (spent.cpu - start.cpu) / ROWS * 1e6,
            "CPU s of the command a million rows, its start left out",
            6,
            ratio=spent.cpu / start.cpu,
            against="the same command over a day of one symbol",
            with_start=spent.cpu / ROWS * 1e6,
            start_cpu_s=start.cpu,
        ),
        report(
            "backfill.stored_at_60_ms",
            ROWS / (far.wall - start.wall),
            "rows/s into objects, 60 ms to the exchange",
            60_000,
            at_least=True,
            ratio=ROWS / (far.wall - start.wall) / far_compared["python_binance"]["rows_per_s"],
            against=against,
            with_start=ROWS / far.wall,
        ),
    ]


def archived(directory: Path) -> list[bool]:
    """Report a whole month from the archive, checked against the exchange's hours."""
    with servers(directory, symbols=2 * SYMBOLS, clock=CLOCK, weight_limit=0) as at:
        symbols = at.listed()[:SYMBOLS]
        archive = {
            "PIPELINE_BINANCE__ARCHIVE": "true",
            "PIPELINE_BINANCE__ARCHIVE_URL": at.address,
        }
        backfill(at, symbols, MONTH_DAYS, MONTH_END, **archive)  # the files are made once
        at.empty()
        start, _ = backfill(at, symbols[:1], 1, MONTH_END, **archive)
        at.empty()
        spent, reported = backfill(at, symbols, MONTH_DAYS, MONTH_END, **archive)
        at.empty()
        paged, _ = backfill(at, symbols, MONTH_DAYS, MONTH_END)
    rows = SYMBOLS * MONTH_DAYS * 1440
    return [
        report(
            "backfill.stored_from_the_archive",
            rows / (spent.wall - start.wall),
            "rows/s into objects, the command's start left out",
            200_000,
            at_least=True,
            ratio=(paged.wall - start.wall) / (spent.wall - start.wall),
            against="the same month by pages from the exchange",
            with_start=rows / spent.wall,
            cpu_s_per_million_rows=(spent.cpu - start.cpu) / rows * 1e6,
            weight=reported["weight"],
        )
    ]


def throttled(directory: Path) -> list[bool]:
    """Measure with the exchange's limit in force, from the turn of a minute on.

    The rows of the first minute are those that the limit allows at most; what it takes to start the
    command is part of that minute.
    """
    with servers(directory, symbols=2 * SYMBOLS, clock=RUNNING, weight_limit=LIMIT) as at:
        symbols = at.listed()[:SYMBOLS]
        time.sleep(60 - at.exchange.state()["now_ms"] / 1000 % 60)
        limited = {"PIPELINE_BINANCE__WEIGHT_LIMIT": str(LIMIT)}
        spent, reported = backfill(at, symbols, DAYS, **limited)
        refused = at.refused()
        used = at.exchange.state()["weight"]["used"]
    per_weight = ROWS / reported["weight"]
    share = max(used.values()) / LIMIT * per_weight / (POSSIBLE / LIMIT)
    return [
        report(
            "backfill.share_of_the_limit",
            share,
            "of the rows that the limit allows in a full minute",
            0.97,
            at_least=True,
            ratio=share * POSSIBLE / (LIMIT / 10 * 1500),
            against="the same weight at limit=1500, as most clients page",
            met=share >= 0.97 and refused == 0,
            weight_by_minute=list(used.values()),
            refused=refused,
            wall_s=spent.wall,
        ),
        report(
            "backfill.rows_per_weight",
            per_weight,
            "rows a weight, everything counted",
            240,
            at_least=True,
            ratio=per_weight / 150,
            against="150 at limit=1500, as most clients page",
        ),
    ]


def events(directory: Path) -> bool:
    """Dagster's own events in a backfill of many symbols: their share of its time."""
    count, days = EVENTS
    with servers(directory, symbols=count + 20, clock=CLOCK, weight_limit=0) as at:
        symbols = at.listed()[:count]
        backfill(at, symbols[:1], 1)
        command = [sys.executable, "-m", __spec__.name, "events", str(days), *symbols]
        reported = json.loads(run(command, at.environment()).out.splitlines()[-1])
    share = reported["events_s"] / reported["wall_s"]
    return report(
        "backfill.events_of_500_symbols",
        share,
        f"of a backfill's time are Dagster's events, {count} symbols and {days} days",
        0.05,
        ratio=share,
        against="the whole backfill",
        **reported,
    )


def events_child(days: int, symbols: Sequence[str]) -> dict[str, Any]:
    from dagster import DagsterInstance

    from pipeline_assets.cli.backfill_runs import backfill as run_backfill
    from pipeline_assets.market.intervals import Interval
    from pipeline_assets.settings import load_settings

    count, seconds = 0, 0.0
    handle = DagsterInstance.handle_new_event

    def timed(instance: Any, event: Any, **options: Any) -> None:
        nonlocal count, seconds
        began = time.perf_counter()
        handle(instance, event, **options)
        count, seconds = count + 1, seconds + time.perf_counter() - began

    DagsterInstance.handle_new_event = timed  # type: ignore[method-assign]
    began = time.perf_counter()
    first = END - timedelta(days=days)
    result = run_backfill(load_settings(), Interval.ONE_MINUTE, symbols, first, END)
    wall = time.perf_counter() - began
    if result.problems:
        raise RuntimeError(result.problems[:3])
    return {"events": count, "events_s": seconds, "wall_s": wall, "rows": result.rows}


def memory(directory: Path) -> list[bool]:
    """Report the peak memory of a year of minutes, and of two: it does not grow with the range."""
    peaks = []
    with servers(directory, symbols=2 * SYMBOLS, clock=CLOCK, weight_limit=0) as at:
        symbols = at.listed()[:SYMBOLS]
        for days in YEARS:
            peaks.append(backfill(at, symbols, days)[0].peak_mb)
            at.empty()
    year, two = peaks
    return [
        report(
            "backfill.memory_of_a_year",
            year,
            "MB at the peak, 20 symbols",
            600,
            ratio=year / two,
            against="two years",
        ),
        report(
            "backfill.memory_of_two_years",
            two,
            "MB at the peak, 20 symbols",
            600,
            ratio=two / year,
            against="one year",
            met=two <= 600 and two <= 1.1 * year,
        ),
    ]


PARTS = {
    "unthrottled": unthrottled,
    "archived": archived,
    "throttled": throttled,
    "memory": memory,
}


def main(chosen: Sequence[str]) -> int:
    # Without bytecode every process compiles Dagster anew, 1.4 s; an installed package has it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    met = []
    with tempfile.TemporaryDirectory() as name:
        for part in chosen or [*PARTS, "events"]:
            where = Path(name) / part
            met += [events(where)] if part == "events" else PARTS[part](where)
    return 0 if all(met) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["events"] and len(sys.argv) > 2:
        print(json.dumps(events_child(int(sys.argv[2]), sys.argv[3:])))
    else:
        sys.exit(main(sys.argv[1:]))
