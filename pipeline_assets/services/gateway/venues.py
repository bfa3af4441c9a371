"""The one place that chooses a venue, and how long to wait for it, by the setting `trading.venue`. A venue
itself is a module of trading/.
"""

from collections.abc import Callable

from pipeline_assets.settings import Settings
from pipeline_assets.trading import messages
from pipeline_assets.trading.venue import Venue
from pipeline_assets.trading.work import Timing

Clock = Callable[[], int]
VenueMaker = Callable[[Settings, Clock], Venue]


def make_venue(settings: Settings, clock: Clock) -> Venue:
    """Return the venue of the settings; `clock` is the exchange's time in milliseconds."""
    name: str = settings.trading.venue
    if name == "paper":
        # Loads Numba, which other venues do not need.
        from pipeline_assets.services.gateway.paper import LivePaperVenue

        return LivePaperVenue(settings, clock)
    return ClosedVenue(name, clock)


def timing_of(settings: Settings) -> Timing:
    """Return how long the core waits at the venue of the settings."""
    name: str = settings.trading.venue
    if name == "paper":
        # An order is filled when the candle after the next open has closed and is in the slots.
        return Timing(close_retry=180_000)
    return Timing()


class ClosedVenue:
    """A venue that refuses every order and holds none, for a venue that this version does not have."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name, self._clock = name, clock

    async def start(self, hear: Callable[[messages.Event], None]) -> None:
        """Report nothing."""

    async def stop(self) -> None:
        """Hold nothing."""

    async def send(self, effect: messages.Send) -> messages.Refused:
        """Refuse the order."""
        return messages.Refused(
            effect.order.client_id, f"this version has no venue named {self._name}"
        )

    async def cancel(self, client_id: str, symbol: str) -> messages.CancelAnswered:
        """Report that there is no such order."""
        del symbol
        return messages.CancelAnswered(client_id, gone=True)

    async def ask_order(self, client_id: str, symbol: str) -> messages.OrderMissing:
        """Report that there is no such order."""
        del symbol
        return messages.OrderMissing(client_id, self._clock())

    async def ask_trades(self, symbol: str, since: int) -> messages.TradesRead:
        """Report that there was no trade."""
        return messages.TradesRead(symbol, since, self._clock(), ())

    async def ask_positions(self) -> messages.PositionsRead:
        """Report that there is no position."""
        return messages.PositionsRead(self._clock())
