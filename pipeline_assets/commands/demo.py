"""The first look: the embedded stack, three days of candles, then live minutes. What is printed is in
cli.py.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from pipeline_assets.assets.progress import Progress
from pipeline_assets.commands.backfill import BackfillResult, backfill
from pipeline_assets.market.interval import Interval
from pipeline_assets.resources.lake_state import sealed_symbols
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

# Today and the two days before it.
DAYS = 3


def exchange_time(settings: Settings) -> datetime:
    """The exchange's time, UTC; raises ExchangeUnreachableError if it does not answer."""
    from pipeline_assets.resources.exchange_access import Exchange

    return Exchange(settings).server_time()


def first_missing_day(
    store: ObjectStore, interval: Interval, symbols: Sequence[str], today: date
) -> date:
    """The first of the demo's days that is not sealed for every symbol; today at the latest."""
    for ago in range(DAYS - 1, 0, -1):
        day = today - timedelta(days=ago)
        if not symbols or not sealed_symbols(store, interval, day).issuperset(symbols):
            return day
    return today


def fill(
    settings: Settings,
    interval: Interval,
    symbols: Sequence[str],
    today: date,
    progress: Progress,
) -> BackfillResult:
    """Backfill what the demo's days lack of one interval; today always, for it has grown."""
    store = ObjectStore(settings.s3)
    first = first_missing_day(store, interval, symbols, today)
    return backfill(settings, interval, None, first, today + timedelta(days=1), progress)
