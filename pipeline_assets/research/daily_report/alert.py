"""The summary of a report to the webhook, at least once for each edition. How an alert is sent is in
resources/alerts.py.
"""

import base64
from datetime import datetime, timedelta
from typing import Any

from pipeline_assets.research.daily_report.content import asset_url
from pipeline_assets.research.daily_report.parts import Edition
from pipeline_assets.research.daily_report.stored_edition import StoredEdition
from pipeline_assets.research.daily_report.summary import PREFIX
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.object_store import ObjectStore

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
    """Send the headlines, a link and the first chart unless they were sent before; return whether it sent.

    A mark on the lake says that the webhook took the summary. It is written afterwards: a run that dies in
    between is followed by a second message, which a reader recognizes by its title and a program by its `id`.
    A mark written before would leave a summary unsent, and no reader would notice. One report is made at a
    time, so two runs do not send together.

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
    if store.find(mark) is not None:
        return False
    alerts.send(alert_of(store, stored, edition, dagster_url))
    store.put(mark, now.isoformat().encode())
    return True


def alert_of(
    store: ObjectStore, stored: StoredEdition, edition: Edition, dagster_url: str | None
) -> dict[str, Any]:
    """Return the alert: `text` for people; the report's parts and an `id` for programs."""
    summary = stored.summary
    page = store.address(stored.page)
    url = asset_url(f"{_ASSETS[edition.kind]} {edition.start:%Y-%m-%d}", dagster_url)
    lines = [summary.title, *summary.warnings, *summary.headlines(), f"Report: {page}"]
    if url is not None:
        lines.append(f"In Dagster: {url}")
    alert: dict[str, Any] = {
        "id": f"report-{edition.name()}",
        "text": "\n".join(lines),
        "report": page,
        "pdf": store.address(stored.pdf),
        "headlines": summary.headlines(),
    }
    if stored.cover is not None:
        alert["picture"] = f"data:image/png;base64,{base64.b64encode(stored.cover).decode()}"
    return alert
