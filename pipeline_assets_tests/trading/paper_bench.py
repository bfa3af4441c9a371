"""A paper venue over a journal file, with a clock that a test turns. No tests here."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline_assets.market.fill_formulas import formulas_of
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.step_tables import FillModel, grid_of
from pipeline_assets.market.trading_rules import UNIT, Fees
from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Order
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.paper_venue import PaperVenue
from pipeline_assets_tests.research.held_candles import BTC_RULES

FIRST_MINUTE = 29_000_000
MARKETS = {each: (grid_of(each, [BTC_RULES]), BTC_RULES) for each in ("BTCUSDT", "ETHUSDT")}
FORMULAS = formulas_of(MARKETS, Fees(), FillModel())


def bar(*prices: float) -> Bar:
    """A candle of open, high, low and close."""
    return Bar(*(Decimal(str(each)) for each in prices))


def order(client_id: str, side: str = "buy", kind: str = "market", **values: Any) -> Order:
    """An order of one bitcoin."""
    return Order(
        **{
            "client_id": client_id,
            "symbol": "BTCUSDT",
            "side": side,
            "kind": kind,
            "quantity": UNIT,
        }
        | values  # type: ignore[arg-type]
    )


class Clock:
    """The time in milliseconds: twenty seconds into the minute after the newest candle."""

    def __init__(self, minute: int = FIRST_MINUTE) -> None:
        self.minute = minute

    def __call__(self) -> int:
        return (self.minute + 1) * MINUTE + 20_000


class PaperBench:
    """A venue that can be killed: `again` opens another one over the same file."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path, self.clock = path, clock or Clock()
        self.journal = SqliteJournal(path)
        self.venue = PaperVenue(self.journal, FORMULAS, self.clock)
        self.heard: list[messages.Event] = []

    async def again(self) -> "PaperBench":
        await self.venue.stop()
        self.journal.close()
        return PaperBench(self.path, self.clock)

    async def send(self, sent: Order) -> messages.Event:
        return await self.venue.send(messages.Send(sent, self.clock(), 5_000))

    async def candle(self, number: int, bars: Mapping[str, Bar], *, settled: bool = True) -> None:
        """Feed the candles of a minute after the first one, twenty seconds after its close."""
        self.clock.minute = FIRST_MINUTE + number
        await self.venue.on_candles(self.clock.minute, bars)
        if settled:
            await self.venue.settle()

    @property
    def fills(self) -> list[tuple[str, int, int, int]]:
        """Client id, minute, price in cents and fee in 1e-8 of all fills."""
        return [
            (each.client_id, each.time // MINUTE - FIRST_MINUTE, each.price // 1_000_000, each.fee)
            for _, each in self.venue.book.fills
        ]
