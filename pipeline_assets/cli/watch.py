"""The command `watch`. It runs the watchdog of services/watchdog.py."""

import click

from pipeline_assets.settings import SettingsError, load_settings


@click.command()
def watch() -> None:
    """Alert when candles become stale, a service fails or the disk is full, until Ctrl-C.

    The alerts go to PIPELINE_ALERTS__WEBHOOK_URL. If that is set, `up` starts the watchdog itself.
    """
    from pipeline_assets.services.watchdog import watch as run

    settings = load_settings()
    if settings.alerts.webhook_url is None:
        raise SettingsError(
            "PIPELINE_ALERTS__WEBHOOK_URL is not set, so alerts cannot be sent. Example: "
            "PIPELINE_ALERTS__WEBHOOK_URL=https://hooks.slack.com/services/…"
        )
    run(settings)
