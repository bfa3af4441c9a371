"""A file whose bytes go up to S3 while it is written. When it is used is decided in object_store.py."""

import io
from collections.abc import Callable
from typing import Any

from pipeline_assets.resources.s3_errors import summary

# While a file goes up, one part is sent while the next one fills. S3 takes none smaller, and the time
# for a reply runs while a part goes up: three of 8 MB took a line of 3.4 Mbit/s, this 0.7.
PART, PARTS = 5 * 1024 * 1024, 1


class RisingFile(io.RawIOBase):
    """A file that can only be written, in order: for pyarrow, which asks more of one than obstore's.

    The upload in parts is opened with the first byte beyond one part.
    """

    def __init__(
        self, open_upload: Callable[[], Any], translated: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._open_upload, self._translated = open_upload, translated
        self._upload: Any = None
        self._held = bytearray()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes, and hand them over once there are more than one part; returns how many."""
        if self._upload is not None:
            return int(self._translated(lambda: self._upload.write(data)))
        self._held += data
        if len(self._held) >= PART:
            self._upload = self._translated(self._open_upload)
            held, self._held = bytes(self._held), bytearray()
            self._translated(lambda: self._upload.write(held))
        return len(memoryview(data).cast("B"))

    @property
    def small(self) -> bytes | None:
        """All bytes, if they are less than one part; None if an upload in parts is under way."""
        return bytes(self._held) if self._upload is None else None

    def finish(self) -> None:
        """Complete the upload in parts."""
        self._translated(self._upload.close)

    def abandon(self, error: BaseException, address: str) -> None:
        """Abort the upload in parts, if one is under way; a refusal becomes a note of the error."""
        from obstore.exceptions import BaseError

        if self._upload is None:
            return
        try:
            self._upload.__exit__(type(error), error, error.__traceback__)
        except (BaseError, OSError) as refused:
            error.add_note(f"S3 keeps hidden parts of {address}: {summary(str(refused))}")
