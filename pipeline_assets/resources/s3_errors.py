"""The errors of the object store, and how to derive them from the replies of S3 and its clients.

Recovery after an error, and the cases that may go on without an object, are in object_store.py.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.outside_text import printable
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.tls import TlsClient

if TYPE_CHECKING:
    from pipeline_assets.settings import S3Settings

_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "401",
    "403",
    "ExpiredToken",
    "InvalidToken",
}
_LOST_RACE = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_ABSENT = {"404", "NotFound"}
_UNSUPPORTED = {"NotImplemented", "501"}
# In the text of obstore's errors, which has no other place for them: S3's answer, and what the
# operating system said.
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_DELETE_CODE = re.compile(r"\(code: (\w+)\)$", re.MULTILINE)
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_NO_CREDENTIALS = re.compile(r"for path External AWS credential provider: (.*)")
_WAITED = re.compile(r"timed out")
_SYSTEM_ERROR = re.compile(r'code: \d+,\s+kind: \w+,\s+message: "([^"]+)"')


class ObjectStoreError(OutsideSystemError):
    """S3 refused or did not answer. The message names the bucket, the key and what to do."""


class PreconditionFailedError(ObjectStoreError):
    """The object is not the one that a conditional write expected: somebody else wrote it."""


class DamagedObjectError(ObjectStoreError):
    """The bytes of an object are not the ones that were written, or nothing can be decoded from them.

    Attributes:
        key: the object's key.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class StoreUnreachableError(ObjectStoreError):
    """S3 did not answer at all, after every repetition."""


class CredentialsRefusedError(ObjectStoreError):
    """S3 refuses the credentials."""


class UnsupportedError(ObjectStoreError):
    """The store says that it does not implement what was asked of it."""


class NoSuchObjectError(ObjectStoreError):
    """There is no such object. Callers of this module get None instead, where S3 may say so."""


@dataclass(frozen=True)
class S3Errors:
    """Makes the errors of one bucket; each names the endpoint, the key and what to do."""

    settings: "S3Settings"

    def address(self, key: str = "") -> str:
        """Return the `s3://` address of a key or prefix."""
        return f"s3://{self.settings.bucket}/{key}"

    @property
    def endpoint(self) -> str:
        """Where S3 is, for people."""
        return self.settings.endpoint_url or f"AWS ({self.settings.region})"

    def of_text(self, text: str, key: str) -> ObjectStoreError:
        """Return the error for obstore's message, chosen by S3's own code in it."""
        code = _found(_CODE, text) or _found(_DELETE_CODE, text) or _found(_STATUS, text)
        code = printable(code) if code else None
        if code == "NoSuchKey":
            return NoSuchObjectError(f"{self.address(key)} is not there ({code}).")
        if code in _ABSENT:
            # Read where an object is asked for that may be absent; S3 says it of nothing else.
            return NoSuchObjectError(
                f"{self.endpoint} answers 404 for {self.address(key)} where S3 would not: check that "
                "PIPELINE_S3__ENDPOINT_URL is the address of an S3 server."
            )
        if code in _UNSUPPORTED:
            return UnsupportedError(
                f"{self.endpoint} does not implement what {self.address(key)} was asked for ({code})."
            )
        if code in _LOST_RACE:
            return PreconditionFailedError(
                f"{self.address(key)} was changed by another writer meanwhile ({code})."
            )
        if code is None:
            return self._without_answer(text, key)
        return self.of_code(code, f"{code} {_found(_MESSAGE, text) or ''}".rstrip(), key)

    def without_credentials(self, why: str = "") -> ObjectStoreError:
        """Return the error where the settings name no credentials and boto3 finds none."""
        return ObjectStoreError(
            f"There are no credentials for {self.address()}{f' ({printable(why)})' if why else ''}: set "
            "PIPELINE_S3__ACCESS_KEY_ID and PIPELINE_S3__SECRET_ACCESS_KEY, or one of the ways that "
            "boto3 looks for them (AWS_PROFILE, a role of the machine), or start the embedded stack "
            "(`pipeline-assets up` makes a key); then repeat the run."
        )

    def _without_answer(self, text: str, key: str) -> ObjectStoreError:
        """Return the error where S3 gave no answer that names a code."""
        first_line = summary(text)
        if (why := _found(_NO_CREDENTIALS, first_line)) is not None:
            return self.without_credentials(why)
        cause = _found(_SYSTEM_ERROR, text)
        return self.unreachable(f"{first_line} ({cause})" if cause else first_line, key)

    def unreachable(self, detail: str, key: str) -> StoreUnreachableError:
        """Return the error where S3 gave no answer."""
        # obstore does not say that it is the certificate.
        problem = self._tls_problem(detail)
        if problem is not None:
            return StoreUnreachableError(
                f"S3 at {self.endpoint} could not be reached for {self.address(key)}: {problem}. Then repeat "
                "the run."
            )
        return StoreUnreachableError(
            f"S3 at {self.endpoint} could not be reached for {self.address(key)}: {printable(detail)}. "
            "Check that it runs and that PIPELINE_S3__ENDPOINT_URL is right, then repeat the run."
        )

    def _tls_problem(self, detail: str) -> str | None:
        """Return what is wrong with TLS, if that is why S3 cannot be reached."""
        address = self.settings.endpoint_url or f"https://s3.{self.settings.region}.amazonaws.com"
        parts = urlsplit(address)
        host = parts.hostname or ""
        if self.settings.addressing == "virtual":
            host = f"{self.settings.bucket}.{host}"
        # A server that expects TLS does not keep a client waiting that speaks plain text. And behind a
        # proxy there may be no way to the server but that.
        if (parts.scheme == "http" and _WAITED.search(detail)) or proxy_for(address) is not None:
            return None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return tls_client(self.settings).problem(host, port)

    def of_code(self, code: str, detail: str, key: str) -> ObjectStoreError:
        """Return the error for S3's own error code."""
        where = self.endpoint
        if code == "NoSuchBucket":
            return ObjectStoreError(
                f"There is no bucket {self.settings.bucket!r} at {where}. Create it, or set "
                "PIPELINE_S3__BUCKET to one that exists, then repeat the run."
            )
        if code in _CREDENTIALS:
            return CredentialsRefusedError(
                f"S3 at {where} refuses the credentials for {self.address(key)} ({code}). Check "
                "PIPELINE_S3__ACCESS_KEY_ID and PIPELINE_S3__SECRET_ACCESS_KEY and the bucket's policy."
            )
        return ObjectStoreError(
            f"S3 at {where} failed on {self.address(key)}: {printable(detail)}. The run may be repeated."
        )


def tls_client(settings: "S3Settings") -> TlsClient:
    """Return the part of the settings that concerns TLS."""
    return TlsClient(
        "S3",
        settings,
        enabled=not (settings.endpoint_url or "").startswith("http:"),
        remedies=(
            "let PIPELINE_S3__ENDPOINT_URL start with https://",
            "let PIPELINE_S3__ENDPOINT_URL name its TLS port, or start with http://",
        ),
    )


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def summary(text: str) -> str:
    """Return the first line of an error of obstore."""
    return text.split("\n", 1)[0]
