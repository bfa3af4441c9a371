"""The command as a person or a program calls it: a process of its own, its output, its exit status."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from confluent_kafka import Producer
from dagster import DagsterInstance
from polars.testing import assert_frame_equal

from pipeline_assets.cli.main import cli, main
from pipeline_assets.collection.listings import NothingListedError
from pipeline_assets.market.candidates import CANDIDATE_COLUMNS, Candidate
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_objects import store_candidates
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.leases import lease_key
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import KafkaSettings
from pipeline_assets_tests.fixtures.faulty_s3 import IgnoresBoth, faulty_s3
from pipeline_assets_tests.fixtures.funding import stored as stored_rates
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform
from pipeline_assets_tests.fixtures.s3 import eventually, free_port
from pipeline_assets_tests.fixtures.shell import REDIS_PASSWORD, Shell, ended
from pipeline_assets_tests.market.frames import candidates_frame

REPOSITORY = Path(__file__).parents[1]
DAY = datetime(2026, 11, 18, tzinfo=UTC)


def test_backfill_reports_to_a_program(
    platform: Platform, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """backfill stores a range and reports the result to a program."""
    arguments = ("backfill", "--interval", "1h", "--start", "2026-11-18", "--end", "2026-11-20")
    done = shell.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    rows = 2 * 24 * len(SYMBOLS)
    assert (reported["interval"], reported["start"], reported["end"]) == (
        "1h",
        "2026-11-18",
        "2026-11-20",
    )
    assert (reported["rows"], reported["objects"], reported["problems"]) == (
        rows,
        2 * len(SYMBOLS),
        [],
    )
    # Two days of 1h are 48 rows: one request of weight 1 a symbol, beside time, exchangeInfo, and the
    # first candle of each.
    assert 2 * len(SYMBOLS) < reported["weight"] <= 2 * len(SYMBOLS) + 3
    [run_id] = reported["runs"]
    monkeypatch.setenv("DAGSTER_HOME", str(shell.data_dir / "dagster"))
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.is_success

    stored = platform.stored("1h")
    for symbol in SYMBOLS:
        truth = platform.truth("1h", symbol, DAY, DAY + timedelta(days=2))
        assert_frame_equal(stored.filter(stored["symbol"] == symbol), truth)
    assert platform.table("1h") == stored.rows()

    again = shell.call(*arguments, "--symbols", "BTCUSDT, 币安人生USDT")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("0 rows of 1h in 0 objects, weight ")
    assert again.stdout.endswith("1 Dagster run; 4 symbol-days were stored before.\n")
    refreshed = shell.call(*arguments, "--symbols", "BTCUSDT, 币安人生USDT", "--refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    assert refreshed.stdout.startswith("96 rows of 1h in 4 objects, weight ")
    assert refreshed.stdout.endswith("1 Dagster run; 0 symbol-days were stored before.\n")

    found = shell.run("status", "--days", "3", "--timeout", "60", "--json")
    # Dagster does not run here.
    assert found.returncode == 1
    status = json.loads(found.stdout)
    assert all(part["answered"] for part in status["parts"].values()), status["parts"]
    services = {each["name"]: each for each in status["stack"]["services"]}
    for name in ("exchange", "s3", "redis", "snowflake"):
        assert services[name]["alive"], name
    assert not services["webserver"]["alive"]
    symbols = {(each["symbol"], each["interval"]): each for each in status["symbols"]}
    assert len(symbols) == 9
    assert status["days"] == {"first": "2026-11-18", "last": "2026-11-20"}
    assert (status["at"], status["clock"]) == ("2026-11-20 12:00:30+00:00", "exchange")
    hours = symbols["币安人生USDT", "1h"]
    # Today's twelve closed hours were not asked for.
    assert (hours["objects"], hours["rows"], hours["table_rows"]) == (2, 48, 48)
    assert (hours["missing"], hours["slots"]) == (12, None)
    assert hours["newest"] == "2026-11-19 23:00:00+00:00"
    nothing = symbols["BTCUSDT", "1m"]
    assert (nothing["rows"], nothing["slots"], nothing["table_rows"]) == (0, 0, None)
    assert nothing["missing"] == 2 * 1440 + 720


def test_killed_backfill_is_done_by_repeat(
    platform: Platform, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill killed while it loads a table is completed by the same command.

    Only one run at a time may load a table: the killed one's place has to become free.
    """
    quarters = ("backfill", "--interval", "15m", "--start", "2026-11-18", "--end", "2026-11-20")
    server = platform.snowflake.process
    assert server is not None
    server.send_signal(signal.SIGSTOP)
    try:
        killed = shell.start(*quarters)
        monkeypatch.setenv("DAGSTER_HOME", str(shell.data_dir / "dagster"))
        # By then the command has made Dagster's databases; two at it together fail.
        eventually(lambda: platform.objects("raw/"), "the command fetches", 60)
        with DagsterInstance.get() as instance:
            pool = "snowflake_candles_15m"

            def loading() -> bool:
                assert killed.poll() is None
                info = instance.event_log_storage.get_concurrency_info(pool)
                return bool(info.claimed_slots)

            eventually(loading, "it loads the table", 60)
            killed.kill()
            killed.communicate()
            server.send_signal(signal.SIGCONT)
            _end_leases_soon(platform)
            again = shell.run(*quarters)
            assert again.returncode == 0, again.stderr
            statuses = sorted(run.status.value for run in instance.get_runs())
            assert statuses == ["FAILURE", "SUCCESS"]
    finally:
        server.send_signal(signal.SIGCONT)
    stored = platform.stored("15m")
    for symbol in SYMBOLS:
        truth = platform.truth("15m", symbol, DAY, DAY + timedelta(days=2))
        assert_frame_equal(stored.filter(stored["symbol"] == symbol), truth)
    assert platform.table("15m") == stored.rows()


