"""How a long-running program of trading begins and ends: its log, and the signals that stop it."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any


def run_until_stopped(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Log to standard error, and serve until SIGINT, SIGTERM or SIGHUP sets the event.

    Raises:
        PipelineError: as `serve`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(stop)

    with suppress(KeyboardInterrupt):
        asyncio.run(run())
