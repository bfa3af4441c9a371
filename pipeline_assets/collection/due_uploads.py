"""When stored candles are due: the one rule that the upload, coverage, freshness and the request of overdue
runs share. Which objects an upload writes is decided in upload.py, which tables load in table_sink.py.
"""

from datetime import datetime, timedelta

from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import day_window


def newest_due(interval: Interval, newest: datetime, upload_minutes: int) -> datetime:
    """Return the open time of the newest candle that the lake should hold once `newest` has closed.

    Minutes count from the full hour, and the end of an hour is always due. So each upload rewrites one
    object a symbol, and an hour's object is whole when the hour ends. Only 1m waits: every other
    interval is stored at each of its candles.

    Args:
        interval: of the candles.
        newest: the open time of the newest closed candle, UTC.
        upload_minutes: as in the settings, `ingest.upload_minutes`.
    """
    if interval is not Interval.ONE_MINUTE:
        return newest
    end = newest + interval.span
    hour = end.replace(minute=0, second=0, microsecond=0)
    return hour + _whole(end - hour, upload_minutes) - interval.span


def load_due(interval: Interval, newest: datetime, load_minutes: int) -> datetime:
    """Return the end of the candles that a table should hold once `newest` has closed.

    Minutes count from midnight, and midnight is always due. So the tables of all intervals load at the
    same times, and wake the warehouse once.
    """
    end = newest + interval.span
    midnight = day_window(newest.date()).start
    return midnight + (DAY if end - midnight == DAY else _whole(end - midnight, load_minutes))


def _whole(elapsed: timedelta, minutes: int) -> timedelta:
    """Return the multiple of these minutes that has elapsed."""
    return elapsed // timedelta(minutes=minutes) * timedelta(minutes=minutes)
