"""Telling people that a DAG run failed: in the log, and by the webhook if there is one. Alerts about
stale candles are Dagster's.
"""

import logging
from typing import TYPE_CHECKING, Any

import requests
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from dagster_api import DagsterError
from dagster_base_operator import DAG_TAG, RUN_TAG, dagster_api
from loopback_proxies import loopback_proxies

if TYPE_CHECKING:
    from airflow.sdk import Context

CONNECTION = "candle_alerts"
_TIME_OUT = (5, 10)
_log = logging.getLogger(__name__)


class AlertError(Exception):
    """The webhook did not take an alert. Airflow logs it; the DAG run stays failed."""


def report_failure(context: "Context") -> None:
    """Send an alert that names the failed run, Dagster's error and its address: a DAG's failure callback.

    Posts JSON to the webhook of the connection `candle_alerts` (its address stands in the password,
    for it is a secret). `text` is what Slack and its like show; the other keys are for programs.
    """
    facts = describe(context)
    _log.error("%s", facts["text"])
    webhook = webhook_url()
    if webhook is None:
        _log.info("No Airflow connection `%s`: the failure is not reported elsewhere.", CONNECTION)
        return
    try:
        # The body is not read, whatever its size; a redirect would hand the alert to another host.
        with requests.post(
            webhook,
            json={**facts, "text": _in_slacks_format(facts["text"])},
            timeout=_TIME_OUT,
            allow_redirects=False,
            stream=True,
            proxies=loopback_proxies(webhook),
        ) as reply:
            status = reply.status_code
    except requests.RequestException as error:
        # The address is a secret, and stands in the text of requests' own error.
        raise AlertError(f"The webhook did not take the alert ({type(error).__name__}).") from None
    if status // 100 != 2:
        raise AlertError(f"The webhook did not take the alert (HTTP {status}).")


def describe(context: "Context") -> dict[str, Any]:
    """Return what is known of a failed DAG run, as the JSON of the alert."""
    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    url, error = _dagster_run(dag_id, run_id)
    reason = str(context.get("reason") or "")
    return {
        "text": f"DAG {dag_id} failed ({run_id}). {error} {url or ''}".strip(),
        "alert": "dag_run_failed",
        "dag_id": dag_id,
        "run_id": run_id,
        "reason": reason,
        "error": error,
        "dagster_url": url,
    }


def _in_slacks_format(text: str) -> str:
    """Return plain text as Slack's format writes it: `<!channel>` is a command there."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def webhook_url() -> str | None:
    """Return the webhook of the connection `candle_alerts`, or None where there is no such connection."""
    try:
        webhook: str | None = Connection.get(CONNECTION).password
    except AirflowNotFoundException:
        webhook = None
    return webhook


def _dagster_run(dag_id: str, run_id: str) -> tuple[str | None, str]:
    """Return the address of the newest Dagster run of a DAG run, and its error."""
    try:
        api = dagster_api()
        runs = api.runs({DAG_TAG: dag_id, RUN_TAG: run_id})
        if not runs:
            return None, "Nothing was launched in Dagster."
        failed = next((run for run in runs if run.status == "FAILURE"), runs[0])
        return api.run_url(failed.run_id), api.failure(failed.run_id)
    except DagsterError as error:
        return None, str(error)
