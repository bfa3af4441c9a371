"""The log file of one service of the stack: its beginning, its bound, and the lines quoted from it."""

import contextlib
import os
import shutil
from itertools import dropwhile
from pathlib import Path

TAIL_LINES = 20
_TRACEBACK = "Traceback (most recent call last):\n"


class ServiceLog:
    """A file that a service's process appends to; the log before it stands beside it as `.log.1`."""

    def __init__(self, directory: Path, service: str) -> None:
        self.path = directory / f"{service}.log"
        self._service = service
        self._kept = directory / f"{service}.log.1"

    def begin(self) -> None:
        """Begin an empty log and keep the last run's."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.path.replace(self._kept)
        self.path.touch(mode=0o600)

    def note(self, text: str) -> None:
        """Add a line of the supervisor's; a full disk does without."""
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as log:
            log.write(f"--- {self._service} {text}\n")

    def quoted_after(self, message: str) -> str:
        """Return the message with the last lines of the log under it, indented.

        A Python traceback is reduced to its error: a newcomer did not find the cause in twenty lines of a
        library's frames.
        """
        with self.path.open("rb") as log:
            log.seek(max(0, self.path.stat().st_size - 20_000))
            text = log.read().decode("utf-8", errors="replace")
        cause = raised_at_end(text)
        if cause is not None:
            return f"{message}\n  {cause}\n  The traceback is in {self.path}."
        lines = "\n".join(f"    {line}" for line in text.splitlines()[-TAIL_LINES:])
        return f"{message}\n  The last lines of {self.path}:\n{lines or '    (empty)'}"

    def bound(self, limit: int) -> str | None:
        """Empty a log of more than `limit` bytes, its text kept; return what prevents that, if anything."""
        try:
            if self.path.stat().st_size <= limit:
                return None
            try:
                shutil.copyfile(self.path, self._kept)
            except OSError:
                # On a full disk, emptying the log makes room, and half a copy takes it.
                self._kept.unlink(missing_ok=True)
            # The process keeps its descriptor, which appends: so the file is emptied, not replaced.
            os.truncate(self.path, 0)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self.path} cannot be emptied ({error.strerror})"
        return None


def raised_at_end(text: str) -> str | None:
    """Return the error of the traceback that ends a log, in one line; None if no traceback does.

    The lines after the frames belong to the error, whose message may have several.
    """
    _, found, rest = text.rpartition(_TRACEBACK)
    lines = rest.splitlines()
    error = list(dropwhile(lambda line: not line or line[0].isspace(), lines))
    if (
        not found
        or not error
        or any(each[:1].isspace() for each in error)
        or len(error) > TAIL_LINES
    ):
        return None
    return " ".join(" ".join(error).split())


def has_logged(data_dir: Path, name: str, text: str) -> bool:
    """Return whether a service has logged a text since its last start."""
    log = (data_dir / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    # After the supervisor's last note: what stands before it is a former process's.
    return text in log.rpartition(f"--- {name} ")[2]
