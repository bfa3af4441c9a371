"""The digest of an object: every writer stores it, every reader compares it, on a real S3 server."""

import hashlib
import io
import random
from collections.abc import Callable

import pytest

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.stored_objects import FoundObject
from pipeline_assets_tests.fixtures.damage import encoded_day, flip_bit, store_damaged
from pipeline_assets_tests.fixtures.s3 import S3Bucket

KEY = "ohlcv/1m/币安人生USDT/20261120_0000.parquet"
BODY = b"candles"
PARTS = 2 * 5 * 1024 * 1024


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def write(store: ObjectStore, body: bytes) -> None:
    with store.writing(KEY) as file:
        file.write(body[:3])
        file.write(body[3:])


WRITES: dict[str, tuple[Callable[[ObjectStore, bytes], object], bytes]] = {
    "put": (lambda store, body: store.put(KEY, body), BODY),
    "put in parts": (lambda store, body: store.put(KEY, body), bytes(PARTS)),
    "put_if": (lambda store, body: store.put_if(KEY, body, None), BODY),
    "a file": (write, BODY),
    "an empty file": (write, b""),
}
READS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get(KEY),
    "get_with_etag": lambda store: store.get_with_etag(KEY),
    "download": lambda store: store.download(KEY, io.BytesIO()),
}


@pytest.mark.parametrize(("write", "body"), WRITES.values(), ids=WRITES)
def test_every_write_stores_the_digest(store, s3_bucket, write, body):
    write(store, body)
    head = s3_bucket.client.head_object(Bucket=s3_bucket.name, Key=KEY)
    assert head["Metadata"] == {"sha256": hashlib.sha256(body).hexdigest()}
    assert store.get(KEY) == body


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_read_compares_the_digest(store, s3_bucket, read):
    store_damaged(s3_bucket, KEY, BODY, flip_bit(BODY, 17))
    with pytest.raises(DamagedObjectError, match=r"20261120_0000\.parquet is damaged") as caught:
        read(store)
    assert caught.value.key == KEY


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_shortened_object_is_damaged(store, s3_bucket, read):
    store_damaged(s3_bucket, KEY, BODY, BODY[:-1])
    with pytest.raises(DamagedObjectError):
        read(store)


def test_missing_digest_is_added_on_write(store, s3_bucket):
    """An object without a digest is read, and gets a digest when it is written."""
    etag = s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=KEY, Body=BODY)["ETag"]
    assert store.get_with_etag(KEY) == (BODY, etag)
    found = store.find(KEY)
    assert found is not None
    assert found.digest is None
    store.put_if(KEY, BODY, etag)
    found = store.find(KEY)
    assert found is not None
    assert found.digest == hashlib.sha256(BODY).hexdigest()


def test_every_single_bit_flip_is_detected():
    """Without a digest, 2,275 of 3,000 flips decoded without an error."""
    body = encoded_day()
    digest = hashlib.sha256(body).hexdigest()
    assert FoundObject(body, '"1"', digest).intact
    bits = random.Random(13).sample(range(len(body) * 8), 3000)
    assert not [bit for bit in bits if FoundObject(flip_bit(body, bit), '"1"', digest).intact]


def test_flipped_bit_is_detected(store, s3_bucket):
    """A flipped bit of a stored object is detected."""
    body = encoded_day()
    for bit in random.Random(7).sample(range(len(body) * 8), 10):
        store_damaged(s3_bucket, KEY, body, flip_bit(body, bit))
        with pytest.raises(DamagedObjectError):
            store.get(KEY)
