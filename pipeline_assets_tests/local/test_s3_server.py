"""The embedded S3 server keeps what it acknowledged, as S3 would, over any end of its process."""

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import polars
import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_assets.local.s3_server import ObjectFiles
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.fixtures.s3 import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    S3Bucket,
    S3Server,
    make_bucket,
)

CHINESE = "ohlcv/1m/币安人生USDT/20261025_0000.parquet"


def keys(bucket: S3Bucket, **options: object) -> list[str]:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def body(bucket: S3Bucket, key: str) -> bytes:
    return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


def refused(call, **arguments) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_listens_on_this_machine_only(s3_server: S3Server) -> None:
    process = psutil.Process(s3_server.process.pid)
    heard = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert heard == {("127.0.0.1", s3_server.port)}


def test_chinese_keys_come_back_unchanged(s3_bucket: S3Bucket) -> None:
    """Chinese keys come back as they were."""
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=CHINESE, Body=b"candles")
    assert keys(s3_bucket, Prefix="ohlcv/1m/币安") == [CHINESE]
    assert body(s3_bucket, CHINESE) == b"candles"


def test_polars_reads_and_scans_objects(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    frame = polars.DataFrame({"open_time": range(1000)})
    frame.write_parquet(tmp_path / "candles")
    data = (tmp_path / "candles").read_bytes()
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=CHINESE, Body=data)
    options = {
        "aws_endpoint_url": s3_bucket.endpoint,
        "aws_access_key_id": ACCESS_KEY_ID,
        "aws_secret_access_key": SECRET_ACCESS_KEY,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    scanned = polars.scan_parquet(f"s3://{s3_bucket.name}/{CHINESE}", storage_options=options)
    assert scanned.collect().equals(frame)


def test_listing_starts_after_a_key(s3_bucket: S3Bucket) -> None:
    """A listing has pages and can start after a key."""
    names = [f"ohlcv/1m/BTCUSDT/{number:04}.parquet" for number in range(25)]
    for name in random.Random(1).sample(names, len(names)):
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=name, Body=b"x")
    assert keys(s3_bucket, PaginationConfig={"PageSize": 7}) == names
    after = keys(s3_bucket, StartAfter=names[11], PaginationConfig={"PageSize": 7})
    assert after == names[12:]


def test_deleted_batch_stays_deleted(own_s3_server: S3Server) -> None:
    """A batch of objects is deleted permanently."""
    bucket = make_bucket(own_s3_server)
    names = [f"staging/{number}/币.parquet" for number in range(6)]
    for name in names:
        bucket.client.put_object(Bucket=bucket.name, Key=name, Body=b"x")
    gone = {"Objects": [{"Key": name} for name in (*names[:4], "never/was")]}
    answer = bucket.client.delete_objects(Bucket=bucket.name, Delete=gone)
    assert "Errors" not in answer
    own_s3_server.kill()
    own_s3_server.start()
    assert keys(bucket) == names[4:]


def test_conditional_writes_hold_over_a_kill(own_s3_server: S3Server) -> None:
    bucket = make_bucket(own_s3_server)
    put, where = bucket.client.put_object, {"Bucket": bucket.name, "Key": "state/1m.json"}
    first = put(**where, Body=b"first", IfNoneMatch="*")["ETag"]
    own_s3_server.kill()
    own_s3_server.start()
    assert bucket.client.head_object(**where)["ETag"] == first
    assert refused(put, **where, Body=b"other", IfNoneMatch="*") == ("PreconditionFailed", 412)
    second = put(**where, Body=b"second", IfMatch=first)["ETag"]
    assert refused(put, **where, Body=b"late", IfMatch=first) == ("PreconditionFailed", 412)
    own_s3_server.kill()
    own_s3_server.start()
    assert bucket.client.head_object(**where)["ETag"] == second != first
    assert body(bucket, "state/1m.json") == b"second"


def test_multipart_objects_are_kept_and_described(own_s3_server: S3Server) -> None:
    bucket = make_bucket(own_s3_server)
    where = {"Bucket": bucket.name, "Key": "raw/large.parquet"}
    parts = [os.urandom(5 * 1024 * 1024), b"the end"]
    upload = bucket.client.create_multipart_upload(**where, Metadata={"window": "a day"})
    where_part = {**where, "UploadId": upload["UploadId"]}
    done = [
        {
            "PartNumber": number,
            "ETag": bucket.client.upload_part(**where_part, PartNumber=number, Body=part)["ETag"],
        }
        for number, part in enumerate(parts, 1)
    ]
    assert keys(bucket) == []
    bucket.client.complete_multipart_upload(**where_part, MultipartUpload={"Parts": done})
    before = bucket.client.head_object(**where)
    own_s3_server.kill()
    own_s3_server.start()
    after = bucket.client.head_object(**where)
    described = ("ETag", "ContentLength", "Metadata", "LastModified", "ContentType")
    assert [after[name] for name in described] == [before[name] for name in described]
    assert after["Metadata"] == {"window": "a day"}
    assert body(bucket, "raw/large.parquet") == b"".join(parts)


