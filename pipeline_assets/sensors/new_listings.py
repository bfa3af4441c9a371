"""The history of symbols that are new: listed since, or new in the settings. Asks for runs over their days
once. Days that lack candles for another reason are not this sensor's.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from dagster import (
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
from pipeline_assets.assets.collected import collected_identities
from pipeline_assets.market.interval import DAY, Interval
from pipeline_assets.partitions import DAYS_PER_RUN, FIRST_DAY
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.lake_state import Identity, read_identities, sealed_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

NAME = "new_listings"
# So many runs a tick, and none while earlier ones wait in the queue: `all` in place of ten symbols makes
# hundreds of new ones, and their history must not stand between the queue and live minutes.
REQUESTS_A_TICK = 6
# A month of minutes of so many symbols is a million rows: two minutes at the exchange's limit.
_SYMBOLS_A_RUN = 20
_SMALLEST = timedelta(microseconds=1)


@dataclass(frozen=True)
class History:
    """Days of some symbols that are still to be asked for, `last` included."""

    interval: Interval
    first: date
    last: date
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: whose history is no news, or None at first; and what is left to ask."""

    known: frozenset[str] | None = None
    left: tuple[History, ...] = ()

    def to_text(self) -> str:
        """The cursor as Dagster keeps it."""
        left = [
            [each.interval, each.first.isoformat(), each.last.isoformat(), each.symbols]
            for each in self.left
        ]
        known = None if self.known is None else sorted(self.known)
        return json.dumps({"known": known, "left": left}, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None) -> "Cursor":
        """The cursor that `to_text` described; at first, and where none can be read, an empty one."""
        if not text:
            return cls()
        held = json.loads(text)
        left = (
            History(
                Interval(interval),
                date.fromisoformat(first),
                date.fromisoformat(last),
                tuple(symbols),
            )
            for interval, first, last, symbols in held["left"]
        )
        known = None if held["known"] is None else frozenset(held["known"])
        return cls(known, tuple(left))


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
            first = max(identity.onboard_date.date(), since[interval], FIRST_DAY)
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


def run_request(history: History, job: str) -> RunRequest:
    """A run over the days, of the symbols alone; asked for twice, Dagster launches it once."""
    first, last = history.first.isoformat(), history.last.isoformat()
    one_day = first == last
    raw = layer.key(layer.RAW, history.interval).path[0]
    return RunRequest(
        run_key=f"{history.interval} {first} {last} {' '.join(history.symbols)}",
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
            f"{REQUESTS_A_TICK} runs at once. What was there at the first start is a backfill's."
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
        new = new_identities(identities, settings.symbols, cursor.known)
        left = list(cursor.left)
        if new:
            left += histories(new, history_since(store, settings), exchange.server_time())
        waiting = context.instance.get_runs_count(
            RunsFilter(
                tags={"dagster/sensor_name": NAME},
                statuses=[DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED],
            )
        )
        runs, rest = next_runs(left, 0 if waiting else REQUESTS_A_TICK)
        known = map(name_of, collected_identities(identities, settings.symbols))
        return SensorResult(
            run_requests=[run_request(each, jobs[each.interval].name) for each in runs],
            cursor=Cursor(frozenset(known), rest).to_text(),
            skip_reason=None if runs else _nothing_asked(rest, waiting),
        )

    return new_listings


def history_since(store: ObjectStore, settings: Settings) -> dict[Interval, date]:
    """From which day on each interval is to have history; none of what has never been sealed."""
    if settings.repair.since is not None:
        return dict.fromkeys(Interval, settings.repair.since)
    sealed = {interval: sealed_days(store, interval) for interval in Interval}
    return {interval: days[0] for interval, days in sealed.items() if days}


def _nothing_asked(left: Sequence[History], waiting: int) -> str:
    if not left:
        return "No symbol is new."
    symbols = {symbol for each in left for symbol in each.symbols}
    return f"{waiting} earlier runs wait; the history of {len(symbols)} symbols is asked for after them."
