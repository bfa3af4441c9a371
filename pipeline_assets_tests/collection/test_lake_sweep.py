"""The sweep of the lake and the command that shows it, on a real S3 server."""

import json
from datetime import date

import polars as pl
import pytest
from click.testing import CliRunner, Result

from pipeline_assets.cli.main import cli
from pipeline_assets.collection.lake_sweep import Damage, Selection, sweep
from pipeline_assets.errors import InputError, OutsideSystemError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import (
    FinalizedDay,
    finalized_symbols,
    mark_finalized,
)
from pipeline_assets.resources.gap_objects import gap_schema, judged_days, write_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import FoundObject
from pipeline_assets_tests.fixtures.damage import encoded_day, flip_bit, object_at, store_damaged
from pipeline_assets_tests.fixtures.s3 import S3Bucket, free_port

CHINESE = "币安人生USDT"
KEYS = [
    f"ohlcv/1m/{symbol}/{day}_0000.parquet"
    for symbol in ("BTCUSDT", CHINESE)
    for day in ("20261118", "20261119")
]
OTHERS = ["candidates/1m/20261119.parquet", "gaps/20261119.parquet", "state/listings.json"]
DIFFERS = "its bytes do not match the SHA-256 in its metadata"


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    """Provide a lake of seven sound objects."""
    store = ObjectStore(s3_bucket.settings())
    for key in KEYS:
        store.put(key, object_at(key))
    for key in OTHERS:
        store.put(key, b"{}" if key.endswith(".json") else encoded_day())
    return store


def damage(bucket: S3Bucket, key: str) -> bytes:
    whole = object_at(key) if key in KEYS else encoded_day()
    damaged = flip_bit(whole, 12_345)
    store_damaged(bucket, key, whole, damaged)
    return damaged


def test_a_sound_lake_has_no_damage(store):
    report = sweep(store, Selection())
    assert (report.objects, report.damaged, report.without_digest) == (7, [], 0)
    assert report.size == sum(map(len, map(object_at, KEYS))) + 2 * len(encoded_day()) + 2


@pytest.mark.parametrize("key", [*KEYS, *OTHERS])
def test_every_damaged_object_is_named(store, s3_bucket, key):
    damaged = damage(s3_bucket, key)
    assert sweep(store, Selection()).damaged == [Damage(key, DIFFERS)]
    found = store.find(key)
    assert found is not None
    assert found.body == damaged


def test_damaged_model_is_named(store, s3_bucket):
    """A model file is found before inference reads it."""
    key = "models/macd_cross/20261119-0123456789ab/model.skops"
    damage(s3_bucket, key)
    assert sweep(store, Selection()).damaged == [Damage(key, DIFFERS)]


@pytest.mark.parametrize("copied", [KEYS[0], KEYS[3]], ids=["other day", "other symbol"])
def test_copied_object_is_named(store, copied):
    """An object copied over another is named.

    Its bytes match their digest, and are not what its key says.
    """
    store.put(KEYS[1], object_at(copied))
    [found] = sweep(store, Selection()).damaged
    _, _, symbol, name = copied.split("/")
    assert found.key == KEYS[1]
    assert f"1m candles of {symbol} from {name[:4]}-{name[4:6]}-{name[6:8]} 00:00" in found.why


@pytest.mark.parametrize("key", [KEYS[0], OTHERS[0], OTHERS[2]])
def test_object_without_digest_is_decoded(store, s3_bucket, key):
    """An object without a digest is decoded."""
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=b"PAR1")
    report = sweep(store, Selection())
    assert report.without_digest == 1
    assert [each.key for each in report.damaged] == [key]


def test_setting_aside_moves_damaged_objects_alone(store, s3_bucket):
    damaged = {damage(s3_bucket, key) for key in (KEYS[1], OTHERS[1])}
    report = sweep(store, Selection(), quarantine=True)
    assert [each.key for each in report.damaged] == [OTHERS[1], KEYS[1]]
    assert {store.get(each.kept or "") for each in report.damaged} == damaged
    assert not store.holds(KEYS[1])
    after = sweep(store, Selection(), quarantine=True)
    assert (after.objects, after.damaged) == (5, [])


@pytest.mark.parametrize("quarantine", [False, True])
def test_damaged_day_loses_its_mark(store, s3_bucket, quarantine):
    """A finished day with a damaged object loses its symbol's mark, and the ledger is judged anew."""
    days = [date(2026, 11, 18), date(2026, 11, 19)]
    for day in days:
        marks = {symbol: FinalizedDay('"1"') for symbol in ("BTCUSDT", CHINESE)}
        mark_finalized(store, Interval.ONE_MINUTE, day, marks)
        write_gaps(store, day, pl.DataFrame(schema=gap_schema()))
    damage(s3_bucket, KEYS[1])
    for _ in range(2):
        sweep(store, Selection(), quarantine=quarantine)
        found = [finalized_symbols(store, Interval.ONE_MINUTE, day) for day in days]
        assert found == [{"BTCUSDT", CHINESE}, {CHINESE}]
        assert judged_days(store) == days[:1]


