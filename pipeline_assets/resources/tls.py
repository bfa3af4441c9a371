"""TLS of all clients: the files of the settings are checked before they are used, and what is wrong between a
client and a server is said in words. Options of one client do not belong here.

Each library words a refused certificate differently, and some not at all. So a failed connection is repeated
here by Python's ssl alone, once and for the message only.
"""

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline_assets.outside_text import printable
from pipeline_assets.settings import PREFIX, ClientCertificate, OwnAuthority

# A server that serves TLS answers a handshake at once; one that does not may wait for more bytes.
_SECONDS = 3.0
# OpenSSL's results of a check (X509_V_ERR_…).
_NOT_YET_VALID, _EXPIRED = 9, 10
_FOREIGN = {2, 18, 19, 20, 21, 24}
_OTHER_NAME = {62, 64}
_REVOKED = 23
# A server's refusals of the client's certificate, by OpenSSL's name for the alert. With TLS 1.2 a server
# names no better reason than a failed handshake.
_ALERTS = {
    "CERTIFICATE_REQUIRED": "missing",
    "HANDSHAKE_FAILURE": "missing",
    "UNKNOWN_CA": "foreign",
    "CERTIFICATE_EXPIRED": "expired",
    "BAD_CERTIFICATE": "refused",
    "CERTIFICATE_UNKNOWN": "refused",
    "CERTIFICATE_REVOKED": "refused",
    "UNSUPPORTED_CERTIFICATE": "refused",
}
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)


