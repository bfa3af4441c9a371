"""The candles at which positions of delisted symbols are settled. The step that settles is in
market/position_step.py, listings are read in readers.py.
"""

from collections.abc import Mapping, Sequence

from pipeline_assets.market.candles import KEY_COLUMNS
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_request import month_windows
from pipeline_assets.research.backtest_types import CandleReader


def last_minutes(
    candles: CandleReader, listed: Mapping[str, Sequence[Window]], window: Window
) -> dict[str, list[int]]:
    """Return the minute of the last candle of each listing that ends within a window, by symbol.

    The exchange may stop trading long before a listing ends, and a month does not say whether a candle
    follows in a later one: so these are read before the first candle is run.

    Args:
        candles: reads the candles.
        listed: the listings of the symbols that are traded.
        window: the span of the backtest.
    """
    found: dict[str, list[int]] = {}
    for symbol, listings in listed.items():
        for listing in listings:
            start, end = max(listing.start, window.start), listing.end
            if not start < end <= window.end:
                continue
            # Most listings end with their candles: one month is read, and another one only after a halt.
            for month in reversed(month_windows(Window(start, end))):
                times = candles.candles([symbol], month, KEY_COLUMNS)["open_time"]
                if len(times):
                    found.setdefault(symbol, []).append(to_minute(times[-1]))
                    break
    return found