def test_newer_marks_hide_no_damage(store, s3_bucket):
    """All damage is named; a day whose marks a newer release wrote keeps its marks, ledger and objects."""
    days = [date(2026, 11, 18), date(2026, 11, 19)]
    for day in days:
        mark_finalized(store, Interval.ONE_MINUTE, day, {"BTCUSDT": FinalizedDay('"1"')})
        write_gaps(store, day, pl.DataFrame(schema=gap_schema()))
    (key,) = [each.key for each in store.objects("state/sealed/") if "20261119" in each.key]
    newer = b'{"version":2}'
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=newer)
    for each in KEYS[:2]:
        damage(s3_bucket, each)
    report = sweep(store, Selection((Interval.ONE_MINUTE,)), quarantine=True)
    assert {each.key: each.kept is None for each in report.damaged} == {
        KEYS[0]: False,
        KEYS[1]: True,
    }
    assert len(report.refused) == 1
    assert "update this installation" in report.refused[0]
    assert store.find(key).body == newer
    assert judged_days(store) == days[1:]


def test_moved_object_has_its_day_judged(store, s3_bucket):
    """The ledger of a day without a mark stays until the damaged object is moved."""
    day = date(2026, 11, 19)
    write_gaps(store, day, pl.DataFrame(schema=gap_schema()))
    damage(s3_bucket, KEYS[1])
    sweep(store, Selection())
    assert judged_days(store) == [day]
    sweep(store, Selection(), quarantine=True)
    assert judged_days(store) == []


class DamagedOnItsWay(ObjectStore):
    """A store whose first reply for each key is damaged, and the second is not."""

    def __init__(self, bucket: S3Bucket) -> None:
        super().__init__(bucket.settings())
        self.seen: set[str] = set()

    def find(self, key: str) -> FoundObject | None:
        found = super().find(key)
        if found is None or key in self.seen:
            return found
        self.seen.add(key)
        return FoundObject(flip_bit(found.body, 3), found.etag, found.digest)


def test_damaged_transfer_is_no_damage(store, s3_bucket):
    """A reply that is damaged in transfer does not make its object damaged."""
    report = sweep(DamagedOnItsWay(s3_bucket), Selection(), quarantine=True)
    assert (report.objects, report.damaged) == (7, [])
    assert not list(store.objects("damaged/"))


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(symbols=[CHINESE]), KEYS[2:]),
        (Selection(start=date(2026, 11, 19)), [KEYS[1], KEYS[3]]),
        (Selection(end=date(2026, 11, 19)), [KEYS[0], KEYS[2]]),
        (Selection(intervals=[Interval.ONE_HOUR]), []),
    ],
)
def test_a_selection_reads_these_candles_alone(store, s3_bucket, selection, found):
    for key in [*KEYS, *OTHERS]:
        damage(s3_bucket, key)
    assert [each.key for each in sweep(store, selection).damaged] == found


def verify(bucket: S3Bucket, *arguments: str, **changes: str) -> Result:
    return CliRunner().invoke(cli, ["verify", *arguments], env=bucket.environment() | changes)


def test_command_names_damaged_keys(store, s3_bucket):
    """The command names damaged keys and says what to do."""
    assert verify(s3_bucket).exit_code == 0
    damage(s3_bucket, KEYS[3])
    shown = verify(s3_bucket)
    assert shown.exit_code == 1
    assert f"{KEYS[3]}: {DIFFERS}" in shown.output
    assert "7 objects" in shown.output
    assert "verify --set-aside" in shown.output
    assert verify(s3_bucket, "--symbols", "BTCUSDT").exit_code == 0
    moved = verify(s3_bucket, "--set-aside", "--json", "--interval", "1m", "--start", "2026-11-19")
    assert moved.exit_code == 1
    document = json.loads(moved.output)
    assert (document["objects"], document["damaged"][0]["key"]) == (2, KEYS[3])
    assert store.holds(document["damaged"][0]["kept"])
    assert verify(s3_bucket).exit_code == 0


def test_command_refuses_reversed_range(s3_bucket):
    """The command refuses an end before its start."""
    refused = verify(s3_bucket, "--start", "2026-11-19", "--end", "2026-11-19")
    assert isinstance(refused.exception, InputError)
    assert "must come after --start" in str(refused.exception)


def test_command_judges_stored_symbols_alone(store, s3_bucket):
    """Stored symbols need no exchange; others are known there, or refused."""
    nobody = {"PIPELINE_REDIS__URL": f"redis://127.0.0.1:{free_port()}/0"}
    assert verify(s3_bucket, "--symbols", CHINESE, **nobody).exit_code == 0
    refused = verify(s3_bucket, "--symbols", "BTCUSD", **nobody)
    assert isinstance(refused.exception, OutsideSystemError)
