"""TLS between this program and Redis: the client's options, and the errors of certificates in words. The
client itself, and the words of its other errors, are in redis_client.py.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline_assets.resources.tls import TlsClient

if TYPE_CHECKING:
    from pipeline_assets.settings import RedisSettings

_PLACE = re.compile(r"(?:connecting to|reading from|writing to) (\S+):(\d+)")


def tls_options(settings: "RedisSettings") -> dict[str, Any]:
    """Return redis-py's options for the files of the settings; none where the server speaks plain text."""
    if not settings.address.tls:
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
    settings: "RedisSettings", where: str, error_type: type[Exception], then: str
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
        raise error_type(f"{where}: {problem}. Then {then}.") from error


def _problem(settings: "RedisSettings", error: Exception) -> str | None:
    import redis

    address = settings.address
    # Files that the address names itself are not among the settings.
    if "ssl_" in urlsplit(settings.url).query:
        return None
    # A server that expects TLS does not keep a client waiting that speaks plain text: it hangs up.
    if isinstance(error, redis.TimeoutError) and not address.tls:
        return None
    client = _client(settings)
    problems = (client.problem(host, port) for host, port in (*address.hosts, *_named_in(error)))
    return next((problem for problem in problems if problem is not None), None)


def _named_in(error: Exception) -> tuple[tuple[str, int], ...]:
    """Return the address that redis-py names in an error: a sentinel or a cluster had named that server."""
    found = _PLACE.search(str(error))
    return ((found[1], int(found[2])),) if found else ()


def _client(settings: "RedisSettings") -> TlsClient:
    plain, tls = settings.address.schemes
    return TlsClient(
        "REDIS",
        settings,
        enabled=settings.address.tls,
        remedies=(
            f"let PIPELINE_REDIS__URL start with {tls}",
            f"let PIPELINE_REDIS__URL name its TLS port, or start with {plain}",
        ),
    )
