"""The UTC days that a DAG run is for: of its newest candle, of its data interval, or of its parameters."""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

DAY = timedelta(days=1)
_SMALLEST = timedelta(microseconds=1)


def newest_day(run_after: datetime, span: timedelta, now: datetime) -> date:
    """Return the UTC day of the newest candle that an ingest run finds: just after midnight, yesterday.

    An ingest run stores what is due now. After days off, Airflow first runs an interval of that time,
    though it does not catch up; the day of that interval is the finalize run's.

    Args:
        run_after: when the DAG run was to begin. A clock may be a little behind the scheduler's.
        span: the candles' span.
        now: the time, UTC.
    """
    return _last_day(max(run_after.astimezone(UTC), now), span)


def interval_day(context: "Context") -> date:
    """Return the UTC day that a daily DAG run is for; triggered by hand, the day before."""
    run = context["dag_run"]
    if run.data_interval_start is not None:
        begun: datetime = run.data_interval_start
        return begun.astimezone(UTC).date()
    return _last_day(run.run_after.astimezone(UTC), DAY)


def _last_day(moment: datetime, span: timedelta) -> date:
    """Return the UTC day of the candle that ended last before a time."""
    begun = moment - (moment - datetime.min.replace(tzinfo=UTC)) % span
    return (begun - _SMALLEST).date()


def days_between(first: str, last: str) -> list[str]:
    """Return the days from first to last, both included, as partition keys.

    Raises:
        AirflowFailException: there is no such day, or the range is reversed.
    """
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as error:
        raise AirflowFailException(
            f"{first!r} to {last!r} is no range of days: give both as YYYY-MM-DD."
        ) from error
    if end < begin:
        raise AirflowFailException(
            f"The last day {last} comes before the first {first}: both are included."
        )
    return [str(begin + timedelta(days=n)) for n in range((end - begin).days + 1)]
