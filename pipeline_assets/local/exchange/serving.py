"""The exchange's HTTP server process: from port to signal. The application is in server.py."""

import asyncio
import signal
from collections.abc import Callable

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange.server import Exchange


async def serve(exchange: Exchange, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        exchange: what to serve.
        host: the address of this machine to listen on.
        port: 0 takes a free one.
        ready: called with the port once connections are accepted.

    Raises:
        OSError: the port cannot be had.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Handlers are cancelled with their client: a hanging reply would outlive it otherwise.
    runner = web.AppRunner(
        exchange.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
