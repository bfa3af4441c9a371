"""The history of symbols that are new: listed since, or new in the settings. Asks for runs over their days
until these are sealed. Days that lack candles for another reason are not this sensor's.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

from dagster import (
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

from pipeline_assets.assets import layer
from pipeline_assets.collection.listings import collected_identities
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import DAYS_PER_RUN, FIRST_DAY
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import sealed_days, sealed_symbols
from pipeline_assets.resources.listing_history import Identity, read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

NAME = "new_listings"
# So many runs a tick, and none while earlier ones wait in the queue: `all` in place of ten symbols makes
# hundreds of new ones, and their history must not stand between the queue and live minutes.
REQUESTS_A_TICK = 6
# A month of minutes of so many symbols is a million rows: two minutes at the exchange's limit.
_SYMBOLS_A_RUN = 20
_RUN_KEY = "dagster/run_key"
_ENDED = {DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED, DagsterRunStatus.SUCCESS}
_SMALLEST = timedelta(microseconds=1)
# A run that fails, or does not bring all, is asked for so often in all, each time after the next of these
# waits: what failed over most of a day needs a person.
TIMES = 5
WAITS = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))


@dataclass(frozen=True)
class History:
    """Days of some symbols that are still to be asked for, `last` included."""

    interval: Interval
    first: date
    last: date
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """A run that was asked for and has not brought all of its days yet.

    Attributes:
        run: over which days, of which symbols.
        times: how often it was asked for.
        due: when it may be asked for again, UTC.
    """

    run: History
    times: int
    due: datetime

    @property
    def run_key(self) -> str:
        """Its own of each request: Dagster launches what has one key once, also if that fails."""
        again = f" attempt {self.times}" if self.times > 1 else ""
        first, last = self.run.first, self.run.last
        return f"{self.run.interval} {first} {last} {' '.join(self.run.symbols)}{again}"

    @classmethod
    def at(cls, run: History, now: datetime, times: int = 1) -> "Asked":
        """What is asked for now."""
        return cls(run, times, now + WAITS[min(times, len(WAITS)) - 1])


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers.

    Attributes:
        known: whose history is no news; None at first.
        left: what is still to be asked for.
        asked: what was asked for and is not sealed yet.
        unsealed: by interval of which no day was ever sealed, who waits for how far back it goes.
    """

    known: frozenset[str] | None = None
    left: tuple[History, ...] = ()
    asked: tuple[Asked, ...] = ()
    unsealed: Mapping[Interval, frozenset[str]] = field(default_factory=dict)

    def to_text(self) -> str:
        """The cursor as Dagster keeps it."""
        held = {
            "known": None if self.known is None else sorted(self.known),
            "left": [_facts(each) for each in self.left],
            "asked": [(*_facts(each.run), each.times, each.due.isoformat()) for each in self.asked],
            "unsealed": {interval: sorted(names) for interval, names in self.unsealed.items()},
        }
        return json.dumps(held, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None) -> "Cursor":
        """The cursor that `to_text` described; at first, and where none can be read, an empty one."""
        if not text:
            return cls()
        held = json.loads(text)
        return cls(
            None if held["known"] is None else frozenset(held["known"]),
            tuple(_history(*facts) for facts in held["left"]),
            tuple(
                Asked(_history(*facts), times, datetime.fromisoformat(due))
                for *facts, times, due in held["asked"]
            ),
            {Interval(name): frozenset(names) for name, names in held["unsealed"].items()},
        )


def _facts(history: History) -> tuple[Any, ...]:
    return history.interval, str(history.first), str(history.last), history.symbols


def _history(interval: str, first: str, last: str, symbols: Iterable[str]) -> History:
    return History(
        Interval(interval), date.fromisoformat(first), date.fromisoformat(last), tuple(symbols)
    )


def name_of(identity: Identity) -> str:
    """What the cursor calls an identity."""
    return f"{identity.symbol} {identity.onboard_date:%Y-%m-%dT%H:%M}"


def new_identities(
    identities: Sequence[Identity],
    symbols: Container[str] | Literal["all"],
    known: frozenset[str] | None,
) -> list[Identity]:
    """Those collected that are not known; at first those that the first look did not see.

    What the first look saw is no news: whoever starts with five hundred symbols says by a backfill
    how far back they want them.
    """
    collected = collected_identities(identities, symbols)
    if known is None:
        first_look = min((each.first_seen for each in identities), default=None)
        return [each for each in collected if each.first_seen != first_look]
    return [each for each in collected if name_of(each) not in known]


