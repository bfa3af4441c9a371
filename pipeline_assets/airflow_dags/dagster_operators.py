"""The Airflow operators that watch a step of a Dagster run, and a Dagster backfill. Which jobs and steps
there are is candle_dags.py's; how Dagster is asked is dagster_api.py's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from candle_intervals import FIRST_DAY_TAG, LAST_DAY_TAG, LATE_TAGS, PARTITION_TAG
from dagster_api import Backfill, DagsterApi, DagsterError, DagsterUnavailableError, Run
from dagster_base_operator import DagsterOperator
from dagster_launching import Patience, find_or_launch
from dagster_run_days import DAY, days_between, interval_day, newest_day

if TYPE_CHECKING:
    from airflow.sdk import Context

# Dagster starts a run again whose process died; its daemon looks every half minute.
_RETRY_BY_DAGSTER = timedelta(minutes=2)


class DagsterStepOperator(DagsterOperator):
    """Watches one step of the one Dagster run that a DAG run has; launches it if there is none.

    A retry, a killed worker, or a launch whose answer was lost joins the run, by its tags. A retry
    after a failed step re-executes the run from its failure; once the next DAG run does the same work
    (`fresh_again`), such as after days off, it begins anew. Clearing makes a new run.

    Args:
        job: the Dagster job.
        step: the step to watch; None: the whole run.
        span: the candles' span, of an ingest run: its partition is the day of the newest candle. None:
            the day of the DAG run's data interval.
        partition: the partition, where it is no day. Several tasks of a DAG run may have one each; each
            then has a Dagster run of its own.
        days_before: so many days before the data interval's are in the same run.
        partitioned: whether the job has partitions.
        arguments: of DagsterOperator and BaseOperator.
    """

    def __init__(
        self,
        *,
        job: str,
        step: str | None = None,
        span: timedelta | None = None,
        partition: str | None = None,
        days_before: int = 0,
        partitioned: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.job = job
        self.step = step
        self.span = span
        self.partition = partition
        self.days_before = days_before
        self.partitioned = partitioned

    def follow(self, api: DagsterApi, context: "Context", patience: Patience) -> None:
        """Find or launch the run, re-execute it on a retry after a failure, watch the step."""
        retried = context["ti"].try_number > 1

        def launch() -> str:
            tags = self._tags | self._partition_tags(context, datetime.now(UTC))
            return api.launch(self.job, tags, {})

        seen = find_or_launch(lambda: api.runs(self._tags), launch, patience)
        if retried and seen.ended and not seen.awaits_retry:
            runs = self._runs(api, patience)
            if not self._succeeded(runs):
                late = self.fresh_again is not None and datetime.now(UTC) >= (
                    context["dag_run"].run_after + self.fresh_again
                )
                self._again(api, runs, launch, patience, anew=late)
        reported = None
        grace = datetime.now(UTC) + _RETRY_BY_DAGSTER
        while True:
            runs = self._runs(api, patience)
            newest = runs[0]
            self._show(context, api.run_url(newest.run_id))
            if self._succeeded(runs):
                return
            state = f"{newest.status}, {self.step or self.job} {self._state(newest)}"
            if state != reported:
                self.log.info("Run %s: %s", newest.run_id, state)
                reported = state
            if not newest.ended:
                grace = datetime.now(UTC) + _RETRY_BY_DAGSTER
            elif not newest.awaits_retry or datetime.now(UTC) > grace:
                self._fail(context, self._reason(api, newest, patience))
            patience.pause(self.poll_seconds)

    def own_tags(self) -> dict[str, str]:
        """Return the partition, where tasks of a DAG run have one each."""
        return {} if self.partition is None else {PARTITION_TAG: self.partition}

    def _partition_tags(self, context: "Context", now: datetime) -> dict[str, str]:
        """Return the tags that name a run's days, and of a day long past that it is late."""
        if not self.partitioned or self.partition is not None:
            return self.own_tags()
        if self.span is not None:
            run_after = context["dag_run"].run_after
            return {PARTITION_TAG: str(newest_day(run_after, self.span, now))}
        day = interval_day(context)
        days = {PARTITION_TAG: str(day)}
        if self.days_before:
            days = {FIRST_DAY_TAG: str(day - self.days_before * DAY), LAST_DAY_TAG: str(day)}
        # The sensor gap_repair may have filled it meanwhile.
        return days | (LATE_TAGS if day < now.date() - DAY else {})

    def stop(self, api: DagsterApi) -> None:
        """Terminate the runs of these tags that have not ended."""
        for run in api.runs(self._tags):
            if not run.ended and run.status != "CANCELING":
                api.terminate(run.run_id)

    def _runs(self, api: DagsterApi, patience: Patience) -> list[Run]:
        """Return the runs of these tags, newest first; at least one, for they were found before."""
        while True:
            try:
                runs = api.runs(self._tags)
            except DagsterUnavailableError as error:
                patience.bear(error)
                continue
            patience.answered()
            if not runs:
                raise DagsterError("The Dagster run was deleted while it was watched.")
            return runs

    def _succeeded(self, runs: Sequence[Run]) -> bool:
        """Return whether the newest run that has the step did it: a re-execution leaves out what is done."""
        if self.step is None:
            return runs[0].status == "SUCCESS"
        having = next((run for run in runs if self.step in run.planned), None)
        return having is not None and having.steps.get(self.step) == "SUCCESS"

    def _state(self, run: Run) -> str:
        return run.steps.get(self.step, "waits") if self.step else run.status

    def _again(
        self,
        api: DagsterApi,
        runs: Sequence[Run],
        launch: Callable[[], str],
        patience: Patience,
        *,
        anew: bool,
    ) -> None:
        """Make the run that comes after the newest, which ended without success, once.

        Args:
            api: Dagster.
            runs: the runs of these tags, newest first.
            launch: makes a run that begins anew.
            patience: how long Dagster may be away.
            anew: whether nothing of the earlier runs is worth keeping.
        """
        ended = runs[0]
        # From the failure, if anything is worth keeping: a run that was lost before its first step,
        # or ended by a person, begins anew. A re-execution has none of the steps done before it.
        done = any("SUCCESS" in run.steps.values() for run in runs if run.root == ended.root)
        keeps = ended.status == "FAILURE" and done and not anew

        def newer() -> list[Run]:
            runs = api.runs(self._tags)
            known = next(i for i, run in enumerate(runs) if run.run_id == ended.run_id)
            return runs[:known]

        def make() -> str:
            return api.reexecute(ended.run_id) if keeps else launch()

        self.log.info("Run %s ended as %s; running it again.", ended.run_id, ended.status)
        find_or_launch(newer, make, patience)

    def _reason(self, api: DagsterApi, run: Run, patience: Patience) -> str:
        while True:
            try:
                return f"{self.job} ended as {run.status}. {api.failure(run.run_id)}"
            except DagsterUnavailableError as error:
                patience.bear(error)


