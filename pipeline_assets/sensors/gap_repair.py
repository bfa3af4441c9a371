"""The repair of gaps: asks for runs over the days of which the ledger (asset `candle_gaps`) shows candles
that can be fetched. What is missing and why is judged there; the history of new symbols is new_listings.py's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import (
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from pipeline_assets.assets.gap_ledger import FILLABLE
from pipeline_assets.assets.gaps import CANDLE_GAPS
from pipeline_assets.market.interval import DAY, Interval
from pipeline_assets.partitions import DAYS_PER_RUN
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.lake_state import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.sensors.new_listings import History, history_since, run_request
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

NAME = "gap_repair"
# The same gaps of a day are asked for so often, the second and third time after these waits: what three
# fetches over two hours did not bring, such as a row that always comes malformed, needs a person.
TIMES = 3
WAITS = (timedelta(minutes=15), timedelta(hours=2))
# So many runs at once, and none while earlier ones are under way: live minutes share the exchange's limit.
REQUESTS_A_TICK = 4
_ROWS_A_RUN = 1_000_000
# Dagster ends a tick after 60 s; reading the ledger of so many days takes some seconds.
_DAYS_A_TICK = 400
_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Gaps:
    """What can be fetched of an interval and day: of which symbols, how many candles, and a name of
    exactly these candles.
    """

    symbols: tuple[str, ...]
    candles: int
    name: str


@dataclass(frozen=True)
class Repair:
    """What became of the gaps of an interval and day.

    Attributes:
        gaps: which gaps, by name.
        shown: the ledger's event that showed them first: of the same gaps at another time another.
        times: how often they were asked for.
        due: when they are to be asked for next, UTC.
    """

    gaps: str
    shown: int
    times: int
    due: datetime

    @property
    def given_up(self) -> bool:
        """Whether they were asked for as often as they are at all."""
        return self.times >= TIMES

    def asked(self, now: datetime) -> "Repair":
        """As it is once it was asked for."""
        wait = WAITS[min(self.times, len(WAITS) - 1)]
        return replace(self, times=self.times + 1, due=now + wait)


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: the newest event of the ledger that it has read, and its repairs."""

    read: int | None = None
    repairs: Mapping[tuple[Interval, date], Repair] = field(default_factory=dict)

    def to_text(self) -> str:
        """The cursor as Dagster keeps it."""
        repairs = [
            [interval, day.isoformat(), each.gaps, each.shown, each.times, each.due.isoformat()]
            for (interval, day), each in sorted(self.repairs.items())
        ]
        return json.dumps({"read": self.read, "repairs": repairs})

    @classmethod
    def from_text(cls, text: str | None) -> "Cursor":
        """The cursor that `to_text` described; at first an empty one."""
        if not text:
            return cls()
        held = json.loads(text)
        return cls(
            held["read"],
            {
                (Interval(interval), date.fromisoformat(day)): Repair(
                    gaps, shown, times, datetime.fromisoformat(due)
                )
                for interval, day, gaps, shown, times, due in held["repairs"]
            },
        )


def fillable(
    ledger: "pl.DataFrame", since: Mapping[Interval, date], listed: Iterable[str]
) -> dict[Interval, Gaps]:
    """What a run can fetch of a day's ledger, by interval; nothing of an interval that lacks nothing.

    Args:
        ledger: a day's gaps.
        since: by interval, from which day on gaps are closed unasked.
        listed: the symbols that the exchange names now: it gives candles of no other.
    """
    import polars as pl

    known = pl.col("symbol").is_in(list(listed))
    candidates = ledger.filter(pl.col("cause").is_in(FILLABLE) & known).sort("symbol", "first")
    found = {}
    for interval in since:
        own = candidates.filter(
            pl.col("interval") == interval.value, pl.col("day") >= since[interval]
        )
        if own.height:
            symbols = own["symbol"].unique(maintain_order=True).to_list()
            found[interval] = Gaps(tuple(symbols), int(own["count"].sum()), _name(own, interval))
    return found


def _name(gaps: "pl.DataFrame", interval: Interval) -> str:
    """A name of exactly these candles, whatever the cause of each."""
    runs: list[tuple[str, datetime, datetime]] = []
    for symbol, first, last in gaps.select("symbol", "first", "last").rows():
        # One gap of two causes is told as two.
        if runs and runs[-1][0] == symbol and runs[-1][2] + interval.span == first:
            runs[-1] = (symbol, runs[-1][1], last)
        else:
            runs.append((symbol, first, last))
    return _digest(" ".join(map(str, run)) for run in runs)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def updated(
    repairs: Mapping[tuple[Interval, date], Repair],
    day: date,
    found: Mapping[Interval, Gaps],
    shown: int,
    now: datetime,
) -> dict[tuple[Interval, date], Repair]:
    """The repairs once the ledger has told of a day: the same gaps stay what they are, new ones are due."""
    left = {key: each for key, each in repairs.items() if key[1] != day}
    for interval, gaps in found.items():
        known = repairs.get((interval, day))
        same = known is not None and known.gaps == gaps.name
        left[interval, day] = known if known and same else Repair(gaps.name, shown, 0, now)
    return left


def runs_of(
    due: Mapping[tuple[Interval, date], Gaps], most: int = REQUESTS_A_TICK
) -> list[History]:
    """Runs over what is due, neighbouring days as one of at most a month and a million rows.

    Minutes come first, since 15m and 1h are compared with them.
    """
    runs: list[History] = []
    for interval in Interval:
        for day in sorted(day for each, day in due if each is interval):
            symbols = due[interval, day].symbols
            last = runs[-1] if runs else None
            if last and last.interval is interval and last.last + DAY == day:
                joined = replace(last, last=day, symbols=_united(last.symbols, symbols))
                if _fits(joined):
                    runs[-1] = joined
                    continue
            if len(runs) == most:
                return runs
            runs.append(History(interval, day, day, symbols))
    return runs


