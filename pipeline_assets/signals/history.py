"""The 1m candles of a span from every source: passed in, on the lake, or at the exchange. They are
evaluated in evaluation.py.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.collection.coverage import missing_candles
from pipeline_assets.collection.listings import Listed
from pipeline_assets.market.candles import KEY_COLUMNS, candle_schema, empty_candles
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.replies import MalformedReplyError, raw_candles
from pipeline_assets.market.windows import Window, bounding_window
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_errors import ExchangeError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.resources.weight_budget import Priority

if TYPE_CHECKING:
    import polars as pl

_INTERVAL = Interval.ONE_MINUTE


class OutOfTimeError(ExchangeError):
    """The exchange's answer would come after the time of the sensor's tick is over."""


@dataclass(frozen=True)
class History:
    """The candles found, and the symbols for which a source failed.

    Attributes:
        candles: a candle frame sorted by symbol and open time, one row for each.
        failures: the symbols for which a source could not be read, with the reason. Candles of these
            symbols may be missing; the candles of all other symbols are complete.
        fetched: the number of symbols that were requested from the exchange.
    """

    candles: "pl.DataFrame"
    failures: Mapping[str, str]
    fetched: int


def read_history(
    store: ObjectStore,
    exchange: Exchange,
    windows: Mapping[str, Window],
    listed: Mapping[str, Listed],
    known: "pl.DataFrame",
    deadline: float,
) -> History:
    """Return all candles that exist in each symbol's window, which ends with closed candles.

    A candle in `known` is newer than the one on the lake and wins. Candles that are in neither are
    requested from the exchange once, with the priority of finalizing. A candle that the exchange does
    not have does not exist.

    Args:
        store: the lake.
        exchange: where missing candles come from.
        windows: by symbol, on the grid.
        listed: when each symbol trades; minutes before that are not missing.
        known: candles at hand, such as those of the slots, of any symbols and times.
        deadline: by `time.monotonic`, when to give up waiting for request weight.
    """
    import polars as pl

    inside = pl.DataFrame(
        [(symbol, window.start, window.end) for symbol, window in windows.items()],
        schema={
            "symbol": pl.String(),
            "start": candle_schema()["open_time"],
            "end": candle_schema()["open_time"],
        },
        orient="row",
    )

    def of_windows(frame: "pl.DataFrame") -> "pl.DataFrame":
        chosen = frame.join(inside, on="symbol", how="inner").filter(
            pl.col("open_time").is_between("start", "end", closed="left")
        )
        return chosen.select(candle_schema().names())

    try:
        stored = _stored(store, windows)
    except ObjectStoreError as error:
        return History(of_windows(known), dict.fromkeys(windows, str(error)), 0)
    found = joined([of_windows(known), of_windows(stored)])
    lacking = _lacking(found, windows, listed)
    failures: dict[str, str] = {}
    if lacking:
        fetched, failures = _fetched(exchange, lacking, deadline)
        found = joined([found, fetched])
    return History(found, failures, len(lacking))


def _stored(store: ObjectStore, windows: Mapping[str, Window]) -> "pl.DataFrame":
    start = min(window.start for window in windows.values())
    end = max(window.end for window in windows.values())
    return lake.scan(_INTERVAL, list(windows), start, end, store=store).collect()


def joined(frames: "list[pl.DataFrame]") -> "pl.DataFrame":
    """Return one row for each symbol and open time, of the first frame that has it."""
    import polars as pl

    return (
        pl.concat(frames).unique(KEY_COLUMNS, keep="first", maintain_order=True).sort(KEY_COLUMNS)
    )


def _lacking(
    found: "pl.DataFrame", windows: Mapping[str, Window], listed: Mapping[str, Listed]
) -> dict[str, Window]:
    """Return, by symbol, the span from the first to the last minute that is missing and could exist."""
    traded = {
        symbol: listed.get(symbol, Listed(window.start)).clip(_INTERVAL, window)
        for symbol, window in windows.items()
    }
    due = {symbol: window for symbol, window in traded.items() if window is not None}
    return {
        s: bounding_window(missing) for s, missing in missing_candles(found, _INTERVAL, due).items()
    }


def _fetched(
    exchange: Exchange, windows: Mapping[str, Window], deadline: float
) -> "tuple[pl.DataFrame, dict[str, str]]":
    async def sleep(seconds: float) -> None:
        if time.monotonic() + seconds > deadline:
            raise OutOfTimeError(
                "The exchange's request weight is spent, or it does not answer; the next tick asks "
                "again."
            )
        await asyncio.sleep(seconds)

    replies: list[tuple[str, bytes]] = []
    failures: dict[str, str] = {}
    answered: set[str] = set()
    try:
        with exchange.client(Priority.FINALIZE, patient=False, sleep=sleep) as client:
            for each in client.klines(_INTERVAL, windows):
                if each.error is not None:
                    failures[each.symbol] = str(each.error)
                    continue
                answered.add(each.symbol)
                replies += [(each.symbol, body) for body in each.replies]
    except ExchangeError as error:
        # The symbols answered before the error are complete.
        failures |= dict.fromkeys(windows.keys() - answered, str(error))
    try:
        rows = raw_candles(sorted(replies))
    except MalformedReplyError as error:
        return empty_candles(), dict.fromkeys(windows, str(error))
    return clean(rows, _INTERVAL, windows).candles, failures
