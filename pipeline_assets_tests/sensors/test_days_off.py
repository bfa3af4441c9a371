"""Back after days off: what the sensors request, by the exchange's clock, until nothing is missing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from dagster import DagsterRunStatus, RunRequest, build_sensor_context

from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.ingest_state import IngestState, write_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import Platform

# A look of each sensor comes at least this often.
LOOK = timedelta(seconds=30)
DAY = timedelta(days=1)
SYMBOLS = ("BTCUSDT",)


class Sensors:
    """Both sensors as the daemon runs them, with the runs that they request executed at once."""

    def __init__(self, platform: Platform, without: str | None = None) -> None:
        self.platform, self.without = platform, without
        self.cursors: dict[str, str | None] = {}
        self.requested: list[RunRequest] = []

    def look(self, name: str) -> Any:
        """One tick of a sensor; its cursor moves on."""
        definitions = build_definitions(self.platform.settings)
        sensor = definitions.resolve_sensor_def(name)
        with build_sensor_context(
            instance=self.platform.instance,
            cursor=self.cursors.get(name),
            definitions=definitions,
            resources={
                "store": ObjectStore(self.platform.settings.s3),
                "exchange": Exchange(self.platform.settings),
                "settings": self.platform.settings,
            },
        ) as context:
            found: Any = sensor.evaluate_tick(context)
        self.cursors[name] = found.cursor
        return found

    def jobs(self, name: str) -> list[str]:
        """The jobs that a look requests; they are not run."""
        return [request.job_name for request in self.look(name).run_requests]

    def run(self, name: str) -> list[str]:
        """A look, and the runs that it requests; returns their jobs."""
        found = self.look(name).run_requests
        for request in found:
            self.requested.append(request)
            self.execute(request)
        return [request.job_name for request in found]

    def execute(self, request: RunRequest) -> None:
        tags = request.tags
        days: Any = request.partition_key or (
            tags["dagster/asset_partition_range_start"],
            tags["dagster/asset_partition_range_end"],
        )
        symbols = [op["config"]["symbols"] for op in (request.run_config.get("ops") or {}).values()]
        self.platform.run(
            request.job_name,
            days,
            symbols=symbols[0] if symbols else None,
            without=self.without if request.job_name != "tick_1m" else None,
        )


def days_of(request: RunRequest) -> tuple[str, str]:
    first = request.partition_key or request.tags["dagster/asset_partition_range_start"]
    return str(first), request.tags.get("dagster/asset_partition_range_end", str(first))


def first_hours(platform: Platform) -> datetime:
    """The platform as after some hours of its first day: ingest runs only, no ledger and no mark."""
    # Dagster knows no partition after the machine's own today.
    start = datetime(2026, 10, 1, tzinfo=UTC)
    platform.exchange.set_clock(start + timedelta(hours=3, seconds=5))
    for interval in Interval:
        platform.ingest(interval.value)
    return start


def missing(platform: Platform, interval: str, start: datetime) -> int:
    """How many closed candles since `start` are not stored."""
    due = sum(
        platform.truth(interval, symbol, start, platform.now() + DAY).height for symbol in SYMBOLS
    )
    stored = platform.stored(interval).filter(pl.col("open_time") >= start)
    return due - stored.height


@pytest.mark.parametrize(
    "days",
    [pytest.param(1, marks=pytest.mark.matrix), 2, pytest.param(40, marks=pytest.mark.matrix)],
    ids=lambda days: f"{days} days",
)
def test_return_stores_everything_missed(platform: Platform, days: int) -> None:
    """After days off, everything missed is stored.

    The first look requests the newest candles and the ledger, the second the missed days.
    """
    platform = platform.with_settings(symbols=SYMBOLS)
    start = first_hours(platform)
    platform.exchange.set_clock(start + days * DAY + timedelta(hours=10, minutes=20, seconds=7))
    sensors = Sensors(platform)

    assert sensors.run("overdue_ingest") == ["tick_1m", "tick_15m", "tick_1h"]
    midnight = start + days * DAY
    assert all(missing(platform, each, midnight) == 0 for each in ("1m", "15m", "1h"))
    assert sensors.run("gap_repair") == ["gap_ledger"]
    first, last = start.date(), (midnight - DAY).date()
    assert days_of(sensors.requested[-1]) == (str(first), str(last))

    platform.exchange.advance(LOOK.total_seconds())
    assert sensors.run("overdue_ingest") == []
    requested = sensors.run("gap_repair")
    newest = [days_of(each) for each in sensors.requested[-len(requested) :]]
    assert requested[:3] == ["repair_1m", "repair_15m", "repair_1h"]
    assert {last_day for _, last_day in newest[:3]} == {str(last)}
    while requested:
        platform.exchange.advance(16 * 60)
        platform.ingest("1m")
        requested = sensors.run("gap_repair")
    platform.ingest("15m")
    platform.ingest("1h")
    assert {each: missing(platform, each, start) for each in ("1m", "15m", "1h")} == dict.fromkeys(
        ("1m", "15m", "1h"), 0
    )
    for interval in ("15m", "1h"):
        stored = platform.stored(interval)
        assert len(platform.table(interval)) == stored.height
    covered = [days_of(each) for each in sensors.requested if each.job_name == "repair_1m"]
    assert len(covered) == len(set(covered)) <= days // 31 + 1, "no day is fetched twice"


@pytest.fixture
def back(minutes: Platform) -> Sensors:
    """Two days later, before the first look."""
    platform = minutes.with_settings(symbols=SYMBOLS)
    platform.exchange.set_clock(datetime(2026, 11, 20, 3, 0, 5, tzinfo=UTC))
    platform.ingest("1m")
    platform.exchange.set_clock(datetime(2026, 11, 22, 10, 20, 7, tzinfo=UTC))
    return Sensors(platform, without="candle_gap_table")


def test_running_ingest_is_not_requested_again(back: Sensors) -> None:
    """An ingest run under way is not requested a second time.

    The schedule's own run may have started first.
    """
    job = build_definitions(back.platform.settings).resolve_job_def("tick_15m")
    regular = back.platform.instance.create_run_for_job(
        job, status=DagsterRunStatus.NOT_STARTED, tags={"dagster/partition": "2026-11-22"}
    )
    assert back.jobs("overdue_ingest") == ["tick_1m", "tick_1h"]
    back.platform.instance.report_run_canceled(regular)
    assert back.jobs("overdue_ingest") == ["tick_15m"]
    assert back.jobs("overdue_ingest") == []


def test_failed_ingest_is_requested_again(back: Sensors) -> None:
    """An ingest run that failed is requested again."""
    assert len(back.jobs("overdue_ingest")) == 3
    for _ in range(4):
        back.platform.exchange.advance(30)
        found = back.look("overdue_ingest")
    assert len(found.run_requests) == 3
    assert len({request.run_key for request in found.run_requests}) == 3


def test_later_pause_is_respected(back: Sensors) -> None:
    """Ingest that somebody paused after the return stays paused.

    The sensor fills in once after a return. Later it leaves overdue candles to the scheduler or a person.
    """
    assert back.jobs("overdue_ingest") == ["tick_1m", "tick_15m", "tick_1h"]
    store, now = ObjectStore(back.platform.settings.s3), back.platform.now()
    for interval in Interval:
        newest = newest_closed(interval, now, timedelta(seconds=2))
        write_ingest_state(store, interval, IngestState(dict.fromkeys(SYMBOLS, newest), {}))
    for _ in range(20):
        back.platform.exchange.advance(60)
        assert back.jobs("overdue_ingest") == []
    back.platform.exchange.advance(3600)
    assert len(back.jobs("overdue_ingest")) == 3, "it was away"


def test_yesterday_waits_for_nightly_run(back: Sensors) -> None:
    """Yesterday is left to the nightly run until that is over."""
    back.platform.exchange.set_clock(datetime(2026, 11, 22, 0, 40, tzinfo=UTC))
    [ledger] = back.look("gap_repair").run_requests
    assert (ledger.job_name, ledger.partition_key) == ("gap_ledger", "2026-11-20")


def test_day_being_finalized_needs_no_ledger(back: Sensors) -> None:
    """No ledger is requested for a day that is being finalized."""
    job = build_definitions(back.platform.settings).resolve_job_def("seal")
    back.platform.instance.create_run_for_job(
        job, status=DagsterRunStatus.STARTED, tags={"dagster/partition": "2026-11-21"}
    )
    [ledger] = back.look("gap_repair").run_requests
    assert (ledger.job_name, ledger.partition_key) == ("gap_ledger", "2026-11-20")


def test_failed_ledger_is_requested_again(back: Sensors) -> None:
    """A ledger that failed is requested again after a wait."""
    [first] = back.look("gap_repair").run_requests
    waiting = back.look("gap_repair")
    assert waiting.run_requests == []
    assert "2026-11-20 to 2026-11-21 did not succeed, and is requested again" in str(
        waiting.skip_message
    )
    back.platform.exchange.advance(15 * 60)
    [again] = back.look("gap_repair").run_requests
    assert days_of(first) == days_of(again)
    assert first.run_key != again.run_key
