"""`pipeline-assets gaps` over a range in which every cause was made to happen, and what repairs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from pipeline_assets.cli.main import cli
from pipeline_assets.collection.fetch_plan import SymbolError
from pipeline_assets.collection.gap_report import repairs
from pipeline_assets.errors import InputError
from pipeline_assets.local.stack import dagster_environment
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import day_window
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets.resources.day_findings import keep_zero_volume
from pipeline_assets.resources.exchange_errors import ExchangeError
from pipeline_assets.resources.finalized_days import mark_finalized, read_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets_tests.fixtures.commands import Commands
from pipeline_assets_tests.fixtures.damage import flip_bit, store_damaged
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.s3 import free_port
from pipeline_assets_tests.fixtures.shell import Shell

BTC, ETH, LIFE, SNOW = SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT", "雪球USDT")
NOW = datetime(2026, 9, 18, 12, 0, 30, tzinfo=UTC)
TODAY = datetime(2026, 9, 18, tzinfo=UTC)
Gaps = Callable[..., Result]
Row = tuple[str, str, str, int, str]  # symbol, first, last, candles, cause


@pytest.fixture
def collecting(platform: Platform) -> Platform:
    """Four symbols, one of them listed on 16 September at 10:30; it is noon of the 18th."""
    platform.exchange.set_clock(NOW)
    return platform.with_settings(symbols=SYMBOLS)


@pytest.fixture
def shell(collecting: Platform, tmp_path: Path, commands: Commands) -> Shell:
    made = Shell(collecting, tmp_path, commands)
    made.environment["PIPELINE_SYMBOLS"] = ",".join(SYMBOLS)
    return made


@pytest.fixture
def gaps(shell: Shell) -> Gaps:
    """Provide the command in this process: a process of its own takes seconds to start."""

    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(cli, ["gaps", *arguments], env=shell.environment | environment)

    return run


def reported(done: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def rows(document: dict[str, Any]) -> list[Row]:
    return [
        (
            gap["symbol"],
            *(f"{datetime.fromisoformat(gap[name]):%m-%d %H:%M}" for name in ("first", "last")),
            gap["count"],
            gap["cause"],
        )
        for gap in document["gaps"]
    ]


def with_every_cause(platform: Platform) -> None:
    """Three days and a half of 1m in which candles are missing for every reason there is."""
    exchange = platform.exchange
    exchange.outages(
        "2026-09-16T20:00:00Z/2026-09-16T21:00:00Z",
        f"2026-09-15T07:10:00Z/2026-09-15T09:40:00Z/{ETH}",
    )
    platform.backfill("1m", "2026-09-15", symbols=[ETH, LIFE])
    exchange.faults(symbols={BTC: {"malformed_rows": 1}})
    platform.backfill("1m", "2026-09-16")
    exchange.faults(symbols={LIFE: {"archive_holes": 1, "cut_json": 1}})
    platform.with_settings(binance={"archive": True}).backfill("1m", "2026-09-17")
    exchange.faults()
    platform.ingest("1m")


def gap_table(platform: Platform) -> set[tuple[Any, ...]]:
    """Return the rows of 1m of the warehouse's table of gaps."""
    query = (
        "SELECT SYMBOL, TO_VARCHAR(FIRST_OPEN_TIME), CANDLES, CAUSE FROM CANDLE_GAPS "
        """WHERE "INTERVAL" = '1m'"""
    )
    with platform.snowflake.connect(platform.settings.snowflake) as connection:
        return set(connection.cursor().execute(query).fetchall())


EVERYBODYS = ("09-16 20:00", "09-16 20:59", 60, "exchange_outage")
ETHS_OWN = (ETH, "09-15 07:10", "09-15 09:39", 150, "exchange_outage")
OPEN = ("09-18 12:00", "09-18 23:59", 720, "still_open")