def _end_leases_soon(platform: Platform) -> None:
    """Leave a dead process's leases a second, as Redis does after a minute without a renewal."""
    with redis.Redis.from_url(platform.settings.redis.url) as client:
        held = list(client.scan_iter(lease_key("*")))
        assert held, "the dead process left a lease"
        for key in held:
            client.pexpire(key, 1000)


def test_status_for_a_person(platform: Platform, shell: Shell) -> None:
    platform.ingest("1m")
    found = shell.run("status", "--days", "1", "--timeout", "60")
    assert found.returncode == 1
    [down] = found.stderr.splitlines()
    assert down.startswith("Not answering: kafka. Start them")
    rows = [line.split() for line in found.stdout.splitlines()]
    for symbol in SYMBOLS:
        assert [symbol, "1m", "12", "720", "11-20", "11:59", "15", "0"] in rows
        assert [symbol, "1h", "0", "0", "none", "0", "12"] in rows
    assert any(row[:1] == ["exchange"] and "up" in row for row in rows)
    assert "2026-11-20 12:00:30 UTC" in found.stdout
    reported = " ".join(found.stdout.split())
    assert (
        "To fetch earlier days: `pipeline-assets backfill`, or `gaps --repair --start 2026-11-20`"
        in reported
    )


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("gaps", "--interval", "1h"), 1, "--repair fetches them"),
        (("status", "--days", "1", "--timeout", "60"), 1, "pipeline-assets backfill"),
        (("verify",), 0, "0 objects"),
        (("candidates",), 0, "None were published"),
    ],
)
@pytest.mark.parametrize("symbols", ["BTCUSDT", "all"])
def test_fresh_lake_says_what_to_do(
    lonely: Shell, arguments: tuple[str, ...], status: int, sentence: str, symbols: str
) -> None:
    """A fresh lake is answered with what to do.

    Nothing is stored, and the exchange's listings were never read.
    """
    environment = lonely.environment | {"PIPELINE_SYMBOLS": symbols}
    done = CliRunner().invoke(cli, arguments, env=environment)
    assert isinstance(done.exception, SystemExit | None)
    assert done.exit_code == status
    assert sentence in " ".join(done.output.split())


def test_unknown_listings_are_one_message(monkeypatch, capsys) -> None:
    """Unknown listings give one message.

    `state/listings.json` may be damaged while a command reads coverage.
    """
    message = "The exchange's list of symbols is not known yet. Materialize `universe`."

    def judge() -> None:
        raise NothingListedError(message)

    monkeypatch.setattr("pipeline_assets.cli.main.cli", judge)
    with pytest.raises(SystemExit) as ended_with:
        main()
    assert ended_with.value.code == 1
    assert capsys.readouterr().err == f"Error: {message}\n"


