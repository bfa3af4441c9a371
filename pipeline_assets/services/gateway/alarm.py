"""How the gateway tells a person: the log, and alerts by webhook. The core in trading/ decides about
alerts; process.py reports the end of the gateway by an error.
"""

import logging
import threading
import time
from collections.abc import Callable

from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.settings import AlertsSettings

_ALERT_SECONDS = 600.0
# A program that trades on the same account caused an alert an order: a thread each, for two and a half
# minutes while the webhook took none.
_AT_ONCE = 20
_logger = logging.getLogger(__name__)


class Alarm:
    """Logs what a person should know, and alerts; the same message alerts once in ten minutes.

    While many alerts are under way, further ones are only logged.
    """

    def __init__(
        self, settings: AlertsSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`monotonic` is a clock in seconds that only goes forward."""
        self._alerts = Alerts(settings) if settings.webhook_url else None
        self._monotonic = monotonic
        self._sent: dict[str, float] = {}
        self._under_way: list[threading.Thread] = []

    def __call__(self, message: str) -> None:
        """Report a message; sending goes on in a thread."""
        _logger.warning("%s", message)
        now = self._monotonic()
        self._sent = {each: at for each, at in self._sent.items() if now - at < _ALERT_SECONDS}
        if self._alerts is None or message in self._sent:
            return
        self._under_way = [*filter(threading.Thread.is_alive, self._under_way)]
        if len(self._under_way) >= _AT_ONCE:
            _logger.warning("This message is only logged: %d alerts are under way.", _AT_ONCE)
            return
        self._sent[message] = now
        alert = {"text": f"Order gateway: {message}", "alert": "gateway", "service": "gateway"}
        send = self._alerts.send_repeatedly
        # A daemon: a webhook that takes nothing must not keep a process alive that has ended.
        thread = threading.Thread(target=send, args=(alert,), daemon=True)
        thread.start()
        self._under_way.append(thread)

    def finish(self, seconds: float) -> None:
        """Wait until the alerts under way are sent, no longer than some seconds in all."""
        end = self._monotonic() + seconds
        for thread in self._under_way:
            thread.join(max(end - self._monotonic(), 0.0))
