"""Partition keys are days that exist, and a refusal names one."""

from datetime import date

import pytest

from pipeline_assets.market.partition_keys import PartitionError, partition_days

TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("key", "newest", "refusal"),
    [
        ("yesterday", TODAY, "UTC days like 2026-11-20"),
        # A day that is written in another way would be a partition of its own in Dagster.
        ("20261119", TODAY, "UTC days like 2026-11-20"),
        ("2026-11-21", TODAY, "days from 2019-09-08 to 2026-11-20"),
        ("2019-09-07", TODAY, "days from 2019-09-08 on"),
        # A caller without the exchange's clock must not offer the year 9999.
        ("yesterday", date.max, "UTC days like 2019-09-08"),
        ("2019-09-07", date.max, "days from 2019-09-08 on"),
    ],
)
def test_refusal_names_days_that_exist(key: str, newest: date, refusal: str) -> None:
    with pytest.raises(PartitionError, match=refusal):
        partition_days([key], newest)


def test_days_ascend_whatever_the_keys_order() -> None:
    assert partition_days(["2026-11-20", "2026-11-19"], TODAY) == [date(2026, 11, 19), TODAY]
