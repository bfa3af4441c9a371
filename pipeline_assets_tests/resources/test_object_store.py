"""Bytes in and out of S3: on the embedded server and on moto's, which was written by other people."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.s3_clients import Patience, obstore_credentials
from pipeline_assets.resources.s3_errors import (
    ObjectStoreError,
    PreconditionFailedError,
    StoreUnreachableError,
)
from pipeline_assets.settings import load_settings
from pipeline_assets_tests.fixtures.s3 import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    S3Bucket,
    S3Server,
    eventually,
    free_port,
    make_bucket,
    passed_check,
)
from pipeline_assets_tests.fixtures.silence import silent_server
from pipeline_assets_tests.fixtures.tcp_proxy import TcpProxy

KEY = "ohlcv/1m/币安人生USDT/20261120_0000.parquet"


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["embedded", "moto"])
def bucket(request: pytest.FixtureRequest) -> S3Bucket:
    if request.param == "embedded":
        return request.getfixturevalue("s3_bucket")
    endpoint = request.getfixturevalue("moto_endpoint")
    name = f"candles-{abs(hash(request.node.nodeid)):x}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
    )
    client.create_bucket(Bucket=name)
    passed_check(endpoint, name)
    return S3Bucket(endpoint, name, client)


@pytest.fixture
def store(bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(bucket.settings())


def test_put_object_is_read_by_etag(store, bucket):
    """An object is read back as it was written, under the ETag that was returned."""
    assert store.get(KEY) is None
    etag = store.put(KEY, b"candles")
    assert store.get(KEY) == b"candles"
    assert store.get_with_etag(KEY) == (b"candles", etag)
    held = bucket.client.get_object(Bucket=bucket.name, Key=KEY)
    assert (held["Body"].read(), held["ETag"]) == (b"candles", etag)


def test_same_bytes_have_same_etag(store):
    """The same bytes have the same ETag."""
    assert store.put(KEY, b"candles") == store.put(KEY, b"candles")
    assert store.put(KEY, b"others") != store.put(KEY, b"candles")


def test_create_fails_if_object_exists(store):
    """A new object is written only if there is none."""
    store.put_if(KEY, b"first", None)
    with pytest.raises(PreconditionFailedError, match="changed by another writer"):
        store.put_if(KEY, b"second", None)
    assert store.get(KEY) == b"first"


def test_replace_needs_the_expected_etag(store):
    """An object is replaced only while it is the expected one."""
    old = store.put(KEY, b"first")
    new = store.put_if(KEY, b"second", old)
    with pytest.raises(PreconditionFailedError):
        store.put_if(KEY, b"third", old)
    assert store.get_with_etag(KEY) == (b"second", new)


def test_removed_object_is_not_replaced(store):
    """A conditional write does not replace an object that was removed."""
    etag = store.put(KEY, b"first")
    store.delete([KEY])
    with pytest.raises(PreconditionFailedError):
        store.put_if(KEY, b"second", etag)
    assert store.get(KEY) is None


def test_only_one_conditional_writer_succeeds(s3_bucket):
    """If writers read the same state, exactly one of them succeeds."""
    store = ObjectStore(s3_bucket.settings())
    etag = store.put(KEY, b"before")

    def replace(number: int) -> bool:
        try:
            store.put_if(KEY, f"writer {number}".encode(), etag)
        except PreconditionFailedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(replace, range(24)))
    assert won.count(True) == 1
    assert store.get(KEY) == f"writer {won.index(True)}".encode()


def test_long_listing_is_complete_and_ordered(s3_bucket):
    """A listing of more than a page is complete and in key order."""
    store = ObjectStore(s3_bucket.settings())
    keys = [f"state/{number:04}.json" for number in range(1003)]
    store.each(lambda key: store.put(key, b"x"), keys)
    store.put("staging/other", b"x")
    listed = list(store.objects("state/"))
    assert [each.key for each in listed] == keys
    assert {each.size for each in listed} == {1}
    assert {each.etag for each in listed} == {store.put("state/0000.json", b"x")}
    assert [each.key for each in store.objects("state/", start_after=keys[1000])] == keys[1001:]
    store.delete([*keys, "state/absent.json"])
    assert list(store.objects("state/")) == []
    assert store.get("staging/other") == b"x"


def test_listing_holds_the_prefix_in_order(store):
    """A listing holds the keys with the prefix, in key order."""
    for key in ("state/b", "state/a", "state/c", "staging/a"):
        store.put(key, b"x")
    assert [each.key for each in store.objects("state/")] == ["state/a", "state/b", "state/c"]
    assert [each.key for each in store.objects("state/", start_after="state/a")] == [
        "state/b",
        "state/c",
    ]
    store.delete(["state/a", "state/absent"])
    assert [each.key for each in store.objects("state")] == ["state/b", "state/c"]


def test_exists_ignores_longer_keys(store):
    """Whether an object exists does not depend on longer keys with the same beginning."""
    store.put("state/a.json", b"x")
    assert store.holds("state/a.json")
    assert not store.holds("state/a")
    assert not store.holds("state")


def test_large_file_is_uploaded_whole(store):
    """A file larger than one part is uploaded completely."""
    body = bytes(range(256)) * 40_000
    with store.writing("raw/1m/run.parquet") as file:
        for first in range(0, len(body), 1_000_000):
            file.write(body[first : first + 1_000_000])
    assert store.get("raw/1m/run.parquet") == body
    read = io.BytesIO()
    assert store.download("raw/1m/run.parquet", read)
    assert read.getvalue() == body
    assert not store.download("raw/1m/absent.parquet", io.BytesIO())


def test_each_tries_all_before_raising(store):
    """`each` tries every item before it raises the first error."""
    tried = []

    def attempt(number: int) -> int:
        tried.append(number)
        if number % 2:
            raise ValueError(f"number {number}")
        return number

    with pytest.raises(ValueError, match="number 1"):
        store.each(attempt, range(30))
    assert sorted(tried) == list(range(30))
    assert store.each(attempt, range(0, 30, 2)) == list(range(0, 30, 2))


@pytest.mark.parametrize("size", [10, 30_000_000])
def test_unfinished_file_leaves_former_object(bucket, size):
    """A file that was not written to its end leaves the former object in place."""
    store = ObjectStore(bucket.settings())
    store.put(KEY, b"before")
    with pytest.raises(TypeError, match="are not bytes"):
        write(store, bytes(size), "text")
    assert store.get(KEY) == b"before"
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)


def write(store: ObjectStore, *parts: Any) -> None:
    with store.writing(KEY) as file:
        for part in parts:
            if not isinstance(part, bytes):
                raise TypeError(f"{part!r} are not bytes")
            file.write(part)


OPERATIONS = {
    "get": lambda store: store.get(KEY),
    "holds": lambda store: store.holds(KEY),
    "put": lambda store: store.put(KEY, b"x"),
    "put_if": lambda store: store.put_if(KEY, b"x", None),
    "put_if with an ETag": lambda store: store.put_if(KEY, b"x", '"0123"'),
    "writing": lambda store: write(store, b"x"),
    "writing of parts": lambda store: write(store, b"x" * 20_000_000),
    "download": lambda store: store.download(KEY, io.BytesIO()),
    "objects": lambda store: list(store.objects("ohlcv/")),
    "delete": lambda store: store.delete([KEY]),
}


def refusals(store: ObjectStore) -> dict[str, ObjectStoreError]:
    """Return what each operation raises."""
    found = {}
    for name, operation in OPERATIONS.items():
        with pytest.raises(ObjectStoreError) as caught:
            pytest.fail(f"{name} gave {operation(store)!r}")
        found[name] = caught.value
    return found


def test_missing_bucket_names_the_setting(bucket):
    """The error for a missing bucket names the setting to correct."""
    for name, error in refusals(ObjectStore(bucket.settings(bucket="absent-bucket"))).items():
        message = f"There is no bucket 'absent-bucket' at {bucket.endpoint}"
        assert message in str(error), name
        assert "PIPELINE_S3__BUCKET" in str(error), name


@pytest.mark.parametrize(
    "wrong", [{"access_key_id": "AKIASTRANGER"}, {"secret_access_key": "not the secret"}]
)
def test_wrong_credentials_name_the_settings(checking_s3_bucket, wrong):
    """The error for wrong credentials names the settings to check."""
    for name, error in refusals(ObjectStore(checking_s3_bucket.settings(**wrong))).items():
        message = f"S3 at {checking_s3_bucket.endpoint} refuses the credentials"
        assert message in str(error), name
        assert "PIPELINE_S3__SECRET_ACCESS_KEY" in str(error), name
        everything = f"{error!r} {error.__cause__!r}"
        assert "not the secret" not in everything, name
        assert SECRET_ACCESS_KEY not in everything, name


def test_settings_override_the_environment(checking_s3_bucket, monkeypatch):
    """The settings count whatever the environment says."""
    strange = {
        "AWS_ACCESS_KEY_ID": "AKIASTRANGER",
        "AWS_SECRET_ACCESS_KEY": "a stranger's",
        "AWS_SESSION_TOKEN": "a stranger's",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }
    for name, value in strange.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore(checking_s3_bucket.settings())
    store.put(KEY, b"x")
    assert [each.key for each in store.objects("ohlcv/")] == [KEY]
    assert store.get(KEY) == b"x"
    store.delete([KEY])
    assert store.get(KEY) is None


def test_environment_session_token_is_used(checking_s3_bucket, monkeypatch):
    """A session token of the environment is used together with its key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ran out")
    none = checking_s3_bucket.settings(access_key_id=None, secret_access_key=None)
    for name, error in refusals(ObjectStore(none)).items():
        assert "refuses the credentials" in str(error), name
        assert "InvalidToken" in str(error), name