class DagsterBackfillOperator(DagsterOperator):
    """Launches a backfill of some assets over a range of days in Dagster, and follows it.

    The range and the symbols are the DAG run's parameters. A retry joins what runs, and backfills
    again only the partitions that failed.

    Args:
        interval: skipped unless the DAG run's parameters ask for it.
        assets: the assets' names; the first one takes the symbols as its configuration.
        arguments: of DagsterOperator and BaseOperator.
    """

    def __init__(self, *, interval: str, assets: Iterable[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.interval = interval
        self.assets = list(assets)

    def follow(self, api: DagsterApi, context: "Context", patience: Patience) -> None:
        """Find or launch the backfill, and follow it to its end."""
        params = context["params"]
        if self.interval not in params["intervals"]:
            raise AirflowSkipException(f"{self.interval} was not asked for.")
        self._tags["airflow/task_id"] = self.task_id
        days = days_between(params["first_day"], params["last_day"])
        symbols = list(params["symbols"] or [])
        config = {"ops": {self.assets[0]: {"config": {"symbols": symbols}}}} if symbols else {}
        title = f"{self.interval} {days[0]} to {days[-1]}, by Airflow"

        def launch() -> str:
            return api.launch_backfill(self.assets, days, self._tags, config, title)

        found = find_or_launch(lambda: api.backfills(self._tags), launch, patience)
        if context["ti"].try_number > 1 and found.ended and not found.succeeded:
            failed = found
            find_or_launch(
                lambda: _before(api.backfills(self._tags), failed),
                lambda: api.reexecute_backfill(failed.backfill_id),
                patience,
            )
        self._watch(api, context, patience)

    def stop(self, api: DagsterApi) -> None:
        """Cancel the backfills of these tags that have not ended."""
        for backfill in api.backfills(self._tags):
            if not backfill.ended:
                api.cancel_backfill(backfill.backfill_id)

    def _watch(self, api: DagsterApi, context: "Context", patience: Patience) -> None:
        reported: Mapping[str, int] = {}
        while True:
            try:
                backfill = api.backfills(self._tags)[0]
                patience.answered()
                self._show(context, api.backfill_url(backfill.backfill_id))
                if backfill.counts != reported:
                    reported = backfill.counts
                    self.log.info(
                        "%s of %d days: %s", backfill.status, backfill.partitions, reported
                    )
                if backfill.succeeded:
                    return
                reason = self._reason(api, backfill) if backfill.ended else None
            except DagsterUnavailableError as error:
                patience.bear(error)
                continue
            if reason is not None:
                self._fail(context, reason)
            patience.pause(self.poll_seconds)

    def _reason(self, api: DagsterApi, backfill: Backfill) -> str:
        runs = api.runs({"dagster/backfill": backfill.backfill_id})
        failed = [run for run in runs if run.status == "FAILURE"]
        error = api.failure(failed[0].run_id) if failed else backfill.error or "no reason recorded"
        return f"The backfill of {self.interval} ended as {backfill.status}. {error}"


def _before(found: Sequence[Backfill], known: Backfill) -> list[Backfill]:
    """Return the backfills newer than a known one; newest first."""
    ids = [each.backfill_id for each in found]
    return list(found[: ids.index(known.backfill_id)])
