"""Downloads from Binance's archive of closed days: each file with its checksum, many at once.

Names and content of the files are in market/archive.py; collection/archive_source.py decides which files a
fetch uses.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.archive import (
    ArchivedFile,
    MalformedArchiveError,
    verify_checksum,
)
from pipeline_assets.outside_text import printable
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.bounded_replies import ReplyLimitError, read_within, redirect_target
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.waiting import next_item

if TYPE_CHECKING:
    import aiohttp
    import polars as pl

    from pipeline_assets.settings import BinanceSettings

File = TypeVar("File", bound=ArchivedFile)

# A month of 1m is 9 MB of rows, so that this many, read and not yet taken, are 150 MB at most.
_AT_ONCE = 16
# Soon given up, as the exchange itself is there to be asked for what the archive does not give.
_RETRIES = RetryPolicy(attempts=3, first_wait=0.5, longest_wait=1.0)
# After this many files in a row without an answer the remaining files are not requested.
_FAILURES_BORNE = 3
# A damaged transfer heals when it is repeated, a damaged file does not.
_DOWNLOADS = 2
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
# A checksum file is one line; S3's own error documents have a few hundred bytes.
_LARGEST_TEXT = 64 * 1024


class _NoAnswerError(OutsideSystemError):
    """The archive did not give a file, and did not say either that there is none."""

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


@dataclass(frozen=True)
class Downloaded(Generic[File]):
    """The result of downloading one file.

    Attributes:
        file: which.
        rows: a raw frame; None where there are none to be trusted.
        problem: why not; None where the archive says that there is no such file.
        damaged: whether the archive gave the file, and it is not what it should be.
    """

    file: File
    rows: "pl.DataFrame | None"
    problem: str | None = None
    damaged: bool = False

    @property
    def split(self) -> bool:
        """Whether the file's parts come instead, such as the days of a month, each with an own result."""
        return self.rows is None and len(self.file.parts) > 0


@dataclass
class _Work(Generic[File]):
    """State of one call of `downloads`, shared by its workers, which run in one event loop."""

    settings: "BinanceSettings"
    sleep: Callable[[float], Awaitable[None]]
    proxy: str | None
    pending: deque[File]
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    results: "SimpleQueue[Downloaded[File] | BaseException]" = field(default_factory=SimpleQueue)
    unanswered: int = 0


