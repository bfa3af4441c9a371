"""The reason and the remedy where PostgreSQL's client library reports trouble with a certificate. Connections
and other errors do not belong here.

libpq says only that the verification failed, which is true of an expired certificate and of a foreign one.
So the handshake is repeated here by Python's ssl, once and for the message only.
"""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline_assets.outside_text import printable

# The parts of an address that are read here. The password is none of them.
PARTS = ("host", "port", "sslrootcert", "sslcert")
_SECONDS = 3.0
# The message by which a client asks for TLS: its length, and a number in place of a version.
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
_ACCEPTED = b"S"
# Words in libpq's errors.
_SERVER = "certificate verify failed"
_CLIENT = ("certificate required", "certificate expired", "unknown ca", "bad certificate")
_MISSING = "handshake failure"


def refuses_certificate(said: str) -> bool:
    """Return whether an error of libpq reports a refused certificate, which a repeat does not change."""
    words = said.lower()
    return any(each in words for each in (_SERVER, *_CLIENT))


def tls_remedy(said: str, parts: Mapping[str, Any], setting: str) -> str | None:
    """Return why a certificate was refused, and what to do about it; None where no certificate was.

    Args:
        said: the error of libpq.
        parts: of the address, by libpq's names.
        setting: the address's setting, for people.
    """
    words = said.lower()
    if _SERVER in words:
        reason = _verdict(parts)
        because = f"The server's certificate is refused: {reason}. " if reason else ""
        return (
            f"{because}Renew the server's certificate, or let sslrootcert in {setting} name the authority "
            "that signed it"
        )
    if any(each in words for each in (*_CLIENT, _MISSING)):
        file = parts.get("sslcert")
        if file is None:
            return f"The server demands a client's certificate. Name it by sslcert and sslkey in {setting}"
        return (
            f"The server refuses the client's certificate {file}. Renew the file that sslcert in {setting} "
            "names, or take one from the server's authority for clients"
        )
    return None


def _verdict(parts: Mapping[str, Any]) -> str | None:
    """Return OpenSSL's reason to refuse the server's certificate, or None if it is not known."""
    host, root = str(parts.get("host") or ""), parts.get("sslrootcert")
    with suppress(OSError, ValueError):
        try:
            context = ssl.create_default_context(cafile=root if root != "system" else None)
            address = (host, int(parts.get("port") or 5432))
            with socket.create_connection(address, timeout=_SECONDS) as plain:
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) == _ACCEPTED:
                    context.wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            return printable(error.verify_message)
    return None