def test_causes_are_named_and_gaps_filled(collecting: Platform, shell: Shell, gaps: Gaps) -> None:
    """Every cause is named rightly, and every gap that can be filled is."""
    with_every_cause(collecting)
    stored = collecting.stored("1m")

    done = gaps("--interval", "1m", "--all", "--json")
    assert done.exit_code == 1
    document = reported(done)
    by_symbol: dict[str, list[Row]] = {symbol: [] for symbol in SYMBOLS}
    for row in rows(document):
        by_symbol[row[0]].append(row)

    not_fetched = (BTC, "09-15 00:00", "09-15 23:59", 1440, "not_fetched")
    assert by_symbol[BTC][0] == not_fetched
    assert by_symbol[BTC][-1] == (BTC, *OPEN)
    assert (BTC, *EVERYBODYS) in by_symbol[BTC]
    rejected_rows = [row for row in by_symbol[BTC] if row[4] == "set_aside"]
    # One row of each page was malformed: where exactly, what is stored of that day says.
    held = stored.filter(pl.col("symbol") == BTC, pl.col("open_time").dt.day() == 16).height
    assert sum(row[3] for row in rejected_rows) == 1440 - 60 - held >= 3
    assert set(by_symbol[BTC]) == {not_fetched, (BTC, *OPEN), (BTC, *EVERYBODYS), *rejected_rows}

    assert by_symbol[ETH] == [ETHS_OWN, (ETH, *EVERYBODYS), (ETH, *OPEN)]

    [hole] = [row for row in by_symbol[LIFE] if row[4] == "archive_hole"]
    assert hole[3] == 30
    around = [row for row in by_symbol[LIFE] if row[4] == "not_fetched"]
    assert sum(row[3] for row in around) == 1440 - 30
    assert {row[1][:5] for row in [hole, *around]} == {"09-17"}
    assert set(by_symbol[LIFE]) == {(LIFE, *EVERYBODYS), hole, *around, (LIFE, *OPEN)}

    assert by_symbol[SNOW] == [
        (SNOW, "09-15 00:00", "09-16 10:29", 1440 + 630, "not_listed"),
        (SNOW, *EVERYBODYS),
        (SNOW, *OPEN),
    ]
    assert document["fillable"] == 1440 + 1440 + sum(row[3] for row in rejected_rows)

    # The exchange works again. Gaps that it can fill are filled; the others stay in the report.
    picture = shell.directory / "completeness.png"
    arguments = ("--repair", "--picture", str(picture), "--json")
    repaired = shell.run("gaps", "--interval", "1m", *arguments)
    assert repaired.returncode == 0, repaired.stderr
    document = reported(repaired)
    assert rows(document) == [
        (BTC, *EVERYBODYS), ETHS_OWN, (ETH, *EVERYBODYS), (LIFE, *EVERYBODYS), (SNOW, *EVERYBODYS),
    ]  # fmt: skip
    assert (document["fillable"], document["repair"]["problems"]) == (0, [])
    assert document["causes"] == {"exchange_outage": 4 * 60 + 150}
    for symbol in SYMBOLS:
        truth = collecting.truth("1m", symbol, TODAY - timedelta(days=3), NOW)
        held = collecting.stored("1m", symbol)
        assert_frame_equal(held, truth)
    assert picture.read_bytes().startswith(b"\x89PNG")
    # The ledger of the repaired days was written again, on the lake and in the warehouse.
    assert gap_table(collecting) == {
        (ETH, "2026-09-15 07:10:00", 150, "exchange_outage"),
        (SNOW, "2026-09-16 00:00:00", 630, "not_listed"),
        *((symbol, "2026-09-16 20:00:00", 60, "exchange_outage") for symbol in SYMBOLS),
    }

    for_people = gaps("--interval", "1m")
    assert for_people.exit_code == 0
    lines = [" ".join(line.split()) for line in for_people.stdout.splitlines()]
    assert f"{ETH} 1m 2026-09-15 07:10 2026-09-15 09:39 150 exchange_outage" in lines
    assert "exchange_outage 5 4 390 nothing: the exchange has none" in lines


