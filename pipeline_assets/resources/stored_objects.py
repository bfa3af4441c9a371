"""One object of the lake as a listing or a read returns it, and the digest that every object carries."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

# The name of the digest in an object's user metadata (the header x-amz-meta-sha256). SHA-256 hashes 1 GB/s
# of one core; MD5 and BLAKE2b, the standard library's others, less than half of that.
DIGEST = "sha256"


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it."""

    key: str
    etag: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class FoundObject:
    """The bytes of an object as the store returned them, which may be damaged.

    Attributes:
        body: the bytes.
        etag: the object's ETag.
        digest: the SHA-256 that the writer put into the metadata; None for an object of an earlier
            version or of another program.
    """

    body: bytes
    etag: str
    digest: str | None

    @property
    def intact(self) -> bool:
        """Whether the bytes match the digest, or have none to match."""
        return self.digest is None or self.digest == digest_of(self.body)


def etag_is_of(etag: str, body: bytes) -> bool:
    """Return whether an ETag is these bytes' MD5, as it is of one write unless the store encrypts."""
    return etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()


def digest_of(body: bytes) -> str:
    """Return the digest of an object's bytes, as it stands in the metadata."""
    return hashlib.sha256(body).hexdigest()
