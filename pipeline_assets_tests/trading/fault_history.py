"""One history of orders on the replay exchange under faults from one seed: a caller, and what happens to it.

    python -m pipeline_assets_tests.trading.fault_history SEED [COUNT]

replays a seed, or COUNT seeds from it on; the exit status is 1 if one breaks a promise. The promises are in
fault_promises.py, the machinery in fault_world.py.
"""

import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pipeline_assets.market.trading_rules import units
from pipeline_assets.settings import Settings
from pipeline_assets.trading import messages
from pipeline_assets.trading.gateway import Wish
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.order_ids import entry_id
from pipeline_assets.trading.order_types import Mode, Order, Status
from pipeline_assets_tests.fixtures.exchange import START, ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.binance_bench import SYMBOLS, settings_at
from pipeline_assets_tests.trading.fault_promises import (
    UNATTENDED,
    UNPROTECTED,
    History,
    broken_promises,
    hidden_symbols,
    positions_of,
)
from pipeline_assets_tests.trading.fault_world import (
    HIDDEN,
    FaultWorld,
    UnsettledError,
    shorten_waits,
)

BUSY, STEP, QUIET_STEP, CLOSING_STEP, STARTING_STEP = 60_000, 2_000, 9_000, 1_000, 250
_LEAST, _MOST = 8, 40
_PROGRESS = 10
_SPAN = 10_000
SHARES = (
    "order_503_accepted", "order_503_lost", "order_408_accepted", "order_408_lost",
    "order_503_failed", "order_503_overloaded", "order_cut_before", "order_cut_after",
    "order_hidden", "cancel_503_accepted", "cancel_cut_before", "cancel_cut_after",
    "partial_fill", "expired_with_fills", "expired_in_match",
    "event_lost", "event_duplicated", "event_swapped",
)  # fmt: skip
REQUESTS = ("reset", "http_503", "http_500", "http_408", "truncated", "cut_json")


