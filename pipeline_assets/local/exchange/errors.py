"""The exchange's error replies, as Binance words them. When they are sent is decided elsewhere.

Codes and texts: replies recorded on mainnet, and
https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code
"""

import json

HTML_502 = b"""<html>\r
<head><title>502 Bad Gateway</title></head>\r
<body>\r
<center><h1>502 Bad Gateway</h1></center>\r
</body>\r
</html>\r
"""

CONTENT_TYPE = "application/json;charset=UTF-8"


class ApiError(Exception):
    """A refusal: HTTP status, the two fields of Binance's error body, and when to come back."""

    content_type = CONTENT_TYPE

    def __init__(
        self, status: int, code: int, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def body(self) -> bytes:
        """Return the JSON body, compact as Binance sends it."""
        return json.dumps({"code": self.code, "msg": self.message}, separators=(",", ":")).encode()

    def headers(self) -> dict[str, str]:
        """Return the headers of its own: Retry-After in seconds on 429 and 418."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class ConnectionCut(Exception):  # noqa: N818 - it is no error of the exchange's but a fault
    """The connection is to be reset in place of a reply."""


class HtmlError(ApiError):
    """The answer of the load balancer in front of the exchange when no server is behind it."""

    content_type = "text/html"

    def body(self) -> bytes:
        """Return an HTML page, whatever the client expected."""
        return HTML_502


def invalid_symbol() -> ApiError:
    """Return the error for a symbol that was never listed."""
    return ApiError(400, -1121, "Invalid symbol.")


def invalid_interval() -> ApiError:
    """Return the error for an interval that does not exist."""
    return ApiError(400, -1120, "Invalid interval.")


def missing_parameter(name: str) -> ApiError:
    """Return the error for a mandatory parameter that is absent, or one that is no number."""
    text = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    return ApiError(400, -1102, text)


def invalid_parameter(name: str) -> ApiError:
    """Return the error for a parameter outside its range."""
    return ApiError(400, -1130, f"Data sent for parameter '{name}' is not valid.")


def reversed_times() -> ApiError:
    """Return the error for a startTime after the endTime."""
    return ApiError(400, -1023, "Start time is greater than end time.")


def unknown_path(method: str, path: str) -> ApiError:
    """Return the error for a path that the interface does not have."""
    return ApiError(404, -5000, f"Path {path}, Method {method} is invalid")


def too_many_requests(address: str, limit: int, retry_after: int) -> ApiError:
    """Return the error for a minute whose weight is spent."""
    text = (
        f"Too many requests; current limit of IP({address}) is {limit} requests per minute. "
        "Please use the websocket for live updates to avoid polling the API."
    )
    return ApiError(429, -1003, text, retry_after)


def banned(address: str, until_ms: int, retry_after: int) -> ApiError:
    """Return the error for an address that went on sending after it was refused."""
    text = (
        f"Way too many requests; IP({address}) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans."
    )
    return ApiError(418, -1003, text, retry_after)


SERVER_FAILURES = {
    "http_500": ApiError(500, -1000, "An unknown error occurred while processing the request."),
    "http_503": ApiError(
        503, -1001, "Internal error; unable to process your request. Please try again."
    ),
    "http_408": ApiError(
        408,
        -1007,
        "Timeout waiting for response from backend server. "
        "Send status unknown; execution status unknown.",
    ),
    "html_502": HtmlError(502, 0, "Bad Gateway"),
}
"""Failures of the exchange itself, by the name of the fault that causes them."""