def downloads(
    settings: "BinanceSettings",
    files: Sequence[File],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Generator[Downloaded[File], None, None]:
    """Download files and read them, verified by their SHA-256, each as it completes.

    A month that the archive does not give is followed by its days. Reading changes nothing, so it
    may be repeated at will; closing the iterator ends what is under way.

    Args:
        settings: the archive's address and the time-out of a request.
        files: which, in the order in which they are wanted.
        sleep: how to wait, in seconds.

    Yields:
        One `Downloaded` a file. A file that is not there, cannot be had or is damaged is a result
        too, and no error.
    """
    left = {day for file in files for day in _symbol_days(file)}
    if not left:
        return
    work = _Work(settings, sleep, proxy_for(settings.archive_url), deque(files))
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def run() -> None:
        task = asyncio.current_task()
        if task is not None:
            started.set_result((asyncio.get_running_loop(), task))
        try:
            await _download_all(work)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            work.results.put(error)
        # The taker still speaks to this loop, and cancels this when it is done.
        await asyncio.Event().wait()

    def in_thread() -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(run())

    thread = Thread(target=in_thread, name="archive", daemon=True)
    thread.start()
    loop, task = started.result()
    try:
        while left:
            found = next_item(work.results)
            if isinstance(found, BaseException):
                raise found
            loop.call_soon_threadsafe(work.room.release)
            if not found.split:
                left.difference_update(_symbol_days(found.file))
            yield found
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _symbol_days(file: ArchivedFile) -> list[tuple[str, object]]:
    return [(file.symbol, day) for day in file.days]


async def _download_all(work: _Work[File]) -> None:
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

    seconds = work.settings.timeout_seconds
    # `_get` bounds the whole: a month on a slow line takes longer than any reply of the exchange.
    timeout = ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
    async with (
        ClientSession(timeout=timeout, cookie_jar=DummyCookieJar()) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(_AT_ONCE):
            group.create_task(_take_turns(work, session, group))


async def _take_turns(
    work: _Work[File], session: "aiohttp.ClientSession", group: asyncio.TaskGroup
) -> None:
    while work.pending:
        await work.room.acquire()
        if not work.pending:
            work.room.release()
            return
        file = work.pending.popleft()
        found = await _download(work, session, file)
        if found.split:
            work.pending.extendleft(reversed(found.file.parts))
            # Others may have ended, as there was nothing more to do; `room` bounds them all.
            for _ in file.parts[1:]:
                group.create_task(_take_turns(work, session, group))
        work.results.put(found)


async def _download(
    work: _Work[File], session: "aiohttp.ClientSession", file: File
) -> Downloaded[File]:
    problem: str | None = None
    for _ in range(_DOWNLOADS):
        try:
            body = await _get(work, session, file.path, file.largest_zip)
            if body is None:
                return Downloaded(file, None)
            reported = await _get(work, session, f"{file.path}.CHECKSUM", _LARGEST_TEXT)
            rows = await asyncio.to_thread(_read, file, body, reported)
        except _NoAnswerError as error:
            return Downloaded(file, None, f"{file.name}.zip could not be had: {error}.")
        except MalformedArchiveError as error:
            problem = str(error)
        else:
            return Downloaded(file, rows)
    return Downloaded(file, None, problem, damaged=True)


def _read(file: ArchivedFile, body: bytes, reported: bytes | None) -> "pl.DataFrame":
    if reported is None:
        raise MalformedArchiveError(f"{file.name}.zip has no checksum file beside it.")
    verify_checksum(file, body, reported)
    return file.read(body)


async def _get(
    work: _Work[File], session: "aiohttp.ClientSession", path: str, limit: int
) -> bytes | None:
    """Return the body at a path of the archive, or None where it says that there is nothing.

    A redirect is not followed: the checksum would come from the same wrong place as the file.

    Args:
        work: the settings, and how many requests failed in a row.
        session: of aiohttp.
        path: not percent-encoded.
        limit: most bytes of the body.

    Raises:
        _NoAnswerError: it refuses, or says nothing usable after some repetitions.
    """
    try:
        body = await _RETRIES.run_async(
            lambda: _attempt(work, session, path, limit),
            lambda error: isinstance(error, _NoAnswerError) and error.may_pass,
            sleep=work.sleep,
        )
    except _NoAnswerError:
        work.unanswered += 1
        raise
    work.unanswered = 0
    return body


async def _attempt(
    work: _Work[File], session: "aiohttp.ClientSession", path: str, limit: int
) -> bytes | None:
    """Request a path once; as `_get`."""
    from aiohttp import ClientError
    from yarl import URL

    if work.unanswered >= _FAILURES_BORNE:
        raise _NoAnswerError(f"{work.settings.archive_url} does not answer")
    url = URL(f"{work.settings.archive_url}/{quote(path)}", encoded=True)
    try:
        # Connecting and the headers have a deadline of their own: headers may drip in, too.
        async with asyncio.timeout(2 * work.settings.timeout_seconds):
            reply = await session.get(url, allow_redirects=False, proxy=work.proxy)
        async with reply:
            status = reply.status
            held = limit if status == HTTPStatus.OK else _LARGEST_TEXT
            body = await read_within(reply, held, work.settings.timeout_seconds)
    except ReplyLimitError as error:
        raise _NoAnswerError(str(error)) from error
    except (ClientError, TimeoutError) as error:
        cause = printable(error) or type(error).__name__
        raise _NoAnswerError(cause, may_pass=True) from error
    if status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        return body if status == HTTPStatus.OK else None
    cause = f"HTTP {status}"
    if status // 100 == 3:
        target = redirect_target(url, reply.headers.get("Location"))
        cause += f", a redirect to {target}, which is not followed"
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT
    raise _NoAnswerError(cause, may_pass=passing)
