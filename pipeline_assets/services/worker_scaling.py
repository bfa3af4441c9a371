"""How many children a worker has: Celery's autoscaler, which forks one for each run that waits and ends idle
ones. The limits are worker.py's.
"""

from typing import Any

from celery.worker.autoscale import Autoscaler


class IdleAutoscaler(Autoscaler):  # type: ignore[misc]
    """Celery's autoscaler, which ends children only while the worker has no run at all.

    Celery's own may end a child to which it has just sent a run: the run then stays STARTING until it is sent
    again, two minutes later.
    """

    def on_task_received(self, req: Any) -> None:
        """Note when a run needed a child beyond those that stay: from then on `keepalive` counts."""
        if self.qty > self.min_concurrency:
            super().on_task_received(req)

    def scale_down(self, n: int) -> Any:
        """End so many children if no run is reserved, and none needed them within `keepalive`."""
        return None if self.qty else super().scale_down(n)
