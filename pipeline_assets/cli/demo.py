"""The first look: the embedded stack, three days of candles, then live minutes. What is printed is in
cli.py.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from pipeline_assets.cli.backfill import BackfillResult, backfill, dagster_instance
from pipeline_assets.collection.overview import Overview
from pipeline_assets.collection.progress import Progress
from pipeline_assets.market.intervals import EPOCH, Interval
from pipeline_assets.resources.finalized_days import sealed_symbols
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.tick_state import TickState
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


def report_freshness(settings: Settings, stored: Iterable[Overview], now: datetime) -> None:
    """Report the check `fresh` of each interval, judged by what the demo has filled up to `now`.

    The sensor judges what ingest runs store. With `--once` none runs, so nobody else would say it.

    Args:
        settings: the settings.
        stored: what is stored, by symbol and interval.
        now: the exchange's time up to which the demo filled, UTC.
    """
    from pipeline_assets.collection.freshness import judge
    from pipeline_assets.sensors.freshness import evaluation_of

    newest: dict[Interval, dict[str, datetime]] = {}
    for each in stored:
        newest.setdefault(each.interval, {})[each.symbol] = each.newest or EPOCH
    with dagster_instance(settings) as instance:
        for interval, held in newest.items():
            verdict = judge(interval, TickState(held), now)
            instance.report_runless_asset_event(evaluation_of(interval, verdict))