def test_backfill_stores_funding_rates(platform: Platform, shell: Shell) -> None:
    """backfill --funding completes whole months, and a repeat finds them stored."""
    arguments = ("backfill", "--funding", "--start", "2026-11-18", "--end", "2026-11-20")
    done = shell.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    rates = sum(len(stored_rates(platform, symbol)) for symbol in SYMBOLS)
    assert (reported["rates"], reported["objects_changed"], reported["problems"]) == (
        rates,
        len(SYMBOLS),
        [],
    )
    again = shell.call(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("0 funding rates stored, 0 objects written")
    assert "3 symbol-months were stored before" in again.stdout


@pytest.mark.parametrize("options", [(), ("--funding", "--interval", "1h")])
def test_backfill_is_of_one_kind(options: tuple[str, ...], lonely: Shell) -> None:
    """backfill is either of candles or of funding rates."""
    days = ("--start", "2026-11-18", "--end", "2026-11-20")
    refused = lonely.call("backfill", *options, *days)
    assert refused.returncode == 2
    assert "Give either --interval, for candles, or --funding." in refused.stderr


def test_outage_keeps_the_exit_status(minutes: Platform, lonely: Shell) -> None:
    """A confirmed outage does not change the exit status.

    Nothing can be fetched: the exchange has no such candles.
    """
    minutes.exchange.outages("2026-11-18T22:00:00Z/2026-11-18T23:00:00Z/ETHUSDT")
    done = lonely.call(
        *("backfill", "--interval", "1m", "--symbols", "BTCUSDT,ETHUSDT"),
        *("--start", "2026-11-18", "--end", "2026-11-20"),
    )
    assert done.returncode == 0
    assert "missing" not in done.stderr
    assert done.stdout.startswith("5,700 rows of 1m in 4 objects")


def test_fetchable_candles_change_exit_status(minutes: Platform, lonely: Shell) -> None:
    """Candles that can be fetched are reported and change the exit status."""
    minutes.exchange.faults(symbols={"ETHUSDT": {"malformed_rows": 1}})
    done = lonely.call(
        *("backfill", "--interval", "1m", "--symbols", "BTCUSDT,ETHUSDT"),
        *("--start", "2026-11-19", "--end", "2026-11-20"),
    )
    assert done.returncode == 1
    assert (
        "2026-11-19 complete: 3 of 2,880 candles are missing, the first of ETHUSDT" in done.stderr
    )


@pytest.mark.parametrize(
    ("command", "end"),
    [
        (("backfill", "--interval", "1m"), signal.SIGINT),
        (("gaps", "--repair"), signal.SIGTERM),
    ],
)
def test_waiting_command_ends_at_signal(
    minutes: Platform, lonely: Shell, command: tuple[str, ...], end: signal.Signals
) -> None:
    """A command that waits for the exchange ends at a signal, and continues when repeated."""
    minutes.backfill("1m", "2026-11-18")
    minutes.exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
    arguments = (*command, "--start", "2026-11-18", "--end", "2026-11-20")
    # It would go on asking for four minutes, which is longer than `ended` waits.
    waiting = lonely.start(*arguments, PIPELINE_BINANCE__RETRIES="20")
    try:
        eventually(lambda: answers(minutes).get("500", 0) > 3, "asked repeatedly", 60)
        waiting.send_signal(end)
        interrupted = ended(waiting)
    finally:
        waiting.kill()
    assert interrupted.returncode == 1
    assert "raw_candles_1m was interrupted. Stored data stays" in interrupted.stderr
    minutes.exchange.faults()
    before = answers(minutes)["200"]
    minutes.backfill("1m", "2026-11-18", "2026-11-19")
    assert answers(minutes)["200"] - before == 3 * len(SYMBOLS)
    for symbol in SYMBOLS:
        truth = minutes.truth("1m", symbol, DAY, DAY + timedelta(days=2))
        assert_frame_equal(minutes.stored("1m", symbol), truth)


def answers(platform: Platform) -> dict[str, int]:
    """Return how often the exchange answered a request for candles, by status."""
    counted: dict[str, int] = platform.exchange.state()["requests"]["/fapi/v1/klines"]
    return counted


RANGE = ("--start", "2026-11-18", "--end", "2026-11-19")
HOURS = ("backfill", "--interval", "1h")
FUTURE = "Error: 2026-11-21 lies in the future: by the exchange's clock today is 2026-11-20.\n"


def test_wrong_arguments_are_one_message(lonely: Shell) -> None:
    """Wrong arguments give one message that says what to do."""
    cases: dict[tuple[str, ...], str] = {
        ("backfill", "--interval", "5m", *RANGE): "'5m' is not one of '1m', '15m', '1h'",
        ("backfill", *RANGE): "Give either --interval, for candles, or --funding.",
        (*HOURS, *RANGE, "--symbols", " , "): "it names no symbol",
        (*HOURS, "--start", "2026-11-19", "--end", "2026-11-19"): "--end is excluded",
        (*HOURS, *RANGE, "--symbols", "BTCUSD"): "did you mean BTCUSDT?",
        (*HOURS, "--start", "2026-11-21", "--end", "2026-11-22"): FUTURE,
        ("candidates", "--day", "2026-11-21"): FUTURE,
        ("verify", "--start", "2026-11-21"): FUTURE,
        ("verify", "--symbols", "BTCUSD"): "never on the exchange; did you mean BTCUSDT?",
        ("candidates",): "there is no strategy 'nothing'; there are bollinger_breakout, ",
        ("status",): "there is no strategy 'nothing'; there are bollinger_breakout, ",
    }
    strategies = {"PIPELINE_STRATEGIES": '[{"name": "nothing"}]'}
    for arguments, message in cases.items():
        done = lonely.call(*arguments, **(strategies if len(arguments) == 1 else {}))
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert message in done.stderr, arguments
        assert done.stderr.count("Error: ") == 1, arguments
        assert len(done.stderr) < 700, arguments
    # A run would leave its days as failed partitions.
    assert not list((lonely.data_dir / "dagster").rglob("*.db"))


def test_unreachable_system_is_named(lonely: Shell) -> None:
    """A system that does not answer is named with what to do."""
    nobody, elsewhere = (f"127.0.0.{host}:{free_port()}" for host in (1, 2))
    cases: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "Redis at redis://": (
            (*HOURS, *RANGE),
            {
                "PIPELINE_REDIS__URL": f"redis://{nobody}/0",
                "PIPELINE_REDIS__PASSWORD": REDIS_PASSWORD,
            },
        ),
        "Error: raw_candles_1h failed: There is no bucket 'no-such-bucket'": (
            (*HOURS, *RANGE),
            {"PIPELINE_S3__BUCKET": "no-such-bucket"},
        ),
        "Not answering: snowflake, kafka. Start them with `pipeline-assets up`": (("status",), {}),
        f"exchange at http://{elsewhere} is not answering: check that it runs and "
        "PIPELINE_BINANCE__REST_URL.": (
            ("status",),
            {"PIPELINE_BINANCE__REST_URL": f"http://{elsewhere}"},
        ),
    }
    started = [lonely.start(*arguments, **environment) for arguments, environment in cases.values()]
    for message, process in zip(cases, started, strict=True):
        done = ended(process)
        assert done.returncode == 1, message
        assert message in done.stderr
        assert done.stderr.count("Error: ") <= 1


