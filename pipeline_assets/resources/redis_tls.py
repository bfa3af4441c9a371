"""TLS between this program and Redis: the client's options, and the errors of certificates in words. The
client itself, and the words of its other errors, are in redis_client.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline_assets.resources.tls import TlsClient

if TYPE_CHECKING:
    from pipeline_assets.settings import RedisSettings

_PORT = 6379


def tls_options(settings: "RedisSettings") -> dict[str, Any]:
    """Return redis-py's options for the files of the settings; none where the server speaks plain text."""
    if not _is_tls(settings):
        return {}
    password = settings.ssl_key_password
    options = {
        "ssl_ca_certs": settings.ssl_ca_location,
        "ssl_certfile": settings.ssl_certificate_location,
        "ssl_keyfile": settings.ssl_key_location,
    }
    named: dict[str, Any] = {name: str(file) for name, file in options.items() if file is not None}
    if "ssl_certfile" in named:
        # Never None, or OpenSSL asks for a passphrase at the terminal.
        named["ssl_password"] = password.get_secret_value() if password else ""
    return named


def check_files(settings: "RedisSettings", error_type: type[Exception]) -> None:
    """Refuse certificates that the client could not use, naming the setting.

    Raises:
        Exception: of the error type.
    """
    if settings.tls_keys:
        _client(settings).check_files(error_type)


@contextmanager
def tls_explained(
    settings: "RedisSettings", where: str, error_type: type[Exception]
) -> Iterator[None]:
    """Turn the client's errors into `error_type` where TLS is the reason, and let others pass."""
    import redis

    try:
        yield
    except (redis.AuthenticationError, redis.BusyLoadingError):
        raise
    except (redis.ConnectionError, redis.InvalidResponse, redis.TimeoutError) as error:
        problem = _problem(settings, error)
        if problem is None:
            raise
        raise error_type(f"{where}: {problem}. Then repeat the run.") from error


def _problem(settings: "RedisSettings", error: Exception) -> str | None:
    import redis

    parts = urlsplit(settings.url)
    # Files that the address names itself are not among the settings.
    if parts.hostname is None or "ssl_" in parts.query:
        return None
    # A server that expects TLS does not keep a client waiting that speaks plain text: it hangs up.
    if isinstance(error, redis.TimeoutError) and not _is_tls(settings):
        return None
    return _client(settings).problem(parts.hostname, parts.port or _PORT)


def _client(settings: "RedisSettings") -> TlsClient:
    return TlsClient(
        "REDIS",
        settings,
        enabled=_is_tls(settings),
        remedies=(
            "let PIPELINE_REDIS__URL start with rediss://",
            "let PIPELINE_REDIS__URL name its TLS port, or start with redis://",
        ),
    )


def _is_tls(settings: "RedisSettings") -> bool:
    return urlsplit(settings.url).scheme == "rediss"
