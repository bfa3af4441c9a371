"""The repair of gaps: requests runs over the days of which the ledger (asset `candle_gaps`) shows candles
that can be fetched, newest first, and a ledger of finished days that have none. What is missing and why is
judged there; the history of new symbols is new_listings.py's.
"""

import hashlib
import json
import logging
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
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.assets.gaps import CANDLE_GAPS
from pipeline_assets.collection.coverage import FILLABLE
from pipeline_assets.collection.listings import collected_now
from pipeline_assets.collection.missed_days import (
    newest_finished_day,
    newest_first,
    unjudged_days,
)
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import DAYS_PER_RUN, FIRST_DAY
from pipeline_assets.resources.candle_objects import prefix, window_start
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import sealed_symbols
from pipeline_assets.resources.gap_objects import judged_days, read_gaps
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.sensors.new_listings import History, run_request
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
# A run that makes ledgers covers at most this many days; it tells of all of them in one tick.
_LEDGER_DAYS = 366
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
class LedgerRequest:
    """The request of a ledger over days that had none.

    Attributes:
        first: the first of the days.
        last: the last of the days, included.
        due: when the same days may be requested again, UTC.
        requests: how often the same days were requested.
    """

    first: date
    last: date
    due: datetime
    requests: int = 1

    @classmethod
    def of(
        cls, days: tuple[date, date], known: "LedgerRequest | None", now: datetime
    ) -> "LedgerRequest | None":
        """Return the request of these days that is to be made now, or None while it has to wait."""
        made = known.requests if known and (known.first, known.last) == days else 0
        if made and known and known.due > now:
            return None
        return cls(*days, now + WAITS[min(made, len(WAITS) - 1)], made + 1)

    def to_facts(self) -> list[Any]:
        """The request as JSON-serialisable values."""
        return [
            *(self.first.isoformat(), self.last.isoformat(), self.due.isoformat()),
            self.requests,
        ]

    @classmethod
    def from_facts(cls, first: str, last: str, due: str, requests: int) -> "LedgerRequest":
        """The request that `to_facts` described."""
        days = date.fromisoformat(first), date.fromisoformat(last)
        return cls(*days, datetime.fromisoformat(due), requests)


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers.

    Attributes:
        read: the newest event of the ledger that it has read.
        repairs: what became of the gaps of each interval and day.
        first_stored: the first day that is stored of any symbol, while there is no ledger.
        ledger: the ledger that was requested last.
    """

    read: int | None = None
    repairs: Mapping[tuple[Interval, date], Repair] = field(default_factory=dict)
    first_stored: date | None = None
    ledger: LedgerRequest | None = None

    def to_text(self) -> str:
        """The cursor as Dagster keeps it."""
        repairs = [
            [interval, day.isoformat(), *each.to_facts()]
            for (interval, day), each in sorted(self.repairs.items())
        ]
        return json.dumps(
            {
                "read": self.read,
                "repairs": repairs,
                "first_stored": self.first_stored.isoformat() if self.first_stored else None,
                "ledger": self.ledger.to_facts() if self.ledger else None,
            }
        )

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
            # Earlier versions wrote neither.
            date.fromisoformat(held["first_stored"]) if held.get("first_stored") else None,
            LedgerRequest.from_facts(*held["ledger"]) if held.get("ledger") else None,
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
    """Of what is due, newest days first, no more than `most` runs can take."""
    taken: list[tuple[Interval, date]] = []
    # By interval the first day of the run that earlier days may join, and how many days it has.
    newest: dict[Interval, tuple[date, int]] = {}
    runs = 0
    for interval, day in newest_first(due):
        first, days = newest.get(interval, (day, 0))
        joins = 0 < days < DAYS_PER_RUN and first == day + DAY
        if not joins and runs == most:
            continue
        runs += not joins
        newest[interval] = (day, days + 1 if joins else 1)
        taken.append((interval, day))
    return taken


def runs_of(
    due: Mapping[tuple[Interval, date], Gaps], most: int = REQUESTS_A_TICK
) -> list[History]:
    """Runs over what is due, neighbouring days as one of at most a month and a million rows; newest days
    first, and of one day minutes first, since 15m and 1h are compared with them.
    """
    runs: list[History] = []
    # By interval the place of the run that earlier days may join.
    newest: dict[Interval, int] = {}
    for interval, day in newest_first(due):
        symbols = due[interval, day].symbols
        place = newest.get(interval)
        if place is not None and runs[place].first == day + DAY:
            joined = replace(runs[place], first=day, symbols=_united(runs[place].symbols, symbols))
            if _fits(joined):
                runs[place] = joined
                continue
        if len(runs) < most:
            newest[interval] = len(runs)
            runs.append(History(interval, day, day, symbols))
    return runs


def _united(*symbols: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({symbol for each in symbols for symbol in each}))


def _fits(run: History) -> bool:
    days = (run.last - run.first).days + 1
    return days <= DAYS_PER_RUN and (days * len(run.symbols) * run.interval.per_day <= _ROWS_A_RUN)


def gap_repair_sensor(
    jobs: Mapping[Interval, UnresolvedAssetJobDefinition], ledger_job: UnresolvedAssetJobDefinition
) -> SensorDefinition:
    """The sensor that requests the repair of gaps.

    Args:
        jobs: by interval, the job over days that fetches what is missing and judges it anew.
        ledger_job: the job that judges days.
    """

    @sensor(
        name=NAME,
        jobs=[*jobs.values(), ledger_job],
        # After days off the first tick requests the ledger and the next one the repairs.
        minimum_interval_seconds=30,
        # Whoever schedules: a gap that can be filled is to be filled without a person.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Requests the candles that the ledger `candle_gaps` shows as missing and to be had, of "
            "finished days from PIPELINE_REPAIR__SINCE on (none: where each symbol's history begins): the "
            f"same gaps are fetched {TIMES} times at most, {REQUESTS_A_TICK} runs at once, newest days "
            "first. Of finished days without a ledger, such as after days off, it requests that first. "
            "Gaps of the open day are the ingest runs'."
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
        first_stored, missed = _missed(context.instance, store, settings, cursor, now)
        cursor = replace(cursor, read=read, first_stored=first_stored)
        if not days and not cursor.repairs and not missed:
            return SensorResult(
                cursor=cursor.to_text(), skip_reason="The ledger shows nothing to fetch."
            )
        # Without the setting, a symbol's history begins with its oldest object: see `asked_for`.
        since = dict.fromkeys(Interval, settings.repair.since or FIRST_DAY)
        listed = (read_universe(store) or {"symbols": {}})["symbols"]
        repairs = dict(cursor.repairs)
        ledger = cursor.ledger
        everything = settings.repair.since is not None
        # The open day's candles come by themselves, or with its sealing.
        finished = [day for day in days if day < now.date()]
        for day, gaps in _shown(store, finished, since, listed, everything=everything).items():
            repairs = updated(repairs, day, gaps, days[day], now)
        unfinished = _unfinished(context.instance)
        asked: list[RunRequest] = []
        if missed and not unfinished:
            # Repairs wait for it: the days without a ledger are the newer ones.
            request = LedgerRequest.of(missed, ledger, now)
            if request is not None:
                asked.append(_ledger_request(request, ledger, ledger_job))
                ledger = request
        # With more to read, the ledger may have told already what became of the last request.
        if not unfinished and not more and not asked:
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
            cursor=replace(cursor, repairs=repairs, ledger=ledger).to_text(),
            skip_reason=None if asked else _nothing_asked(repairs, unfinished, more=more),
        )

    return gap_repair


def _missed(
    instance: DagsterInstance,
    store: ObjectStore,
    settings: Settings,
    cursor: Cursor,
    now: datetime,
) -> tuple[date | None, tuple[date, date] | None]:
    """The first day that is stored, and the newest stretch of finished days that nobody judges.

    Days before the first ledger are a backfill's. While there is none, as where nothing has ever run at
    night, the oldest object of any symbol says where history begins; it is looked up once.
    """
    judged = set(judged_days(store))
    first = min(judged) if judged else cursor.first_stored or _first_stored(store, settings)
    if first is None:
        return None, None
    finalizing = {
        date.fromisoformat(day)
        for run in instance.get_runs(RunsFilter(job_name="seal", statuses=_UNFINISHED))
        if (day := run.tags.get(PARTITION_NAME_TAG))
    }
    begin = max(first, settings.repair.since or first)
    last = newest_finished_day(now)
    return first, unjudged_days(begin, last, judged | finalizing, _LEDGER_DAYS)


def _first_stored(store: ObjectStore, settings: Settings) -> date | None:
    def oldest(symbol: str) -> date | None:
        objects = store.objects(prefix(Interval.ONE_MINUTE, symbol))
        start = window_start(found.key) if (found := next(iter(objects), None)) else None
        return start.date() if start else None

    universe = read_universe(store)
    if universe is None:
        return None
    symbols = list(collected_now(universe, settings.symbols))
    return min((day for day in store.each(oldest, symbols) if day), default=None)


def _ledger_request(
    request: LedgerRequest, before: LedgerRequest | None, job: UnresolvedAssetJobDefinition
) -> RunRequest:
    """The run of a ledger; a tick that is repeated after a crash requests it by the same key."""
    first, last = request.first.isoformat(), request.last.isoformat()
    after = before.due.isoformat() if before else "none"
    return RunRequest(
        run_key=f"ledger {first} {last} after {after}",
        job_name=job.name,
        partition_key=first if first == last else None,
        tags={}
        if first == last
        else {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
    )


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


_LOG = logging.getLogger(__name__)


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
        try:
            ledger = read_gaps(store, day)
        except DamagedObjectError as error:
            # One damaged ledger must not keep the other days from being repaired.
            _LOG.warning("The ledger of %s is passed over: %s", day, error)
            return None
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
