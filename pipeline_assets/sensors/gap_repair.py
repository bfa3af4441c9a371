"""The repair of gaps: asks for runs over the days of which the ledger (asset `candle_gaps`) shows candles
that can be fetched. What is missing and why is judged there; the history of new symbols is new_listings.py's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

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
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.interval import DAY, Interval
from pipeline_assets.partitions import DAYS_PER_RUN
from pipeline_assets.resources.candle_objects import prefix, window_start
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.lake_state import read_universe, sealed_symbols
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.sensors.new_listings import History, history_since, run_request
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

NAME = "gap_repair"
# The same gaps of a day are fetched so often: what three fetches over two hours did not bring, such as a
# row that always comes malformed, needs a person. A run that failed before it fetched is no such fetch.
TIMES = 3
# How long after each request the next may come, the last for all later ones.
WAITS = (timedelta(minutes=15), timedelta(hours=2))
# So many runs at once, and none while earlier ones are under way: live minutes share the exchange's limit.
REQUESTS_A_TICK = 4
_ROWS_A_RUN = 1_000_000
# Dagster ends a tick after 60 s: it reads the ledger of so many new days, and of what is asked for.
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
        due: when they are to be asked for next, UTC.
        requests: how often they were asked for, whatever became of the runs.
        fetches: how often the ledger showed them again after a request.
        pending: whether the ledger has not told of their day since the last request.
    """

    gaps: str
    shown: int
    due: datetime
    requests: int = 0
    fetches: int = 0
    pending: bool = False

    @property
    def given_up(self) -> bool:
        """Whether they were fetched as often as they are at all."""
        return self.fetches >= TIMES

    def asked(self, now: datetime) -> "Repair":
        """As it is once it was asked for."""
        wait = WAITS[min(self.requests, len(WAITS) - 1)]
        return replace(self, requests=self.requests + 1, due=now + wait, pending=True)

    def shown_again(self) -> "Repair":
        """As it is once the ledger was made anew and still shows these gaps."""
        return replace(self, fetches=self.fetches + self.pending, pending=False)

    def to_facts(self) -> tuple[Any, ...]:
        """The repair as JSON-serialisable values."""
        due = self.due.isoformat()
        return self.gaps, self.shown, due, self.requests, self.fetches, self.pending

    @classmethod
    def from_facts(cls, gaps: str, shown: int, due: str, *counts: Any) -> "Repair":
        """The repair that `to_facts` described."""
        return cls(gaps, shown, datetime.fromisoformat(due), *counts)


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: the newest event of the ledger that it has read, and its repairs."""

    read: int | None = None
    repairs: Mapping[tuple[Interval, date], Repair] = field(default_factory=dict)

    def to_text(self) -> str:
        """The cursor as Dagster keeps it."""
        repairs = [
            [interval, day.isoformat(), *each.to_facts()]
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
                (Interval(interval), date.fromisoformat(day)): Repair.from_facts(*facts)
                for interval, day, *facts in held["repairs"]
            },
        )


def fillable(
    ledger: "pl.DataFrame", since: Mapping[Interval, date], listed: Iterable[str]
) -> "pl.DataFrame":
    """The gaps that a run can fill, sorted by day, symbol and first open time.

    Args:
        ledger: gaps of any days.
        since: by interval, from which day on gaps are closed unasked.
        listed: the symbols that the exchange names now: it gives candles of no other.
    """
    import polars as pl

    known = pl.col("symbol").is_in(list(listed))
    begun = pl.any_horizontal(
        pl.lit(value=False),
        *(
            (pl.col("interval") == interval.value) & (pl.col("day") >= first)
            for interval, first in since.items()
        ),
    )
    return ledger.filter(pl.col("cause").is_in(FILLABLE) & known & begun).sort(
        "day", "symbol", "first"
    )


def asked_for(store: ObjectStore, gaps: "pl.DataFrame") -> "pl.DataFrame":
    """Those gaps that are holes in history that somebody asked for.

    A ledger tells of all symbols, whichever the run fetched. Where one symbol's history goes back three
    years, that of the others may begin today, and all days before would look like a hole of theirs.
    A symbol's history begins with its oldest object; it is also there on a day that was sealed for
    it without a candle. Of what was set aside, or lacked in the archive, something came.
    """
    import polars as pl

    never = pl.col("cause") == Cause.NOT_FETCHED
    symbols = gaps.filter(never).select("interval", "symbol").unique().rows()

    def oldest(key: tuple[str, str]) -> date | None:
        objects = store.objects(prefix(Interval(key[0]), key[1]))
        start = window_start(first.key) if (first := next(iter(objects), None)) else None
        return start.date() if start else None

    first_days = store.each(oldest, symbols)
    begun = pl.DataFrame(
        [(*key, day) for key, day in zip(symbols, first_days, strict=True)],
        schema={"interval": pl.String, "symbol": pl.String, "first_day": pl.Date},
        orient="row",
    )
    told = gaps.join(begun, on=("interval", "symbol"), how="left", maintain_order="left")
    before = never & (pl.col("first_day").is_null() | (pl.col("day") < pl.col("first_day")))
    days = told.filter(before).select("interval", "day").unique().rows()
    marks = store.each(lambda key: sealed_symbols(store, Interval(key[0]), key[1]), days)
    sealed = pl.DataFrame(
        [(*key, symbol) for key, held in zip(days, marks, strict=True) for symbol in held],
        schema={"interval": pl.String, "day": pl.Date, "symbol": pl.String},
        orient="row",
    )
    unasked = told.filter(before).join(sealed, on=sealed.columns, how="anti")
    keys = ["interval", "day", "symbol", "first"]
    return gaps.join(unasked, on=keys, how="anti", maintain_order="left")


def by_interval(gaps: "pl.DataFrame") -> dict[Interval, Gaps]:
    """What a run is to fetch of a day; nothing of an interval that lacks nothing."""
    import polars as pl

    found = {}
    for interval in Interval:
        own = gaps.filter(pl.col("interval") == interval.value)
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
        left[interval, day] = (
            known.shown_again() if known and same else Repair(gaps.name, shown, now)
        )
    return left


def next_due(
    due: Iterable[tuple[Interval, date]], most: int = REQUESTS_A_TICK
) -> list[tuple[Interval, date]]:
    """Of what is due, in order of interval and day, no more than `most` runs can take."""
    taken: list[tuple[Interval, date]] = []
    runs = days = 0
    for key in sorted(due, key=lambda key: (list(Interval).index(key[0]), key[1])):
        joins = bool(taken) and taken[-1] == (key[0], key[1] - DAY) and days < DAYS_PER_RUN
        runs, days = (runs, days + 1) if joins else (runs + 1, 1)
        if runs > most:
            break
        taken.append(key)
    return taken


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
            "finished days from PIPELINE_REPAIR__SINCE on (none: where each symbol's history begins): the "
            f"same gaps are fetched {TIMES} times at most, {REQUESTS_A_TICK} runs at once. Gaps of the "
            "open day are the ticks'."
        ),
    )
    def gap_repair(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        cursor = Cursor.from_text(context.cursor)
        days, read, more = _told(context.instance, cursor.read)
        now = exchange.server_time()
        if not days and not cursor.repairs:
            return SensorResult(skip_reason="The ledger shows nothing to fetch.")
        since = history_since(store, settings)
        listed = (read_universe(store) or {"symbols": {}})["symbols"]
        repairs = dict(cursor.repairs)
        everything = settings.repair.since is not None
        # The open day's candles come by themselves, or with its sealing.
        finished = [day for day in days if day < now.date()]
        for day, gaps in _shown(store, finished, since, listed, everything=everything).items():
            repairs = updated(repairs, day, gaps, days[day], now)
        unfinished = _unfinished(context.instance)
        asked: list[RunRequest] = []
        # With more to read, the ledger may have told already what became of the last request.
        if not unfinished and not more:
            due = next_due(
                key for key, each in repairs.items() if not each.given_up and each.due <= now
            )
            again = sorted({day for _, day in due})
            shown = _shown(store, again, since, listed, everything=everything)
            known = {(i, day): shown[day][i] for i, day in due if i in shown.get(day, {})}
            # Such as of a symbol that the exchange does not name any more.
            repairs = {key: each for key, each in repairs.items() if key in known or key not in due}
            for run in runs_of(known):
                own = {key: repairs[key] for key in known if _covers(run, key)}
                asked.append(_request(run, own.values(), jobs[run.interval]))
                repairs |= {key: each.asked(now) for key, each in own.items()}
        return SensorResult(
            run_requests=asked,
            cursor=Cursor(read, repairs).to_text(),
            skip_reason=None if asked else _nothing_asked(repairs, unfinished, more=more),
        )

    return gap_repair


def _told(instance: DagsterInstance, after: int | None) -> tuple[dict[date, int], int | None, bool]:
    """The days whose ledger is new since, each with its event; the newest event of them; and whether
    there are more.
    """
    chosen = AssetRecordsFilter(asset_key=CANDLE_GAPS, after_storage_id=after)
    found = instance.fetch_materializations(chosen, limit=_DAYS_A_TICK, ascending=True)
    records = found.records
    days = {
        date.fromisoformat(record.partition_key): record.storage_id
        for record in records
        if record.partition_key is not None
    }
    return days, records[-1].storage_id if records else after, found.has_more


def _shown(
    store: ObjectStore,
    days: Sequence[date],
    since: Mapping[Interval, date],
    listed: Iterable[str],
    *,
    everything: bool,
) -> dict[date, dict[Interval, Gaps]]:
    """What the ledger says now of days, as far as it was made of them and a run is to fetch it.

    `everything`: also of symbols of which nobody asked for these days.
    """
    import polars as pl

    symbols = list(listed)

    def read(day: date) -> "pl.DataFrame | None":
        ledger = read_gaps(store, day)
        return None if ledger is None else fillable(ledger, since, symbols)

    read_days = zip(days, store.each(read, days), strict=True)
    ledgers = {day: ledger for day, ledger in read_days if ledger is not None}
    if not ledgers:
        return {}
    gaps = pl.concat(ledgers.values())
    wanted = gaps if everything else asked_for(store, gaps)
    return {day: by_interval(wanted.filter(day=day)) for day in ledgers}


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
    digest = _digest(sorted(f"{each.gaps} {each.shown} {each.requests}" for each in repairs))
    key = f"{run.interval} {run.first} {run.last} {digest}"
    return run_request(run, job.name, key)


def _nothing_asked(
    repairs: Mapping[tuple[Interval, date], Repair], unfinished: int, *, more: bool
) -> str:
    if more:
        return "The ledger tells of more days, which are read first."
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
