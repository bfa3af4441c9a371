"""Which days a gap ledger is requested for, read from the lake. The rules are in missed_days.py; when a
request is repeated is in history_requests.py.
"""

from collections.abc import Collection, Mapping
from datetime import date, datetime

from pipeline_assets.collection.listings import collected_now
from pipeline_assets.collection.missed_days import (
    newest_finished_day,
    outdated_days,
    unjudged_days,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.candle_objects import first_stored_day
from pipeline_assets.resources.finalized_days import finalized_times
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

# A run that makes ledgers covers at most this many days.
_LEDGER_DAYS = 366


def first_stored(store: ObjectStore, settings: Settings) -> date | None:
    """Return the day of the oldest 1m object of any symbol; None where nothing is stored."""
    symbols = list(collected_now(read_universe(store), settings.symbols))
    days = store.each(lambda symbol: first_stored_day(store, Interval.ONE_MINUTE, symbol), symbols)
    return min((day for day in days if day), default=None)


def days_to_judge(
    store: ObjectStore,
    judged: Mapping[date, datetime],
    first: date,
    now: datetime,
    finalizing: Collection[date],
    *,
    backfilling: bool,
) -> tuple[date, date] | None:
    """Return the newest stretch of finished days without a ledger, or with one from before a backfill.

    While a backfill is under way, its days wait: the backfill's next run would outdate their ledgers again.

    Args:
        store: the lake.
        judged: when each day's ledger was written.
        first: the first day to judge.
        now: the exchange's time, UTC.
        finalizing: days that are being finalized; the same runs write their ledgers.
        backfilling: whether a backfill or repair is under way.

    Returns:
        The first and the last day; None if every ledger is there and current.
    """
    current = set(judged)
    if not backfilling:
        times = store.each(lambda interval: finalized_times(store, interval), list(Interval))
        current -= outdated_days(judged, times)
    return unjudged_days(first, newest_finished_day(now), {*current, *finalizing}, _LEDGER_DAYS)
