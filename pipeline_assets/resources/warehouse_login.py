"""How a session of Snowflake logs in, and what is wrong with its certificate. Sessions themselves are in
warehouse_connection.py.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import InputError
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.tls import TlsClient
from pipeline_assets.settings import OwnAuthority, SnowflakeSettings

if TYPE_CHECKING:
    from pydantic import SecretStr

# The variables from which the connector takes an authority of one's own, in its order.
_AUTHORITY = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
LOGIN_SETTINGS = (
    "PIPELINE_SNOWFLAKE__PRIVATE_KEY_PATH, PIPELINE_SNOWFLAKE__TOKEN_PATH, PIPELINE_SNOWFLAKE__TOKEN, "
    "PIPELINE_SNOWFLAKE__WORKLOAD_IDENTITY or PIPELINE_SNOWFLAKE__PASSWORD"
)


class LoginError(InputError):
    """The settings give no way to log in, or an unusable one. The message names the setting."""


def login_arguments(settings: SnowflakeSettings) -> dict[str, Any]:
    """Return the connector's arguments for the one way to log in that the settings name.

    Files are read anew for each session, so that what renews them needs no restart.

    Raises:
        LoginError: no way is set, or its file is unusable.
    """
    if settings.workload_identity is not None:
        return _workload_identity(settings)
    if settings.private_key_path is not None:
        password = settings.private_key_passphrase
        _check_private_key(settings.private_key_path, password)
        key: dict[str, Any] = {"private_key_file": str(settings.private_key_path)}
        return key | (
            {"private_key_file_pwd": password.get_secret_value()} if password is not None else {}
        )
    if (token := _token(settings)) is not None:
        return {"authenticator": "OAUTH", "token": token}
    if settings.password is not None:
        return {"password": settings.password.get_secret_value()}
    raise LoginError(
        f"One of {LOGIN_SETTINGS} must be set, and none is. (`pipeline-assets up` makes a password for the "
        "embedded server.)"
    )


def _workload_identity(settings: SnowflakeSettings) -> dict[str, Any]:
    arguments = {
        "authenticator": "WORKLOAD_IDENTITY",
        "workload_identity_provider": settings.workload_identity,
    }
    if settings.workload_identity_resource is not None:
        arguments["workload_identity_entra_resource"] = settings.workload_identity_resource
    if settings.workload_identity != "OIDC":
        return arguments
    token = _token(settings)
    if token is None:
        raise LoginError(
            "PIPELINE_SNOWFLAKE__TOKEN_PATH must name the file of the token, because "
            "PIPELINE_SNOWFLAKE__WORKLOAD_IDENTITY is OIDC."
        )
    return arguments | {"token": token}


def _token(settings: SnowflakeSettings) -> str | None:
    path = settings.token_path
    if path is None:
        return settings.token.get_secret_value() if settings.token is not None else None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoginError(
            f"PIPELINE_SNOWFLAKE__TOKEN_PATH: {path} cannot be read ({type(error).__name__})."
        ) from None
    if not token:
        raise LoginError(f"PIPELINE_SNOWFLAKE__TOKEN_PATH: {path} is empty.")
    return token


def _check_private_key(path: Path, password: "SecretStr | None") -> None:
    """Refuse, before connecting, a key that could only fail inside the connector."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = password.get_secret_value().encode() if password is not None else None
    try:
        load_pem_private_key(path.read_bytes(), password=secret)
    except (OSError, ValueError, TypeError) as error:
        raise LoginError(
            f"{path} cannot be used as private key ({type(error).__name__}): set "
            "PIPELINE_SNOWFLAKE__PRIVATE_KEY_PATH to a PKCS#8 file in PEM form, and "
            "PIPELINE_SNOWFLAKE__PRIVATE_KEY_PASSPHRASE exactly if the key is encrypted."
        ) from None


def tls_problem(settings: SnowflakeSettings) -> str | None:
    """Return what is wrong with TLS between this machine and Snowflake, and what to do; None: nothing."""
    host = settings.host or f"{settings.account}.snowflakecomputing.com"
    port = settings.port or 443
    protocol = settings.protocol if settings.host else "https"
    if proxy_for(f"{protocol}://{host}:{port}") is not None:
        return None
    bundle = next((os.environ[name] for name in _AUTHORITY if os.environ.get(name)), None)
    return TlsClient(
        "SNOWFLAKE",
        OwnAuthority(ssl_ca_location=Path(bundle) if bundle else None),
        enabled=protocol == "https",
        remedies=(
            "set PIPELINE_SNOWFLAKE__PROTOCOL to https",
            "let PIPELINE_SNOWFLAKE__PORT be its TLS port, or set PIPELINE_SNOWFLAKE__PROTOCOL to http",
        ),
        authority=_AUTHORITY[0],
    ).problem(host, port)
