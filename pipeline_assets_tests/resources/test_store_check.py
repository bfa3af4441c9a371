"""An object store that would lose candles is refused before anything is written to it."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from pipeline_assets.resources import store_check
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.resources.store_check import (
    StoreIdentity,
    UnsuitableStoreError,
    require_suitable,
)
from pipeline_assets_tests.fixtures import faulty_s3 as faults
from pipeline_assets_tests.fixtures.faulty_s3 import FaultyS3, faulty_s3
from pipeline_assets_tests.fixtures.s3 import S3Bucket

KEY = "ohlcv/1m/BTCUSDT/20261120_0000.parquet"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def new_process(s3_bucket: S3Bucket) -> Iterator[None]:
    """As in a process that has not checked any store; what is remembered comes back afterwards."""
    before = dict(store_check._passed)
    store_check.forget()
    yield
    store_check._passed.update(before)


@pytest.fixture
def proxy(s3_bucket: S3Bucket) -> Iterator[FaultyS3]:
    with faulty_s3(s3_bucket.endpoint) as running:
        yield running


@pytest.fixture
def store(s3_bucket: S3Bucket, proxy: FaultyS3) -> ObjectStore:
    """Provide the bucket by way of the proxy."""
    return ObjectStore(s3_bucket.settings(endpoint_url=proxy.endpoint))


def keys(bucket: S3Bucket, prefix: str = "") -> list[str]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix)
    return [each["Key"] for each in listed.get("Contents", ())]


def write_stream(store: ObjectStore) -> None:
    with store.writing(KEY) as file:
        file.write(b"xy")


WRITES: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put(KEY, b"xy"),
    "create": lambda store: store.put_if(KEY, b"xy", None),
    "replace": lambda store: store.put_if(KEY, b"xy", '"etag"'),
    "stream": write_stream,
    "delete": lambda store: store.delete([KEY]),
}

UNSUITABLE: dict[str, tuple[faults.Fault, str]] = {
    "ignores If-None-Match": (faults.IgnoresIfNoneMatch(), "replaced an object by a PUT with If-N"),
    "ignores If-Match": (faults.IgnoresIfMatch(), "If-Match and an ETag of the past"),
    "ignores both": (faults.IgnoresBoth(), "replaced an object by a PUT with If-None-Match"),
    "creates by If-Match": (faults.CreatesByIfMatch(), "created an object by a PUT with If-Match"),
    "one ETag": (faults.OneETag(), "two different bodies of one object the same ETag"),
    "lists late": (faults.ListsLate(), "its listing misses an object that was just written"),
    "lists another ETag": (faults.ListsOtherETag(), "its listing shows the ETag other"),
    "implements no condition": (faults.RefusesConditions(), "does not support a conditional PUT"),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_unsuitable_store_is_refused_by_name(s3_bucket, proxy, store, name):
    proxy.fault, observed = UNSUITABLE[name]
    with pytest.raises(UnsuitableStoreError) as caught:
        store.put(KEY, b"xy")
    message = str(caught.value)
    assert (
        f"S3 at {proxy.endpoint} cannot hold the lake in the bucket '{s3_bucket.name}'" in message
    )
    assert observed in message
    assert "such as AWS S3, MinIO" in message
    assert keys(s3_bucket) == []


def test_store_altering_bytes_is_refused(s3_bucket, proxy, store):
    """A store that keeps other bytes is refused."""
    proxy.fault = faults.ReversesBytes()
    with pytest.raises(ObjectStoreError, match="stored other bytes than were sent"):
        store.put(KEY, b"candles")
    assert keys(s3_bucket) == []


@pytest.mark.parametrize("name", WRITES)
def test_every_write_is_refused(s3_bucket, proxy, store, name):
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=KEY, Body=b"stored")
    proxy.fault = faults.IgnoresBoth()
    with pytest.raises(UnsuitableStoreError):
        WRITES[name](store)
    assert keys(s3_bucket) == [KEY]
    held = s3_bucket.client.get_object(Bucket=s3_bucket.name, Key=KEY)
    assert held["Body"].read() == b"stored"
    # Reading harms nothing, and a person may need it to move to another store.
    assert store.get(KEY) == b"stored"


def test_embedded_server_passes_the_check(s3_bucket):
    """The embedded server passes, and keeps only the mark of the check."""
    store = ObjectStore(s3_bucket.settings())
    store.put(KEY, b"xy")
    identity = StoreIdentity(s3_bucket.endpoint, s3_bucket.name)
    assert keys(s3_bucket) == [KEY, identity.mark_key]
    mark = json.loads(store.get(identity.mark_key) or b"")
    assert (mark["endpoint"], mark["bucket"]) == (s3_bucket.endpoint, s3_bucket.name)


@pytest.mark.xdist_group("moto")
def test_server_of_other_people_passes(s3_bucket):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        ).create_bucket(Bucket="candles")
        store = ObjectStore(s3_bucket.settings(endpoint_url=endpoint, bucket="candles"))
        store.check()
        assert list(store.objects("")) == []
    finally:
        server.stop()


def test_etags_need_not_be_md5(proxy, store):
    """A store whose ETags are not MD5 passes."""
    proxy.fault = faults.EncryptsETags()
    etag = store.put(KEY, b"first")
    store.put_if(KEY, b"second", etag)
    before = len(proxy.requests)
    store.put(KEY, b"third")
    assert proxy.requests[before:] == [proxy.requests[-1]], "no object is read again for its ETag"
    assert store.get(KEY) == b"third"


def test_passed_check_lasts_a_day(s3_bucket, proxy, store):
    """A passed check is remembered for a day."""
    store.put(KEY, b"xy")
    asked = len(proxy.requests)
    store.put(KEY, b"xy")
    ObjectStore(s3_bucket.settings(endpoint_url=proxy.endpoint)).put(KEY, b"xy")
    assert len(proxy.requests) == asked + 2
    # Another process reads the mark.
    store_check.forget()
    store.put(KEY, b"xy")
    identity = StoreIdentity(proxy.endpoint, s3_bucket.name)
    asked += 2
    assert [request.split("?")[0] for request in proxy.requests[asked:]] == [
        f"GET /{s3_bucket.name}/{identity.mark_key}",
        f"PUT /{s3_bucket.name}/{KEY}",
    ]


@pytest.mark.parametrize(
    ("later", "checked"),
    [(timedelta(hours=23), False), (timedelta(hours=24), True), (timedelta(hours=-1), True)],
)
def test_check_repeats_after_day_or_reset(s3_bucket, proxy, store, later, checked):
    """The check is repeated after a day, and after a wrong clock."""
    identity = StoreIdentity(proxy.endpoint, s3_bucket.name)
    require_suitable(store._unchecked, identity, NOW)
    proxy.fault = faults.IgnoresBoth()
    for forgetful in (False, True):
        if forgetful:
            store_check.forget()
        if checked:
            with pytest.raises(UnsuitableStoreError):
                require_suitable(store._unchecked, identity, NOW + later)
        else:
            require_suitable(store._unchecked, identity, NOW + later)


def test_mark_of_other_endpoint_is_ignored(s3_bucket, proxy, store):
    """A mark of another endpoint does not count.

    The bucket's content was copied to, or is served by, a store that ignores conditions.
    """
    ObjectStore(s3_bucket.settings()).put(KEY, b"stored")
    [mark] = keys(s3_bucket, "state/store_checks/")
    forged = StoreIdentity(proxy.endpoint, s3_bucket.name).mark_key
    copied = {"Bucket": s3_bucket.name, "Key": mark}
    s3_bucket.client.copy_object(Bucket=s3_bucket.name, Key=forged, CopySource=copied)
    store_check.forget()
    proxy.fault = faults.IgnoresBoth()
    with pytest.raises(UnsuitableStoreError):
        store.put(KEY, b"xy")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"checked_at": 1}'])
def test_damaged_mark_does_not_count(s3_bucket, proxy, store, body):
    mark = StoreIdentity(proxy.endpoint, s3_bucket.name).mark_key
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=mark, Body=body)
    proxy.fault = faults.IgnoresBoth()
    with pytest.raises(UnsuitableStoreError):
        store.put(KEY, b"xy")


def test_mended_store_is_used_at_once(proxy, store):
    proxy.fault = faults.IgnoresBoth()
    with pytest.raises(UnsuitableStoreError):
        store.put(KEY, b"xy")
    proxy.fault = faults.Fault()
    store.put(KEY, b"xy")
    assert store.get(KEY) == b"xy"


def test_concurrent_checks_do_not_meet(s3_bucket):
    """Checks at the same time do not affect each other."""
    stores = [ObjectStore(s3_bucket.settings()) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ObjectStore.check, stores))
    assert keys(s3_bucket) == []


def test_writers_of_one_process_check_once(proxy, store):
    store.each(lambda number: store.put(f"state/{number}", b"xy"), range(10))
    assert sum("state/store_checks/" in request for request in proxy.requests) == 2


def test_abandoned_trial_is_removed(s3_bucket, proxy, store):
    """An abandoned trial object is removed after a day."""
    old, fresh = (f"state/store_trials/{name}" for name in ("abandoned", "under-way"))
    for key in (old, fresh):
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=b"xy")
    proxy.fault = faults.OldObject("abandoned")
    store.check()
    assert keys(s3_bucket) == [fresh]


def test_down_store_is_not_unsuitable(s3_bucket):
    """A store that is down is not called unsuitable."""
    absent = ObjectStore(s3_bucket.settings(bucket="no-such-bucket"))
    with pytest.raises(ObjectStoreError, match="There is no bucket 'no-such-bucket'") as caught:
        absent.put(KEY, b"xy")
    assert not isinstance(caught.value, UnsuitableStoreError)


@pytest.mark.parametrize("name", ["put", "create"])
def test_altered_write_is_an_error(proxy, store, name):
    """A write that stores other bytes is an error."""
    store.put("state/any", b"first")
    proxy.fault = faults.ReversesBytes()
    with pytest.raises(ObjectStoreError, match="stored other bytes than were sent"):
        WRITES[name](store)
