"""A gateway in this process and a replay exchange in another, joined by real sockets and a real journal file,
in stepped time. The course of a history and its checks are in fault_history.py.

The exchange's clock and the gateway's stand still between steps, so that minutes pass in milliseconds. A step
waits until every answer is in. Chance comes from the seed alone.
"""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from random import Random
from types import CoroutineType
from typing import Any

from pipeline_assets.errors import PipelineError
from pipeline_assets.market.trading_rules import UNIT, TradingRules, units
from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.resources.weight_allowance import WeightAllowance
from pipeline_assets.settings import Settings
from pipeline_assets.trading import binance_stream, binance_upkeep, messages
from pipeline_assets.trading.gateway import Wish
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.work import Timing
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.trading.binance_bench import SYMBOLS, VenueBench
from pipeline_assets_tests.trading.exchange_controls import ExchangeControls
from pipeline_assets_tests.trading.gateway_bench import GatewayBench
from pipeline_assets_tests.trading.held_requests import HeldRequests
from pipeline_assets_tests.trading.test_core import LIMITS

HIDDEN = 60_000
"""How long the exchange hides an order at most, in milliseconds."""

TIMING = Timing(settling=HIDDEN + 10_000)
_MUCH = 10**6 * UNIT
_LIMITS = dataclasses.replace(
    LIMITS,
    order_notional=_MUCH, symbol_notional=_MUCH, gross_notional=_MUCH, daily_loss=_MUCH,
    orders_per_ten_seconds=200, orders_per_minute=1_000, price_age=10**9,
)  # fmt: skip
_RULES = {
    symbol: TradingRules(tick, Decimal("0.001"), Decimal("0.001"), Decimal(120_000), Decimal(5))
    for symbol, tick in (("BTCUSDT", Decimal("0.1")), ("ETHUSDT", Decimal("0.01")))
}
_ROUND = 0.0005
_LONGEST_SETTLING = 60


class KilledError(PipelineError):
    """The process ends here."""


class UnsettledError(PipelineError):
    """The gateway waits for something other than time. The message names what is under way."""


class KillSwitch:
    """Ends the gateway at one of its steps: a write or an order, before, during or after.

    Attributes:
        hard: whether the whole process ends by SIGKILL, and not only the gateway.
    """

    def __init__(self, kill_at: int = 0, hard: bool = False) -> None:
        self.steps, self.kill_at, self.hard = 0, kill_at, hard
        self.dead = False

    def passed(self) -> bool:
        """Count a step; return whether the process ends at this one."""
        self.steps += 1
        self.dead = self.dead or self.steps == self.kill_at
        if self.dead and self.hard:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.dead


class FragileJournal(SqliteJournal):
    """A journal file whose process may end before or after a write."""

    def __init__(self, path: Path, switch: KillSwitch) -> None:
        super().__init__(path)
        self._switch = switch

    def append(self, bodies: Sequence[bytes]) -> int:
        if self._switch.passed():
            raise KilledError("before a write")
        last = super().append(bodies)
        if self._switch.passed():
            raise KilledError("after a write")
        return last


class FragileVenue:
    """A venue whose process may end before, during or after the request of an order.

    Attributes:
        started: whether its start is over, so that the gateway handles events.
    """

    def __init__(self, venue: Any, switch: KillSwitch) -> None:
        self._venue, self._switch = venue, switch
        self.started = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    async def start(self, hear: Callable[[messages.Event | messages.PartEnded], None]) -> None:
        await self._venue.start(hear)
        self.started = True

    async def send(self, effect: messages.Send) -> messages.Event:
        await self._pass()
        request = asyncio.ensure_future(self._venue.send(effect))
        try:
            if self._switch.passed():
                await asyncio.wait({request}, timeout=effect.timestamp % 4 / 1000)
                await asyncio.Future()
            answer: messages.Event = await request
        finally:
            request.cancel()
        await self._pass()
        return answer

    async def _pass(self) -> None:
        if self._switch.passed():
            await asyncio.Future()