def test_unfetched_gaps_say_what_to_do(collecting: Platform, gaps: Gaps) -> None:
    """Gaps that were never fetched are shown to people with the next step."""
    collecting.backfill("1h", "2026-09-16")
    done = gaps("--end", "2026-09-18", "--symbols", f"{BTC},{SNOW}")
    assert done.exit_code == 1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    # Hours are stored since the 16th, no minutes or quarters are, and yesterday is judged.
    day = "2026-09-17"
    for symbol in (BTC, SNOW):
        for interval, last, count in (
            ("1m", "23:59", "1,440"),
            ("15m", "23:45", "96"),
            ("1h", "23:00", "24"),
        ):
            assert f"{symbol} {interval} {day} 00:00 {day} {last} {count} not_fetched" in lines
    assert "not_fetched 6 2 3,120 --repair fetches them" in lines
    assert not any(symbol in done.stdout for symbol in (ETH, LIFE))

    outages = gaps("--end", "2026-09-18", "--cause", "exchange_outage")
    assert outages.exit_code == 0
    days = "1m 2026-09-17 to 2026-09-17, 15m 2026-09-17 to 2026-09-17, 1h 2026-09-16 to 2026-09-17"
    assert outages.stdout == f"Nothing is missing: 4 symbols, {days}.\n"


def test_archive_disagreements_are_reported(collecting: Platform, gaps: Gaps) -> None:
    """Disagreements of the archive are reported."""
    collecting.exchange.faults(symbols={ETH: {"archive_zero_volume": 1}})
    collecting.with_settings(binance={"archive": True}).backfill("1m", "2026-09-17")
    arguments = ("--interval", "1m", "--end", "2026-09-18")
    done = gaps(*arguments)
    assert done.exit_code == 0
    assert "Nothing is missing" in done.stdout
    [line] = [line for line in done.stdout.splitlines() if ETH in line]
    assert line.split()[-4:] == ["74", "false", "zero", "volume"]
    [record] = reported(gaps(*arguments, "--json"))["disagreements"]
    found = [record[name] for name in ("symbol", "interval", "kind", "count")]
    assert found == [ETH, "1m", "false zero volume", 74]
    assert reported(gaps(*arguments, "--symbols", BTC, "--json"))["disagreements"] == []


def test_false_zero_volume_shows_until_refetched(collecting: Platform, gaps: Gaps) -> None:
    """False zero volume is shown until the day is fetched again.

    Two hours froze into one run of minutes; the check has found them.
    """
    store, window = ObjectStore(collecting.settings.s3), day_window(date(2026, 9, 17))
    for interval in Interval:
        collecting.backfill(interval.value, "2026-09-17", symbols=[ETH])
    arguments = ("--end", "2026-09-18", "--symbols", ETH)
    assert reported(gaps(*arguments, "--json"))["zero_volume"] == {
        "runs": [],
        "days_checked": 0,
        "days_unchecked": 1,
    }
    key = object_key(Interval.ONE_MINUTE, ETH, window.start)
    true = collecting.stored("1m", ETH)
    first = window.start + timedelta(hours=10, minutes=30)
    frozen = pl.col("open_time").is_between(first, first + timedelta(minutes=59))
    false = true.with_columns(volume=pl.when(frozen).then(0.0).otherwise("volume"))
    store.put(key, encode_candles(false, Interval.ONE_MINUTE, ETH, window))
    keep_zero_volume(store, window.start.date(), [ETH])

    found = reported(gaps(*arguments, "--json"))["zero_volume"]
    assert (found["days_checked"], found["days_unchecked"]) == (1, 0)
    [run] = found["runs"]
    why = run.pop("why")
    assert run == {
        "symbol": ETH,
        "interval": "1m",
        "first": "2026-09-17T10:30:00+00:00",
        "last": "2026-09-17T11:29:00+00:00",
        "count": 60,
        "contradicted": 60,
    }
    assert why.startswith("the 15m candle of 2026-09-17 10:30 has volume ")
    assert "Stored without volume" in gaps(*arguments).stdout
    assert reported(gaps("--interval", "1h", *arguments, "--json"))["zero_volume"]["runs"] == []
    assert (
        reported(gaps("--end", "2026-09-18", "--symbols", BTC, "--json"))["zero_volume"]["runs"]
        == []
    )

    store.put(key, encode_candles(true, Interval.ONE_MINUTE, ETH, window))
    assert reported(gaps(*arguments, "--json"))["zero_volume"]["runs"] == []

    store.put("state/zero_volume/20260917.json", b'["ETHUS')
    found = reported(gaps(*arguments, "--json"))["zero_volume"]
    assert (found["days_checked"], found["days_unchecked"]) == (0, 1)
    assert "Stored without volume" not in gaps(*arguments).stdout


