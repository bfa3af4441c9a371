"""Which partitions a scheduler's run is for: the open day of an ingest run, the days of the finalize run.
When an ingest run is due is in market/intervals.py; days without a ledger are missed_days.py's.
"""

from collections.abc import Collection, Container, Iterable
from datetime import date, datetime, timedelta
from typing import Literal

from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import newest_closed

# The span of a report.
Span = Literal["day", "week", "month"]
# UTC. A day ends with the first closed candle of the next one, which of 1h is at one o'clock.
FINALIZE_CRON, HOUSEKEEPING_CRON = "5 1 * * *", "30 1 * * *"
# The exchange settles at full hours. The run after midnight is the last one of the day that ended.
FUNDING_CRON = "5 * * * *"
# With the loads of candles, so that the warehouse wakes once.
TRADING_TABLES_CRON = "*/15 * * * *"
# The longest horizon of a day's last candidate ends at four.
OUTCOMES_CRON = "10 4 * * *"
# So many days before yesterday are computed once more: finalizing yesterday stored minutes that they need.
OUTCOMES_AGAIN = 1
# Sundays, after Saturday is finalized and its candidates are compared with the lake.
MODEL_CRON = "0 3 * * 0"
# After yesterday is finalized and its features are merged, and before a new model is trained.
DRIFT_CRON = "30 2 * * *"
# Before yesterday's report, which shows the differences.
RECONCILIATION_CRON = "20 4 * * *"
# After yesterday's outcomes and drift; a week's and a month's once the last day has its own report.
DAY_REPORT_CRON, WEEK_REPORT_CRON = "40 4 * * *", "0 5 * * 1"
MONTH_REPORT_CRON = "20 5 1 * *"
# Who comes back after a longer absence says by a backfill how far back the history is to go.
LOOK_BACK = timedelta(days=31)
# An older finalize run may have died unnoticed, and must not block its day permanently.
LONGEST_RUN = timedelta(hours=12)


def open_day(interval: Interval, server_time: datetime, settle: timedelta) -> date:
    """Return the day of the newest candle that is closed once an ingest run fetches.

    A run on the minute waits until the candle has settled. By the candle before, the first run after
    midnight would get yesterday as its partition.

    Args:
        interval: of the candles.
        server_time: the exchange's time, UTC.
        settle: how long after its close a candle is final.
    """
    return newest_closed(interval, server_time + settle, settle).date()


def first_day(span: Span, day: date) -> date:
    """Return the first day of the span that contains a day: itself, a Monday, or the first of the month."""
    if span == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if span == "month" else day


def days_of_outcomes(
    yesterday: date, with_candidates: Collection[date], with_outcomes: Container[date]
) -> list[date]:
    """Return yesterday, the day before, and the days of the month before whose candidates have no outcomes.

    The last hours of candidates end on the next day, and finalizing that day stores the minutes that its
    ingest runs missed. So outcomes of the day before (`OUTCOMES_AGAIN`) are computed once more.

    Args:
        yesterday: by the exchange's clock.
        with_candidates: the days that have candidates.
        with_outcomes: the days whose outcomes are stored.
    """
    oldest, again = yesterday - LOOK_BACK, yesterday - OUTCOMES_AGAIN * DAY
    left = [
        day
        for day in sorted(with_candidates)
        if oldest <= day < yesterday and (day >= again or day not in with_outcomes)
    ]
    return [yesterday, *left]


def days_to_finalize(
    yesterday: date,
    judged: Collection[date],
    finalized: Iterable[Collection[date]],
    under_way: Container[date],
) -> list[date]:
    """Return yesterday, and of the month before the judged days that an interval has not finalized.

    A day without a ledger is the reconciler's, which requests what is missing. Requested here too, each
    such day would be fetched twice.

    Args:
        yesterday: by the exchange's clock.
        judged: the days with a ledger.
        finalized: the finalized days of each interval; its first one begins its history.
        under_way: the days of finalize runs that have not ended.
    """
    histories = [(min(days), set(days)) for days in finalized if days]
    month = (yesterday - timedelta(days=ago) for ago in range(LOOK_BACK.days, 0, -1))
    left = [
        day
        for day in month
        if day in judged and any(first < day not in days for first, days in histories)
    ]
    return [day for day in (yesterday, *left) if day not in under_way]
