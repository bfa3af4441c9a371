"""Logins at Snowflake, and what errors say about certificates. No embedded server knows keys and tokens, so
these logins are shown by what the connector sends."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from pipeline_assets.resources.warehouse_connection import WarehouseError, WarehouseSessions
from pipeline_assets.settings import SnowflakeSettings
from pipeline_assets_tests.fixtures.http_answers import Answer, Asked, answering
from pipeline_assets_tests.fixtures.proxy import ForwardProxy
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer
from pipeline_assets_tests.fixtures.tls import Tls

SECRET = "a secret of the login"
EXPIRED_TOKEN = 390318


@pytest.fixture
def account() -> Iterator[SimpleNamespace]:
    """Provide an account that notes logins and refuses all of them."""
    noted = SimpleNamespace(logins=[], port=0)

    def answer(request: Asked) -> Answer:
        packed = request.headers.get("content-encoding") == "gzip"
        body = gzip.decompress(request.body) if packed else request.body
        noted.logins.append(json.loads(body)["data"])
        reply = {"success": False, "code": str(EXPIRED_TOKEN), "message": "it has expired"}
        return Answer(
            json.dumps(reply | {"data": {}}), headers=(("Content-Type", "application/json"),)
        )

    with answering(answer) as noted.port:
        yield noted


def refusal(settings: SnowflakeSettings) -> str:
    """Return the error of a session that cannot be opened."""
    sessions = WarehouseSessions(settings, "candles")
    with pytest.raises(WarehouseError) as raised, sessions.open("be asked"):
        pytest.fail("a session was opened")
    return str(raised.value)


def test_encrypted_key_signs_the_login(account: SimpleNamespace, tmp_path: Path) -> None:
    """A key with a passphrase signs the login; without the passphrase the error names its setting."""
    made = rsa.generate_private_key(65537, 2048)
    key = tmp_path / "loader.p8"
    encryption = BestAvailableEncryption(SECRET.encode())
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    settings = SnowflakeSettings(port=account.port, private_key_path=key, user="LOADER")
    for wrong in (None, "a wrong one"):
        changed = SnowflakeSettings.model_validate(
            dict(settings) | {"private_key_passphrase": wrong}
        )
        message = refusal(changed)
        assert "PIPELINE_SNOWFLAKE__PRIVATE_KEY_PASSPHRASE exactly if the key is encr" in message
        assert "wrong one" not in message
    assert account.logins == []
    right = SnowflakeSettings.model_validate(dict(settings) | {"private_key_passphrase": SECRET})
    assert SECRET not in refusal(right)
    login = account.logins[0]
    assert login["AUTHENTICATOR"] == "SNOWFLAKE_JWT"
    assert jwt.decode(login["TOKEN"], made.public_key(), ["RS256"])["sub"].endswith(".LOADER")


def test_token_is_read_for_each_login(account: SimpleNamespace, tmp_path: Path) -> None:
    """A token's file may be renewed under way; a refused token names the settings and not the token."""
    file = tmp_path / "token"
    settings = SnowflakeSettings(port=account.port, token_path=file)
    assert "PIPELINE_SNOWFLAKE__TOKEN_PATH: " in refusal(settings)
    for token in (SECRET, "another"):
        file.write_text(f"{token}\n")
        message = refusal(settings)
        assert "PIPELINE_SNOWFLAKE__TOKEN_PATH" in message
        assert "it has expired" in message
        assert token not in message
        assert account.logins[-1]["AUTHENTICATOR"] == "OAUTH"
        assert account.logins[-1]["TOKEN"] == token


def test_workload_identity_logs_in(
    account: SimpleNamespace, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workload identity sends its token and counts before a password.

    The connector sends these to hosts of Snowflake only, so a proxy leads to the test's account.
    """
    host = "xy12345.snowflakecomputing.com"
    forward_proxy.hosts[host] = account.port
    monkeypatch.setenv("HTTP_PROXY", forward_proxy.url)
    token = jwt.encode({"iss": "https://cluster.example.com", "sub": "pipeline"}, "k" * 32)
    given: dict[str, Any] = {"host": host, "port": 80, "password": SECRET}
    given["workload_identity"] = "OIDC"
    message = refusal(SnowflakeSettings.model_validate(given | {"token": token}))
    assert "PIPELINE_SNOWFLAKE__WORKLOAD_IDENTITY" in message
    assert token not in message
    login = account.logins[-1]
    assert (login["AUTHENTICATOR"], login["PROVIDER"]) == ("WORKLOAD_IDENTITY", "OIDC")
    assert login["TOKEN"] == token
    assert "PASSWORD" not in login
    without = refusal(SnowflakeSettings.model_validate(given))
    assert "PIPELINE_SNOWFLAKE__TOKEN_PATH must name the file" in without


def test_no_login_is_a_default(account: SimpleNamespace) -> None:
    """Without a way to log in nothing is sent, and the error names the settings."""
    message = refusal(SnowflakeSettings(port=account.port))
    assert "PIPELINE_SNOWFLAKE__WORKLOAD_IDENTITY or PIPELINE_SNOWFLAKE__PASSWORD" in message
    assert account.logins == []


@pytest.mark.parametrize(
    ("server", "reported"),
    [
        ({"expired": True}, "its certificate has expired (valid from 2"),
        ({"foreign": True}, "set REQUESTS_CA_BUNDLE to the PEM file"),
        ({"name": "snowflake.invalid"}, "its certificate is not for the name 127.0.0.1"),
        ({"asks_clients": True}, "it demands a client's certificate, which this program has no"),
    ],
)
def test_error_names_the_certificate(
    account: SimpleNamespace, tls: Tls, monkeypatch: pytest.MonkeyPatch, server: Any, reported: str
) -> None:
    """The error tells what is wrong with the certificate; no password was sent."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca_file))
    port = tls.server(account.port, **server)
    assert reported in refusal(SnowflakeSettings(port=port, protocol="https", password=SECRET))
    assert account.logins == []


def test_own_authority_is_trusted(
    snowflake_server: SnowflakeServer, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session over TLS with an authority of one's own answers queries."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca_file))
    port = tls.server(snowflake_server.port)
    settings = snowflake_server.settings(port=port, protocol="https")
    with WarehouseSessions(settings, "candles").open("be asked") as session:
        assert session.cursor().execute("SELECT 1").fetchall() == [(1,)]
