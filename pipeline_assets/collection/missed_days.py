"""Which finished days the gap ledger does not cover, because nothing ran when they were to be judged or a
backfill came later, and in which order days are repaired. Pure: the caller reads what is stored.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, time

from pipeline_assets.market.intervals import DAY, Interval

# Yesterday is finalized, and judged, from 01:05 UTC on. If there is no ledger by then, there will be none.
_FINALIZED_BY = time(1, 30)


def newest_finished_day(server_time: datetime) -> date:
    """Return the newest day that should have been finalized by `server_time` (UTC)."""
    yesterday = server_time.date() - DAY
    return yesterday if server_time.time() >= _FINALIZED_BY else yesterday - DAY


def unjudged_days(
    first: date, last: date, judged: Collection[date], most: int
) -> tuple[date, date] | None:
    """Return the newest stretch of days without a ledger, as first and last day, or None.

    Args:
        first: the first day on which anything is stored.
        last: the newest finished day.
        judged: days that need no ledger: they have one, or a run that makes it is under way.
        most: the longest stretch to return.
    """
    end = last
    while end >= first and end in judged:
        end -= DAY
    if end < first:
        return None
    begin = end
    while begin > first and begin - DAY not in judged and (end - begin).days + 1 < most:
        begin -= DAY
    return begin, end


def outdated_days(
    judged: Mapping[date, datetime], finalized: Iterable[Mapping[date, datetime]]
) -> set[date]:
    """Return the days whose marks changed after their ledger was written, as a backfill changes these.

    Args:
        judged: when each day's ledger was written.
        finalized: by interval, when each day's marks changed last, by the same clock.
    """
    return {
        day
        for times in finalized
        for day, changed in times.items()
        if day in judged and changed > judged[day]
    }


def newest_first(due: Iterable[tuple[Interval, date]]) -> list[tuple[Interval, date]]:
    """Return days in the order of their repair: newest first, of one day the shortest interval first.

    Yesterday matters more than last month to a person who comes back. 15m and 1h are compared with minutes.
    """
    order = list(Interval)
    return sorted(due, key=lambda key: (-key[1].toordinal(), order.index(key[0])))
