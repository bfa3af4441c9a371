"""Send alerts to people by a webhook. Callers decide which events deserve an alert."""

import logging
from collections.abc import Mapping
from typing import Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.settings import AlertsSettings

_SECONDS = (5, 10)
_RETRIES = RetryPolicy(attempts=6, first_wait=5.0, longest_wait=80.0)
_logger = logging.getLogger(__name__)


class AlertError(OutsideSystemError):
    """The webhook did not take an alert. The message says why, without its address: it is a secret."""


class Alerts:
    """Sends alerts as JSON, by POST, to PIPELINE_ALERTS__WEBHOOK_URL; sends none without that setting."""

    def __init__(self, settings: AlertsSettings) -> None:
        self._webhook = settings.webhook_url

    @property
    def configured(self) -> bool:
        """Whether there is a webhook."""
        return self._webhook is not None

    def send_repeatedly(self, alert: Mapping[str, Any]) -> None:
        """Send one alert, again while it is not taken, for two and a half minutes; log each failure.

        For who has no next round in which to send the alert again.
        """
        try:
            _RETRIES.run(
                lambda: self.send(alert),
                lambda error: isinstance(error, AlertError),
                on_failure=lambda failure: _logger.warning("%s", failure.error),
            )
        except AlertError:
            _logger.warning("An alert was given up: %s", alert.get("text"))

    def send(self, alert: Mapping[str, Any]) -> None:
        """Send one alert. `text` is what Slack and its like show; other keys are for programs.

        The text is sent in Slack's format, so that the name of a strategy or a symbol is shown as it is, and
        cannot call everybody of a channel.

        Raises:
            AlertError: it was not taken. May be sent again; the receiver may then have it twice.
        """
        if self._webhook is None:
            return
        import requests

        address = self._webhook.get_secret_value()
        proxy = proxy_for(address)
        try:
            # The body is not read, whatever its size; a redirect would hand the alert to another host.
            with requests.post(
                address,
                json={**alert, "text": _in_slacks_format(str(alert.get("text", "")))},
                timeout=_SECONDS,
                allow_redirects=False,
                stream=True,
                # None by name, or requests would take one from the environment for loopback too.
                proxies={"http": proxy, "https": proxy},  # type: ignore[dict-item]
            ) as reply:
                reply.raise_for_status()
                if reply.status_code // 100 != 2:
                    raise requests.HTTPError(response=reply)
        except requests.RequestException as error:
            # The address is a secret, and stands in the text of requests' own error.
            reason = type(error).__name__
            if error.response is not None:
                reason = f"HTTP {error.response.status_code}"
            raise AlertError(
                f"The webhook of PIPELINE_ALERTS__WEBHOOK_URL did not take an alert ({reason})."
            ) from None


def _in_slacks_format(text: str) -> str:
    """Return plain text as Slack's format writes it: `<!channel>` is a command there."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
