"""How a long-running program of trading begins and ends: its log, and the signals that stop it."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from pipeline_assets.stop_flag import StopFlag


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


async def run_in_thread(work: Callable[[StopFlag], None], stop: asyncio.Event) -> None:
    """Do blocking work in a thread, whose flag is set with `stop`; return once the work has ended.

    Raises:
        PipelineError: as `work`.
    """
    flag = StopFlag()
    working = asyncio.create_task(asyncio.to_thread(work, flag))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    flag.set()
    await working