class FaultHistory:
    """A caller that does not lose decisions, the faults of a seed, and the checks."""

    def __init__(self, world: FaultWorld) -> None:
        self.world, self.random, self.history = world, world.random, History()
        self.decisions: dict[str, messages.Reply | None] = {}
        self.foreign: set[str] = set()
        self._plans: list[tuple[int, Callable[[], Awaitable[None]]]] = []
        self._callers: set[asyncio.Task[None]] = set()
        self._since: dict[str, tuple[int, int]] = {}
        self._blocked_until = self._price_due = self._busy_until = 0
        self._faults: dict[str, Any] = {}

    async def run(self) -> History:
        """Run a busy time with faults and a quiet one without; then close everything and compare."""
        world = self.world
        self._plan()
        await self._set_faults()
        world.start(self._kill_step())
        self._busy_until = world.now + BUSY
        while world.now < self._busy_until:
            await self.step(STEP)
        await self._replace_faults({})
        return await self.finish()

    async def finish(self) -> History:
        """Let everything settle without faults, close everything, and compare."""
        for number in range(_MOST):
            await self._pass()
            if number > _LEAST and not self._live(lambda _: True, settled=False):
                break
        await self._flatten()
        await self._compare()
        for each in self._callers:
            each.cancel()
        return self.history

    async def _compare(self) -> None:
        world, history = self.world, self.history
        if not world.running:
            history.broken.append(f"the gateway does not run: {world.endings[-1:]}")
            return
        truth = await world.truth()
        history.posts = sum(truth["posts"].values())
        history.broken += broken_promises(truth, world.state, self.decisions, history)

    # --- faults ---

    def _plan(self) -> None:
        random = self.random
        plans = [self._decide(number) for number in range(random.randint(3, 7))]
        happenings = (
            self.close, self.trail, self._target, self._liquidate, self._deleverage, self._order_of_others,
            self._ban, self._cut, self._silence, self._expire_key, self._cut_stream, self._move_clock,
        )  # fmt: skip
        plans += random.sample(happenings, random.randint(2, 5))
        self._plans = [(self.world.now + random.randrange(0, BUSY), each) for each in plans]
        self._plans.sort(key=lambda each: each[0])

    async def _set_faults(self, **more: Any) -> None:
        random = self.random
        if not self._faults:
            names = random.sample(SHARES, random.randint(1, 4))
            trading: dict[str, Any] = {each: random.choice((0.1, 0.3, 0.6)) for each in names}
            trading |= {
                "seed": random.randrange(10**6),
                "hidden_ms": random.choice((5_000, HIDDEN)),
            }
            self._faults = {"trading": trading, "seed": random.randrange(10**6)}
            if random.random() < 0.3:
                self._faults[random.choice(REQUESTS)] = random.choice((0.05, 0.2))
        await self._replace_faults(self._faults | more)

    async def _replace_faults(self, faults: dict[str, Any]) -> None:
        """Put other faults in force, and count those that struck until now."""
        for part in ("trading", "state"):
            self.history.counts.update((await self.world.control(part))["faults_struck"])
        await self.world.control("faults", faults)

    async def _ban(self) -> None:
        self._block(20_000)
        await self._set_faults(ban_seconds=20)

    async def _cut(self) -> None:
        down = self.random.choice(("reset", "http_503"))
        length = self.random.choice((10_000, 40_000))
        self._block(length)
        await self._set_faults(down=down)
        self._later(length, self._set_faults)

    async def _silence(self) -> None:
        await self._set_faults(trading=self._faults["trading"] | {"stream_silent": True})
        self._later(20_000, self._set_faults)

    async def _expire_key(self) -> None:
        await self.world.control("trading/streams", {"end": "listen_key"})

    async def _cut_stream(self) -> None:
        await self.world.control("trading/streams", {"end": "connections"})

    async def _move_clock(self) -> None:
        """The exchange's clock is ten seconds ahead of what the gateway measured."""
        await self.world.control("clock", {"advance_ms": 10_000})

    async def _liquidate(self) -> None:
        await self._outside("close", {"by": "liquidation"})

    async def _deleverage(self) -> None:
        await self._outside("close", {"by": "adl"})

    async def _order_of_others(self) -> None:
        """Trade by hand, once the ledger began: a journal takes nothing over from before its first record."""
        if not (self.world.running and self.world.state.begun_at):
            if self.world.now + STEP < self._busy_until:
                self._later(STEP, self._order_of_others)
            return
        symbol = self.random.choice(SYMBOLS)
        self.foreign.add(symbol)
        order = {"symbol": symbol, "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        await self.world.control("trading/order", {"order": order})

    async def _outside(self, what: str, document: dict[str, Any]) -> None:
        for symbol in SYMBOLS:
            await self.world.control(f"trading/{what}", document | {"symbol": symbol})

    def _block(self, milliseconds: int) -> None:
        """Note that the gateway cannot reach the exchange, and needs its longest wait after that."""
        self._blocked_until = max(self._blocked_until, self.world.now + milliseconds + 10_000)

    def _later(self, milliseconds: int, act: Callable[[], Awaitable[None]]) -> None:
        self._plans.append((self.world.now + milliseconds, act))
        self._plans.sort(key=lambda each: each[0])

    # --- the caller ---

    def _decide(self, number: int) -> Callable[[], Awaitable[None]]:
        random = self.random
        symbol = random.choice(SYMBOLS)
        client_id = entry_id(f"decision-{number}")
        quantity = units("0.01") if symbol == "BTCUSDT" else units("0.3")
        order = Order(
            client_id=client_id, symbol=symbol, side=random.choice(("buy", "sell")), kind="market",
            quantity=quantity * random.randint(1, 3), decision_id=f"decision-{number}",
            stop_part=units(random.choice(("0.0003", "0.001", "0.01"))),
        )  # fmt: skip

        async def act() -> None:
            self.decide(order)

        return act

    def _call(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._callers.add(task)
        task.add_done_callback(self._callers.discard)

    def decide(self, order: Order) -> None:
        """Take a decision: its order must not be lost."""
        self.decisions[order.client_id] = None
        self._call(self._place(order))

    async def _place(self, order: Order) -> None:
        self.decisions[order.client_id] = await self._insist(messages.Place(order))

    async def _insist(self, wish: Wish) -> messages.Reply:
        """Hand a wish in until there is an answer, as the trader does with a decision's order."""
        while (reply := await self.world.ask(wish)) is None:
            await self.world.sleep(1)
        return reply

    async def close(self) -> None:
        for symbol in SYMBOLS:
            self._call(self.world.ask(messages.Close(symbol, f"close-{symbol}", "test")))

    async def trail(self) -> None:
        self._call(self._move_stops())

    async def _move_stops(self) -> None:
        """Move each stop a little: the new one is confirmed before the old one is cancelled."""
        for held in self._live(lambda each: each.conditional):
            step = units("0.5") if held.order.side == "sell" else -units("0.5")
            new = self._child(held.order, "moved", kind="stop", price=held.order.price - step)
            await self.world.ask(messages.Place(new))
            for _ in range(20):
                known = self.world.running and self.world.state.orders.get(new.client_id)
                if known and known.status is Status.OPEN:
                    await self.world.ask(messages.Cancel(held.order.client_id))
                    break
                await self.world.sleep(1)

    async def _target(self) -> None:
        """Rest a take-profit far away, over which a close must go."""
        for held in self._live(lambda each: each.conditional):
            away = 102 if held.order.side == "sell" else 98
            price = held.order.price * away // 100 // units("0.1") * units("0.1")
            order = self._child(held.order, "target", kind="limit", price=price)
            self._call(self.world.ask(messages.Place(order)))

    def _live(self, wanted: Callable[[Order], bool], settled: bool = True) -> list[Any]:
        if not self.world.running:
            return []
        state = self.world.state
        held = [state.orders[each] for each in state.live]
        return [
            each for each in held if wanted(each.order) and (each.status is Status.OPEN) is settled
        ]

    @staticmethod
    def _child(order: Order, what: str, *, kind: Any, price: int) -> Order:
        return Order(
            client_id=f"{what}-{order.client_id[:24]}", symbol=order.symbol, side=order.side, kind=kind,
            quantity=order.quantity, price=price, reduce_only=True,
        )  # fmt: skip

    # --- time ---

    def _kill_step(self) -> int:
        return self.random.randint(1, 40) if self.random.random() < 0.5 else 0

    async def step(self, milliseconds: int = STEP) -> None:
        """Let time pass, do what is planned, and start a gateway that ended."""
        world = self.world
        while self._plans and self._plans[0][0] <= world.now:
            await self._plans.pop(0)[1]()
            await world.settle()
        if world.now >= self._price_due:
            world.tell_prices()
            self._price_due = world.now + 30_000
        await self._let_pass(milliseconds)
        if not world.running:
            await world.kill()
            self.history.counts["starts"] += 1
            self._price_due = 0
            world.start(self._kill_step() if milliseconds == STEP else 0)
        for symbol in list(world.state.halts):
            self._call(world.ask(messages.ResumeSymbol(symbol, "test", "person")))
        await self._watch_stops(milliseconds)

    async def _let_pass(self, milliseconds: int) -> None:
        """Let time pass, in small steps while a gateway starts: it repeats a lost question after 250 ms."""
        left = milliseconds
        while left:
            length = min(STARTING_STEP, left) if self.world.starting else left
            await self.world.step(length)
            left -= length

    async def _pass(self) -> None:
        """Let a quiet time pass, by the second while a close is under way: each reading allows one order."""
        left = QUIET_STEP
        while left:
            closing = self.world.running and self.world.state.closes
            length = min(CLOSING_STEP, left) if closing else left
            await self.step(length)
            left -= length

    async def _watch_stops(self, milliseconds: int) -> None:
        """Note how long a position is without a stop at the exchange."""
        truth = await self.world.truth()
        hidden = hidden_symbols(truth, self.world.now)
        for symbol, position in positions_of(truth).items():
            covered = sum(
                units(each["quantity"])
                for each in truth["algo_orders"]
                if each["symbol"] == symbol and each["algoStatus"] == "NEW"
                and (each["side"] == "SELL") is (position > 0)
            )  # fmt: skip
            held_up = self.world.now < self._blocked_until or not self.world.running
            if covered >= abs(position) or symbol in self.foreign:
                self._since.pop(symbol, None)
            elif not held_up and symbol not in hidden:
                self._note_without_stop(symbol, milliseconds)
        for symbol in self._since.keys() - positions_of(truth).keys():
            del self._since[symbol]

    def _note_without_stop(self, symbol: str, milliseconds: int) -> None:
        history, (without, unattended) = self.history, self._since.get(symbol, (0, 0))
        without += milliseconds
        if symbol not in self.world.state.closes:
            unattended += milliseconds
        self._since[symbol] = (without, unattended)
        history.unprotected = max(history.unprotected, without)
        history.unattended = max(history.unattended, unattended)

    async def _flatten(self) -> None:
        """Close everything, as a person does at the end of a day."""
        world = self.world
        for number in range(_MOST):
            if number % 10 == 0:
                self._call(self._insist(messages.Flatten(f"flat-{number}", "test", "person")))
            await self._pass()
            if number > _LEAST and self._is_flat() and not positions_of(await world.truth()):
                break

    def _is_flat(self) -> bool:
        state = self.world.state if self.world.running else None
        return bool(state and state.mode is Mode.HALTED and not state.live and not state.closes)


def play(
    seed: int, exchange: ExchangeHandle, redis: RedisServer, settings: Settings | None = None
) -> History:
    """Play the history of a seed on an exchange and a Redis that are emptied before.

    Args:
        seed: gives the whole history.
        exchange: with a stepped clock.
        redis: of the weight budget.
        settings: as `settings_at` returns; made if not given, which takes a tenth of the time.
    """
    used = settings or settings_at(exchange, redis.url)

    async def run(directory: Path) -> History:
        async with FaultWorld(exchange, used, directory, seed) as world:
            await world.begin_anew()
            history = FaultHistory(world)
            try:
                return await history.run()
            except (InvariantError, UnsettledError) as error:
                # The first is of a start over the journal; one of a step ends the gateway only.
                history.history.broken.append(str(error))
                return history.history

    redis.client().flushall()
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(run(Path(directory)))


def play_many(seeds: range, exchange: ExchangeHandle, redis: RedisServer) -> int:
    """Play seeds, print what they break and a summary, and show progress; return how many broke a promise."""
    settings = settings_at(exchange, redis.url)
    sums, failed, began = History(), 0, time.monotonic()
    longest = Counter[int]()
    for number, seed in enumerate(seeds, 1):
        history = play(seed, exchange, redis, settings)
        sums.posts, sums.counts = sums.posts + history.posts, sums.counts + history.counts
        sums.unprotected = max(sums.unprotected, history.unprotected)
        sums.unattended = max(sums.unattended, history.unattended)
        longest[_span_of(history.unprotected)] += 1
        if history.broken:
            failed += 1
            print(f"seed {seed}: " + "; ".join(history.broken), flush=True)
        if number % _PROGRESS == 0 or number == len(seeds):
            each = (time.monotonic() - began) / number
            left = each * (len(seeds) - number)
            text = f"{number} of {len(seeds)} seeds, {each:.2f} s each, {left:.0f} s left, {failed} broken"
            print(text, file=sys.stderr, flush=True)
    print(
        f"{len(seeds)} seeds, {sums.posts} orders posted, {failed} seeds with a broken promise\n"
        f"longest time without a stop {sums.unprotected / 1000:g} s, of {UNPROTECTED / 1000:g} allowed; "
        f"without a close under way {sums.unattended / 1000:g} s, of {UNATTENDED / 1000:g}\n"
        f"seeds by their longest time without a stop: {_spans(longest)}\n{dict(sums.counts)}"
    )
    return failed


def _span_of(milliseconds: int) -> int:
    """Return the end of the span of ten seconds that a time is in; 0 for none."""
    return -(-milliseconds // _SPAN) * _SPAN


def _spans(longest: Counter[int]) -> str:
    return ", ".join(f"{longest[each]} up to {each // 1000} s" for each in sorted(longest))


def main() -> int:
    """Play the seeds that the command line names; return the exit status."""
    import pytest

    first, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    if count > 1:
        # Each fault is a warning of the gateway; one seed shows these, many show progress.
        logging.getLogger("pipeline_assets").setLevel(logging.ERROR)
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as directory,
        start_exchange(clock=f"stepped:{START}", symbols=",".join(SYMBOLS)) as exchange,
        RedisServer(Path(directory)) as redis,
    ):
        shorten_waits(patch)
        return 1 if play_many(range(first, first + count), exchange, redis) else 0


if __name__ == "__main__":
    sys.exit(main())
