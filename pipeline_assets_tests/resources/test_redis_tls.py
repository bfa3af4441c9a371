"""Redis over TLS: certificates of both sides, users, and what an error says about a certificate."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from pipeline_assets.dagster_instance.celery_app import make_celery
from pipeline_assets.resources.redis_client import RedisConnection
from pipeline_assets.settings import RedisSettings, Settings
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.tls import Tls

PASSPHRASE = "a secret passphrase"
FOREIGN = r"authority that is not trusted here \(OU=Testing CA.*PIPELINE_REDIS__SSL_CA_LOCATION"


class TlsError(Exception):
    """Raised by an operation on Redis that failed."""


def ping(settings: RedisSettings) -> Any:
    return RedisConnection(settings, TlsError).run(lambda client: client.ping())


def settings_of(
    tls: Tls, port: int, *, client: dict[str, bool] | None = None, **changes: Any
) -> Any:
    """Return settings for a port, with the authority's file, and a client's certificate if described."""
    given: dict[str, Any] = {"url": f"rediss://127.0.0.1:{port}/0", "retry_seconds": 0.3}
    given["ssl_ca_location"] = tls.ca_file
    if client is not None:
        given["ssl_certificate_location"], given["ssl_key_location"] = tls.client(**client)
    return RedisSettings.model_validate(given | changes)


def encrypted(key: Path) -> Path:
    """Encrypt a key's file in place."""
    made = load_pem_private_key(key.read_bytes(), None)
    encryption = BestAvailableEncryption(PASSPHRASE.encode())
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return key


def test_client_certificate_is_accepted(redis_server: RedisServer, tls: Tls) -> None:
    """A server that demands certificates takes one whose key is encrypted, from workers too."""
    settings = settings_of(tls, tls.server(redis_server.port, asks_clients=True), client={})
    encrypted(settings.ssl_key_location)
    settings = RedisSettings.model_validate(dict(settings) | {"ssl_key_password": PASSPHRASE})
    assert ping(settings)
    with make_celery(Settings(redis=settings)).connection_for_write() as connection:
        assert connection.default_channel.client.ping()


@pytest.mark.parametrize(
    ("server", "client", "reported"),
    [
        ({"expired": True}, None, "its certificate has expired .valid from 2.*renew the server"),
        ({"foreign": True}, None, FOREIGN),
        ({"name": "redis.invalid"}, None, "its certificate is not for the name 127.0.0.1"),
        ({"asks_clients": True}, None, "none is set: set PIPELINE_REDIS__SSL_CERTIFICATE_LOCATION"),
        ({"asks_clients": True}, {"expired": True}, r"client.pem has expired: renew the file"),
        ({"asks_clients": True}, {"foreign": True}, "does not trust the authority that signed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_error_names_the_certificate(
    redis_server: RedisServer, tls: Tls, server: Any, client: Any, reported: str
) -> None:
    """The error tells which side's certificate is wrong, why, and which setting helps."""
    settings = settings_of(tls, tls.server(redis_server.port, **server), client=client)
    with pytest.raises(TlsError, match=rf"Redis at rediss://127.0.0.1:\d+/0: .*{reported}"):
        ping(settings)


@pytest.mark.parametrize(
    ("scheme", "behind", "reported"),
    [
        ("redis", True, "it speaks TLS: let PIPELINE_REDIS__URL start with rediss://"),
        ("rediss", False, "it does not speak TLS: let PIPELINE_REDIS__URL name its TLS port"),
    ],
)
def test_plain_text_against_tls(
    redis_server: RedisServer, tls: Tls, scheme: str, behind: bool, reported: str
) -> None:
    """The error says that one side speaks TLS and the other plain text."""
    port = tls.server(redis_server.port) if behind else redis_server.port
    settings = RedisSettings(
        url=f"{scheme}://127.0.0.1:{port}/0", retry_seconds=0, timeout_seconds=0.3
    )
    with pytest.raises(TlsError, match=reported):
        ping(settings)


def test_unusable_files_name_settings(redis_server: RedisServer, tls: Tls, tmp_path: Path) -> None:
    """Missing, foreign, encrypted and damaged files are refused before a connection, without secrets."""
    port = tls.server(redis_server.port)
    good = settings_of(tls, port, client={})
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("no certificate")
    other = tmp_path / "other.key"
    other.write_bytes(good.ssl_key_location.read_bytes())
    _, key = tls.client()
    refused = {
        "SSL_CA_LOCATION: .*absent.pem cannot be read": {
            "ssl_ca_location": tmp_path / "absent.pem"
        },
        "SSL_CA_LOCATION: .*damaged.pem has no certificate": {"ssl_ca_location": damaged},
        "SSL_KEY_LOCATION: .*other.key is not the key of": {"ssl_key_location": other},
        "SSL_KEY_LOCATION: .*damaged.pem has no private key": {"ssl_key_location": damaged},
        "SSL_CERTIFICATE_LOCATION: .*damaged.pem has no": {"ssl_certificate_location": damaged},
    }
    for reported, changes in refused.items():
        with pytest.raises(TlsError, match=f"PIPELINE_REDIS__{reported}"):
            ping(good.model_copy(update=changes))
    encrypted(key)
    for wrong in (None, "a wrong one"):
        settings = RedisSettings.model_validate(dict(good) | {"ssl_key_password": wrong})
        with pytest.raises(TlsError, match=r"cannot be decrypted.*SSL_KEY_PASSWORD") as raised:
            ping(settings)
        assert "wrong one" not in str(raised.value)


def test_user_of_an_acl(own_redis_server: RedisServer, tls: Tls) -> None:
    """A user with a password works by the address and the password's setting; the error names both."""
    own_redis_server.client().execute_command(
        "ACL", "SETUSER", "pipeline", "on", f">{PASSPHRASE}", "~*", "+@all"
    )
    port = tls.server(own_redis_server.port)
    url = f"rediss://pipeline@127.0.0.1:{port}/0"
    settings = settings_of(tls, port, url=url, password=PASSPHRASE)
    assert ping(settings)
    with make_celery(Settings(redis=settings)).connection_for_write() as connection:
        assert connection.default_channel.client.acl_whoami() == "pipeline"
    with pytest.raises(TlsError, match="PIPELINE_REDIS__PASSWORD and the user") as raised:
        ping(settings_of(tls, port, url=url, password="a wrong one"))
    assert "a wrong one" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        (
            {"ssl_ca_location": "ca.pem"},
            "must start with rediss://, because SSL_CA_LOCATION is set",
        ),
        (
            {"ssl_key_location": "client.key"},
            "is set, and SSL_CERTIFICATE_LOCATION of the same section is missing",
        ),
    ],
)
def test_files_without_use_are_refused(changes: dict[str, str], reported: str) -> None:
    """A certificate that no connection would use is refused, or a password might go in plain text."""
    with pytest.raises(ValidationError, match=reported):
        RedisSettings.model_validate(changes)
