"""The summary of a report to the webhook, once for each edition. The webhook is resources/alerts.py's."""

import base64
from datetime import datetime, timedelta
from typing import Any

from pipeline_assets.research.daily_report.content import asset_url
from pipeline_assets.research.daily_report.parts import Edition
from pipeline_assets.research.daily_report.stored_edition import StoredEdition
from pipeline_assets.research.daily_report.summary import PREFIX
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import PreconditionFailedError

# The summary of an older edition, such as of a backfill, is no news.
_NEWS = timedelta(days=3)
_ASSETS = {"day": "daily_report", "week": "weekly_report", "month": "monthly_report"}


def send_summary(
    alerts: Alerts,
    store: ObjectStore,
    stored: StoredEdition,
    edition: Edition,
    now: datetime,
    dagster_url: str | None,
) -> bool:
    """Send the headlines, a link and the first chart, unless this was done before; return whether it was.

    A mark on the lake is written first, so that of two runs one sends. A process that dies between the mark
    and the webhook leaves a summary unsent: twice would be worse than never.

    Args:
        alerts: the webhook.
        store: the lake.
        stored: the report.
        edition: its span.
        now: the time, UTC; an edition that ended days ago is not sent.
        dagster_url: where a reader reaches Dagster's pages; None if unknown.

    Raises:
        AlertError: the webhook did not take it; the next run sends it again.
        ObjectStoreError: the store does not answer.
    """
    if not alerts.configured or not edition.end <= now < edition.end + _NEWS:
        return False
    mark = f"{PREFIX}sent/{edition.name()}"
    try:
        store.put_if(mark, now.isoformat().encode(), None)
    except PreconditionFailedError:
        return False
    try:
        alerts.send(alert_of(store, stored, edition, dagster_url))
    except BaseException:
        store.delete([mark])
        raise
    return True


def alert_of(
    store: ObjectStore, stored: StoredEdition, edition: Edition, dagster_url: str | None
) -> dict[str, Any]:
    """Return the alert: `text` for people, and the report's parts for programs."""
    summary = stored.summary
    page = store.address(stored.page)
    url = asset_url(f"{_ASSETS[edition.kind]} {edition.start:%Y-%m-%d}", dagster_url)
    lines = [summary.title, *summary.warnings, *summary.headlines(), f"Report: {page}"]
    if url is not None:
        lines.append(f"In Dagster: {url}")
    alert: dict[str, Any] = {
        "text": "\n".join(lines),
        "report": page,
        "pdf": store.address(stored.pdf),
        "headlines": summary.headlines(),
    }
    if stored.cover is not None:
        alert["picture"] = f"data:image/png;base64,{base64.b64encode(stored.cover).decode()}"
    return alert
