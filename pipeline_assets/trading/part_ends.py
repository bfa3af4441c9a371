"""Reporting parts of the gateway and of venues that run in the background and end by an error.

A task that ends unseen would leave a gateway that seems to work: without fresh filters, or without a stream.
"""

import asyncio
import logging
from collections.abc import Callable

from pipeline_assets.trading.messages import PartEnded

_logger = logging.getLogger(__name__)


def report_end(task: asyncio.Task[None], hear: Callable[[PartEnded], None]) -> None:
    """Report the error that ended a task, if one did."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _logger.error("A part of the gateway ended.", exc_info=error)
        hear(PartEnded(f"{type(error).__name__}: {error}"[:200]))