def test_just_closed_candle_is_not_missing(collecting: Platform, gaps: Gaps) -> None:
    """A candle that closed just now is not called missing."""
    collecting.ingest("1m")
    collecting.exchange.advance(100)
    running = gaps("--interval", "1m", "--json")
    assert running.exit_code == 0
    assert reported(running)["fillable"] == 0
    assert reported(running)["causes"] == {"not_fetched": 4 * 2}
    collecting.exchange.advance(120)
    late = gaps("--interval", "1m", "--json")
    assert late.exit_code == 1
    assert reported(late)["fillable"] == 4 * 4


def test_mistyped_symbol_is_reported_alone(gaps: Gaps) -> None:
    """A mistyped symbol of the settings is reported, and the others are judged."""
    arguments = ("--interval", "1h", "--end", "2026-09-18")
    outages = (*arguments, "--cause", "exchange_outage")
    alone = gaps(*outages, PIPELINE_SYMBOLS="BTCUSDX")
    assert (alone.exit_code, alone.stdout) == (1, "Nothing was looked at.\n")
    correct = "BTCUSDX was never on the exchange; did you mean BTCUSDT? Correct PIPELINE_SYMBOLS."
    assert alone.stderr == f"{correct}\n"
    beside = gaps(*outages, PIPELINE_SYMBOLS=f"{ETH},BTCUSDX")
    assert (beside.exit_code, beside.stderr) == (1, alone.stderr)
    assert "Nothing is missing: 1 symbol, 1h" in beside.stdout
    document = reported(gaps(*arguments, "--json", PIPELINE_SYMBOLS=f"{SNOW},BTCUSDX"))
    assert document["unknown_symbols"] == {"BTCUSDX": BTC}
    assert {row[0] for row in rows(document)} == {SNOW}
    # It is nothing to those who ask for others.
    asked = gaps(*outages, "--symbols", ETH, PIPELINE_SYMBOLS=f"{ETH},BTCUSDX")
    assert (asked.exit_code, asked.stderr) == (0, "")


def test_repair_reports_unfetchable_gaps(collecting: Platform, gaps: Gaps) -> None:
    """A repair reports what it could not fetch."""
    collecting.backfill("1h", "2026-09-17", symbols=[ETH, LIFE, SNOW])
    collecting.exchange.faults(symbols={BTC: {"cut_json": 1}})
    home = dagster_environment(collecting.settings)["DAGSTER_HOME"]
    done = gaps("--interval", "1h", "--end", "2026-09-18", "--repair", DAGSTER_HOME=home)
    assert done.exit_code == 1
    assert "1h from 2026-09-17 until 2026-09-18: raw_candles_1h failed: " in done.stderr
    assert "not_fetched 1 1 24 --repair fetches them" in [
        " ".join(line.split()) for line in done.stdout.splitlines()
    ]


def test_empty_day_is_repaired_once(collecting: Platform, gaps: Gaps) -> None:
    """A day of one symbol that the exchange does not have is repaired once."""
    collecting.exchange.outages(f"2026-09-17T00:00:00Z/2026-09-18T00:00:00Z/{ETH}")
    collecting.backfill("15m", "2026-09-17", symbols=[BTC, LIFE, SNOW])
    arguments = ("--interval", "15m", "--start", "2026-09-17", "--end", "2026-09-18", "--json")
    assert reported(gaps(*arguments))["causes"] == {"not_fetched": 96}
    repaired = gaps(*arguments, "--repair")
    assert repaired.exit_code == 0
    outage = (ETH, "09-17 00:00", "09-17 23:45", 96, "exchange_outage")
    assert rows(reported(repaired)) == [outage]
    assert "repair" not in reported(gaps(*arguments, "--repair")), (
        "there is nothing left to ask for"
    )