def test_wrong_setting_is_wrong_use(lonely: Shell) -> None:
    """A wrong setting is named, and ends the command as wrong use does."""
    home = lonely.start(*HOURS, *RANGE, DAGSTER_HOME="/nonexistent")
    bucket = lonely.start("status", PIPELINE_S3_BUCKET="candles")
    for process, message in (
        (home, "DAGSTER_HOME: '/nonexistent' is not the absolute path of a directory."),
        (bucket, "PIPELINE_S3_BUCKET: there is no such setting"),
    ):
        done = ended(process)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr


def test_up_refuses_unsuitable_store(minutes: Platform, lonely: Shell) -> None:
    """up refuses an unsuitable store elsewhere before it starts."""
    with faulty_s3(minutes.bucket.endpoint, IgnoresBoth(), host="127.0.0.2") as proxy:
        done = lonely.run("up", PIPELINE_S3__ENDPOINT_URL=proxy.endpoint)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"S3 at {proxy.endpoint} cannot hold the lake in the bucket" in done.stderr
    assert not lonely.data_dir.exists()
    assert minutes.objects() == {}


def test_long_address_hides_no_answer(lonely: Shell) -> None:
    """A long address does not hide whether the system answers."""
    brokers = ",".join(f"{name}.kafka.eu-central-1.example.invalid:9092" for name in "abc")
    done = lonely.call("status", COLUMNS="80", PIPELINE_KAFKA__BOOTSTRAP_SERVERS=brokers)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    [first] = [number for number, row in enumerate(rows) if row[:1] == ["kafka"]]
    _, begun, state = rows[first]
    assert state == "down"
    assert "".join([begun, *(row[0] for row in rows[first + 1 :] if row)]).startswith(brokers)


