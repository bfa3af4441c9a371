"""One history of orders on the replay exchange under faults from one seed, and what must be true in the end.

    python -m pipeline_assets_tests.trading.fault_history SEED [COUNT]

replays a seed, or COUNT seeds from it on. The machinery is in fault_world.py.
"""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_assets.market.trading_rules import decimal, units
from pipeline_assets.settings import Settings
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_ids import entry_id
from pipeline_assets.trading.order_types import Mode, Order, Status
from pipeline_assets_tests.fixtures.exchange import START, ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.binance_bench import SYMBOLS, settings_at
from pipeline_assets_tests.trading.fault_world import HIDDEN, TIMING, FaultWorld, shorten_waits

BUSY, STEP, QUIET_STEP = 60_000, 2_000, 9_000
_LEAST, _MOST = 8, 40
SHARES = (
    "order_503_accepted", "order_503_lost", "order_408_accepted", "order_408_lost",
    "order_503_failed", "order_503_overloaded", "order_cut_before", "order_cut_after",
    "order_hidden", "cancel_503_accepted", "cancel_cut_before", "cancel_cut_after",
    "partial_fill", "expired_with_fills", "expired_in_match",
    "event_lost", "event_duplicated", "event_swapped",
)  # fmt: skip
NO_FILLS = ("TRANSFER", "INSURANCE_CLEAR")
REQUESTS = ("reset", "http_503", "http_500", "http_408", "truncated", "cut_json")
UNPROTECTED = TIMING.stop + TIMING.reconcile + 30_000
"""The longest that a position may be without a stop: a fill that nothing reports is found by the comparison
of positions, once a minute; then the stop has its time, and the close its own."""


@dataclass
class History:
    """The result of one run.

    Attributes:
        broken: each broken promise, as a sentence.
        posts: how many orders the exchange received.
        counts: what happened, by name.
        unprotected: the longest time without a stop, in milliseconds, while the exchange could be reached.
    """

    broken: list[str] = field(default_factory=list)
    posts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unprotected: int = 0


