"""The base of both operators: the connection to Dagster, the tags and the link of a task, and its end when
Airflow stops it. Launching and watching runs is in dagster_operators.py.
"""

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from dagster_api import DagsterApi, DagsterError, DagsterUnavailableError
from dagster_launching import Patience

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

CONNECTION = "dagster"
DAG_TAG, RUN_TAG, CLEAR_TAG = "airflow/dag_id", "airflow/run_id", "airflow/clear_number"
# Dagster refuses to end a run while its process starts, which takes seconds.
_STARTING = timedelta(seconds=30)


class DagsterStoppedError(AirflowException):
    """Airflow asked this task to end, and the task has ended its runs in Dagster."""


def dagster_api() -> DagsterApi:
    """Return Dagster as the Airflow connection `dagster` (HTTP) says.

    Host and port; login and password if a proxy asks for them; extra, all optional: `public_url`
    (where people's browsers find Dagster), `location`, `repository`.
    """
    connection = Connection.get(CONNECTION)
    host = (connection.host or "localhost").rstrip("/")
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    url = f"{host}:{connection.port}" if connection.port else host
    extra = connection.extra_dejson
    named = {key: extra[key] for key in ("location", "repository") if extra.get(key)}
    return DagsterApi(
        url=url,
        public_url=str(extra.get("public_url") or url).rstrip("/"),
        auth=(connection.login, connection.password or "") if connection.login else None,
        **named,
    )


class DagsterLink(BaseOperatorLink):
    """The button that opens what a task watches, in Dagster's UI."""

    name = "Dagster run"

    @property
    def xcom_key(self) -> str:
        """Return where the address is kept; written as soon as it is known, not only at the end."""
        return "dagster_url"

    def get_link(self, operator: BaseOperator, *, ti_key: "TaskInstanceKey") -> str:
        """Return the address itself: Airflow calls this in the worker and keeps what it returns."""
        del ti_key
        return getattr(operator, "dagster_url", "")


class DagsterOperator(BaseOperator):
    """The shared part of both operators: waiting for Dagster, the link, and the end on Airflow's request.

    Args:
        patience: how long Dagster may be away at a stretch before the attempt fails.
        poll_seconds: between two looks.
        fresh_again: after how long the next DAG run does this one's work; no retry begins then.
        arguments: of BaseOperator.
    """

    operator_extra_links = (DagsterLink(),)
    ui_color = "#dedede"

    def __init__(
        self,
        *,
        patience: timedelta = timedelta(minutes=5),
        poll_seconds: float = 2.0,
        fresh_again: timedelta | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.patience = patience
        self.poll_seconds = poll_seconds
        self.fresh_again = fresh_again
        self.dagster_url = ""
        self._stopped = False
        self._tags: dict[str, str] = {}

    def execute(self, context: "Context") -> str:
        """Find or launch, then follow until the end; returns the address in Dagster's UI.

        Raises:
            AirflowException: it failed; the message carries Dagster's error and the address.
            AirflowFailException: it failed, and a retry cannot help or is no longer needed.
        """
        run = context["dag_run"]
        self._tags = {
            DAG_TAG: run.dag_id,
            RUN_TAG: run.run_id,
            CLEAR_TAG: str(run.clear_number or 0),
            **self.own_tags(),
        }
        patience = Patience(self.patience, self._raise_if_stopped)
        try:
            self.follow(dagster_api(), context, patience)
        except DagsterStoppedError:
            self._stop_for_good()
            raise
        except DagsterUnavailableError as error:
            self._fail(context, str(error))
        except DagsterError as error:
            raise AirflowFailException(str(error)) from error
        return self.dagster_url

    def own_tags(self) -> dict[str, str]:
        """Return the tags that tell the runs of this task from those of the DAG run's other tasks."""
        return {}

    @abstractmethod
    def follow(self, api: DagsterApi, context: "Context", patience: Patience) -> None:
        """Find or launch, then follow until the end; raises if it failed."""

    @abstractmethod
    def stop(self, api: DagsterApi) -> None:
        """End in Dagster what has this task's tags."""

    def on_kill(self) -> None:
        """End what is watched: Airflow calls this at mark-failed, a time-out, and its own stop."""
        self._stopped = True
        if not self._tags:
            return
        try:
            self.stop(dagster_api())
        except DagsterError:
            # Airflow ends this task all the same; Dagster's run goes on, and does no harm.
            self.log.exception("The request to end %s did not reach Dagster", self.dagster_url)

    def _stop_for_good(self) -> None:
        """End also what the signal came too early for: a launch that was under way has made its run
        since, and a run whose process was starting could not be ended then.
        """
        patience = Patience(_STARTING, lambda: None)
        while True:
            try:
                self.stop(dagster_api())
            except DagsterUnavailableError as error:
                patience.bear(error)
            else:
                return

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            raise DagsterStoppedError(f"Stopped, and so was {self.dagster_url or 'its launch'}.")

    def _show(self, context: "Context", url: str) -> None:
        """Keep the address for the link, at once: a task that is killed has no end of its own."""
        if url != self.dagster_url:
            self.log.info("Dagster: %s", url)
            self.dagster_url = url
            context["ti"].xcom_push(key=DagsterLink().xcom_key, value=url)

    def _fail(self, context: "Context", reason: str) -> None:
        """Raise: with retries to come while they make sense, else without."""
        message = f"{reason} Dagster: {self.dagster_url or 'nothing was launched'}"
        if self.fresh_again is not None:
            next_run = context["dag_run"].run_after + self.fresh_again
            if datetime.now(UTC) + self.retry_delay >= next_run:
                raise AirflowFailException(
                    f"{message} The ingest run of {next_run:%H:%M} UTC is due: it stores what is missing."
                )
        raise AirflowException(message)
