"""The backup of gateway and paper venue, both of one moment, and the restore as docs/backup.md has it."""

import asyncio
from pathlib import Path

import pytest

from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.resources.journals import beside
from pipeline_assets.services.gateway.backup import JournalBackup
from pipeline_assets.services.gateway.service import CallRefusedError, GatewayService
from pipeline_assets.settings import RiskSettings, Settings, TradingSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Order
from pipeline_assets.trading.paper_records import PAPER_RECORDS, PaperAccepted, PaperFilled
from pipeline_assets.trading.records import GATEWAY_RECORDS, FillBooked, OrderSending
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE
from pipeline_assets_tests.trading.paper_world import Deaths, World
from pipeline_assets_tests.trading.test_trader import CALM, NAME, SYMBOLS, _started

pytestmark = pytest.mark.xdist_group("compiled")

BARS = dict.fromkeys(SYMBOLS, CALM)


class FileWorld(World):
    """A world whose journals are files."""

    def __init__(self, journal: Path) -> None:
        super().__init__({NAME: PositionRules()})
        self.settings = Settings(_env_file=None, trading=TradingSettings(journal=journal))
        self.journal = SqliteJournal(journal)
        self.paper = SqliteJournal(beside(journal, "paper"))
        self.paper.deaths = Deaths()

    @property
    def service(self) -> GatewayService:
        return GatewayService(
            self.gateway,
            self.settings.trading,
            RiskSettings(),
            lambda: JournalBackup(self.settings),
        )

    async def stop(self) -> None:
        await super().stop()
        self.journal.close()
        self.paper.close()

    async def buy(self, *names: str) -> None:
        """Place small orders at the market."""
        for name in names:
            order = Order(
                client_id=name, symbol="BTCUSDT", side="buy", kind="market", quantity=10**6
            )
            assert (await self.gateway.ask(messages.Place(order))).refusal is None


def test_restored_copies_fit_together(tmp_path: Path) -> None:
    """Copied amid orders and fills: neither the venue's orders nor the gateway's fills are ahead."""
    path, copy = tmp_path / "paper.sqlite", tmp_path / "copy.sqlite"

    async def test() -> None:
        world = FileWorld(path)
        await _started(world)
        await world.buy("a-1", "a-2")
        await world.minute(FIRST_MINUTE, BARS)
        burst = asyncio.create_task(world.buy(*(f"b-{number}" for number in range(40))))
        minute = asyncio.create_task(world.open(FIRST_MINUTE + 1, BARS, {}))
        await world.service.backup(str(copy))
        await asyncio.gather(burst, minute)
        await world.buy("later")
        await world.stop()
        for owner in ("gateway", "paper"):
            place = beside(path, owner)
            for file in place.parent.glob(f"{place.name}*"):
                file.unlink()
            beside(copy, owner).rename(place)
        _require_fit(path)
        world = FileWorld(path)
        world.clock.minute, world.prices = FIRST_MINUTE + 1, BARS
        await world.start()
        assert "later" not in world.core.state.orders
        for number in range(1, 8):
            await world.minute(FIRST_MINUTE + number, BARS)
        state, book = world.core.state, world.venue.book
        assert set(state.ledger.fills.values()) == {fill for _, fill in book.fills}
        assert state.ledger.positions == book.positions
        assert state.ledger.positions["BTCUSDT"] >= 2 * 10**6
        await world.stop()

    asyncio.run(asyncio.wait_for(test(), 250))


def _require_fit(path: Path) -> None:
    gateway, venue = SqliteJournal(path), SqliteJournal(beside(path, "paper"))
    known, held = list(GATEWAY_RECORDS.read(gateway)), list(PAPER_RECORDS.read(venue))
    sent = {each.order.client_id for each in known if isinstance(each, OrderSending)}
    booked = {each.fill for each in known if isinstance(each, FillBooked)}
    assert {each.order.client_id for each in held if isinstance(each, PaperAccepted)} <= sent
    assert booked <= {each.fill for each in held if isinstance(each, PaperFilled)}
    gateway.close()
    venue.close()


def test_existing_copy_is_kept(tmp_path: Path) -> None:
    """Neither file is written if one of them exists."""

    async def test() -> None:
        world = FileWorld(tmp_path / "paper.sqlite")
        await _started(world)
        beside(tmp_path / "copy.sqlite", "paper").write_text("mine")
        with pytest.raises(CallRefusedError, match=r"copy\.paper\.sqlite exists"):
            await world.service.backup(str(tmp_path / "copy.sqlite"))
        assert not (tmp_path / "copy.sqlite").exists()
        await world.stop()

    asyncio.run(asyncio.wait_for(test(), 250))
