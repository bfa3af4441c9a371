"""The worker's beat: it reports in Redis that it lives, and ends itself when the code server runs newer code.
resources/workers.py has the keys; the supervisor starts the worker again.
"""

import logging
import os
from typing import Any

from celery import bootsteps
from celery.worker import state

from pipeline_assets.dagster_instance.celery_app import BACKFILL
from pipeline_assets.resources.workers import (
    BEAT_SECONDS,
    Worker,
    WorkerRegistry,
    WorkerRegistryError,
    code_fingerprint,
)
from pipeline_assets.settings import Settings

logger = logging.getLogger("pipeline_assets.worker")
# After a restart of the stack Redis holds the code of the last one until the code server's first sensor.
_BEATS_BEFORE_WARNING = 24
_PATIENCE = {"timeout_seconds": 2.0, "retry_seconds": 0.0}


class WorkerBeat(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's worker, in the parent process, on the loop that also takes messages."""

    requires = {"celery.worker.components:Timer", "celery.worker.components:Pool"}  # noqa: RUF012
    settings: Settings
    name_of_worker: str

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        redis = self.settings.redis.model_copy(update=_PATIENCE)
        self._registry = WorkerRegistry(redis)
        self._timer: Any = None
        self._code = code_fingerprint(self.settings)
        self._first_seen: str | None = None
        self._differing = 0
        self._pid = os.getpid()
        parent.pipeline_beat = self

    def start(self, parent: Any) -> None:
        """Beat from now on."""
        self.beat_on(parent)

    def beat_on(self, parent: Any) -> None:
        """Beat now and from now on, in place of the beats so far."""
        self._cancel()
        self._beat(parent)
        self._timer = parent.timer.call_repeatedly(BEAT_SECONDS, self._beat, (parent,))

    def stop(self, parent: Any) -> None:
        """Stop, and leave at once."""
        del parent
        self._cancel()
        if os.getpid() != self._pid:
            return
        try:
            self._registry.leave(self.name_of_worker)
        except WorkerRegistryError as error:
            logger.warning("The worker counts as living a little longer: %s", error)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, parent: Any) -> None:
        queues = tuple(str(each) for each in parent.app.amqp.queues.consume_from)
        try:
            published = self._registry.beat(Worker(self.name_of_worker, queues, self._code))
        except WorkerRegistryError as error:
            logger.warning("The worker cannot report that it lives: %s", error)
            return
        if published:
            self._compare(parent, published)

    def _compare(self, parent: Any, published: str) -> None:
        """End the worker once it is idle if the code server's code has changed and is another one.

        The worker takes no run from the queue `backfill` meanwhile, because a long backfill would leave it no
        idle moment. The minute's runs are short, and go on. Code that differed from the start would differ
        again after a restart.
        """
        if self._first_seen is None:
            self._first_seen = published
        if published == self._code:
            self._first_seen, self._differing = published, 0
            return
        if published == self._first_seen:
            self._differing += 1
            if self._differing == _BEATS_BEFORE_WARNING:
                logger.warning(
                    "This worker has other code or settings than Dagster's code server. Reload the code "
                    "location, or install the same version here."
                )
            return
        if BACKFILL in parent.app.amqp.queues.consume_from:
            logger.warning("The code server has other code or settings: no backfill is begun here.")
            parent.consumer.cancel_task_queue(BACKFILL)
        if not state.reserved_requests and not state.active_requests:
            logger.warning("The code server has other code or settings: the worker starts again.")
            state.should_stop = os.EX_OK


class BeatAfterLoss(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer, which is started anew with each connection to the broker.

    Celery clears all timers when a connection is lost. A worker that went on without its beat was taken
    for dead, and was started again while runs waited.
    """

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, parent: Any) -> None:
        """Beat on."""
        parent.controller.pipeline_beat.beat_on(parent.controller)
