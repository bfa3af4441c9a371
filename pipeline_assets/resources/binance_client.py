"""python-binance's client, as this program uses it: the one module that reaches into its insides.

Requests are built in exchange_requests.py; replies are read in market/replies.py.
"""

import re
import socket
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_assets.private_apis import require_names
from pipeline_assets.resources.bounded_replies import read_within

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from pipeline_assets.settings import BinanceSettings

# Most bytes of a reply, by the last part of its path: 499 candles have 100 kB, 900 symbols 2 MB.
_LARGEST_REPLY = {"klines": 2_000_000, "fundingRate": 2_000_000, "exchangeInfo": 64_000_000}
_LARGEST_OTHER = 1_000_000
_DIGITS = re.compile(r"[0-9]{1,6}")  # ten days of seconds; 400 times the weight of a minute
# Members of AsyncClient that are overridden or set here, or called by exchange_requests.py.
_USED = (
    "_handle_response",
    "_request",
    "FUTURES_URL",
    "REQUEST_TIMEOUT",
    "close_connection",
    "futures_exchange_info",
    "futures_funding_rate",
    "futures_klines",
    "futures_time",
    "futures_v1_get_funding_info",
)


class Reply(NamedTuple):
    """An answer as received, and X-MBX-USED-WEIGHT-1M: what this address used in the minute.

    `order_counts` are X-MBX-ORDER-COUNT-10S and -1M: the account's orders in ten seconds and in the minute.
    """

    status: int
    body: bytes
    used_weight: int
    retry_after: str | None
    date: str | None
    location: str | None
    order_counts: tuple[int, int] | None = None


def open_client(
    settings: "BinanceSettings",
    proxy: str | None,
    make: Callable[..., Any] | None = None,
    **credentials: str,
) -> Any:
    """Return a client with an open connection pool; nothing is sent (AsyncClient.create would ping the
    spot exchange).

    Args:
        settings: the address and the limits of its use.
        proxy: that leads there; None to connect directly.
        make: another class than the one for public requests.
        credentials: for that class.

    Raises:
        DependencyChangedError: another python-binance is installed than this module is made for.
    """
    from aiohttp import DummyCookieJar, TCPConnector

    connector = TCPConnector(
        limit=settings.concurrency, ttl_dns_cache=300, local_addr=local_address(settings.egress)
    )
    client = (make or client_class())(
        session_params={"connector": connector, "cookie_jar": DummyCookieJar()},
        requests_params={"allow_redirects": False},
        https_proxy=proxy,
        **credentials,
    )
    client.FUTURES_URL = settings.rest_url + "/fapi"
    client.REQUEST_TIMEOUT = settings.timeout_seconds
    return client


def local_address(egress: str | None) -> tuple[str, int] | None:
    """Return the address to send requests from if it is one of this machine, else None.

    Behind a NAT the egress address is none of this machine's, and the system chooses what it sends from.
    """
    try:
        version = ip_address(egress or "").version
    except ValueError:
        return None
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((egress, 0))
    except OSError:
        return None
    return str(egress), 0


def number_of(header: str | None) -> int | None:
    """Return the number in a header; None for anything but one to six digits."""
    return int(header) if header and _DIGITS.fullmatch(header) else None


def _order_counts(response: "ClientResponse") -> tuple[int, int] | None:
    counts = [
        number_of(response.headers.get(f"X-MBX-ORDER-COUNT-{span}")) for span in ("10S", "1M")
    ]
    return (counts[0] or 0, counts[1] or 0) if any(counts) else None


@cache
def client_class() -> type:
    """python-binance's AsyncClient, changed in what it does with a reply.

    Built on first use, because importing binance takes half a second that only a run which fetches
    should pay.
    """
    from aiohttp import ClientResponse
    from binance.async_client import AsyncClient

    require_names("python-binance", AsyncClient, _USED, __name__)

    class Client(AsyncClient):  # type: ignore[misc]
        """Every method returns a `Reply` with the body's BYTES, whatever its status.

        Candles are parsed for all symbols at once by market.replies; AsyncClient would decode each
        reply twice into lists that no code reads. It also raises AttributeError on an error body
        that is JSON but no object, and calls an HTML error page code 0. The used weight is taken
        here, because all tasks share `client.response`. A reply is read up to a limit of its size.
        """

        async def _handle_response(self, response: ClientResponse) -> Reply:
            limit = _LARGEST_REPLY.get(response.url.name, _LARGEST_OTHER)
            return Reply(
                response.status,
                await read_within(response, limit, self.REQUEST_TIMEOUT),
                number_of(response.headers.get("X-MBX-USED-WEIGHT-1M")) or 0,
                response.headers.get("Retry-After"),
                response.headers.get("Date"),
                response.headers.get("Location"),
                _order_counts(response),
            )

    return Client