def _united(*symbols: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({symbol for each in symbols for symbol in each}))


def _fits(run: History) -> bool:
    days = (run.last - run.first).days + 1
    return days <= DAYS_PER_RUN and (days * len(run.symbols) * run.interval.per_day <= _ROWS_A_RUN)


def gap_repair_sensor(jobs: Mapping[Interval, UnresolvedAssetJobDefinition]) -> SensorDefinition:
    """The sensor that asks for the repair of gaps.

    Args:
        jobs: by interval, the job over days that fetches what is missing and judges it anew.
    """

    @sensor(
        name=NAME,
        jobs=list(jobs.values()),
        minimum_interval_seconds=60,
        # Whoever schedules: a gap that can be filled is to be filled without a person.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Asks for the candles that the ledger `candle_gaps` shows as missing and to be had, of "
            f"finished days from PIPELINE_REPAIR__SINCE on (none: the first sealed day): the same gaps at "
            f"most {TIMES} times, {REQUESTS_A_TICK} runs at once. Gaps of the open day are the ticks'."
        ),
    )
    def gap_repair(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        cursor = Cursor.from_text(context.cursor)
        days, read = _told(context.instance, cursor.read)
        now = exchange.server_time()
        if not days and not cursor.repairs:
            return SensorResult(skip_reason="The ledger shows nothing to fetch.")
        since = history_since(store, settings)
        listed = (read_universe(store) or {"symbols": {}})["symbols"]
        repairs = dict(cursor.repairs)
        for day, shown in days.items():
            ledger = read_gaps(store, day)
            # The open day's candles come by themselves, or with its sealing.
            if ledger is not None and day < now.date():
                repairs = updated(repairs, day, fillable(ledger, since, listed), shown, now)
        unfinished = _unfinished(context.instance)
        asked: list[RunRequest] = []
        if not unfinished:
            due = {
                key: each for key, each in repairs.items() if not each.given_up and each.due <= now
            }
            known = _known(store, due, since, listed)
            # Such as of a symbol that the exchange does not name any more.
            repairs = {key: each for key, each in repairs.items() if key in known or key not in due}
            for run in runs_of(known):
                own = {key: due[key] for key in known if _covers(run, key)}
                asked.append(_request(run, own.values(), jobs[run.interval]))
                repairs |= {key: each.asked(now) for key, each in own.items()}
        return SensorResult(
            run_requests=asked,
            cursor=Cursor(read, repairs).to_text(),
            skip_reason=None if asked else _nothing_asked(repairs, unfinished),
        )

    return gap_repair


def _told(instance: DagsterInstance, after: int | None) -> tuple[dict[date, int], int | None]:
    """The days whose ledger is new since, each with its event; and the newest event of them."""
    chosen = AssetRecordsFilter(asset_key=CANDLE_GAPS, after_storage_id=after)
    records = instance.fetch_materializations(chosen, limit=_DAYS_A_TICK, ascending=True).records
    days = {
        date.fromisoformat(record.partition_key): record.storage_id
        for record in records
        if record.partition_key is not None
    }
    return days, records[-1].storage_id if records else after


def _known(
    store: ObjectStore,
    due: Mapping[tuple[Interval, date], Repair],
    since: Mapping[Interval, date],
    listed: Iterable[str],
) -> dict[tuple[Interval, date], Gaps]:
    """What the ledger says now of what is due."""
    days = sorted({day for _, day in due})
    found: dict[tuple[Interval, date], Gaps] = {}
    for day, ledger in zip(days, store.each(lambda day: read_gaps(store, day), days), strict=True):
        if ledger is not None:
            gaps = fillable(ledger, since, listed)
            found |= {(i, day): each for i, each in gaps.items() if (i, day) in due}
    return found


def _unfinished(instance: DagsterInstance) -> int:
    return instance.get_runs_count(
        RunsFilter(tags={"dagster/sensor_name": NAME}, statuses=_UNFINISHED)
    )


def _covers(run: History, key: tuple[Interval, date]) -> bool:
    return key[0] is run.interval and run.first <= key[1] <= run.last


def _request(
    run: History, repairs: Iterable[Repair], job: UnresolvedAssetJobDefinition
) -> RunRequest:
    """The run of some repairs; a tick that is repeated after a crash asks for it by the same key."""
    digest = _digest(sorted(f"{each.gaps} {each.shown} {each.times}" for each in repairs))
    key = f"{run.interval} {run.first} {run.last} {digest}"
    return run_request(run, job.name).with_replaced_attrs(run_key=key)


def _nothing_asked(repairs: Mapping[tuple[Interval, date], Repair], unfinished: int) -> str:
    said = [f"{unfinished} earlier repairs are under way."] if unfinished else []
    given_up = sorted(key for key, each in repairs.items() if each.given_up)
    waiting = [each.due for each in repairs.values() if not each.given_up]
    if waiting and not unfinished:
        said.append(f"{len(waiting)} are asked for again, the next at {min(waiting):%H:%M} UTC.")
    if given_up and not unfinished:
        interval, day = given_up[0]
        said.append(
            f"Given up: {TIMES} fetches did not bring what is missing of {len(given_up)} days, the first "
            f"{interval} of {day}. `pipeline-assets gaps --start {day} --end {day + DAY}` shows it."
        )
    return " ".join(said) or "The ledger shows nothing to fetch."