class FaultWorld:
    """Time, the exchange's controls, and a gateway that is started again after each kill."""

    def __init__(
        self, exchange: ExchangeHandle, settings: Settings, directory: Path, seed: int
    ) -> None:
        self.random, self.settings = Random(seed), settings
        self.now = 0
        self.alarms, self.endings = list[str](), list[str]()
        self.bench: GatewayBench | None = None
        self.switch = KillSwitch()
        self._path = directory / "journal.sqlite"
        self.control = ExchangeControls(exchange)
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []
        self._venue: FragileVenue
        self._requests: HeldRequests | None = None

    async def __aenter__(self) -> "FaultWorld":
        await self.control.__aenter__()
        self.now = (await self.control("state"))["now_ms"]
        return self

    async def begin_anew(self) -> None:
        """Empty the exchange, and set its account up as the settings say."""
        await self.control.begin_anew(self.settings.trading, SYMBOLS)
        self.now = (await self.control("state"))["now_ms"]

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        await self.control.__aexit__()

    # --- the exchange ---

    async def truth(self) -> Any:
        """Return what the exchange knows of the account."""
        return next(iter((await self.control("trading"))["accounts"].values()))

    def tell_prices(self) -> None:
        """Tell the gateway closes as its feed does; the exchange's own are within a percent of these."""
        for symbol, price in (("BTCUSDT", "87600"), ("ETHUSDT", "3140")):
            if self.bench:
                self.bench.gateway.hear(messages.PriceSeen(symbol, units(price), self.now))

    # --- time ---

    async def sleep(self, seconds: float) -> None:
        """Wait in stepped time."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + round(1000 * seconds), future))
        await future

    async def step(self, milliseconds: int) -> None:
        """Let time pass, and wait until every answer is in."""
        async with self._requests.held() if self._requests else nullcontext():
            self.now += milliseconds
            await self.control("clock", {"advance_ms": milliseconds})
        due = [each for until, each in self._sleepers if until <= self.now or each.done()]
        self._sleepers = [each for each in self._sleepers if each[1] not in due]
        for each in due:
            if not each.done():
                each.set_result(None)
        if self.bench and self.bench.task.done():
            await self.kill()
        if self.bench:
            self.bench.gateway.hear(messages.Timer())
        await self.settle()

    async def settle(self) -> None:
        """Wait until the gateway has nothing to do but to wait for time; a killed one is gone after that.

        Raises:
            UnsettledError: that takes more than a minute of real time.
        """
        try:
            async with asyncio.timeout(_LONGEST_SETTLING):
                await self._become_quiet()
        except TimeoutError:
            text = "; ".join(self._doing())
            raise UnsettledError(f"The gateway did not settle. Under way: {text}") from None

    async def _become_quiet(self) -> None:
        quiet = 0
        while quiet < 2 and self.bench:
            await asyncio.sleep(_ROUND)
            if self.switch.dead:
                await self.kill()
            elif self.bench.task.done():
                return
            else:
                quiet = quiet + 1 if self._is_quiet(self.bench) else 0

    def _is_quiet(self, bench: GatewayBench) -> bool:
        gateway = bench.gateway
        # A start reads the account, and may wait for weight, before it handles events.
        reads = self._venue.started
        if reads and (not gateway._events.empty() or gateway._step_under_way.locked()):
            return False
        tasks = gateway._tasks if reads else {bench.task}
        return not tasks or (self._is_anything_asleep() and _wait_for_time(tasks))

    def _is_anything_asleep(self) -> bool:
        return any(not future.done() for _, future in self._sleepers)

    def _doing(self) -> list[str]:
        """Return the coroutines that the tasks of the gateway are in."""
        if self.bench is None:
            return ["the end of the gateway"]
        return [" > ".join(_calls(each)) for each in (self.bench.task, *self.bench.gateway._tasks)]

    # --- the gateway ---

    @property
    def state(self) -> GatewayState:
        assert self.bench
        return self.bench.core.state

    @property
    def running(self) -> bool:
        """Whether a gateway is there, started or starting."""
        return self.bench is not None and not self.bench.task.done()

    @property
    def starting(self) -> bool:
        """Whether a gateway is there that does not handle events yet."""
        return self.running and not self._venue.started

    def start(self, kill_at: int = 0, hard: bool = False) -> None:
        """Start a gateway over the journal, which ends at one of its steps; 0 is none."""
        self.switch = KillSwitch(kill_at, hard)
        venue = VenueBench(self.settings, monotonic=lambda: self.now / 1000, sleep=self.sleep)
        # Before it has measured, the clock is the machine's: right, as it is where time is not stepped.
        venue.account.clock._wall_offset_ms = 0.0
        self._requests = HeldRequests(venue.account)
        self._venue = FragileVenue(venue.venue, self.switch)
        self.bench = GatewayBench(
            self._path,
            self._venue,
            FragileJournal(self._path, self.switch),
            _LIMITS,
            venue.time,
            _RULES,
            TIMING,
        )
        self.bench.alarms = self.alarms
        self.bench.gateway._alarm = self.alarms.append

    async def kill(self) -> None:
        """End the process. Orders that it began to send are on their way, and no answer is heard."""
        bench, self.bench, self._requests = self.bench, None, None
        if bench:
            try:
                await bench.stop()
            except PipelineError as error:
                self.endings.append(str(error))

    async def ask(self, wish: Wish) -> messages.Reply | None:
        """Ask the gateway; None if it ended before it answered, so that the caller does not know."""
        bench = self.bench
        if bench is None:
            return None
        asked = asyncio.ensure_future(bench.gateway.ask(wish))
        await asyncio.wait({asked, bench.task}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done() or asked.exception():
            asked.cancel()
            return None
        return asked.result()


def _wait_for_time(tasks: Iterable[asyncio.Task[None]]) -> bool:
    """Return whether each task sleeps, or waits for weight behind the one that sleeps until some is free."""
    if all(_SLEEP in _calls(each) for each in tasks):
        return True
    if not all(_TAKE in _calls(each) for each in tasks):
        return False
    everything = (_calls(each) for each in asyncio.all_tasks())
    return any(_TAKE in each and _SLEEP in each for each in everything)


def _calls(task: asyncio.Task[Any]) -> list[str]:
    """Return the names of the coroutines that a task is in, from the outermost on."""
    names, each = [], task.get_coro()
    while isinstance(each, CoroutineType):
        names.append(each.__qualname__)
        each = each.cr_await
    return names


_TAKE, _SLEEP = WeightAllowance.take.__qualname__, FaultWorld.sleep.__qualname__


def shorten_waits(monkeypatch: Any) -> None:
    """Have the loops that wait in real time look often: time is stepped here."""
    for module, name in (
        (binance_stream, "_LOOK_SECONDS"),
        (binance_stream, "_FIRST_WAIT"),
        (binance_stream, "_LONGEST_WAIT"),
        (binance_upkeep, "_LOOK_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)
