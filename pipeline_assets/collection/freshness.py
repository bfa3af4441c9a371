"""Whether the stored candles of an interval are as new as the exchange allows. Who is told is decided by the
caller: Dagster's check `fresh` (sensors/freshness.py) and the watchdog (services/watchdog.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.findings import moment
from pipeline_assets.market.intervals import EPOCH, Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.tick_state import TickState

# An ingest run has two minutes from a candle's close; a missed minute heals in the next.
GRACE = timedelta(minutes=2)


@dataclass(frozen=True)
class Verdict:
    """Whether an interval is fresh, in words, and each late symbol with its newest open time.

    An interval of which nothing was ever stored (`stored` is False) is neither fresh nor stale.
    """

    fresh: bool
    description: str
    late: tuple[tuple[str, datetime], ...] = ()
    stored: bool = True


def judge(
    interval: Interval, state: TickState, server_time: datetime, upload_minutes: int = 1
) -> Verdict:
    """Return which symbols' newest stored candle is older than it should be.

    Args:
        interval: of the candles.
        state: what is stored of the symbols that are collected now; see `of_collected`.
        server_time: the exchange's time, UTC.
        upload_minutes: as in the settings. A minute that waits for its upload is not stale.
    """
    due = newest_due(interval, newest_closed(interval, server_time, GRACE), upload_minutes)
    late = sorted((at, symbol) for symbol, at in state.newest.items() if at < due)
    if not state.newest:
        told = f"No ingest run of {interval} has stored anything yet. Is the schedule on?"
        return Verdict(fresh=False, description=told, stored=False)
    if not late:
        told = f"All {len(state.newest)} symbols reach {moment(due)}."
        return Verdict(fresh=True, description=told)
    oldest, symbol = late[0]
    return Verdict(
        fresh=False,
        description=(
            f"{len(late)} of {len(state.newest)} symbols are stale; the oldest, {symbol}, ends at "
            f"{moment(oldest)}, {moment(due)} is due. Look at the latest runs of tick_{interval}."
        ),
        late=tuple((name, at) for at, name in late),
    )


def of_collected(
    interval: Interval, state: TickState, listed_at: Mapping[str, datetime], server_time: datetime
) -> TickState:
    """Return the state of the symbols that are collected now.

    The state remembers symbols that were delisted since, or taken out of the settings; judged with
    the others, they would be stale permanently.

    Args:
        interval: of the candles.
        state: what the ingest runs have stored.
        listed_at: by collected symbol, when it was listed (UTC).
        server_time: the exchange's time, UTC.
    """
    if not state.newest:
        return state
    due = newest_closed(interval, server_time, GRACE)
    return TickState(
        {
            # A symbol with nothing stored is stale too, once it has a candle that is due.
            symbol: state.newest.get(symbol, EPOCH)
            for symbol, listed in listed_at.items()
            if symbol in state.newest or listed <= due
        }
    )