def test_bucket_creation_and_deletion_survive_kill(
    own_s3_server: S3Server,
) -> None:
    """An empty bucket outlives a kill, and a deleted one does not come back."""
    client = own_s3_server.client()
    client.create_bucket(Bucket="empty")
    client.create_bucket(Bucket="deleted")
    client.delete_bucket(Bucket="deleted")
    for _ in range(2):
        own_s3_server.kill()
        own_s3_server.start()
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["empty"]
        assert client.list_objects_v2(Bucket="empty")["KeyCount"] == 0


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.matrix) for seed in (2, 3))]
)
def test_kill_loses_no_acknowledged_object(own_s3_server: S3Server, seed: int) -> None:
    """A kill loses no acknowledged object and leaves none half-written.

    Writers overwrite a few keys with self-describing bodies until the server is killed.
    """
    bucket = make_bucket(own_s3_server)
    acknowledged: dict[str, int] = {}
    enough = threading.Event()

    def write(writer: int) -> None:
        chance, client = random.Random(seed * 100 + writer), own_s3_server.client()
        for turn in range(10_000):
            key = f"ohlcv/1m/币{writer}USDT/{turn % 5}.parquet"
            data = (f"{key}#{turn}#" * chance.randint(1, 4000)).encode()
            digest = hashlib.sha256(data).hexdigest()
            try:
                client.put_object(
                    Bucket=bucket.name, Key=key, Body=data, Metadata={"digest": digest}
                )
            except (BotoCoreError, ClientError):
                return
            acknowledged[key] = turn
            if turn >= 20 + 7 * seed:
                enough.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    own_s3_server.kill()
    for writer in writers:
        writer.join()
    own_s3_server.start()

    stored = keys(bucket)
    assert set(acknowledged) <= set(stored)
    for key in stored:
        answer = bucket.client.get_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
        data = answer["Body"].read()
        assert answer["Metadata"] == {"digest": hashlib.sha256(data).hexdigest()}
        assert answer["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
        written, turn = data.decode().split("#")[:2]
        assert written == key
        assert int(turn) >= acknowledged.get(key, 0)


class Killed(BaseException):
    """Stands for the end of the process between two system calls."""


class FilesKilledAt(ObjectFiles):
    """Ends at the given step of writing an object, with files half written where one is."""

    def __init__(self, data_dir: Path, steps: int) -> None:
        super().__init__(data_dir)
        self._body = DyingPath(self._body, self)
        self._description = DyingPath(self._description, self)
        self.steps = steps

    def step(self) -> bool:
        self.steps -= 1
        return self.steps < 0


class DyingPath:
    def __init__(self, path: Path, files: FilesKilledAt) -> None:
        self.path, self.files = path, files

    def write_bytes(self, data: bytes) -> None:
        if self.files.step():
            self.path.write_bytes(data[: len(data) // 2])
            raise Killed
        self.path.write_bytes(data)

    def write_text(self, text: str, encoding: str) -> None:
        self.write_bytes(text.encode(encoding))

    def replace(self, target: object) -> None:
        if self.files.step():
            raise Killed
        self.path.replace(target)


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.too_slow])
@given(
    kills=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    data=st.lists(st.binary(min_size=2, max_size=40), min_size=6, max_size=6),
)
def test_interrupted_write_leaves_old_or_new(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], data: list[bytes]
) -> None:
    """An object is the old or the new one, wherever its writing is interrupted."""
    directory = tmp_path_factory.mktemp("cut")
    path = directory / "objects" / "000000000000" / "candles" / "1m" / "a.parquet"
    ObjectFiles(directory).recover()
    current: bytes | None = None
    for step, content in zip(kills, data, strict=False):
        stored = {"body": content, "etag": hashlib.md5(content).hexdigest(), "size": len(content)}
        try:
            FilesKilledAt(directory, step).store("000000000000", "candles", "1m/a.parquet", stored)
            acknowledged = True
        except Killed:
            acknowledged = False
        ObjectFiles(directory).recover()
        found = path.read_bytes() if path.exists() else None
        assert found == content if acknowledged else found in (current, content)
        current = found
        if found is not None:
            description = json.loads(Path(f"{path}.meta.json").read_text())
            assert description["etag"] == hashlib.md5(found).hexdigest()
        present = {entry.name for entry in directory.rglob("*") if entry.is_file()}
        assert present <= {"a.parquet", "a.parquet.meta.json"}


@pytest.mark.parametrize("key", ["a//b", "a/", "a.meta.json", "../b", "a/./b"])
def test_unkeepable_key_is_refused(s3_bucket: S3Bucket, key: str) -> None:
    """A key that cannot be stored is refused and not acknowledged."""
    assert refused(s3_bucket.client.put_object, Bucket=s3_bucket.name, Key=key, Body=b"x")[1] >= 400