def test_right_credentials_are_accepted(checking_s3_bucket):
    """The right credentials are accepted where they are checked."""
    store = ObjectStore(checking_s3_bucket.settings())
    store.put(KEY, b"x")
    assert [each.key for each in store.objects("ohlcv/")] == [KEY]


@pytest.mark.parametrize("source", ["environment", "profile"])
def test_boto3_chain_supplies_missing_credentials(
    checking_s3_bucket, monkeypatch, tmp_path, source
):
    """If the settings hold no credentials, boto3's chain is asked.

    As with a role: reads, writes and deletions alike, with the settings as they are loaded.
    """
    for name in [name for name in os.environ if name.startswith(("AWS_", "PIPELINE_"))]:
        monkeypatch.delenv(name)
    if source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    else:
        (tmp_path / "credentials").write_text(
            f"[role]\naws_access_key_id = {ACCESS_KEY_ID}\n"
            f"aws_secret_access_key = {SECRET_ACCESS_KEY}\n"
        )
        monkeypatch.setenv("AWS_PROFILE", "role")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("s3: {access_key_id: null}")
    monkeypatch.setenv("PIPELINE_S3__ENDPOINT_URL", checking_s3_bucket.endpoint)
    monkeypatch.setenv("PIPELINE_S3__BUCKET", checking_s3_bucket.name)
    store = ObjectStore(load_settings().s3)
    store.put(KEY, b"x")
    assert store.get(KEY) == b"x"
    store.delete([KEY])
    assert store.get(KEY) is None


