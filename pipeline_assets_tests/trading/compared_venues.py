"""The two venues of the comparison in stepped time: paper, fed with closed candles, and demo on the replay
exchange. Each says what is under way, so that time never passes while something is. No tests here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline_assets.errors import PipelineError
from pipeline_assets.market.fill_formulas import formulas_of
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.trading_rules import Fees
from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.resources.binance_client import Reply
from pipeline_assets.settings import Settings
from pipeline_assets.trading.binance_venue import BinanceVenue
from pipeline_assets.trading.paper_venue import PaperVenue
from pipeline_assets.trading.venue import Venue
from pipeline_assets.trading.work import Timing
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.trading.binance_bench import account_fields
from pipeline_assets_tests.trading.compared_market import SYMBOLS, Market
from pipeline_assets_tests.trading.exchange_controls import ExchangeControls
from pipeline_assets_tests.trading.paper_world import MemoryJournal


class ComparedVenue(Protocol):
    """A venue in stepped time."""

    name: str
    timing: Timing

    @property
    def venue(self) -> Venue:
        """The venue that the gateway uses."""

    async def begin(self) -> None:
        """Prepare what the venue needs before the gateway starts."""

    async def end(self) -> None:
        """Give back what is held."""

    async def pass_time(self, milliseconds: int) -> None:
        """Let time pass at the venue."""

    async def under_way(self) -> list[str]:
        """Return what is not finished at this moment, as phrases."""

    async def open_known(self, minute: int) -> None:
        """Take in that a closed minute's candles are stored."""

    async def range_known(self) -> None:
        """Take in that ten seconds passed since."""


class PaperSide:
    """The paper venue, as its process feeds it."""

    name = "paper"
    timing = Timing(close_retry=180_000, halts_after_liquidation=False)

    def __init__(
        self,
        market: Market,
        clock: Callable[[], int],
        fees: Fees | None = None,
        model: FillModel | None = None,
    ) -> None:
        self._market = market
        self._formulas = formulas_of(market.grids, fees or Fees(), model or FillModel())
        self.venue = PaperVenue(MemoryJournal(), self._formulas, clock)

    async def begin(self) -> None:
        """Need nothing."""

    async def end(self) -> None:
        """Hold nothing."""

    async def pass_time(self, milliseconds: int) -> None:
        """Let nothing happen: the venue knows closed candles only."""

    async def under_way(self) -> list[str]:
        """Return nothing: each call of the venue returns when its work is done."""
        return []

    async def open_known(self, minute: int) -> None:
        """Charge funding, and fill market orders at the open."""
        bars: Mapping[str, Bar] = self._market.bars[minute]
        opens = {each: self._formulas[each].price(bar.open) for each, bar in bars.items()}
        await self.venue.on_funding(self._market.rates.get(minute, {}), opens)
        await self.venue.on_candles(minute, bars)

    async def range_known(self) -> None:
        """Fill stops and limit orders in the range."""
        await self.venue.settle()


class WeightMissingError(PipelineError):
    """A request waits for weight, which these few requests never use up."""


async def _refuse_to_wait(seconds: float) -> None:
    raise WeightMissingError(f"a request would wait {seconds} s for weight")


class CountingClient(AccountClient):
    """Counts the requests that have no answer yet, and those that were sent."""

    waiting = sent = 0

    async def _once(self, *arguments: Any) -> Reply:
        self.waiting += 1
        self.sent += 1
        try:
            return await super()._once(*arguments)
        finally:
            self.waiting -= 1


class DemoSide:
    """The venue `demo` on a replay exchange whose clock this object steps."""

    name = "demo"
    timing = Timing()

    def __init__(
        self,
        exchange: ExchangeHandle,
        redis_url: str,
        clock: Callable[[], int],
        faults: Mapping[str, Any],
    ) -> None:
        self.control = ExchangeControls(exchange)
        self._clock, self._faults = clock, faults
        fields = account_fields(exchange)
        self._settings = Settings(
            _env_file=None,
            symbols=SYMBOLS,
            binance={"rest_url": fields["rest_url"]},
            redis={"url": redis_url},
            trading=fields,
        )
        self._account = CountingClient(
            self._settings, monotonic=lambda: clock() / 1000, sleep=_refuse_to_wait
        )
        # The clock is right before it is measured, as it is where time is not stepped.
        self._account.clock._wall_offset_ms = 0.0
        self.venue = BinanceVenue(self._account, self._settings.trading, SYMBOLS, clock)
        self._heard = self._made = self._connections = 0
        self._made_after = -1
        self._watch_stream()

    def _watch_stream(self) -> None:
        """Count the connections of the private stream and the events that came."""
        stream = self.venue.stream
        take, connected = stream._take, stream._on_connected

        def counted_take(text: str) -> bool:
            self._heard += 1
            return take(text)

        def counted_connected() -> None:
            self._connections += 1
            connected()

        stream._take, stream._on_connected = counted_take, counted_connected  # type: ignore[method-assign]

    async def begin(self) -> None:
        """Empty the exchange, and set the account up as the settings say."""
        await self.control.__aenter__()
        await self.control.begin_anew(self._settings.trading, SYMBOLS)
        await self.control("faults", {"trading": dict(self._faults)})
        # Events of the setup came before there was a stream.
        self._heard = await self._pass(0)

    async def end(self) -> None:
        """Close the connection to the exchange's controls."""
        await self.control.__aexit__()

    async def pass_time(self, milliseconds: int) -> None:
        """Let time pass at the exchange."""
        self._made_after = self._account.sent
        self._made = await self._pass(milliseconds)

    async def _pass(self, milliseconds: int) -> int:
        """Let time pass; return how many events the exchange has made by then."""
        made: int = (await self.control("clock", {"advance_ms": milliseconds}))["events"]
        return made

    async def under_way(self) -> list[str]:
        """Return what is not finished at this moment, as phrases."""
        found = self._upkeep_due()
        if self._account.waiting:
            found.append(f"{self._account.waiting} requests have no answer")
        if found:
            return found
        if self._made_after != self._account.sent:
            # Only time and requests make events.
            self._made_after = self._account.sent
            self._made = await self._pass(0)
        if self._heard < self._made:
            found.append(f"{self._made - self._heard} events of the private stream have not come")
        return found

    def _upkeep_due(self) -> list[str]:
        upkeep, monotonic = self.venue.upkeep, self._clock() / 1000
        due = {
            "the private stream is not connected": not self._connections,
            "the venue's time is to be measured": self._account.clock.due,
            "filters are to be read": upkeep._rules_due <= monotonic,
            "setups are to be read": upkeep._setups_due <= monotonic,
            "funding payments are to be read": upkeep._funding_due <= self._clock(),
        }
        return [each for each, is_due in due.items() if is_due]

    async def open_known(self, minute: int) -> None:
        """Let nothing happen: the exchange matches by itself."""

    async def range_known(self) -> None:
        """Let nothing happen: the exchange matches by itself."""

    async def truth(self) -> Any:
        """Return what the exchange knows of the account."""
        (account,) = (await self.control("trading"))["accounts"].values()
        return account