def test_flipped_byte_is_found_and_repaired(collecting: Platform, shell: Shell, gaps: Gaps) -> None:
    """A byte changed on the store's disk shows once the lake is verified, and is fetched again.

    The disk keeps the ETag of such an object. Here the server gives it another one, which its mark gets.
    """
    collecting.backfill("1h", "2026-09-17")
    store, day = ObjectStore(collecting.settings.s3), date(2026, 9, 17)
    key = object_key(Interval.ONE_HOUR, BTC, day_window(day).start)
    whole = store.get(key)
    assert whole is not None
    store_damaged(collecting.bucket, key, whole, flip_bit(whole, 900))
    marks, found = read_finalized(store, Interval.ONE_HOUR, day), store.find(key)
    assert found is not None
    mark_finalized(store, Interval.ONE_HOUR, day, {BTC: replace(marks[BTC], etag=found.etag)})
    arguments = ("--interval", "1h", "--start", "2026-09-17", "--end", "2026-09-18", "--json")
    assert reported(gaps(*arguments))["causes"] == {}
    for _ in range(2):
        verified = CliRunner().invoke(cli, ["verify"], env=shell.environment)
        assert (verified.exit_code, key in verified.stdout) == (1, True)
        assert reported(gaps(*arguments))["causes"] == {"not_fetched": 24}
    repaired = gaps(*arguments, "--repair")
    assert (repaired.exit_code, reported(repaired)["causes"]) == (0, {})
    truth = collecting.truth("1h", BTC, day_window(day).start, day_window(day).end)
    assert_frame_equal(collecting.stored("1h", BTC), truth)
    assert store.get(key) == whole
    assert CliRunner().invoke(cli, ["verify"], env=shell.environment).exit_code == 0


def test_todays_hole_is_requested_once(collecting: Platform, gaps: Gaps) -> None:
    """A hole of today is requested once, and judged when the day is finalized."""
    collecting.exchange.outages(f"2026-09-18T06:00:00Z/2026-09-18T08:00:00Z/{ETH}")
    collecting.ingest("1h")
    arguments = ("--interval", "1h", "--start", "2026-09-18")
    done = gaps(*arguments)
    assert done.exit_code == 1
    advice = "--repair fetches them; gaps of today that stay are judged when the day is finalized"
    assert f"not_fetched 1 1 2 {advice}" in " ".join(done.stdout.split())
    repaired = gaps(*arguments, "--repair")
    assert repaired.exit_code == 0
    assert f"not_fetched 1 1 2 {advice}" in " ".join(repaired.stdout.split())
    # Once it has closed the exchange confirms it.
    collecting.exchange.set_clock(NOW + timedelta(days=1))
    repaired = gaps(*arguments, "--end", "2026-09-19", "--repair", "--json")
    assert repaired.exit_code == 0
    assert rows(reported(repaired)) == [(ETH, "09-18 06:00", "09-18 07:00", 2, "exchange_outage")]


def test_forgotten_symbol_is_not_fetchable(collecting: Platform, gaps: Gaps) -> None:
    """Candles of a symbol that the exchange forgot are not called fetchable."""
    collecting.backfill("1h", "2026-09-17", symbols=[ETH, LIFE, SNOW])
    with start_exchange(
        symbols=f"{ETH},{LIFE},{SNOW}", clock="stepped:2026-09-18T12:00:30Z"
    ) as other:
        url = other.url.removesuffix("/fapi")
        arguments = ("--interval", "1h", "--start", "2026-09-17", "--end", "2026-09-18")
        elsewhere = {"PIPELINE_BINANCE__REST_URL": url}
        # The lake does not know yet that BTC is gone. The repair finds out, and the next report shows it.
        first = gaps(*arguments, "--repair", **elsewhere)
        assert first.exit_code == 1
        assert f"does not list {BTC} any more" in first.stderr
        done = gaps(*arguments, "--repair", **elsewhere)
        assert done.exit_code == 0
        lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
        advice = f"nothing: the exchange does not name {BTC} any more"
        assert f"not_fetched 1 1 24 {advice}" in lines
        document = reported(gaps(*arguments, "--json", **elsewhere))
        assert (document["fillable"], document["causes"]) == (0, {"not_fetched": 24})


