"""The reconciler: which history is missing, and which runs are requested to close it. It covers gaps that the
ledger shows, days without a ledger, and new symbols. Launching and counting runs is the caller's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from pipeline_assets.collection.due_ledgers import days_to_judge, first_stored
from pipeline_assets.collection.history_requests import (
    ATTEMPTS,
    MOST_RUNS,
    Asked,
    History,
    LedgerRequest,
    digest,
    remedy,
)
from pipeline_assets.collection.listings import collected_identities
from pipeline_assets.collection.new_symbols import (
    history_to_request,
    is_finalized,
    name_of,
    next_runs,
)
from pipeline_assets.collection.reconcile_cursor import Cursor
from pipeline_assets.collection.repairs import (
    FETCHES,
    Repair,
    next_due,
    runs_of,
    shown_gaps,
    updated,
)
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import FIRST_DAY
from pipeline_assets.resources.gap_objects import judged_times
from pipeline_assets.resources.listing_history import read_identities, read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.wording import counted

NOTHING = "Nothing to request: the ledger shows nothing to fetch, and no symbol is new."


@dataclass(frozen=True)
class Runs:
    """The evidence that only the orchestrator has.

    Attributes:
        judged: the days whose ledger is new since the cursor's `read`, with the event of each.
        read: the newest of these events, or the cursor's `read` without one.
        more: whether newer events are left to read.
        unfinished: how many requested runs have not ended.
        under_way: the keys of requested runs that have not ended.
        succeeded: the keys of requested runs that ended well.
        finalizing: days that are being finalized.
        backfilling: whether a backfill or repair is under way, of any requester.
    """

    judged: Mapping[date, int] = field(default_factory=dict)
    read: int | None = None
    more: bool = False
    unfinished: int = 0
    under_way: frozenset[str] = frozenset()
    succeeded: frozenset[str] = frozenset()
    finalizing: frozenset[date] = frozenset()
    backfilling: bool = False


@dataclass(frozen=True)
class Plan:
    """The runs to request now.

    Attributes:
        cursor: what is remembered once the runs are requested.
        history: runs by their key; a look that is repeated after a crash gives the same keys.
        ledger: the key, first and last day of a ledger to request, if any.
        message: why nothing is requested.
    """

    cursor: Cursor
    history: Mapping[str, History]
    ledger: tuple[str, date, date] | None
    message: str


def reconcile(
    store: ObjectStore, settings: Settings, cursor: Cursor, runs: Runs, now: datetime
) -> Plan:
    """Return the runs that close what is missing, at most `MOST_RUNS`, and none beside unfinished ones.

    A ledger goes before repairs, since days without a ledger are the newest. Repairs go before new symbols:
    they are few, and the history of hundreds of symbols may take days.

    Args:
        store: the lake.
        settings: the symbols, and since when their history is wanted.
        cursor: what the last look remembered.
        runs: what became of earlier requests.
        now: the exchange's time, UTC.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    room = 0 if runs.unfinished else MOST_RUNS
    cursor, ledger, waits = _ledger(store, settings, cursor, runs, now)
    cursor, repairs = _repairs(store, settings, cursor, runs, now, 0 if ledger else room)
    room -= len(repairs) + bool(ledger)
    cursor, new, failed = _new_symbols(store, settings, cursor, runs, now, max(room, 0))
    return Plan(cursor, repairs | new, ledger, _message(cursor, runs, failed, waits))


def continued(cursor: Cursor, former: str | None, store: ObjectStore, *, stopped: bool) -> Cursor:
    """Return the cursor with what the former sensor `new_listings` remembered.

    Where somebody had stopped the former sensor, the symbols of that time count as known: an upgrade must
    not request what a person did not want.

    Args:
        cursor: of a first evaluation.
        former: the former sensor's cursor.
        store: the lake, which remembers what was listed.
        stopped: whether the former sensor was off.
    """
    if stopped:
        return replace(cursor, known=frozenset(map(name_of, read_identities(store))))
    return cursor.with_new_symbols_of(Cursor.from_text(former))


