"""The pages of requests that read a window for the least weight, and what becomes of each on its way.

How a page is requested is in exchange_requests.py, and who works through them in exchange.py.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from pipeline_assets.market.intervals import EPOCH, Interval
from pipeline_assets.market.windows import Window, bounding_window
from pipeline_assets.resources.exchange_errors import ExchangeError

_SMALL_PAGE, _LARGE_PAGE = 99, 499  # most rows for weight 1 and for weight 2; 499 is the best a row
# Pages fetched and not yet taken, some 15 MB of replies: with room for symbols instead, eighty of them
# with a month of minutes each waited for a caller that was slower than the exchange, 600 MB.
_PAGES_AHEAD = 180


@dataclass(frozen=True)
class Fetched:
    """The result of fetching one symbol.

    Attributes:
        symbol: the symbol as requested.
        window: from the first to the last moment that was asked for.
        replies: the bodies as received, in the order of time, or nothing if there is an error. The
            replies of a window in which the symbol did not exist are empty lists (`[]`).
        error: why this symbol could not be fetched. The others are unharmed.
        confirmed: the spans without candles at the exchange: requested alone, it answered repeatedly
            that it has none. Filled only if `klines` was called with `confirm`.
        rows: how many rows the replies hold.
    """

    symbol: str
    window: Window
    replies: list[bytes]
    error: ExchangeError | None = None
    confirmed: tuple[Window, ...] = ()
    rows: int = 0


@dataclass
class Job:
    """A symbol that is being fetched."""

    symbol: str
    window: Window
    replies: list[list[bytes]]
    missing: int
    error: ExchangeError | None = None
    confirmed: list[Window] = field(default_factory=list)
    rows: int = 0

    def result(self) -> Fetched:
        """Return the symbol's result. Call it once nothing is missing."""
        if self.error is not None:
            return Fetched(self.symbol, self.window, [], self.error)
        bodies = [body for page in self.replies for body in page]
        confirmed = tuple(sorted(self.confirmed))
        return Fetched(self.symbol, self.window, bodies, confirmed=confirmed, rows=self.rows)


@dataclass(frozen=True)
class Page:
    """One request of a symbol's."""

    job: Job
    number: int
    window: Window
    limit: int


@dataclass
class Batch:
    """All that one call of `klines` fetches; the workers share it.

    A symbol's pages count as `ahead` from its first one until the caller takes the result, so a slow
    caller holds up the fetching instead of filling the memory.
    """

    interval: Interval
    pages: Iterator[Page]
    on_progress: Callable[[int], None] | None
    confirm: bool
    ahead: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    results: "SimpleQueue[Fetched | BaseException]" = field(default_factory=SimpleQueue)

    async def next_page(self) -> Page | None:
        """Return the next page to fetch, once there is room for all of its symbol; None after the last."""
        # One at a time: past a worker that waits for room, others would fetch the symbol's other pages.
        async with self.turn:
            page = next(self.pages, None)
            if page is not None and page.number == 0:
                count = len(page.job.replies)
                while self.ahead and self.ahead + count > _PAGES_AHEAD:
                    self.taken.clear()
                    await self.taken.wait()
                self.ahead += count
            return page

    def give_room(self, count: int) -> None:
        """Record that the caller has taken so many pages."""
        self.ahead -= count
        self.taken.set()


def weight_of(limit: int) -> int:
    """Return the weight of a klines request (Binance USD-M Futures, Kline/Candlestick Data)."""
    if limit <= 99:
        return 1
    return 2 if limit <= 499 else 5 if limit <= 1000 else 10


def pages(interval: Interval, window: Window) -> list[tuple[Window, int]]:
    """Return the requests that read `window` for the least weight: (window, limit) in the order of time.

    499 rows cost weight 2 and 99 cost 1, so a window of at most 99 candles is one request of
    weight 1, and a longer one is pages of 499 with what is left over as the last. Asking for all
    the rows of a weight costs nothing and leaves room for candles off the grid (seen after
    outages).

    Raises:
        ValueError: the window does not begin and end on the interval's grid.
    """
    if interval.floor(window.start) != window.start or interval.floor(window.end) != window.end:
        raise ValueError(f"{window.start} to {window.end} is not on the grid of {interval.value}")
    step = _LARGE_PAGE * interval.span
    found = []
    start = window.start
    while start < window.end:
        page = Window(start, min(start + step, window.end))
        small = page.candles(interval) <= _SMALL_PAGE
        found.append((page, _SMALL_PAGE if small else _LARGE_PAGE))
        start = page.end
    return found


def weight_of_ingest_run(interval: Interval) -> int:
    """Return what an ingest run's requests for one symbol weigh at most: it reads one open object's span."""
    window = Window(EPOCH, EPOCH + interval.definition.open_object)
    return sum(weight_of(limit) for _, limit in pages(interval, window))


def plan(interval: Interval, symbol: str, windows: Sequence[Window]) -> list[Page]:
    """Return the pages of one symbol's windows."""
    parts = [part for window in windows for part in pages(interval, window)]
    job = Job(symbol, bounding_window(windows), [[] for _ in parts], len(parts))
    return [Page(job, number, part, limit) for number, (part, limit) in enumerate(parts)]