def histories(
    new: Iterable[Identity], since: Mapping[Interval, date], server_time: datetime
) -> list[History]:
    """The finished days of these, from listing to delisting, but not before `since` of an interval.

    Minutes come first, since 15m and 1h are compared with them. What the exchange does not name any
    more has no history to fetch, nor has an interval without `since`.
    """
    spans: dict[tuple[Interval, date, date], list[str]] = {}
    yesterday = server_time.date() - DAY
    there = sorted((each for each in new if each.gone is None), key=lambda each: each.symbol)
    for interval in (each for each in Interval if each in since):
        for identity in there:
            first = max(identity.listed_at.date(), since[interval], FIRST_DAY)
            ended = identity.delisted_at(server_time)
            last = min(yesterday, (ended - _SMALLEST).date()) if ended else yesterday
            if first <= last:
                spans.setdefault((interval, first, last), []).append(identity.symbol)
    return [
        History(*span, tuple(symbols[place : place + _SYMBOLS_A_RUN]))
        for span, symbols in spans.items()
        for place in range(0, len(symbols), _SYMBOLS_A_RUN)
    ]


def next_runs(
    left: Sequence[History], most: int = REQUESTS_A_TICK
) -> tuple[list[History], tuple[History, ...]]:
    """What to ask for now, as runs of at most a month's days, and what is left after that."""
    runs: list[History] = []
    rest = list(left)
    while rest and len(runs) < most:
        each = rest.pop(0)
        last = min(each.last, each.first + (DAYS_PER_RUN - 1) * DAY)
        runs.append(replace(each, last=last))
        if last < each.last:
            rest.insert(0, replace(each, first=last + DAY))
    return runs, tuple(rest)


