"""Partition keys: UTC days as text. The partitions themselves are Dagster's (assets/partitions.py)."""

from collections.abc import Sequence
from datetime import date

from pipeline_assets.errors import InputError

# Binance opened USD-M futures on 2019-09-08 (BTCUSDT); nothing can exist before.
FIRST_DAY = date(2019, 9, 8)
# A run covers at most this many days, so that a failure costs little and runs can go side by side.
DAYS_PER_RUN = 31


class PartitionError(InputError, ValueError):
    """A partition key is not one of a day that exists. The message names the key and the range."""


def partition_day(key: str, newest: date) -> date:
    """Return the UTC day of a partition key.

    Dagster's `launchRun` does not validate partition keys: a day in 2036 would run to success.

    Args:
        key: a partition key, `YYYY-MM-DD`.
        newest: today, by the exchange's clock; date.max for a caller that does not know it.

    Raises:
        PartitionError: the key is not a day, or lies before the first or after the newest day.
    """
    example = FIRST_DAY if newest == date.max else newest
    malformed = PartitionError(
        f"{key!r} is not a partition: partitions are UTC days like {example.isoformat()}."
    )
    try:
        day = date.fromisoformat(key)
    except ValueError:
        raise malformed from None
    if key != day.isoformat():
        # 20261120 and 2026-W47-5 are dates too, but would be partitions of their own in Dagster.
        raise malformed
    if day < FIRST_DAY:
        raise PartitionError(
            f"Partition {key} is before the exchange opened: days from {FIRST_DAY} on can be materialized. "
            "Choose one of these."
        )
    if day > newest:
        raise PartitionError(
            f"Partition {key} lies in the future: by the exchange's clock, days from {FIRST_DAY} to {newest} "
            "can be materialized. Choose one of these."
        )
    return day


def partition_days(keys: Sequence[str], newest: date) -> list[date]:
    """Return the UTC days of partition keys, ascending; raises PartitionError as `partition_day` does."""
    return sorted(partition_day(key, newest) for key in keys)
