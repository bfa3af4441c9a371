"""Runs on an S3 store that ignores conditional writes: refused, and no stored candle is lost.

Before such stores were refused, the same runs ended in SUCCESS and lost candles.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources import store_check
from pipeline_assets.resources.candidate_objects import finalize_candidates, store_candidates
from pipeline_assets.resources.candle_objects import read_object, write_candles
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.store_check import StoreIdentity, UnsuitableStoreError
from pipeline_assets_tests.fixtures.faulty_s3 import Fault, FaultyS3, IgnoresBoth, faulty_s3
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform
from pipeline_assets_tests.market.frames import candidates_frame, candle_frame, raw_row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = NOON.date()
ONE = Interval.ONE_MINUTE


@pytest.fixture
def proxy(minutes: Platform) -> Iterator[FaultyS3]:
    with faulty_s3(str(minutes.settings.s3.endpoint_url), IgnoresBoth()) as running:
        yield running


@pytest.fixture
def careless(minutes: Platform, proxy: FaultyS3) -> Platform:
    """The platform by way of a store that ignores If-None-Match and If-Match."""
    return minutes.with_settings(s3={"endpoint_url": proxy.endpoint})


def refusal(result: Any) -> str:
    """Return what the first failed step of a run said."""
    [failure, *_] = [each.step_failure_data for each in result.all_events if each.is_step_failure]
    return str(failure.error.cause.message)


def test_holey_reply_erases_no_candle(
    minutes: Platform, careless: Platform, proxy: FaultyS3
) -> None:
    """An ingest run with a hole in its reply erases no candle."""
    proxy.fault = Fault()
    assert careless.ingest("1m").success
    stored = minutes.stored("1m")
    # The store is replaced behind its address, and a day has passed since its check.
    store_check.forget()
    mark = StoreIdentity(proxy.endpoint, minutes.bucket.name).mark_key
    minutes.bucket.client.delete_object(Bucket=minutes.bucket.name, Key=mark)
    proxy.fault = IgnoresBoth()
    minutes.exchange.advance(60)
    minutes.exchange.faults(missing_rows=1)
    result = careless.ingest("1m", raise_on_error=False)
    assert not result.success
    assert UnsuitableStoreError.__name__ in refusal(result)
    assert f"S3 at {proxy.endpoint} cannot hold the lake" in refusal(result)
    assert_frame_equal(minutes.stored("1m"), stored)


def test_concurrent_runs_keep_all_candles(minutes: Platform, proxy: FaultyS3) -> None:
    """Two runs on one symbol and day keep all candles.

    Each run has one half of the day; neither knows what the other stores.
    """
    day = Window(NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))
    halves = [
        candle_frame(
            [
                raw_row(day.start + timedelta(minutes=n), ONE, "BTCUSDT")
                for n in range(first, 1440, 2)
            ]
        )
        for first in (0, 1)
    ]
    refused: list[UnsuitableStoreError] = []

    def write(half: "pl.DataFrame", endpoint: str) -> str:
        store = ObjectStore(minutes.settings.s3.model_copy(update={"endpoint_url": endpoint}))
        try:
            return write_candles(store, ONE, day, half, None).key
        except UnsuitableStoreError as error:
            refused.append(error)
            return ""

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, halves, [proxy.endpoint] * 2))
    assert len(refused) == 2
    assert minutes.objects() == {}
    with ThreadPoolExecutor(2) as pool:
        [key, _] = pool.map(write, halves, [str(minutes.settings.s3.endpoint_url)] * 2)
    found = read_object(ObjectStore(minutes.settings.s3), key)
    assert found is not None
    assert found[0].height == 1440


@pytest.mark.parametrize("job", ["tick_1m", "backfill_1m", "repair_1m", "housekeeping"])
def test_unsuitable_store_refuses_every_job(
    minutes: Platform, careless: Platform, job: str
) -> None:
    """Every job is refused before it writes."""
    old = {"Bucket": minutes.bucket.name, "Key": "raw/old", "Body": b"x"}
    minutes.bucket.client.put_object(**old)
    if job == "housekeeping":
        changed = careless.settings.housekeeping.model_copy(update={"staging_days": 0})
        settings = careless.settings.model_copy(update={"housekeeping": changed})
        resolved = build_definitions(settings, warehouse=None).resolve_job_def(job)
        result = resolved.execute_in_process(
            instance=careless.instance,
            raise_on_error=False,
            op_selection=["delete_staged_objects"],
        )
    else:
        result = careless.run(job, str(DAY), raise_on_error=False)
    assert UnsuitableStoreError.__name__ in refusal(result)
    assert minutes.objects() == {"raw/old": b"x"}
    assert minutes.slots("BTCUSDT") == {}


PUBLISHED = candidates_frame(candidates(minutes=1, start=NOON))
USE_CASES: dict[str, Callable[[ObjectStore], object]] = {
    "candidates": lambda store: store_candidates(store, PUBLISHED),
    "finalized marks": lambda store: mark_finalized(
        store, ONE, DAY, {SYMBOLS[0]: FinalizedDay(None)}
    ),
}


@pytest.mark.parametrize("name", USE_CASES)
def test_unsuitable_store_refuses_every_use_case(
    minutes: Platform, careless: Platform, name: str
) -> None:
    """Every use case is refused before it writes."""
    with pytest.raises(UnsuitableStoreError):
        USE_CASES[name](ObjectStore(careless.settings.s3))
    assert minutes.objects() == {}


def test_candidates_outlast_unsuitable_finalize(minutes: Platform, careless: Platform) -> None:
    """Stored candidates outlast a finalize on an unsuitable store."""
    store_candidates(ObjectStore(minutes.settings.s3), PUBLISHED)
    before = minutes.objects()
    with pytest.raises(UnsuitableStoreError):
        finalize_candidates(ObjectStore(careless.settings.s3), DAY)
    assert minutes.objects() == before