def test_status_json_names_down_systems(lonely: Shell) -> None:
    """status as JSON tells a program which systems are down."""
    done = lonely.call("status", "--timeout", "60", "--json")
    assert done.returncode == 1
    reported: dict[str, Any] = json.loads(done.stdout)
    alive = {each["name"]: each["alive"] for each in reported["stack"]["services"]}
    assert (alive["s3"], alive["snowflake"]) == (True, False)
    errors = {
        name: part["error"] for name, part in reported["parts"].items() if not part["answered"]
    }
    assert list(errors) == ["snowflake"]
    assert errors["snowflake"].startswith("not answering at http://127.0.0.1:")
    assert {each["table_rows"] for each in reported["symbols"]} == {None}
    assert {each["objects"] for each in reported["symbols"]} == {0}


# Candidates


def test_candidates_are_printed_both_ways(minutes: Platform, lonely: Shell) -> None:
    """A day's candidates are printed for people and for programs."""
    found = candidates(minutes=30, start=DAY + timedelta(days=2))
    store_candidates(ObjectStore(minutes.settings.s3), candidates_frame(found))
    for_people = lonely.call("candidates", "--last", "3")
    assert for_people.returncode == 0, for_people.stderr
    assert "Published on 2026-11-20 UTC: 30, the newest 3 of them" in for_people.stdout
    rows = [line.split() for line in for_people.stdout.splitlines()]
    assert [row[:4] for row in rows if row[1:2] == ["COIN0USDT"]] == [
        [f"00:{minute}", "COIN0USDT", "long", "rsi_reversal"] for minute in (27, 28, 29)
    ]
    for each in found[-3:]:
        values = " ".join(f"{name}={value:.6g}" for name, value in sorted(each.indicators.items()))
        assert f"    {values}\n" in for_people.stdout, "no indicator is cut"
    none = lonely.call("candidates", "--day", "2026-11-19")
    assert none.returncode == 0
    assert "None were published: symbols may be warming up, or no minute was stored" in none.stdout
    for_programs = lonely.call("candidates", "--day", "2026-11-20", "--last", "99", "--json")
    lines = for_programs.stdout.splitlines()
    assert [Candidate.model_validate_json(line) for line in lines] == found


def test_the_schema_describes_what_is_printed(lonely: Shell) -> None:
    schema = json.loads(lonely.call("candidates", "--schema").stdout)
    assert set(schema["required"]) == set(CANDIDATE_COLUMNS)


