"""The one place that chooses a venue, how long to wait for it and how much request weight it needs, by the
setting `trading.venue`. A venue itself is a module of trading/.
"""

from collections.abc import Callable
from dataclasses import replace

from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.services.gateway.feed import AFTER_REDIS
from pipeline_assets.services.gateway.paper import LivePaperVenue
from pipeline_assets.settings import Settings
from pipeline_assets.trading.binance_venue import BinanceVenue
from pipeline_assets.trading.venue import Venue
from pipeline_assets.trading.work import Timing

Clock = Callable[[], int]
VenueMaker = Callable[[Settings, Clock], Venue]
# On paper an order is filled when the candle after the next open has closed and is in the slots.
_PAPER = Timing(close_retry=180_000, halts_after_liquidation=False)
# Gateway and trader each ask the exchange for its time once a minute, and more often while replies are slow.
_PAPER_WEIGHT = 20
# At Binance: open orders (80) and positions (5) once a minute, 20 orders with a query and a reading of trades
# each (120), a close that reads positions each second (150), and room for what an interruption left.
_BINANCE = Timing()
_BINANCE_WEIGHT = 480


def make_venue(settings: Settings, clock: Clock) -> Venue:
    """Return the venue of the settings; `clock` is the exchange's time in milliseconds."""
    if settings.trading.venue == "paper":
        return LivePaperVenue(settings, clock)
    # Most of `all` symbols have another leverage, and are never traded: the setup of each entry is checked.
    symbols = () if settings.symbols == "all" else settings.symbols
    account = AccountClient(settings, then=AFTER_REDIS)
    return BinanceVenue(account, settings.trading, symbols, clock)


def timing_of(settings: Settings) -> Timing:
    """Return how long the core waits at the venue of the settings."""
    timing = _PAPER if settings.trading.venue == "paper" else _BINANCE
    return replace(timing, stop=settings.trading.stop_seconds * 1000)


def weight_of(settings: Settings) -> int:
    """Return the request weight of each minute that is kept for the gateway at the venue of the settings."""
    return _PAPER_WEIGHT if settings.trading.venue == "paper" else _BINANCE_WEIGHT