def _ledger(
    store: ObjectStore, settings: Settings, cursor: Cursor, runs: Runs, now: datetime
) -> tuple[Cursor, tuple[str, date, date] | None, LedgerRequest | None]:
    """Request the ledger of the newest finished days that have none, or one from before a backfill.

    Days before the first ledger are a backfill's. Without any ledger, as where nothing has ever run at
    night, history begins with the oldest object of any symbol, which is looked up once.

    Returns:
        The cursor; the run's key, first and last day, if one is requested; and the earlier request of the
        same days that was not answered and is not due again yet.
    """
    judged = judged_times(store)
    first = _first_to_judge(judged, cursor) or first_stored(store, settings)
    cursor = replace(cursor, first_stored=first)
    if first is None or runs.unfinished:
        return cursor, None, None
    begin = max(first, settings.repair.since or first)
    finalizing, backfilling = runs.finalizing, runs.backfilling
    missed = days_to_judge(store, judged, begin, now, finalizing, backfilling=backfilling)
    if not missed:
        return cursor, None, None
    request = LedgerRequest.of(missed, cursor.ledger, now)
    if request is None:
        return cursor, None, cursor.ledger
    key = request.run_key(cursor.ledger)
    return replace(cursor, ledger=request), (key, request.first, request.last), None


def _first_to_judge(judged: Collection[date], cursor: Cursor) -> date | None:
    """Return the first day with a ledger, now or at the last look: a sweep removes ledgers."""
    return min([*judged, *([cursor.first_stored] if cursor.first_stored else [])], default=None)


def _repairs(
    store: ObjectStore, settings: Settings, cursor: Cursor, runs: Runs, now: datetime, most: int
) -> tuple[Cursor, dict[str, History]]:
    """Note what new ledgers show, and request the newest gaps that are due."""
    # The open day's candles come with ingest runs, or when the day is finalized.
    finished = [day for day in runs.judged if day < now.date()]
    cursor = replace(cursor, read=runs.read)
    if not finished and not cursor.repairs:
        return cursor, {}
    # Without the setting a symbol's history begins with its oldest object: see `asked_for`.
    since = dict.fromkeys(Interval, settings.repair.since or FIRST_DAY)
    listed = list((read_universe(store) or {"symbols": {}})["symbols"])
    everything = settings.repair.since is not None
    repairs = dict(cursor.repairs)
    for day, found in shown_gaps(store, finished, since, listed, everything=everything).items():
        repairs = updated(repairs, day, found, runs.judged[day], now)
    requested: dict[str, History] = {}
    # While events are unread, the last requests may have been answered already.
    if most and not runs.more:
        open_repairs = {key: each for key, each in repairs.items() if not each.given_up}
        due = next_due((key for key, each in open_repairs.items() if each.due <= now), most)
        days = sorted({day for _, day in due})
        shown = shown_gaps(store, days, since, listed, everything=everything)
        gaps = {(i, day): shown[day][i] for i, day in due if i in shown.get(day, {})}
        # Gaps vanish from the ledger's fillable ones when the exchange stops naming the symbol.
        repairs = {key: each for key, each in repairs.items() if key in gaps or key not in due}
        for run in runs_of(gaps, most):
            own = {key: repairs[key] for key in gaps if _covers(run, key)}
            requested[_run_key(run, list(own.values()))] = run
            repairs |= {key: each.asked(now) for key, each in own.items()}
    return replace(cursor, repairs=repairs), requested


def _covers(run: History, key: tuple[Interval, date]) -> bool:
    return key[0] is run.interval and run.first <= key[1] <= run.last


def _run_key(run: History, repairs: Sequence[Repair]) -> str:
    named = digest(sorted(f"{each.gaps} {each.shown} {each.requests}" for each in repairs))
    return f"{run.interval} {run.first} {run.last} {named}"


