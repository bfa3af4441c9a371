"""Deciding what a run fetches: asks the exchange's clock, the universe and the lake's state, and makes
the plan. The plan's own logic is in fetch_plan.py, which symbols a run is for in chosen_symbols.py.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.collection.chosen_symbols import Request, choose
from pipeline_assets.collection.complete_days import complete_days
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind, day_windows, ingest_windows
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.ingest_state import read_ingest_state

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.object_store import ObjectStore


def make_plan(
    client: "ExchangeClient", store: "ObjectStore", request: Request, settle: timedelta
) -> FetchPlan:
    """Return what a run fetches, by the exchange's clock and what the lake holds.

    Raises:
        PartitionError: a partition is no day, or lies in the future by the exchange's clock.
        SymbolError: a symbol that was asked for by name is not on the exchange, or no symbol of
            the settings is.
    """
    interval, kind = request.interval, request.kind
    server_time = _settled_time(client, interval, settle)
    newest = newest_closed(interval, server_time, settle)
    # Just after midnight a day has begun, and can be asked for, that has no closed candle yet.
    days = partition_days(request.keys, server_time.date())
    chosen = choose(client, store, server_time, request)
    plan = FetchPlan(
        interval=interval,
        kind=kind,
        days=days,
        newest=newest,
        clock_offset=server_time - datetime.now(UTC),
        listed=chosen.listed,
        windows={},
        failures=chosen.failures,
        gone=chosen.gone,
        asked=request.asked is not None,
        pauses=chosen.pauses,
    )
    if plan.is_ingest_run:
        # Also where the partition is a day that has ended, because the run was late: whole days are the
        # finalize run's and the repairs', and the live minute must not wait for one.
        state = read_ingest_state(store, interval, plan.listed, newest)
        plan.windows = ingest_windows(interval, newest, plan.listed, state.newest)
    else:
        plan.windows = day_windows(interval, newest, plan.listed, days)
    # The daily finalize run fetches stored days too: it is what makes a day's marks.
    if plan.kind is RunKind.BACKFILL and not request.refresh:
        plan.leave_out(complete_days(store, plan))
    return plan


def _settled_time(client: "ExchangeClient", interval: Interval, settle: timedelta) -> datetime:
    """The exchange's time; within the settling time after a candle's end, that end plus it.

    A tick launched on the minute would otherwise be a whole candle late. With a stepped clock the
    wait does not help, and what is closed is taken.
    """
    server_time = client.server_time()
    settled = interval.floor(server_time) + settle
    if server_time < settled:
        time.sleep((settled - server_time).total_seconds())
        server_time = client.server_time()
    return server_time
