"""The file by which a program without a server shows that it works: `{data_dir}/heartbeats/{name}`, touched
at each round of its work. Who reads it, and what follows, does not belong here.
"""

import logging
import time
from pathlib import Path

_logger = logging.getLogger(__name__)


class Heartbeat:
    """One program's heartbeat."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self._path = data_dir / "heartbeats" / name
        self._failing = False

    def beat(self) -> None:
        """Show that a round of work is done. A disk that refuses does not end the work."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
            self._failing = False
        except OSError as error:
            if not self._failing:
                _logger.warning("%s cannot be touched: %s", self._path, error.strerror)
            self._failing = True

    def age(self) -> float | None:
        """Return the seconds since the last beat, by the machine's clock; None before the first."""
        try:
            return time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return None


def trader_heartbeat(data_dir: Path, account: str) -> Heartbeat:
    """Return the heartbeat of an account's trader."""
    return Heartbeat(data_dir, f"trader-{account}")


def inference_heartbeat(data_dir: Path) -> Heartbeat:
    """Return the heartbeat of the inference service."""
    return Heartbeat(data_dir, "inference")
