"""The documents that trader and gateway leave on a lake, and a store whose process may die at any write. No
tests here.
"""

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec

from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import S3Settings, TradingSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.decider import AUTHOR
from pipeline_assets.trading.decisions import Intent, MinuteDecisions, MinuteIntents, decided
from pipeline_assets.trading.order_types import Status
from pipeline_assets.trading.record_copy import RecordCopy
from pipeline_assets.trading.trader_store import LakeTraderStore
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.trading.gateway_bench import GatewayBench
from pipeline_assets_tests.trading.paper_world import Deaths, KilledError
from pipeline_assets_tests.trading.scripted_venue import ScriptedVenue
from pipeline_assets_tests.trading.test_core import ORDER
from pipeline_assets_tests.trading.virtual_world import BEGIN


class MortalStore(ObjectStore):
    """A store whose process may die before or after each write."""

    def __init__(self, settings: S3Settings, deaths: Deaths) -> None:
        super().__init__(settings)
        self._deaths = deaths

    def put(self, key: str, body: bytes) -> str:
        return self._deaths.write(lambda: super(MortalStore, self).put(key, body))

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        return self._deaths.write(lambda: super(MortalStore, self).put_if(key, body, expected_etag))


class CopiedAccount:
    """A gateway whose records are copied; a copy that dies is begun again by a new process."""

    def __init__(self, directory: Path, store: ObjectStore, account: str = "paper") -> None:
        self.path, self.store = directory / account, store
        self.trading = TradingSettings(account=account)
        self.venue = ScriptedVenue()
        self.now = BEGIN
        self.open()

    def open(self) -> None:
        """Start the gateway over its journal's file."""
        self.bench = GatewayBench(self.path, self.venue, clock=lambda: self.now)
        self._copy = self.new_copy()

    def new_copy(self) -> RecordCopy:
        return RecordCopy(self.bench.gateway, self.store, self.trading, lambda: self.now)

    async def place(self, client_id: str) -> None:
        """Place an order, and wait until the gateway has taken in everything about it."""
        # The gateway has begun once this is answered: an order sent before is taken for one of the last run.
        await self.bench.gateway.ask(messages.Cancel("nothing"))
        order = msgspec.structs.replace(
            ORDER, client_id=client_id, decision_id=f"decision of {client_id}"
        )
        await self.bench.gateway.ask(messages.Place(order))
        while self.bench.core.state.orders[client_id].status is Status.SENDING:
            await asyncio.sleep(0)
        # Every earlier event is durable once this is answered.
        await self.bench.gateway.ask(messages.Cancel("nothing"))

    async def copy(self) -> int:
        """Copy what is new; return the number of documents of the process that lived."""
        while True:
            try:
                return await self._copy.copy()
            except KilledError:
                self._copy = self.new_copy()

    async def trade(self) -> None:
        """Fill one order, have one refused, and leave one open that is filled after the first copy."""
        await self.place("a-1")
        self.venue.answer = lambda effect: messages.Refused(effect.order.client_id, "-2019")
        await self.place("a-2")
        self.venue.answer = lambda effect: messages.Accepted(effect.order.client_id, "v-a-3")
        await self.place("a-3")
        await self.copy()
        self.venue.answer = self.venue.fill
        sent = self.bench.core.state.orders["a-3"]
        self.venue.fill(messages.Send(sent.order, sent.sent_at, sent.recv_window))
        while not sent.booked:
            await asyncio.sleep(0)
        self.venue.hear(messages.FundingPaid("BTCUSDT", BEGIN, -12_345))
        await self.bench.gateway.ask(messages.Cancel("nothing"))
        await self.copy()


async def copied(directory: Path, store: ObjectStore, account: str = "paper") -> CopiedAccount:
    """Return an account after its trades, with its gateway stopped."""
    made = CopiedAccount(directory, store, account)
    await made.trade()
    await made.bench.stop()
    return made


def decide(store: ObjectStore, minutes: int, first: int = 0) -> None:
    """Leave the documents of a trader that accepts one candidate of each minute and declines the other."""
    trader = LakeTraderStore(store, "paper")
    for number in range(first, first + minutes):
        start = MIDNIGHT + timedelta(minutes=number)
        pair = candidates(symbols=2, start=start)
        now = start + timedelta(seconds=90)
        accepted, declined = (
            decided([each], reason, AUTHOR, now)[0]
            for each, reason in zip(pair, ("", "position_held"), strict=True)
        )
        minute = to_minute(start)
        trader.fix(minute, MinuteDecisions(decisions=(accepted, declined)))
        sent = Intent(
            decision_id=accepted.id, action="open", outcome="sent", order_id=f"o-{number}"
        )
        trader.note_intents(minute, MinuteIntents(intents=(sent,)))