def run_request(history: History, job: str, run_key: str) -> RunRequest:
    """A run over the days, of the symbols alone; asked for twice by a key, Dagster launches it once."""
    first, last = history.first.isoformat(), history.last.isoformat()
    one_day = first == last
    raw = layer.key(layer.RAW, history.interval).path[0]
    return RunRequest(
        run_key=run_key,
        job_name=job,
        partition_key=first if one_day else None,
        run_config={"ops": {raw: {"config": {"symbols": list(history.symbols)}}}},
        tags={}
        if one_day
        else {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
    )


def new_listing_sensor(jobs: Mapping[Interval, UnresolvedAssetJobDefinition]) -> SensorDefinition:
    """The sensor that asks for the history of new symbols.

    Args:
        jobs: by interval, the job over days that fetches it.
    """

    @sensor(
        name=NAME,
        jobs=list(jobs.values()),
        minimum_interval_seconds=60,
        # Whoever schedules: a symbol that is new tomorrow must not wait for a person.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Asks for the history of symbols that were listed since, or are new in the settings: from "
            "listing, but not before PIPELINE_REPAIR__SINCE (none: the first sealed day), at most "
            f"{REQUESTS_A_TICK} runs at once, each again until all its days are sealed, {TIMES} times in "
            "all. What was there at the first start is a backfill's."
        ),
    )
    def new_listings(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        cursor = Cursor.from_text(context.cursor)
        identities = read_identities(store)
        if not identities:
            return SensorResult(skip_reason="Nobody has looked yet at what the exchange lists.")
        now = exchange.server_time()
        # One that is announced is new once it trades: there is nothing of it to ask for before, and if
        # nobody collects it then, its first days are history like any other's.
        trading = [each for each in identities if each.listed_at <= now]
        found, unsealed = _found(store, settings, trading, cursor, now)
        left = [*cursor.left, *found]
        named = frozenset(each.symbol for each in identities if each.gone is None)
        asked, failed = _unsuccessful(context.instance, store, cursor.asked, named)
        waiting = context.instance.get_runs_count(
            RunsFilter(
                tags={"dagster/sensor_name": NAME},
                statuses=[DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED],
            )
        )
        most = 0 if waiting else REQUESTS_A_TICK
        due = [each for each in failed if each.times < TIMES and each.due <= now][:most]
        runs, rest = next_runs(left, most - len(due))
        requests = [
            *(Asked.at(each.run, now, each.times + 1) for each in due),
            *(Asked.at(run, now) for run in runs),
        ]
        failed = [each for each in failed if each not in due]
        known = map(name_of, collected_identities(trading, settings.symbols))
        return SensorResult(
            run_requests=[
                run_request(each.run, jobs[each.run.interval].name, each.run_key)
                for each in requests
            ],
            cursor=Cursor(frozenset(known), rest, (*asked, *failed, *requests), unsealed).to_text(),
            skip_reason=None if requests else _nothing_asked(rest, waiting, asked, failed),
        )

    return new_listings


def _found(
    store: ObjectStore,
    settings: Settings,
    identities: Sequence[Identity],
    cursor: Cursor,
    now: datetime,
) -> tuple[list[History], dict[Interval, frozenset[str]]]:
    """The history to ask for that was not known, and who waits for a first sealed day by interval."""
    new = new_identities(identities, settings.symbols, cursor.known)
    if not new and not cursor.unsealed:
        return [], {}
    since = history_since(store, settings)
    found: list[History] = []
    unsealed = {}
    collected = collected_identities(identities, settings.symbols)
    for interval in Interval:
        waited = cursor.unsealed.get(interval, frozenset())
        own = [each for each in collected if each in new or name_of(each) in waited]
        if interval in since:
            found += histories(own, {interval: since[interval]}, now)
        elif own:
            unsealed[interval] = frozenset(map(name_of, own))
    return found, unsealed


def _unsuccessful(
    instance: DagsterInstance, store: ObjectStore, asked: Sequence[Asked], named: frozenset[str]
) -> tuple[list[Asked], list[Asked]]:
    """Of what was asked for, the runs that are under way, and those that have failed or are gone.

    `named` are the symbols that the exchange names still: it gives candles of no other.
    """
    if not asked:
        return [], []
    keys = [each.run_key for each in asked]
    runs = instance.get_runs(RunsFilter(tags={"dagster/sensor_name": NAME, _RUN_KEY: keys}))
    statuses: dict[str, set[DagsterRunStatus]] = {}
    for run in runs:
        # A run that Dagster, or a person, starts again from its failure keeps the key.
        statuses.setdefault(run.tags[_RUN_KEY], set()).add(run.status)
    under_way: list[Asked] = []
    failed: list[Asked] = []
    for each in asked:
        own = statuses.get(each.run_key, set())
        # A run succeeds also where one symbol of several could not be fetched.
        done = DagsterRunStatus.SUCCESS in own or each.times >= TIMES
        if done and _sealed(store, each.run, named):
            continue
        (under_way if own - _ENDED else failed).append(each)
    return under_way, failed


def _sealed(store: ObjectStore, run: History, named: frozenset[str]) -> bool:
    """Whether its days are sealed, by itself or by another run, such as a person's backfill."""
    days = [run.first + number * DAY for number in range((run.last - run.first).days + 1)]
    held = store.each(lambda day: sealed_symbols(store, run.interval, day), days)
    return all(symbols.issuperset(named.intersection(run.symbols)) for symbols in held)


def history_since(store: ObjectStore, settings: Settings) -> dict[Interval, date]:
    """From which day on each interval is to have history; none of what has never been sealed."""
    if settings.repair.since is not None:
        return dict.fromkeys(Interval, settings.repair.since)
    sealed = {interval: sealed_days(store, interval) for interval in Interval}
    return {interval: days[0] for interval, days in sealed.items() if days}


def _nothing_asked(
    left: Sequence[History], waiting: int, under_way: Sequence[Asked], failed: Sequence[Asked]
) -> str:
    said = []
    if left:
        count = len({symbol for each in left for symbol in each.symbols})
        said.append(
            f"{waiting} earlier runs wait; the history of {count} symbols is asked for after them."
        )
    elif under_way:
        said.append(f"{len(under_way)} runs that were asked for are under way.")
    again = [each.due for each in failed if each.times < TIMES]
    if again:
        said.append(
            f"{len(again)} runs did not bring all and are asked for again, the next at "
            f"{min(again):%H:%M} UTC."
        )
    given_up = [each.run for each in failed if each.times >= TIMES]
    if given_up:
        run = given_up[0]
        said.append(
            f"Given up: {len(given_up)} runs did not bring all in {TIMES} times. See why on Dagster's Runs "
            f"page (tag dagster/sensor_name={NAME}), and once that is put right: `pipeline-assets backfill "
            f"--interval {run.interval} --symbols {','.join(run.symbols)} --start {run.first} --end "
            f"{run.last + DAY}`"
        )
    return " ".join(said) or "No symbol is new."
