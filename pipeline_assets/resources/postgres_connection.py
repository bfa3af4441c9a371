"""The connection to the PostgreSQL of the journals, and of a check: address, options, the limit on its
silence, and the remedies of its errors. SQL does not belong here.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from pipeline_assets.settings import SettingsError

if TYPE_CHECKING:
    import psycopg

URL = "PIPELINE_TRADING__JOURNAL_URL"
# The server forgets a writer whose host is gone after 30 s, instead of two hours, and frees its lock.
_OPTIONS = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4"
_REMEDIES = {
    ("53",): "Free space, memory or connections of the server",
    ("42501",): "Grant its user CREATE on the schema, INSERT and SELECT on the table",
    ("55P03",): "End the process that locks the table",
}


def parts_of(url: SecretStr, setting: str = URL) -> dict[str, Any]:
    """Return the parts of the address. An error does not repeat it: it has the password.

    Args:
        url: the address; `postgresql+psycopg2://` means the same as `postgresql://`.
        setting: the variable that has the address, for the error.

    Raises:
        SettingsError: the address cannot be read, or psycopg is not installed.
    """
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise SettingsError(
            f"{setting} needs the driver psycopg: pip install 'pipeline-assets[postgres]'."
        ) from error
    try:
        return dict(conninfo_to_dict(url.get_secret_value().replace("+psycopg2://", "://", 1)))
    except ProgrammingError:
        raise SettingsError(
            f"{setting} is not an address of PostgreSQL. Example: "
            "postgresql://pipeline:…@db.example.com:5432/trading?sslmode=verify-full"
        ) from None


def connect(parts: dict[str, Any], table: str, seconds: float) -> "psycopg.Connection[Any]":
    """Connect to the server that accepts writes.

    Args:
        parts: of the address.
        table: named to people who look at the server's connections.
        seconds: how long the server may be silent.

    Raises:
        psycopg.OperationalError: the server refuses or does not answer.
    """
    import psycopg

    ours = {
        "connect_timeout": max(2, round(seconds)),
        "application_name": f"{table[:20]} {socket.gethostname()[:25]} pid {os.getpid()}",
        # A database of encoding SQL_ASCII gives bytes for text otherwise.
        "client_encoding": "UTF8",
        # The one of several hosts that is no standby.
        "target_session_attrs": "read-write",
        "options": f"{parts.get('options', '')} {_OPTIONS}".strip(),
    }
    return psycopg.connect(**(parts | ours), autocommit=True)


@contextmanager
def limited(connection: "psycopg.Connection[Any] | None", seconds: float) -> Iterator[None]:
    """Cut the connection of a server that is silent for longer; the driver then reports a lost one.

    The driver waits without limit, and a time limit of the server's own does not help when it is frozen.
    """
    if connection is None:
        yield
        return

    from psycopg import Error

    def cut() -> None:
        with suppress(OSError, Error), socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def remedy(state: str | None) -> str:
    """Return what to do about an error code of the server."""
    found = (remedy for codes, remedy in _REMEDIES.items() if (state or "").startswith(codes))
    return next(found, f"Check the server and {URL}")