def test_failed_write_is_not_acknowledged(own_s3_server: S3Server) -> None:
    """A write that fails is not acknowledged."""
    bucket = make_bucket(own_s3_server)
    bucket.client.put_object(Bucket=bucket.name, Key="1m", Body=b"a file, where a folder must be")
    assert (
        refused(bucket.client.put_object, Bucket=bucket.name, Key="1m/a.parquet", Body=b"x")[1]
        == 500
    )
    own_s3_server.kill()
    own_s3_server.start()
    assert keys(bucket) == ["1m"]


def test_nothing_but_s3_is_served(own_s3_server: S3Server) -> None:
    bucket = make_bucket(own_s3_server)
    bucket.client.put_object(Bucket=bucket.name, Key="a", Body=b"kept")
    connection = http.client.HTTPConnection("127.0.0.1", own_s3_server.port)
    connection.request("POST", "/_ministack/reset")
    assert connection.getresponse().status == 403
    assert body(bucket, "a") == b"kept"


def test_right_credentials_pass_every_request(checking_s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """The right credentials are accepted for every kind of request."""
    bucket, client = checking_s3_bucket, checking_s3_bucket.client
    client.put_object(Bucket=bucket.name, Key=CHINESE, Body=b"a" * 3000, IfNoneMatch="*")
    client.put_object(Bucket=bucket.name, Key="a b+c&d=e~(1)", Body=b"")
    (tmp_path / "large").write_bytes(b"x" * 9_000_000)
    client.upload_file(str(tmp_path / "large"), bucket.name, "large")
    assert keys(bucket, Prefix="ohlcv/1m/币安", StartAfter="ohlcv/1m") == [CHINESE]
    assert client.head_object(Bucket=bucket.name, Key="large")["ContentLength"] == 9_000_000
    assert body(bucket, "a b+c&d=e~(1)") == b""
    objects = {"Objects": [{"Key": key} for key in keys(bucket)]}
    client.delete_objects(Bucket=bucket.name, Delete=objects)
    assert keys(bucket) == []


def test_wrong_credentials_are_refused_as_s3(
    checking_s3_server: S3Server, checking_s3_bucket: S3Bucket
) -> None:
    """Wrong credentials are refused as S3 refuses them."""
    bucket = checking_s3_bucket.name
    stranger = checking_s3_server.client(access_key_id="AKIASTRANGER")
    forger = checking_s3_server.client(secret_access_key="guessed")
    for arguments in ({"Key": "a", "Body": b"x" * 100_000}, {"Key": CHINESE, "Body": b""}):
        put = {"Bucket": bucket, **arguments}
        assert refused(stranger.put_object, **put) == ("InvalidAccessKeyId", 403)
        assert refused(forger.put_object, **put) == ("SignatureDoesNotMatch", 403)
    assert refused(stranger.list_objects_v2, Bucket=bucket) == ("InvalidAccessKeyId", 403)
    assert refused(forger.head_object, Bucket=bucket, Key="a")[1] == 403
    assert keys(checking_s3_bucket) == []


def test_unsigned_request_is_refused(
    checking_s3_server: S3Server, checking_s3_bucket: S3Bucket
) -> None:
    """An unsigned request is refused where credentials are checked."""
    connection = http.client.HTTPConnection("127.0.0.1", checking_s3_server.port)
    connection.request("PUT", f"/{checking_s3_bucket.name}/a", body=b"x")
    reply = connection.getresponse()
    assert reply.status == 403
    assert b"<Code>AccessDenied</Code>" in reply.read()
    assert keys(checking_s3_bucket) == []


def test_polars_passes_with_right_credentials(checking_s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """Polars is accepted with the right credentials."""
    frame = polars.DataFrame({"open_time": range(10)})
    frame.write_parquet(tmp_path / "candles")
    data = (tmp_path / "candles").read_bytes()
    checking_s3_bucket.client.put_object(Bucket=checking_s3_bucket.name, Key=CHINESE, Body=data)
    options = {
        "aws_endpoint_url": checking_s3_bucket.endpoint,
        "aws_access_key_id": ACCESS_KEY_ID,
        "aws_secret_access_key": SECRET_ACCESS_KEY,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    address = f"s3://{checking_s3_bucket.name}/{CHINESE}"
    assert polars.scan_parquet(address, storage_options=options).collect().equals(frame)


def test_key_without_secret_names_option(tmp_path: Path) -> None:
    """A key without its secret stops the start and names the option."""
    command = [sys.executable, "-m", "pipeline_assets.local.s3_server", "--port", "1"]
    command += ["--data-dir", str(tmp_path), "--access-key-id", "AKIA"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "--secret-access-key-env" in ended.stderr


def test_taken_port_ends_with_reason(s3_server: S3Server, tmp_path: Path) -> None:
    """A port in use ends the server with a reason."""
    command = [sys.executable, "-m", "pipeline_assets.local.s3_server"]
    command += ["--port", str(s3_server.port), "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "address already in use" in ended.stderr


def test_boto3_finds_a_bucket_missing(s3_server: S3Server) -> None:
    client = s3_server.client()
    assert refused(client.put_object, Bucket="absent", Key="a", Body=b"x") == ("NoSuchBucket", 404)