def test_bad_input_is_one_message(gaps: Gaps) -> None:
    """Bad input gives one message that says what to do."""
    nobody = f"http://127.0.0.1:{free_port()}"
    days = ("--start", "2026-09-17", "--end", "2026-09-16")
    usage: list[tuple[Sequence[str], str]] = [
        (("--symbols", " ,"), "it names no symbol"),
        (("--cause", "gremlins"), "'gremlins' is not one of"),
        (("--interval", "5m"), "'5m' is not one of"),
    ]
    for arguments, message in usage:
        done = gaps(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert message in done.stderr
    refused: list[tuple[Sequence[str], dict[str, str], type[Exception], str]] = [
        (("--symbols", "BTCUSD"), {}, SymbolError, "never on the exchange; did you mean BTCUSDT?"),
        (days, {}, InputError, "--end is excluded and must come after --start"),
        (("--end", "2027-01-01"), {}, InputError, "lies in the future"),
        (("--start", "2026-12-01"), {}, InputError, "by the exchange's clock today is 2026-09-18"),
        ((), {"PIPELINE_BINANCE__REST_URL": nobody}, ExchangeError, nobody),
        ((), {"PIPELINE_S3__ENDPOINT_URL": nobody}, ObjectStoreError, nobody),
    ]
    for arguments, changes, kind, message in refused:
        done = gaps(*arguments, **changes)
        assert done.stdout == ""
        # `main` prints these errors as one message.
        assert isinstance(done.exception, kind), done.exception
        assert message in str(done.exception)
    nowhere = gaps("--interval", "1h", "--picture", "absent/here.png")
    assert nowhere.exit_code == 1
    assert "Could not open file 'absent/here.png'" in nowhere.stderr


def test_repairs_group_neighbouring_days() -> None:
    """Repairs are neighbouring days of the symbols with gaps."""
    utc = pl.Datetime("us", "UTC")

    def gap(symbol: str, interval: str, first: str, last: str) -> tuple[Any, ...]:
        begin, end = (
            datetime.strptime(text, "%m-%d %H:%M").replace(year=2026, tzinfo=UTC)
            for text in (first, last)
        )
        return symbol, interval, begin, end, 1, "not_fetched"

    found = [
        gap(BTC, "1m", "09-01 05:00", "09-02 05:00"),
        gap(ETH, "1m", "09-03 05:00", "09-03 06:00"),
        gap(BTC, "1m", "09-06 00:00", "09-06 23:59"),
        gap(SNOW, "1h", "09-02 00:00", "09-02 23:00"),
    ]
    schema = {"symbol": pl.String, "interval": pl.String, "first": utc, "last": utc}
    frame = pl.DataFrame(
        found, schema=schema | {"count": pl.Int64, "cause": pl.String}, orient="row"
    )
    assert list(repairs(frame)) == [
        (Interval.ONE_MINUTE, [BTC, ETH], date(2026, 9, 1), date(2026, 9, 4)),
        (Interval.ONE_MINUTE, [BTC], date(2026, 9, 6), date(2026, 9, 7)),
        (Interval.ONE_HOUR, [SNOW], date(2026, 9, 2), date(2026, 9, 3)),
    ]
    assert list(repairs(frame.clear())) == []


def test_newer_marks_hide_one_day(collecting: Platform, gaps: Gaps) -> None:
    """A day whose marks a newer release wrote is named and not judged; the other days are shown."""
    for day in ("2026-09-15", "2026-09-17"):
        collecting.backfill("1h", day)
    key = "state/sealed/1h/20260916.json"
    ObjectStore(collecting.settings.s3).put(key, b'{"version": 2}')
    done = gaps("--interval", "1h", "--json")
    assert done.exit_code == 1
    [unread] = reported(done)["unread"]
    assert unread.startswith("1h of 2026-09-16 is not judged: ")
    assert key in unread
    assert "update this installation" in unread
    assert unread in done.stderr
    shown = rows(reported(done))
    assert (BTC, "09-18 00:00", "09-18 11:00", 12, "not_fetched") in shown
    assert not [row for row in shown if "09-16" in row[1] or "09-16" in row[2]]
