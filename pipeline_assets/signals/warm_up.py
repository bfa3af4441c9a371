"""Building indicator states from history for symbols without a usable state in Redis. The evaluation that
follows is in evaluation.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.collection.listings import Listed
from pipeline_assets.market.indicators import IndicatorSet, IndicatorStates
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.evaluation_record import note_evaluation
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.signals.due_minutes import MINUTE, earliest
from pipeline_assets.signals.history import read_history

if TYPE_CHECKING:
    import polars as pl

# Gaps make a span hold less candles than minutes; outages of 150 and 284 minutes have been seen.
_FOR_GAPS = timedelta(hours=6)


@dataclass(frozen=True)
class WarmUp:
    """The inputs of building states: the lake, the exchange, the indicators, when each symbol trades,
    and the limit beyond which missed minutes are skipped.
    """

    store: ObjectStore
    exchange: Exchange
    indicators: IndicatorSet
    listed: Mapping[str, Listed]
    limit: timedelta


@dataclass(frozen=True)
class Built:
    """The states built for some symbols.

    Attributes:
        states: by symbol, the minute up to which the symbol counts as evaluated, and the state's bytes.
        skipped: minutes that will never be evaluated, because they are too old.
        short: symbols whose history is shorter than the indicators need, with its length.
        failures: symbols without a state, because their history could not be read, with the reason.
    """

    states: Mapping[str, tuple[datetime, bytes]]
    skipped: Mapping[str, Window]
    short: Mapping[str, str]
    failures: Mapping[str, str]


def history_window(indicators: IndicatorSet, end: datetime) -> Window:
    """Return the span before `end` that holds as many candles as the indicators need, gaps allowed for."""
    return Window(end - indicators.candles_needed * MINUTE - _FOR_GAPS, end)


def build_states(
    warm_up: WarmUp,
    positions: Mapping[str, datetime],
    newest: Mapping[str, datetime],
    slots: "pl.DataFrame",
    deadline: float,
) -> Built:
    """Build the states of symbols as of their last evaluated minute.

    Every later minute is evaluated, except minutes too long before the newest. These are recorded on
    the lake before the state is returned, and so is the first minute that a symbol evaluates at all.
    From this record a later comparison knows which minutes were never evaluated.

    Args:
        warm_up: the inputs of the states.
        positions: the newest minute that each symbol has evaluated.
        newest: each symbol's newest closed candle.
        slots: candles that may be newer than those on the lake.
        deadline: by `time.monotonic`, when to give up waiting for the exchange.
    """
    skipped: dict[str, Window] = {}
    ends: dict[str, datetime] = {}
    windows: dict[str, Window] = {}
    for symbol, position in positions.items():
        end, too_old = earliest(position, newest[symbol], warm_up.limit)
        if too_old is not None:
            skipped[symbol] = too_old
        # A symbol that was listed after `end` has a state from its first candle on.
        listed = warm_up.listed[symbol]
        end = min(max(end, Interval.ONE_MINUTE.floor(listed.listed_at)), newest[symbol])
        window = history_window(warm_up.indicators, end + MINUTE)
        windows[symbol] = listed.clip(Interval.ONE_MINUTE, window) or Window(end, end + MINUTE)
        ends[symbol] = end
    history = read_history(
        warm_up.store, warm_up.exchange, windows, warm_up.listed, slots, deadline
    )
    failures = dict(history.failures)
    whole = history.candles.filter(~history.candles["symbol"].is_in(list(failures)))
    states = IndicatorStates.from_history(warm_up.indicators, whole)
    failures |= dict.fromkeys(
        positions.keys() - failures.keys() - set(states.symbols),
        "neither the lake nor the exchange has a candle of it",
    )
    skipped = {symbol: each for symbol, each in skipped.items() if symbol in states.symbols}
    note_evaluation(
        warm_up.store,
        since={symbol: ends[symbol] + MINUTE for symbol in states.symbols},
        skipped=skipped,
    )
    needed = warm_up.indicators.candles_needed
    encoded = states.encode()
    return Built(
        states={symbol: (ends[symbol], encoded[symbol]) for symbol in states.symbols},
        skipped=skipped,
        short={
            symbol: f"{seen} of {needed} candles"
            for symbol, seen in states.candles_seen.items()
            if seen < needed
        },
        failures=failures,
    )