def test_full_disk_is_one_message() -> None:
    """The output goes to a file on a disk without room."""
    command = "import sys; sys.argv[1:] = ['candidates', '--schema']; "
    command += "from pipeline_assets.cli.main import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: the output was not written whole: No space left on device. Make room, then repeat the "
        "command.\n"
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_candidates_are_followed_until_a_signal(
    lonely: Shell, kafka_settings: KafkaSettings, end: signal.Signals
) -> None:
    topic = CandidateTopic(kafka_settings)
    found = candidates(symbols=2)
    topic.publish(found)
    where = {
        "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "PIPELINE_KAFKA__TOPIC": kafka_settings.topic,
    }
    follow = ("candidates", "--follow", "--from-beginning")
    person, program = lonely.start(*follow, **where), lonely.start(*follow, "--json", **where)
    assert person.stdout is not None
    assert program.stdout is not None
    lines = sorted(person.stdout.readline().rstrip() for _ in found)
    assert lines == [
        "11-19 00:00  COIN0USDT     long   rsi_reversal                100.25  "
        "rsi_14=29.5 close_previous=99  3 s after close",
        "11-19 00:00  COIN1USDT     short  rsi_reversal                101.25  "
        "rsi_14=29.5 close_previous=100  3 s after close",
    ]
    records = [Candidate.model_validate_json(program.stdout.readline()) for _ in found]
    assert sorted(records, key=lambda each: each.symbol) == found
    (late,) = candidates(start=DAY)
    topic.publish([late])
    assert Candidate.model_validate_json(program.stdout.readline()) == late
    assert "11-18 00:00" in person.stdout.readline()
    for process in (person, program):
        process.send_signal(end)
        done = ended(process)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_status_names_block_unblock_lifts_it(minutes: Platform, lonely: Shell) -> None:
    """status names a block, and unblock lifts it."""
    budget = Exchange(minutes.settings).budget
    budget.block_until(
        4_000_000_000_000, 3_600_000, "HTTP 418, -1003 Banned. in the reply to a test"
    )
    seen = lonely.run("status", "--json")
    assert seen.returncode == 1
    block = json.loads(seen.stdout)["block"]
    assert block["cause"] == "HTTP 418, -1003 Banned. in the reply to a test"
    assert 3000 < block["seconds_left"] <= 3600
    assert "`pipeline-assets unblock` lifts the block" in seen.stderr

    lifted = lonely.run("unblock")
    assert lifted.returncode == 0
    assert "Lifted: blocked until 2096-10-02T07:06:40Z" in lifted.stdout
    assert "HTTP 418, -1003 Banned." in lifted.stdout
    again = lonely.run("unblock")
    assert (again.returncode, again.stdout) == (1, "Nothing was blocked.\n")


def test_follower_counts_foreign_messages(lonely: Shell, kafka_settings: KafkaSettings) -> None:
    """Foreign messages are skipped and counted by a follower."""
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers})
    for value in (b"{}", b"plain text", None):
        producer.produce(kafka_settings.topic, value, key="COIN0USDT")
    producer.flush()
    found = candidates()
    CandidateTopic(kafka_settings).publish(found)
    where = {
        "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "PIPELINE_KAFKA__TOPIC": kafka_settings.topic,
    }
    process = lonely.start("candidates", "--follow", "--from-beginning", "--json", **where)
    assert process.stdout is not None
    assert [Candidate.model_validate_json(process.stdout.readline())] == found
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert (done.returncode, done.stdout) == (0, "")
    first, last = done.stderr.splitlines()
    assert re.match(
        r"Message \d+ of partition \d .* is no candidate .*PIPELINE_KAFKA__TOPIC", first
    )
    assert last == "3 messages were skipped: no candidate."


def test_down_broker_changes_exit_status(lonely: Shell) -> None:
    """A broker that is down is reported and changes the exit status."""
    quick = {"PIPELINE_KAFKA__DELIVERY_TIMEOUT_MS": "1000"}
    done = lonely.run("candidates", "--follow", **quick)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: Kafka at 127.0.0.1:")
    assert "PIPELINE_KAFKA__BOOTSTRAP_SERVERS" in done.stderr
    misused = lonely.run("candidates", "--from-beginning")
    assert misused.returncode == 2
    assert "give --follow, too" in misused.stderr


def test_help_names_every_command(lonely: Shell) -> None:
    shown = lonely.run("--help")
    assert shown.returncode == 0
    for command in ("up", "backfill", "candidates", "status", "demo", "exchange"):
        assert f"  {command} " in shown.stdout


@pytest.mark.parametrize(
    ("strategies", "said"),
    [
        ('[{"name": "rsi_reversel"}]', "there is no strategy 'rsi_reversel'; there are"),
        ('[{"name": "rsi_reversal", "periode": 21}]', "periode: there is no such"),
        ('[{"name": "rsi_reversal", "period": 1}]', "greater than or equal to 2"),
    ],
)
def test_wrong_strategy_prevents_the_start(tmp_path: Path, strategies: str, said: str) -> None:
    """A wrong strategy stops the start before any service runs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIPELINE_", "DAGSTER_"))}
    environment = kept | {
        "PYTHONPATH": str(REPOSITORY),
        "PIPELINE_DATA_DIR": str(tmp_path / "data"),
        "PIPELINE_STRATEGIES": strategies,
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipeline_assets", "up"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Example: - {name: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
