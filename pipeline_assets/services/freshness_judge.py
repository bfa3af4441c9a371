"""How fresh every interval is, for the watchdog: judged in a thread of its own, by the exchange's time from
plain HTTP. The rule is collection/freshness.py's.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline_assets.collection.freshness import Verdict, judge_all
from pipeline_assets.market.intervals import Interval
from pipeline_assets.process_identity import boot_clock
from pipeline_assets.proxies import is_loopback
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError

if TYPE_CHECKING:
    from pipeline_assets.settings import Settings

FRESHNESS_SECONDS = 30.0


class FreshnessJudge:
    """Judges every interval in a thread of its own: a store that hangs must delay no other alert."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._store = ObjectStore(settings.s3)
        self._offset: timedelta | None = None
        self._thread: threading.Thread | None = None
        self._next = 0.0
        self.verdicts: dict[Interval, Verdict] = {}
        self.failure: str | None = None
        self.judged_at = boot_clock()

    def turn(self, now: float) -> None:
        """Begin to judge if it is time and nothing is under way."""
        if now < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._next = now + FRESHNESS_SECONDS
        self._thread = threading.Thread(
            target=self.judge_all, args=(now,), name="freshness", daemon=True
        )
        self._thread.start()

    def judge_all(self, now: float) -> None:
        """Judge every interval by the exchange's clock; `now` is the watchdog's."""
        try:
            self.verdicts = judge_all(self._store, self._settings, self._server_time())
        except (OSError, ValueError, KeyError, ObjectStoreError) as error:
            self.failure = f"{type(error).__name__}: {error}"[:300]
            return
        self.failure, self.judged_at = None, now

    def _server_time(self) -> datetime:
        """Return the exchange's time; while it does not answer, this machine's, corrected by the last answer.

        Raises:
            OSError: it does not answer and never did.
        """
        import requests

        address = self._settings.binance.rest_url
        try:
            with requests.Session() as session:
                session.trust_env = not is_loopback(urlsplit(address).hostname or "")
                reply = session.get(f"{address}/fapi/v1/time", timeout=(5, 10))
            reply.raise_for_status()
            reported = datetime.fromtimestamp(reply.json()["serverTime"] / 1000, UTC)
        except (requests.RequestException, ValueError, KeyError):
            if self._offset is None:
                raise
            return datetime.now(UTC) + self._offset
        self._offset = reported - datetime.now(UTC)
        return reported
