"""The lease that this process holds for the run it executes, and the check before each of its writes. Keys
and commands of Redis are in leases.py; which runs end without a lease is dagster_instance's to decide.

A process that was paused, or cut off from Redis, may wake after its run was ended and the next one began.
So every client that writes calls `require_lease` first: ObjectStore, CandleSlots, IndicatorStateStore,
WarehouseSessions and CandidateTopic; so does the client of the exchange before each request.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline_assets.errors import InternalError
from pipeline_assets.process_identity import boot_clock

if TYPE_CHECKING:
    from pipeline_assets.resources.leases import LeaseStore

# A third of the lease is left when writing stops: a write that has begun ends before the next run starts.
WRITING_SHARE = 2 / 3
# Renewals a sixth of the lease apart: several may fail before writing stops.
_RENEWAL_SHARE = 1 / 6
# After a failure the next one comes sooner. A renewal repeats itself for 10 s while Redis is away, so with
# the pause above, a Redis that was back after 17 s was asked again after 27 s, when writing had stopped.
_REPEAT_SHARE = 1 / 36
_logger = logging.getLogger(__name__)
_held: "list[HeldLease]" = []


class LeaseLostError(InternalError):
    """This process may not write any more: its run counts as dead or soon will."""


class LeaseTakenError(InternalError):
    """Another process executes the run."""


class HeldLease:
    """One run's lease, held and renewed by this process."""

    def __init__(
        self,
        store: "LeaseStore",
        run_id: str,
        token: str,
        taken_at: float,
        clock: Callable[[], float],
    ) -> None:
        """Hold a lease that was taken; `taken_at` is the clock's time before Redis was asked."""
        self._store, self.run_id, self._token, self._clock = store, run_id, token, clock
        self._renewed_at = taken_at
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="lease", daemon=True)

    def start(self) -> None:
        """Renew the lease from now on."""
        self._thread.start()

    def renew(self) -> bool:
        """Renew the lease once; a lease that is another's or has ended is lost for good.

        Returns:
            Whether Redis answered.
        """
        from pipeline_assets.resources.leases import LeaseStoreError

        asked_at = self._clock()
        try:
            if self._store.renew(self.run_id, self._token):
                self._renewed_at = asked_at
            else:
                self._lost = True
        except LeaseStoreError as error:
            _logger.warning("The lease of run %s was not renewed: %s", self.run_id, error)
            return False
        return True

    def require(self) -> None:
        """Return if this process may write.

        Raises:
            LeaseLostError: the lease ended, or may end before a write that begins now does.
        """
        silent = self._clock() - self._renewed_at
        limit = self._store.seconds * WRITING_SHARE
        if silent > limit:
            self._lost = True
        if self._lost:
            why = (
                f"its lease was last renewed {silent:.0f} s ago (limit {limit:.0f} s). The process was "
                "paused, or Redis was away."
                if silent > limit
                else "Redis does not hold its lease any more. Redis lost its data, or the process was paused."
            )
            raise LeaseLostError(
                f"This process may not write for run {self.run_id}: {why} Dagster ends the run, and the next "
                "run continues the work; repeat a command whose run this is."
            )

    def release(self) -> None:
        """Stop renewing and give the lease back."""
        from pipeline_assets.resources.leases import LeaseStoreError

        self._released.set()
        self._thread.join()
        with suppress(LeaseStoreError):
            # The lease then ends by itself.
            self._store.release(self.run_id, self._token)

    def _renew_on(self) -> None:
        share = _RENEWAL_SHARE
        while not self._lost and not self._released.wait(self._store.seconds * share):
            share = _RENEWAL_SHARE if self.renew() else _REPEAT_SHARE


@contextmanager
def holding_lease(
    store: "LeaseStore", run_id: str, clock: Callable[[], float] = boot_clock
) -> Iterator[HeldLease]:
    """Hold the lease of a run within the block; a block inside another one of the same run does nothing.

    Args:
        store: the leases.
        run_id: the run that this process is about to execute.
        clock: seconds on a clock that is never set and that runs while the process is paused.

    Raises:
        LeaseTakenError: another process holds the lease.
        LeaseStoreError: Redis failed.
    """
    outer = next((each for each in _held if each.run_id == run_id), None)
    if outer is not None:
        yield outer
        return
    asked_at = clock()
    token = store.take(run_id)
    if token is None:
        raise LeaseTakenError(
            f"Run {run_id} is executed by another process, which holds its lease. Nothing is to be done; "
            f"a process that died gives it up within {store.seconds:.0f} s."
        )
    lease = HeldLease(store, run_id, token, asked_at, clock)
    _held.append(lease)
    lease.start()
    try:
        yield lease
    finally:
        _held.remove(lease)
        lease.release()


def require_lease() -> None:
    """Return if this process may write or spend weight. A process that executes no run may.

    Raises:
        LeaseLostError: it executes a run whose lease is lost.
    """
    for lease in tuple(_held):
        lease.require()
