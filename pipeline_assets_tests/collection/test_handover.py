"""The outputs that the steps of a run leave for each other in one process."""

from datetime import date

import polars as pl
import pytest

from pipeline_assets.collection import handover as module
from pipeline_assets.collection.handover import Gathered, handover
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Staged
from pipeline_assets.settings import S3Settings

DAY = date(2026, 11, 19)
OWN = Staged(Interval.ONE_MINUTE, DAY, DAY, "run")


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(S3Settings(access_key_id="key", secret_access_key="secret"))


def frames(count: int, rows: int = 1) -> Gathered[pl.DataFrame]:
    gathered: Gathered[pl.DataFrame] = Gathered()
    for _ in range(count):
        gathered.add(empty_candles(), rows)
    return gathered


def test_candles_are_held_until_taken(store: ObjectStore) -> None:
    """Several steps may read candles; the last one takes them."""
    handover(store, "run").keep_candles(OWN, frames(2))
    for _ in range(2):
        assert len(list(handover(store, "run").candles(OWN) or ())) == 2
    assert len(list(handover(store, "run").take_candles(OWN) or ())) == 2
    assert handover(store, "run").candles(OWN) is None


def test_repetition_finds_nothing(store: ObjectStore) -> None:
    """A run that repeats another has its addresses, and still reads S3: others may have written since."""
    handover(store, "run").keep_candles(OWN, frames(1))
    assert handover(store, "repetition").candles(OWN) is None
    assert handover(store, "run").candles(OWN) is None


def test_many_rows_are_not_held(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output with more rows than the limit is not held."""
    monkeypatch.setattr(module, "_MOST_ROWS", 10)
    handover(store, "run").keep_candles(OWN, frames(3, rows=5))
    assert handover(store, "run").candles(OWN) is None
