"""The partitions of every asset: UTC days. A day's objects are defined in market/windows.py."""

from dagster import BackfillPolicy, DailyPartitionsDefinition

from pipeline_assets.market.partition_keys import DAYS_PER_RUN, FIRST_DAY

daily_partitions = DailyPartitionsDefinition(
    start_date=FIRST_DAY.isoformat(), end_offset=1, timezone="UTC"
)
backfill_policy = BackfillPolicy.multi_run(DAYS_PER_RUN)
