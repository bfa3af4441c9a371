"""The HTTP door: the same calls as gateway.proto's, by FastAPI. Only translation belongs here: bodies to
requests, refusals to status codes, events to server-sent events.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.services.gateway import requests
from pipeline_assets.services.gateway.access import Access
from pipeline_assets.services.gateway.service import (
    MALFORMED,
    CallRefusedError,
    GatewayService,
    Kind,
)
from pipeline_assets.services.gateway.views import (
    FillView,
    OrderStateView,
    PositionView,
    StateView,
)
from pipeline_assets.trading.gateway import GatewayStoppedError
from pipeline_assets.web_guard import (
    Application,
    GuardedApplication,
    Message,
    Receive,
    Send,
    WebGuard,
)

_STATUS = {
    Kind.INVALID: 422,
    Kind.NOT_FOUND: 404,
    Kind.EXISTS: 409,
    Kind.NOT_NOW: 409,
    Kind.BEYOND: 416,
    Kind.UNPERMITTED: 401,
    Kind.FOREIGN: 403,
}
_UNSERVED = {400: (422, "malformed"), 404: (404, "not_found"), 405: (405, "method")}
# A person who opens the address in a browser comes to a path that does not exist.
_NEXT_STEPS = {
    404: "There is no such path. /openapi.json describes the paths and their methods.",
    405: "This path has no such method. /openapi.json describes the paths and their methods.",
}
_JSON = "application/json"
_MOST_EVENTS = 2**53
# An order is some hundred bytes.
_LARGEST_BODY = 64 * 1024


class Problem(BaseModel):
    """Why a call was not carried out: `code` for programs, `message` for people."""

    code: str
    message: str


class CloseAnswer(BaseModel):
    """The id of the close that is under way for the symbol."""

    close_id: str


class CloseBody(requests.Request):
    """The wish to close a position."""

    close_id: requests.Id
    reason: requests.Reason


class Health(BaseModel):
    """Whether the gateway takes calls."""

    status: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (404, 409, 422, 503)
}
_CHANGES = _PROBLEMS | {status: {"model": Problem} for status in (401, 413)}


def http_door(service: GatewayService, access: Access, guard: WebGuard) -> Application:
    """Return the ASGI application."""
    app = FastAPI(
        title="Order gateway",
        version="1",
        # Its pages would load scripts from elsewhere into the gateway's own origin.
        docs_url=None,
        redoc_url=None,
        description="Decimals are text, times are milliseconds since 1970 (UTC).",
    )
    app.include_router(_reading(service))
    app.include_router(_changing(service))
    _report_errors(app)
    return GuardedApplication(_Admission(app, access), guard)


class _Admission:
    """Refuses a change without the token, and a body that is too large, before the body is read."""

    def __init__(self, app: Application, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""
        headers = Headers(scope=scope)
        answer: JSONResponse | None = None
        if scope["method"] not in ("GET", "HEAD"):
            try:
                self._access.require(headers.get("authorization"))
            except CallRefusedError as refusal:
                answer = _refused(refusal)
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > _LARGEST_BODY:
            answer = answer or _problem(413, "body", f"The body may have {_LARGEST_BODY} bytes.")
        await (answer or self._app)(scope, receive, send)


def _reading(service: GatewayService) -> APIRouter:
    """Return the routes that change nothing."""
    router = APIRouter(responses=_PROBLEMS)

    @router.get("/health")
    async def health() -> Health:
        """Report whether the gateway takes calls."""
        service.gateway.require_running()
        return Health(status="SERVING")

    @router.get("/v1/orders")
    async def list_orders() -> list[OrderStateView]:
        """List the orders that are not at an end, in the order of sending."""
        return service.orders()

    @router.get("/v1/orders/{client_id:path}")
    async def get_order(client_id: str) -> OrderStateView:
        """Return one order."""
        return service.order(client_id)

    @router.get("/v1/positions")
    async def list_positions() -> list[PositionView]:
        """List the symbols with a position, an open order or a close under way."""
        return service.positions()

    @router.get("/v1/fills")
    async def list_fills(request: Annotated[requests.FillsRequest, Query()]) -> list[FillView]:
        """List the newest fills, oldest first."""
        return service.fills(request)

    @router.get("/v1/risk")
    async def get_state() -> StateView:
        """Return mode, day's result, exposure and limits."""
        return service.state()

    async def last_seen(
        after: Annotated[int, Query(ge=0, lt=_MOST_EVENTS)] = 0,
        last_event_id: Annotated[int | None, Header(ge=0, lt=_MOST_EVENTS)] = None,
    ) -> int:
        # A dependency, since a stream that has begun cannot be refused by a status any more.
        last = after if last_event_id is None else last_event_id
        service.require_event(last)
        return last

    @router.get(
        "/v1/events", response_class=EventSourceResponse, responses={416: {"model": Problem}}
    )
    async def stream_events(
        last: Annotated[int, Depends(last_seen)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Send every change in order: those of the past above `after` or `Last-Event-ID`, then new ones."""
        # A gateway that stops ends the stream; the reader comes back with its last id.
        with suppress(GatewayStoppedError):
            async for event in service.events(requests.EventsRequest(after=last)):
                yield ServerSentEvent(id=str(event.sequence), event=event.type, data=event)

    return router


def _changing(service: GatewayService) -> APIRouter:
    """Return the routes that need the token, which is checked before."""
    bearer = HTTPBearer(auto_error=False, description="The setting PIPELINE_GATEWAY__TOKEN.")
    router = APIRouter(responses=_CHANGES, dependencies=[Depends(bearer)])

    @router.post("/v1/orders")
    async def place_order(request: requests.OrderRequest) -> OrderStateView:
        """Place an order, once; the same order again returns its state."""
        return await service.place(request)

    @router.delete("/v1/orders/{client_id:path}")
    async def cancel_order(client_id: str) -> OrderStateView:
        """Ask the venue to cancel an order."""
        return await service.cancel(client_id)

    @router.post("/v1/positions/{symbol}/close")
    async def close_position(symbol: requests.Symbol, body: CloseBody) -> CloseAnswer:
        """Close a symbol's position."""
        request = requests.CloseRequest(symbol=symbol, close_id=body.close_id, reason=body.reason)
        return CloseAnswer(close_id=await service.close(request))

    @router.post("/v1/risk/halt")
    async def halt(request: requests.ModeRequest) -> StateView:
        """Open nothing until resumed; cancels and closes pass."""
        return await service.halt(request)

    @router.post("/v1/risk/resume")
    async def resume(request: requests.ResumeRequest) -> StateView:
        """Accept every order again; the day's loss counts anew."""
        return await service.resume(request)

    @router.post("/v1/risk/flatten")
    async def flatten(request: requests.FlattenRequest) -> StateView:
        """Halt, cancel the gateway's orders and close every position of the account."""
        return await service.flatten(request)

    return router


def _report_errors(app: FastAPI) -> None:
    async def refused(_: Request, error: CallRefusedError) -> JSONResponse:
        return _refused(error)

    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer repeats the value, which may not be text that JSON can hold.
        found = requests.described(error.errors())
        sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if sent != _JSON and any(each["loc"] == ("body",) for each in error.errors()):
            # FastAPI takes the body for text, and its own message says nothing of the header.
            found = f"Send JSON with `Content-Type: {_JSON}`."
        return _problem(422, MALFORMED, found)

    async def unserved(_: Request, error: HTTPException) -> JSONResponse:
        # FastAPI raises these: a body that is no text, an address or a method that does not exist.
        status, code = _UNSERVED.get(error.status_code, (error.status_code, "http"))
        message = _NEXT_STEPS.get(error.status_code, str(error.detail))
        return _problem(status, code, message, dict(error.headers or {}))

    async def unavailable(_: Request, error: OutsideSystemError) -> JSONResponse:
        return _problem(503, "unavailable", str(error))

    for kind, report in (
        (CallRefusedError, refused),
        (RequestValidationError, malformed),
        (HTTPException, unserved),
        (OutsideSystemError, unavailable),
    ):
        app.add_exception_handler(kind, report)  # type: ignore[arg-type]


def _refused(error: CallRefusedError) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.kind is Kind.UNPERMITTED else None
    return _problem(_STATUS[error.kind], error.code, str(error), headers)


def _problem(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    # A path may hold half a surrogate pair, which no encoding can write.
    shown = message.encode("utf-8", errors="replace").decode()
    return JSONResponse(Problem(code=code, message=shown).model_dump(), status, headers)
