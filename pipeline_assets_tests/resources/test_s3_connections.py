"""S3 as production has it: own authority, roles, encryption, both styles of address, for both clients."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE, boto3_client
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.settings import S3Settings
from pipeline_assets_tests.fixtures.aws import ROLE_KEY, ROLE_TOKEN, Aws
from pipeline_assets_tests.fixtures.proxy import ForwardProxy
from pipeline_assets_tests.fixtures.s3 import S3Bucket, free_port, passed_check
from pipeline_assets_tests.fixtures.tls import Tls

KEY = "ohlcv/a.parquet"


def port_of(bucket: S3Bucket) -> int:
    return int(bucket.endpoint.rpartition(":")[2])


def settings_of(bucket: S3Bucket, port: int, **changes: Any) -> S3Settings:
    """Return settings for a bucket behind a TLS server."""
    endpoint = f"https://127.0.0.1:{port}"
    passed_check(endpoint, bucket.name)
    return bucket.settings(endpoint_url=endpoint, **changes)


def test_own_authority_for_every_client(s3_bucket: S3Bucket, tls: Tls) -> None:
    """obstore and boto3 trust the authority of the settings."""
    settings = settings_of(s3_bucket, tls.server(port_of(s3_bucket)), ssl_ca_location=tls.ca_file)
    ObjectStore(settings).put(KEY, b"x")
    client = boto3_client(settings, attempts=1)
    assert client.get_object(Bucket=s3_bucket.name, Key=KEY)["Body"].read() == b"x"


@pytest.mark.parametrize(
    ("server", "reported"),
    [
        ({"expired": True}, "its certificate has expired .valid from 2"),
        ({"foreign": True}, r".*not trusted here \(.*set PIPELINE_S3__SSL_CA_LOCATION"),
        ({"name": "s3.invalid"}, "its certificate is not for the name 127.0.0.1"),
        ({"asks_clients": True}, "it demands a client's certificate, which this program has no"),
    ],
)
def test_error_names_the_certificate(
    s3_bucket: S3Bucket, tls: Tls, server: Any, reported: str
) -> None:
    """The error tells what is wrong with the certificate, and which setting helps."""
    port = tls.server(port_of(s3_bucket), **server)
    settings = settings_of(s3_bucket, port, ssl_ca_location=tls.ca_file)
    with pytest.raises(ObjectStoreError, match=rf"S3 at https://\S+ could not .*: {reported}"):
        ObjectStore(settings, PERSON_PATIENCE).get(KEY)


def test_plain_text_against_tls(s3_bucket: S3Bucket, tls: Tls) -> None:
    """The error says that one side speaks TLS and the other plain text."""
    port = tls.server(port_of(s3_bucket))
    plain = s3_bucket.settings(endpoint_url=f"http://127.0.0.1:{port}")
    with pytest.raises(ObjectStoreError, match=r"speaks TLS: let PIPELINE_S3__ENDPOINT_URL start"):
        ObjectStore(plain, PERSON_PATIENCE).get(KEY)
    secured = settings_of(s3_bucket, port_of(s3_bucket))
    with pytest.raises(ObjectStoreError, match="it does not speak TLS: let PIPELINE_S3__ENDPOINT"):
        ObjectStore(secured, PERSON_PATIENCE).get(KEY)


def test_unusable_authority_names_setting(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for reported in ("cannot be read", "has no certificate in PEM form"):
        settings = settings_of(s3_bucket, free_port(), ssl_ca_location=file)
        with pytest.raises(ObjectStoreError, match=rf"S3__SSL_CA_LOCATION: \S+ca.pem {reported}"):
            ObjectStore(settings).get(KEY)
        file.write_text("no certificate")


@pytest.mark.parametrize("source", ["instance", "web identity"])
def test_role_for_every_client(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    """A role of the machine or of a web identity signs the requests of obstore and of boto3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    if source == "instance":
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url)
        # boto3 gives up after a second, which a busy machine may take.
        monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "60")
    else:
        token = tmp_path / "token"
        token.write_text("a signed statement of the cluster")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    settings = S3Settings(endpoint_url=aws.url)
    assert ObjectStore(settings).holds(KEY)
    boto3_client(settings, attempts=1).get_object(Bucket="candles", Key=KEY)
    assert len(aws.asked) == 2
    for asked in aws.asked:
        assert f"Credential={ROLE_KEY}/" in asked.headers["authorization"]
        assert asked.headers["x-amz-security-token"] == ROLE_TOKEN


def test_writes_ask_for_encryption(aws: Aws, s3_bucket: S3Bucket) -> None:
    """A write asks for encryption by the settings' key, and not at all without the setting."""
    passed_check(aws.url, s3_bucket.name)
    key = "arn:aws:kms:eu-central-1:1234:key/abcd"
    for changes in ({"encryption": "aws:kms", "kms_key_id": key}, {}):
        settings = s3_bucket.settings(endpoint_url=aws.url, **changes)
        with pytest.raises(ObjectStoreError, match="stored other bytes"):
            ObjectStore(settings).put(KEY, b"x")
    with_key, without = (asked.headers for asked in aws.asked if asked.method == "PUT")
    assert with_key["x-amz-server-side-encryption"] == "aws:kms"
    assert with_key["x-amz-server-side-encryption-aws-kms-key-id"] == key
    assert with_key["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    assert not [name for name in without if "encryption" in name]


def test_bucket_before_the_host(
    s3_bucket: S3Bucket, aws: Aws, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With virtual-host addresses the bucket is a part of the host's name, for both clients."""
    monkeypatch.setenv("http_proxy", forward_proxy.url)
    host = f"{s3_bucket.name}.s3.invalid"
    forward_proxy.hosts[host] = int(aws.url.rpartition(":")[2])
    settings = s3_bucket.settings(endpoint_url="http://s3.invalid", addressing="virtual")
    assert ObjectStore(settings).holds(KEY)
    boto3_client(settings, attempts=1).get_object(Bucket=s3_bucket.name, Key=KEY)
    assert forward_proxy.requests == [f"GET http://{host}/{KEY}"] * 2


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"addressing": "virtual"}, "must be path, because the endpoint is a number"),
        ({"kms_key_id": "abcd"}, "PIPELINE_S3__ENCRYPTION is not aws:kms"),
    ],
)
def test_useless_combinations_are_refused(changes: dict[str, str], reported: str) -> None:
    with pytest.raises(ValidationError, match=reported):
        S3Settings.model_validate(changes)
