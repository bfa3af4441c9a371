"""Requests of a run to S3: it reads nothing that it has just written."""

import re
from typing import Any

import pytest

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.staging import Output
from pipeline_assets_tests.fixtures.faulty_s3 import FaultyS3, faulty_s3
from pipeline_assets_tests.fixtures.platform import Platform

FIRST, LAST = "2026-11-17", "2026-11-19"
DAY_OBJECTS = 3 * 3


def objects_asked(proxy: FaultyS3, method: str, folder: str) -> list[str]:
    """The requests for objects of a folder; listings are left out."""
    wanted = re.compile(rf"{method} /[^/?]+/{folder}/")
    return [each for each in proxy.requests if wanted.match(each)]


def failed_checks(result: Any) -> set[str]:
    return {e.check_name for e in result.get_asset_check_evaluations() if not e.passed}


@pytest.mark.parametrize("archive", [False, True])
def test_backfill_reads_nothing_back(minutes: Platform, archive: bool) -> None:
    """A backfill writes each object once and reads none: neither staged rows nor candle objects."""
    with faulty_s3(minutes.bucket.endpoint) as proxy:
        through = minutes.with_settings(
            s3={"endpoint_url": proxy.endpoint}, binance={"archive": archive}
        )
        result = through.backfill("1m", FIRST, LAST)
    assert not failed_checks(result)
    assert len(objects_asked(proxy, "PUT", "ohlcv")) == DAY_OBJECTS
    for folder in ("ohlcv", "raw", "staging"):
        assert objects_asked(proxy, "GET", folder) == []


def test_ingest_reads_no_staged_rows_back(minutes: Platform) -> None:
    """The steps of an ingest run pass rows and plan on without S3."""
    with faulty_s3(minutes.bucket.endpoint) as proxy:
        assert minutes.with_settings(s3={"endpoint_url": proxy.endpoint}).ingest("1m").success
    assert objects_asked(proxy, "PUT", "staging")
    for folder in ("raw", "staging"):
        assert objects_asked(proxy, "GET", folder) == []


class Robbed(ObjectStore):
    """A store in which another program removes an object, or puts another day's in its place, once the
    upload has listed what it stored.
    """

    removed = "ohlcv/1m/ETHUSDT/20261118_0000.parquet"
    other = "ohlcv/1m/ETHUSDT/20261117_0000.parquet"
    replaced = False

    def put(self, key: str, body: bytes) -> str:
        etag = super().put(key, body)
        if key.endswith(Output.OBJECTS):
            self.delete([self.removed])
            if self.replaced:
                found = self.get(self.other)
                assert found is not None
                super().put(self.removed, found)
        return etag


def test_check_notices_removed_object(minutes: Platform) -> None:
    """An object that is removed after its upload is missing to the check of the same run."""
    store = Robbed(minutes.settings.s3)
    assert failed_checks(minutes.backfill("1m", FIRST, LAST, store=store)) == {"complete"}


def test_check_reads_replaced_object(minutes: Platform) -> None:
    """An object that is replaced after its upload is read, and found to hold another day."""
    store = Robbed(minutes.settings.s3)
    store.replaced = True
    with pytest.raises(DamagedObjectError, match="from 2026-11-17 00:00 UTC"):
        minutes.backfill("1m", FIRST, LAST, store=store)