@dataclass(frozen=True)
class TlsClient:
    """The part of one system's settings that concerns TLS.

    Attributes:
        section: the section of the settings, such as `KAFKA`.
        files: the section itself.
        enabled: whether the settings demand TLS.
        remedies: what to set so that TLS is used, and so that it is not.
        authority: what names the authority of one's own, where it is not a setting of the section.
    """

    section: str
    files: OwnAuthority
    enabled: bool
    remedies: tuple[str, str]
    authority: str = ""

    def check_files(self, error_type: type[Exception]) -> None:
        """Refuse files that no client could use, naming the setting.

        Raises:
            Exception: of the error type.
        """
        problem = self._problem_of_files()
        if problem is not None:
            raise error_type(problem)

    def problem(self, host: str, port: int) -> str | None:
        """Return what is wrong with TLS between this machine and a server, and what to do; None: nothing.

        It connects once, and waits for a few seconds at most.
        """
        if not self.enabled:
            with_tls, _ = self.remedies
            return f"it speaks TLS: {with_tls}" if _speaks_tls(host, port) else None
        if self._problem_of_files() is not None:
            return self._problem_of_files()
        try:
            plain = socket.create_connection((host, port), timeout=_SECONDS)
        except OSError:
            return None
        with plain:
            return self._handshake(plain, host)

    def _handshake(self, plain: socket.socket, host: str) -> str | None:
        port = plain.getpeername()[1]
        without_tls = f"it does not speak TLS: {self.remedies[1]}"
        try:
            with self._context().wrap_socket(plain, server_hostname=host) as secured:
                return self._after_handshake(secured)
        except ssl.SSLCertVerificationError as error:
            return self._server_refused(error, host, port)
        except ssl.SSLError as error:
            reason = error.reason or ""
            if any(each in reason for each in _NOT_TLS):
                return without_tls
            return self._client_refused(reason)
        except (TimeoutError, ConnectionError):
            return without_tls
        except OSError:
            return None

    def _after_handshake(self, secured: ssl.SSLSocket) -> str | None:
        """With TLS 1.3 a server refuses the client's certificate after the handshake."""
        try:
            secured.recv(1)
        except ssl.SSLError as error:
            return self._client_refused(error.reason or "")
        except OSError:
            return None
        return None

    def _server_refused(self, error: ssl.SSLCertVerificationError, host: str, port: int) -> str:
        authority = self._setting("ssl_ca_location")
        issuer, validity = _served(host, port)
        code = error.verify_code
        if code == _EXPIRED:
            return f"its certificate has expired{validity}: renew the server's certificate"
        if code == _NOT_YET_VALID:
            return f"its certificate is not valid yet{validity}: check the clocks of both machines"
        if code in _FOREIGN:
            return (
                f"its certificate is from an authority that is not trusted here{issuer}: set {authority} "
                "to the PEM file of the authority that signed it"
            )
        if code in _OTHER_NAME:
            return (
                f"its certificate is not for the name {host}: use the name that the certificate "
                "has, or have one made for this name"
            )
        why = (
            "is revoked" if code == _REVOKED else f"is refused ({printable(error.verify_message)})"
        )
        return f"its certificate {why}: have another one made, or check {authority}"

    def _client_refused(self, reason: str) -> str | None:
        kind = next((kind for alert, kind in _ALERTS.items() if reason.endswith(alert)), None)
        certificate = self._setting("ssl_certificate_location")
        key = self._setting("ssl_key_location")
        file = _certificate_of(self.files)
        if kind is None:
            return None
        if not isinstance(self.files, ClientCertificate):
            return "it demands a client's certificate, which this program has no setting for"
        if file is None:
            return (
                f"it demands a client's certificate, and none is set: set {certificate} and {key}"
            )
        # Some servers report an expired certificate as a bad one.
        if kind == "expired" or _has_expired(file):
            return f"the client's certificate {file} has expired: renew the file that {certificate} names"
        if kind == "foreign":
            return (
                f"it does not trust the authority that signed the client's certificate {file}: set "
                f"{certificate} to a certificate from the server's authority for clients"
            )
        return f"it refuses the client's certificate {file} ({reason}): check {certificate}"

    def _setting(self, name: str) -> str:
        if name == "ssl_ca_location" and self.authority:
            return self.authority
        return f"{PREFIX}{self.section}__{name.upper()}"

    def _context(self) -> ssl.SSLContext:
        """Return a context with the files of the settings.

        Raises:
            OSError: a file is missing or unusable (ssl.SSLError).
        """
        authority = self.files.ssl_ca_location
        context = ssl.create_default_context()
        if authority is not None and authority.is_dir():
            context.load_verify_locations(capath=authority)
        elif authority is not None:
            context.load_verify_locations(cafile=authority)
        file = _certificate_of(self.files)
        if file is not None and isinstance(self.files, ClientCertificate):
            password = self.files.ssl_key_password
            secret = password.get_secret_value() if password else ""
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(file, self.files.ssl_key_location, password=lambda: secret)
        return context

    def _problem_of_files(self) -> str | None:
        """Return what is wrong with the files of the settings, if they are used."""
        files: dict[str, Path] = {
            self._setting(name): value
            for name, value in dict(self.files).items()
            if name.startswith("ssl_") and isinstance(value, Path)
        }
        if not files:
            # A context would read all certificates that the system trusts: 20 ms of CPU a client.
            return None
        for name, file in files.items():
            try:
                if not file.is_dir():
                    file.open("rb").close()
            except OSError as error:
                return (
                    f"{name}: {file} cannot be read ({error.strerror}). Name a PEM file; without the "
                    "setting the certificates count that the system trusts."
                )
        try:
            self._context()
        except ssl.SSLError as error:
            return self._unusable(error.reason or str(error), files)
        except OSError as error:
            return f"{', '.join(files)}: a file cannot be read ({error.strerror})."
        return None

    def _unusable(self, reason: str, files: Mapping[str, Path]) -> str:
        authority = self._setting("ssl_ca_location")
        certificate = self._setting("ssl_certificate_location")
        if authority in files and not _is_authority(files[authority]):
            return f"{authority}: {files[authority]} has no certificate in PEM form."
        key = self._setting("ssl_key_location")
        key_file = files.get(key, files[certificate])
        if reason == "KEY_VALUES_MISMATCH":
            return f"{key}: {key_file} is not the key of the certificate in {files[certificate]}."
        if b"ENCRYPTED" in key_file.read_bytes():
            return (
                f"{key}: {key_file} cannot be decrypted. Set {self._setting('ssl_key_password')} "
                "to its passphrase."
            )
        if not _is_authority(files[certificate]):
            return f"{certificate}: {files[certificate]} has no certificate in PEM form."
        return f"{key}: {key_file} has no private key in PEM form."


def _certificate_of(files: OwnAuthority) -> Path | None:
    return files.ssl_certificate_location if isinstance(files, ClientCertificate) else None


def _is_authority(file: Path) -> bool:
    """Return whether a file or folder has a certificate that OpenSSL can read."""
    if file.is_dir():
        return True
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        return False
    return True


def _speaks_tls(host: str, port: int) -> bool:
    """Return whether a server answers a TLS handshake, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        # An alert is an answer of a TLS server too.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _served(host: str, port: int) -> tuple[str, str]:
    """Return a served certificate's issuer and time of validity, for a message; empty if unknown."""
    from cryptography.x509 import load_pem_x509_certificate

    with suppress(OSError, ValueError):
        text = ssl.get_server_certificate((host, port), timeout=_SECONDS)
        found = load_pem_x509_certificate(text.encode())
        start, end = found.not_valid_before_utc, found.not_valid_after_utc
        issuer = printable(found.issuer.rfc4514_string())
        return f" ({issuer})", f" (valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC)"
    return "", ""


def _has_expired(file: Path) -> bool:
    """Return whether the first certificate in a file has expired by this machine's clock."""
    from cryptography.x509 import load_pem_x509_certificate

    with suppress(OSError, ValueError):
        certificate = load_pem_x509_certificate(file.read_bytes())
        return certificate.not_valid_after_utc.timestamp() < time.time()
    return False