def _new_symbols(
    store: ObjectStore, settings: Settings, cursor: Cursor, runs: Runs, now: datetime, most: int
) -> tuple[Cursor, dict[str, History], list[Asked]]:
    """Request the history of new symbols; returned last are the runs that did not store all of it."""
    identities = read_identities(store)
    if not identities:
        return cursor, {}, []
    # An announced symbol is new once it trades. Its first days are history if they are not collected then.
    trading = [each for each in identities if each.listed_at <= now]
    found, unsealed = history_to_request(
        store, settings, trading, cursor.known, cursor.unsealed, now
    )
    named = frozenset(each.symbol for each in identities if each.gone is None)
    pending, failed = _unsuccessful(store, cursor.asked, runs, named)
    due = [each for each in failed if not each.given_up and each.due <= now][:most]
    first, left = next_runs([*cursor.left, *found], most - len(due))
    requests = [
        *(Asked.at(each.run, now, each.times + 1) for each in due),
        *(Asked.at(run, now) for run in first),
    ]
    failed = [each for each in failed if each not in due]
    known = frozenset(map(name_of, collected_identities(trading, settings.symbols)))
    asked = (*pending, *failed, *requests)
    cursor = replace(cursor, known=known, left=left, asked=asked, unsealed=unsealed)
    return cursor, {each.run_key: each.run for each in requests}, failed


def _unsuccessful(
    store: ObjectStore, asked: Sequence[Asked], runs: Runs, named: frozenset[str]
) -> tuple[list[Asked], list[Asked]]:
    """Return the requested runs that are under way, and those that failed, are gone, or stored a part."""
    pending: list[Asked] = []
    failed: list[Asked] = []
    for each in asked:
        # A run succeeds even if one symbol of several could not be fetched.
        done = each.run_key in runs.succeeded or each.given_up
        if not done or not is_finalized(store, each.run, named):
            (pending if each.run_key in runs.under_way else failed).append(each)
    return pending, failed


def _message(
    cursor: Cursor, runs: Runs, failed: Sequence[Asked], ledger: LedgerRequest | None
) -> str:
    """Say why nothing is requested, or what is left after the requests."""
    if runs.more:
        return "The ledger tells of more days, which are read first."
    said = []
    if ledger is not None:
        said.append(
            f"The run that judges the gaps of {ledger.first} to {ledger.last} did not succeed, and is "
            f"requested again at {ledger.due:%H:%M} UTC. Its log on Dagster's Runs page says why."
        )
    if runs.unfinished:
        said.append(f"{counted(runs.unfinished, 'earlier run')} under way.")
    if cursor.left:
        count = len({symbol for each in cursor.left for symbol in each.symbols})
        said.append(f"The history of {counted(count, 'new symbol')} is requested after them.")
    if not runs.unfinished:
        waiting = [each.due for each in cursor.repairs.values() if not each.given_up]
        waiting += [each.due for each in failed if not each.given_up]
        if waiting:
            said.append(
                f"{counted(len(waiting), 'run')} to be requested again, the next at {min(waiting):%H:%M} UTC."
            )
        said += _given_up(cursor, failed)
    return " ".join(said) or NOTHING


def _given_up(cursor: Cursor, failed: Sequence[Asked]) -> list[str]:
    said = []
    days = sorted(key for key, each in cursor.repairs.items() if each.given_up)
    if days:
        interval, day = days[0]
        said.append(
            f"Given up: {FETCHES} fetches did not bring what is missing of {counted(len(days), 'day')}, "
            f"the first {interval} of {day}. `pipeline-assets gaps --start {day} --end {day + DAY}` shows it."
        )
    histories = [each.run for each in failed if each.given_up]
    if histories:
        said.append(
            f"Given up: {counted(len(histories), 'run')} of new symbols did not bring all in {ATTEMPTS} "
            f"times. Their logs on Dagster's Runs page say why; once that is mended: {remedy(histories[0])}"
        )
    return said