class FaultHistory:
    """A caller that does not lose decisions, the faults of a seed, and the checks."""

    def __init__(self, world: FaultWorld) -> None:
        self.world, self.random, self.history = world, world.random, History()
        self.decisions: dict[str, messages.Reply | None] = {}
        self.foreign: set[str] = set()
        self._plans: list[tuple[int, Callable[[], Awaitable[None]]]] = []
        self._callers: set[asyncio.Task[None]] = set()
        self._since: dict[str, int] = {}
        self._blocked_until = self._price_due = 0
        self._faults: dict[str, Any] = {}

    async def run(self) -> History:
        """Run a busy time with faults and a quiet one without; then close everything and compare."""
        world = self.world
        self._plan()
        await self._set_faults()
        world.start(self._kill_step())
        end = world.now + BUSY
        while world.now < end:
            await self.step(STEP)
        await self._replace_faults({})
        return await self.finish()

    async def finish(self) -> History:
        """Let everything settle without faults, close everything, and compare."""
        for number in range(_MOST):
            await self.step(QUIET_STEP)
            if number > _LEAST and not self._live(lambda _: True, settled=False):
                break
        await self._flatten()
        self.history.broken += self._broken(await self.world.truth())
        for each in self._callers:
            each.cancel()
        return self.history

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
        self._call(self._insist(order))

    async def _insist(self, order: Order) -> None:
        """Hand a decision's order in until there is an answer, as the trader does."""
        while (reply := await self.world.ask(messages.Place(order))) is None:
            await self.world.sleep(1)
        self.decisions[order.client_id] = reply

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
        await world.step(milliseconds)
        if not world.running:
            await world.kill()
            self.history.counts["starts"] += 1
            self._price_due = 0
            world.start(self._kill_step() if milliseconds == STEP else 0)
        for symbol in list(world.state.halts):
            self._call(world.ask(messages.ResumeSymbol(symbol, "test", "person")))
        await self._watch_stops(milliseconds)

    async def _watch_stops(self, milliseconds: int) -> None:
        """Note how long a position is without a stop at the exchange."""
        truth = await self.world.truth()
        for symbol, position in positions_of(truth).items():
            covered = sum(
                units(each["quantity"])
                for each in truth["algo_orders"]
                if each["symbol"] == symbol and each["algoStatus"] == "NEW"
                and (each["side"] == "SELL") is (position > 0)
            )  # fmt: skip
            held_up = self.world.now < self._blocked_until or not self.world.running
            if covered >= abs(position) or symbol in self.foreign:
                self._since[symbol] = 0
            elif not held_up:
                self._since[symbol] = self._since.get(symbol, 0) + milliseconds
                self.history.unprotected = max(self.history.unprotected, self._since[symbol])
        for symbol in self._since.keys() - positions_of(truth).keys():
            self._since[symbol] = 0

    async def _flatten(self) -> None:
        """Close everything, as a person does at the end of a day."""
        world = self.world
        for number in range(_MOST):
            if number % 10 == 0:
                self._call(world.ask(messages.Flatten(f"flat-{number}", "test", "person")))
            await self.step(QUIET_STEP)
            done = world.running and not world.state.live and not world.state.closes
            if number > _LEAST and done and not positions_of(await world.truth()):
                break

    # --- what must be true ---

    def _broken(self, truth: Any) -> list[str]:
        world, history = self.world, self.history
        if not world.running:
            return [f"the gateway does not run: {world.endings[-1:]}"]
        state = world.state
        history.posts = sum(truth["posts"].values())
        broken = [f"{each} was posted {n} times" for each, n in truth["posts"].items() if n > 1]
        broken += [
            f"{each} was posted and is not in the journal"
            for each in truth["posts"].keys() - state.orders.keys()
        ]
        booked = {
            (each.symbol, each.trade_id, each.signed, each.price, each.fee)
            for each in state.ledger.fills.values()
        }
        traded = {
            (
                each["symbol"], each["id"],
                units(each["qty"]) * (1 if each["side"] == "BUY" else -1),
                units(each["price"]), units(each["commission"]),
            )
            for each in truth["trades"]
        }  # fmt: skip
        broken += [f"the ledger does not have the trade {each}" for each in traded - booked]
        broken += [f"the exchange does not have the trade {each}" for each in booked - traded]
        if positions_of(truth) or state.ledger.positions:
            broken.append(f"still open: {positions_of(truth)}, ledger {state.ledger.positions}")
        # The ledger has fills and funding; what else a liquidation costs is in the income only.
        other = sum(
            units(each["income"]) for each in truth["income"] if each["incomeType"] in NO_FILLS
        )
        wallet = units(truth["wallets"]["USDT"]) - other
        if abs(wallet - state.ledger.cash) > len(traded):
            broken.append(
                f"the wallet changed by {decimal(wallet)}, the ledger by {decimal(state.ledger.cash)}"
            )
        broken += [f"order {each} is still {state.orders[each].status}" for each in state.live]
        broken += [
            f"{each['symbol']}: order {each['clientOrderId']} still rests"
            for each in truth["orders"]
            if each["status"] in ("NEW", "PARTIALLY_FILLED")
        ]
        broken += [
            f"{each['symbol']}: stop {each['clientAlgoId']} still rests"
            for each in truth["algo_orders"]
            if each["algoStatus"] == "NEW"
        ]
        for client_id, reply in self.decisions.items():
            if reply is None or (reply.refusal is None and client_id not in state.orders):
                broken.append(f"the decision of order {client_id} is lost")
        if history.unprotected > UNPROTECTED:
            broken.append(f"a position had no stop for {history.unprotected / 1000:g} s")
        if state.mode is not Mode.HALTED or state.mode_reason != "test":
            broken.append(f"the gateway is {state.mode}: {state.mode_reason}")
        return broken


def positions_of(truth: Any) -> dict[str, int]:
    """Return the exchange's positions by symbol, in 1e-8."""
    found = {each["symbol"]: units(each["positionAmt"]) for each in truth["positions"]}
    return {symbol: quantity for symbol, quantity in found.items() if quantity}


def play(seed: int, exchange: ExchangeHandle, redis: RedisServer) -> History:
    """Play the history of a seed on an exchange and a Redis that are emptied before."""

    async def run(settings: Settings, directory: Path) -> History:
        async with FaultWorld(exchange, settings, directory, seed) as world:
            await world.begin_anew()
            return await FaultHistory(world).run()

    redis.client().flushall()
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(run(settings_at(exchange, redis.url), Path(directory)))


def main() -> None:
    """Play the seeds that the command line names."""
    import pytest

    first, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    posts = failed = longest = 0
    counts: Counter[str] = Counter()
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as directory,
        start_exchange(clock=f"stepped:{START}", symbols=",".join(SYMBOLS)) as exchange,
        RedisServer(Path(directory)) as redis,
    ):
        shorten_waits(patch)
        for seed in range(first, first + count):
            history = play(seed, exchange, redis)
            posts, counts = posts + history.posts, counts + history.counts
            longest = max(longest, history.unprotected)
            if history.broken:
                failed += 1
                print(f"seed {seed}: " + "; ".join(history.broken[:4]), flush=True)
    print(f"{count} seeds, {posts} orders posted, {failed} seeds with a broken promise")
    print(f"longest time without a stop {longest / 1000:g} s; {dict(counts)}")


if __name__ == "__main__":
    main()