def test_rotated_credentials_need_no_restart(checking_s3_bucket, monkeypatch, tmp_path):
    """Rotated credentials are found without a restart.

    In the file of a profile, which boto3 reads once.
    """
    file = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def rotate(key: str, secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")

    store = ObjectStore(checking_s3_bucket.settings(access_key_id=None, secret_access_key=None))
    rotate("AKIAOLD", "ended")
    for name, error in refusals(store).items():
        assert "refuses the credentials" in str(error), name
    rotate(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    store.put(KEY, b"x")
    store.delete([KEY])
    assert store.get(KEY) is None


def test_missing_credentials_name_the_settings(checking_s3_bucket, monkeypatch, tmp_path):
    """The error for missing credentials names the settings to set."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    none = checking_s3_bucket.settings(access_key_id=None, secret_access_key=None)
    for name, error in refusals(ObjectStore(none)).items():
        assert "credentials" in str(error), name
        assert "PIPELINE_S3__ACCESS_KEY_ID" in str(error), name


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("absent", "profile (absent) could not be found"),
        ("refused", "not logged in"),
        ("expired", "Error loading SSO Token"),
    ],
)
def test_profile_without_credentials_is_reported(
    checking_s3_bucket, monkeypatch, tmp_path, profile, why
):
    """A profile that gives no credentials is reported as that, not as an unreachable server."""
    (tmp_path / "config").write_text(
        "[profile refused]\n"
        "credential_process = sh -c 'echo not logged in >&2; false'\n"
        # Boto3 looks for this one's token only once it needs the key.
        "[profile expired]\n"
        "sso_start_url = https://example.invalid\nsso_region = us-east-1\n"
        "sso_account_id = 1\nsso_role_name = reader\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", profile)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    none = checking_s3_bucket.settings(access_key_id=None, secret_access_key=None)
    for name, error in refusals(ObjectStore(none)).items():
        assert f"There are no credentials for s3://{checking_s3_bucket.name}/" in str(error), name
        assert why in str(error), name
        assert "PIPELINE_S3__ENDPOINT_URL" not in str(error), name


def test_boto3_key_is_renewed_in_time(checking_s3_bucket, monkeypatch):
    """A key of boto3 is requested again while it has the least lifetime that boto3 leaves it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    none = checking_s3_bucket.settings(access_key_id=None, secret_access_key=None)
    known = obstore_credentials(none)()
    # botocore's RefreshableCredentials hand a key out until 10 minutes before its end. obstore asks
    # again when 5 minutes are left before the expiry that it was given.
    least, asked_before_the_end = timedelta(minutes=10), timedelta(minutes=5)
    assert known["expires_at"] - asked_before_the_end <= datetime.now(UTC) + least


def test_other_server_names_the_setting(s3_bucket, exchange):
    """The error for a server that is not S3 names the setting to check."""
    endpoint = exchange.url.removesuffix("/fapi")
    store = ObjectStore(s3_bucket.settings(endpoint_url=endpoint))
    for name in ("put", "put_if", "writing", "objects"):
        with pytest.raises(ObjectStoreError) as caught:
            OPERATIONS[name](store)
        assert type(caught.value) is not PreconditionFailedError, name
        assert f"{endpoint} answers 404 for s3://{s3_bucket.name}/" in str(caught.value), name
        assert "PIPELINE_S3__ENDPOINT_URL is the address of an S3 server" in str(caught.value), name


def test_down_server_names_the_setting(s3_bucket):
    """The error for a server that is down names the setting to check."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    store = ObjectStore(s3_bucket.settings(endpoint_url=endpoint))
    with pytest.raises(ObjectStoreError) as caught:
        store.put(KEY, b"x")
    assert f"S3 at {endpoint} could not be reached for s3://{s3_bucket.name}/" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "PIPELINE_S3__ENDPOINT_URL" in str(caught.value)


def test_killed_server_loses_nothing(own_s3_server: S3Server):
    """Nothing is lost when the server is killed and comes back."""
    own_s3_server.client().create_bucket(Bucket="candles")
    settings = S3Bucket(own_s3_server.endpoint, "candles", None).settings()
    store = ObjectStore(settings)
    etag = store.put(KEY, b"before")
    own_s3_server.kill()
    own_s3_server.start()
    store.put_if(KEY, b"after", etag)
    assert ObjectStore(settings).get(KEY) == b"after"


# A server that goes away without an error

REPEATED: dict[str, Callable[[ObjectStore], Any]] = {
    "put": lambda store: store.put(KEY, b"after"),
    "get": lambda store: store.get(KEY),
    "list": lambda store: list(store.objects("ohlcv/")),
    "delete": lambda store: store.delete([KEY]),
}


@pytest.mark.parametrize("name", REPEATED)
def test_silent_connection_is_replaced(s3_bucket, tcp_proxies, name):
    """A connection that went silent is replaced by another.

    By the same operation, once it has waited for a reply for as long as it may.
    """
    proxy, store = behind_a_proxy(s3_bucket, tcp_proxies)
    store.put(KEY, b"before")
    proxy.silence()
    REPEATED[name](store)
    assert proxy.accepted > 1


def test_unanswered_conditional_write_is_an_error(s3_bucket, tcp_proxies):
    """A conditional write without a reply is an error, and a later one succeeds.

    The client does not repeat the write: it may have succeeded, and then its repeat would fail.
    """
    proxy, store = behind_a_proxy(s3_bucket, tcp_proxies)
    etag = store.put(KEY, b"before")
    proxy.silence()
    with pytest.raises(ObjectStoreError, match="could not be reached"):
        store.put_if(KEY, b"after", etag)
    # Each connection that was idle then may be silent, and each fails once.
    for _ in range(proxy.accepted):
        with suppress(StoreUnreachableError):
            store.put_if(KEY, b"after", etag)
            break
    assert store.get(KEY) == b"after"


def behind_a_proxy(bucket: S3Bucket, proxies: list[TcpProxy]) -> tuple[TcpProxy, ObjectStore]:
    proxy = TcpProxy(int(bucket.endpoint.rpartition(":")[2]))
    proxies.append(proxy)
    settings = bucket.settings(endpoint_url=f"http://127.0.0.1:{proxy.port}")
    return proxy, ObjectStore(
        settings, Patience(timedelta(seconds=2), RetryPolicy(attempts=5, deadline=180))
    )


def test_paused_server_is_waited_for(own_s3_server, tcp_proxies):
    """A server paused beyond the reply timeout is waited for."""
    proxy, store = behind_a_proxy(make_bucket(own_s3_server), tcp_proxies)
    store.put(KEY, b"before")
    own_s3_server.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(store.put, KEY, b"after")
        eventually(lambda: proxy.accepted >= 2, "the write is repeated on a new connection")
        own_s3_server.process.send_signal(signal.SIGCONT)
        writing.result(60)
    assert store.get(KEY) == b"after"


def test_each_stops_at_a_dead_store(s3_bucket: S3Bucket):
    """`each` stops when the store does not answer.

    With 900 symbols, ten at a time, each time-out after the other would take hours.
    """
    nobody = ObjectStore(
        s3_bucket.settings(endpoint_url=f"http://127.0.0.1:{free_port()}", concurrency=1),
        Patience(timedelta(seconds=10), RetryPolicy(attempts=1)),
    )
    tried: list[int] = []

    def read(number: int) -> None:
        tried.append(number)
        nobody.get(f"state/{number}")

    with pytest.raises(StoreUnreachableError):
        nobody.each(read, range(1000))
    assert len(tried) < 1000


def test_each_tries_all_despite_refusals(store: ObjectStore):
    """`each` tries all items when some are refused."""
    tried: list[int] = []

    def work(number: int) -> int:
        tried.append(number)
        if number % 2:
            raise ObjectStoreError(f"refused {number}")
        return number

    with pytest.raises(ObjectStoreError, match=r"refused 1$"):
        store.each(work, range(20))
    assert sorted(tried) == list(range(20))


def test_hanging_store_ends_with_deadline(s3_bucket: S3Bucket):
    """A store that hangs is given up at the deadline."""
    with silent_server() as address:
        hanging = ObjectStore(
            s3_bucket.settings(endpoint_url=f"http://{address}"),
            Patience(timedelta(seconds=0.2), RetryPolicy(attempts=2, deadline=1)),
        )
        with pytest.raises(StoreUnreachableError, match="could not be reached") as caught:
            hanging.get(KEY)
    assert address in str(caught.value)
