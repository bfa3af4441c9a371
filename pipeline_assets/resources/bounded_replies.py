"""Read the reply to an HTTP request within limits of size and time. Callers decide which request to send, how
often, and how to read the reply.
"""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

# The slowest transfer that is waited for. Sixteen downloads at once then need a line of 80 kB/s.
_LEAST_BYTES_A_SECOND = 5_000


class ReplyLimitError(OutsideSystemError):
    """A reply is larger or slower than it may be. The message names the address and the limit."""


def address_of(url: object) -> str:
    """Return an address for people: scheme, host, port and path, without credentials and query."""
    parts = urlsplit(str(url))
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def redirect_target(url: object, location: str | None) -> str:
    """Return where a redirect leads, for an error message: redirects are never followed."""
    if not location:
        return "nowhere"
    try:
        return address_of(urljoin(str(url), location))
    except ValueError:
        return printable(location[:100])


async def read_within(response: "ClientResponse", limit: int, seconds: float) -> bytes:
    """Read a reply's body, decoded, and stop as soon as a limit is passed.

    The size is counted while the body is decoded, so that a small compressed reply cannot fill the
    memory: aiohttp decodes a chunk at a time. The body may take `seconds` and what its size needs at
    5 kB/s: a server that sends a byte now and then keeps a socket's own time-out from ever striking.

    Args:
        response: of aiohttp, its body not read yet.
        limit: most bytes of the decoded body.
        seconds: how long the first byte may take.

    Raises:
        ReplyLimitError: the body is larger or slower; the connection is closed.
        aiohttp.ClientError: the connection broke, or the body cannot be decoded.
    """
    if (response.content_length or 0) > limit:
        raise _too_large(response, limit)
    chunks: list[bytes] = []
    size = 0
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(begun + seconds) as deadline:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise _too_large(response, limit)
                chunks.append(chunk)
                deadline.reschedule(begun + seconds + size / _LEAST_BYTES_A_SECOND)
    except TimeoutError:
        if not deadline.expired():
            raise
        response.close()
        raise ReplyLimitError(
            f"{address_of(response.url)} sent {size} bytes and then was slower than "
            f"{_LEAST_BYTES_A_SECOND // 1000} kB/s for {seconds:g} s"
        ) from None
    return b"".join(chunks)


def _too_large(response: "ClientResponse", limit: int) -> ReplyLimitError:
    response.close()
    return ReplyLimitError(
        f"{address_of(response.url)} sends more than the {limit} bytes that such a reply may have"
    )
