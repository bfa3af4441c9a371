"""How the replay exchange replies: whole, cut off, by a reset connection, or with a refusal of another site's
page. The content of a reply is not known here.
"""

import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

# This module is imported by the server process only, which is nothing without aiohttp.
# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253  # noqa: TID253
from aiohttp.typedefs import Middleware  # noqa: TID253

from pipeline_assets.local.exchange import errors
from pipeline_assets.web_guard import WebGuard


def compact(document: object) -> bytes:
    """Return JSON without blanks, other scripts' characters as themselves."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def reply(
    body: bytes, status: int, headers: Mapping[str, str], content_type: str = errors.CONTENT_TYPE
) -> web.Response:
    """Return a whole reply."""
    return web.Response(body=body, status=status, headers={"Content-Type": content_type, **headers})


def reset(request: web.Request) -> web.Response:
    """Reset the connection: no reply, not even an orderly end."""
    transport = request.transport
    if transport is not None:
        # Without linger the kernel ends the connection in order, which clients see otherwise.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    return web.Response()


async def truncated(
    request: web.Request, answer: bytes, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send half of a reply whose Content-Length promised all of it, then the end of the connection."""
    response = web.StreamResponse(headers={"Content-Type": errors.CONTENT_TYPE, **headers})
    response.content_length = len(answer)
    await response.prepare(request)
    await response.write(answer[: len(answer) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def guarded_by(guard: WebGuard) -> Middleware:
    """Return the middleware that refuses what other sites' pages send, before a fault strikes it."""

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        port = None
        if request.transport is not None:
            port = request.transport.get_extra_info("sockname")[1]
        refusal = guard.refusal(request.method, request.path, request.raw_headers, port)
        if refusal is None:
            return await handler(request)
        return reply(compact({"error": refusal.message}), refusal.status, {})

    return check
