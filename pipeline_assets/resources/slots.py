"""The newest fifteen minutes of every symbol, in Redis. Validation is in market/.

A symbol's slots are one hash, `ohlcv:1m:{SYMBOL}` with literal braces, so that a cluster keeps all
keys of a symbol together. Field: minute of the open time modulo fifteen. Value: the candle as a
JSON object, `open_time` first, times in milliseconds since the epoch (UTC).

A candle that arrives after the sensor evaluated its minute marks the indicator state
(indicator_state.py) for a rebuild, in the same script call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.candles import (
    CANDLE_COLUMNS,
    TIME_COLUMNS,
    candle_schema,
    empty_candles,
)
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.resources.redis_client import REPEAT, RedisConnection
from pipeline_assets.resources.write_guard import require_lease

if TYPE_CHECKING:
    import polars as pl
    import redis

    from pipeline_assets.settings import RedisSettings

SLOTS = 15
SPAN = timedelta(minutes=SLOTS)
# Redis drops a state two days after its last write; minutes that old are never evaluated
# (settings.candidates).
STATE_TTL_SECONDS = 2 * 86_400
# write_slots.lua reads the open time from a value's beginning: it has to stay the first field.
VALUE_COLUMNS = tuple(column for column in CANDLE_COLUMNS if column != "symbol")


class SlotsError(OutsideSystemError):
    """Redis failed, or a slot holds no candle. The message says where and what to do."""


@dataclass(frozen=True)
class SlotsWritten:
    """The result of one write to the slots of `symbols` symbols.

    `written` counts offered candles that are new or differ from the stored ones, `unchanged` were there
    already, and `kept_newer` met a newer candle in their slot, which stayed. `removed` slots held a
    candle of a minute that has not begun yet, which a wrong clock had put there.
    """

    symbols: int
    written: int
    unchanged: int
    kept_newer: int
    removed: int = 0


def slot_key(symbol: str) -> str:
    """Return the key of a symbol's slots; the braces are part of it (a cluster hashes what is in them)."""
    return f"ohlcv:1m:{{{symbol}}}"


def state_key(symbol: str) -> str:
    """Return the key of a symbol's indicator state, which a cluster keeps beside its slots."""
    return f"indicators:1m:{{{symbol}}}"


class CandleSlots:
    """The slots of all symbols. Connects on first use; safe to share between threads.

    Invariant: a slot's open time never decreases, for any writers in any order. A slot of a
    minute that has not begun is removed.
    """

    def __init__(
        self,
        settings: "RedisSettings",
        client: "redis.Redis | redis.RedisCluster | None" = None,
        then: str = REPEAT,
    ) -> None:
        """Take over an address; nothing is sent.

        Args:
            settings: where Redis is.
            client: a connection of one's own, such as a cluster's.
            then: what a person does once Redis works again, for the errors' text.
        """
        self._settings = settings
        self._redis = RedisConnection(settings, SlotsError, client, then)

    def write(self, candles: "pl.DataFrame", now: datetime | None = None) -> SlotsWritten:
        """Put the newest fifteen minutes of each symbol of a 1m candle frame into its slots.

        Takes any number of rows in any order: rows fifteen minutes or more older than the
        symbol's newest row are left out. Each symbol is written in one step of the server, and its
        key then lives `slot_ttl_seconds` longer, unless all its slots hold newer candles.

        Safe to repeat and to run beside other writers: a slot takes the same or a newer open time
        only, so any order of any writes ends with the newest candle in each slot. A candle that
        replaces one of the same open time, or comes after a newer one, marks the indicator state.
        `unchanged` includes candles that an earlier attempt wrote before its reply was lost.

        Args:
            candles: a 1m candle frame.
            now: the exchange's time, whose clock alone decides which minutes have ended. Later minutes
                are removed from the written symbols' slots, and so is an indicator state that has
                evaluated a later minute. Without `now` both stay.

        Raises:
            SlotsError: Redis failed. Some symbols may have been written; repeat the whole write.
        """
        require_lease()
        offered = _encoded(candles)
        # A slot of the current minute is kept, because `now` is an estimate.
        latest = "" if now is None else to_milliseconds(now)
        calls = [
            (
                *(2, slot_key(symbol), state_key(symbol)),
                *(self._settings.slot_ttl_seconds, STATE_TTL_SECONDS, latest, *values),
            )
            for symbol, values in offered.items()
        ]
        outcomes = self._redis.run_script("write_slots", calls) if calls else []
        written = sum(outcome[0] for outcome in outcomes)
        kept_newer = sum(outcome[1] for outcome in outcomes)
        offered_count = sum(len(values) for values in offered.values())
        return SlotsWritten(
            len(offered),
            written,
            offered_count - written - kept_newer,
            kept_newer,
            sum(outcome[2] for outcome in outcomes),
        )

    def read(self, symbols: Sequence[str], newest: datetime | None = None) -> "pl.DataFrame":
        """Return the stored candles of `symbols`, as a candle frame sorted by symbol and open time.

        With `newest` (an open time, UTC) only the fifteen open times that end with it, so that what
        a slot still holds of an earlier quarter of an hour does not pass as current. Without it,
        whatever the slots hold.

        Raises:
            SlotsError: Redis failed, or a slot holds no candle.
        """
        import polars as pl

        symbols = list(dict.fromkeys(symbols))
        if not symbols:
            return empty_candles()

        def values(client: Any) -> list[list[bytes]]:
            return _values_of_all(client, symbols)

        candles = decoded_slots(symbols, self._redis.run(values))
        if newest is not None:
            candles = candles.filter(
                pl.col("open_time") > newest - SPAN, pl.col("open_time") <= newest
            )
        return candles.sort("symbol", "open_time")

    def newest_closes(self, symbols: Sequence[str]) -> dict[str, tuple[float, int]]:
        """Return close and close time (ms) of each symbol's newest candle, without loading Polars.

        Raises:
            SlotsError: as `read`.
        """
        found = {}
        for symbol, held in self.candles(symbols).items():
            try:
                newest = max(held, key=itemgetter("open_time"), default=None)
                if newest is not None:
                    found[symbol] = float(newest["close"]), int(newest["close_time"])
            except (LookupError, TypeError, ValueError) as error:
                raise _strange(symbol) from error
        return found

    def candles(self, symbols: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Return the stored candles by symbol as they are, times in milliseconds; without Polars.

        Raises:
            SlotsError: as `read`.
        """
        import orjson

        def values(client: Any) -> list[list[bytes]]:
            return _values_of_all(client, symbols)

        found = {}
        for symbol, held in zip(symbols, self._redis.run(values) if symbols else (), strict=True):
            try:
                found[symbol] = [orjson.loads(each) for each in held]
            except orjson.JSONDecodeError as error:
                raise _strange(symbol) from error
        return found

    def summary(self, symbols: Sequence[str]) -> "pl.DataFrame":
        """Return one row for each of `symbols`, in their order, for a table of the slots.

        Columns: `symbol` String; `slots` Int64, how many of the fifteen open times that end with
        the symbol's newest are held; `newest_open_time` Datetime(us, UTC), null where none is.

        Raises:
            SlotsError: as `read`.
        """
        import polars as pl

        newest = pl.col("open_time").max()
        held = (
            self.read(symbols)
            .group_by("symbol")
            .agg(
                (pl.col("open_time") > newest - SPAN).sum().cast(pl.Int64).alias("slots"),
                newest.alias("newest_open_time"),
            )
        )
        asked = pl.DataFrame({"symbol": list(symbols)}, schema={"symbol": pl.String})
        return asked.join(held, on="symbol", how="left", maintain_order="left").with_columns(
            pl.col("slots").fill_null(0)
        )


def _values_of_all(client: Any, symbols: Sequence[str]) -> list[list[bytes]]:
    pipeline = client.pipeline(transaction=False)
    for symbol in symbols:
        pipeline.execute_command("HVALS", slot_key(symbol))
    replies: list[list[bytes]] = pipeline.execute()
    return replies


def _strange(symbol: str) -> SlotsError:
    return SlotsError(
        f"A slot of {slot_key(symbol)} holds no candle: another program writes there. Stop it and "
        "delete the key; the next ingest run writes the slots again."
    )


def _encoded(candles: "pl.DataFrame") -> dict[str, list[str]]:
    """Return each symbol's newest fifteen minutes as JSON values."""
    import polars as pl

    open_time = pl.col("open_time")
    rows = (
        candles.filter(open_time > open_time.max().over("symbol") - SPAN)
        .with_columns(pl.col(TIME_COLUMNS).dt.epoch("ms"))
        .select("symbol", pl.struct(VALUE_COLUMNS).struct.json_encode().alias("value"))
        # Polars writes 7,500 candles in 7 ms; orjson over rows as dictionaries takes 33 ms.
        .group_by("symbol", maintain_order=True)
        .agg("value")
    )
    return dict(zip(rows["symbol"], rows["value"].to_list(), strict=True))


def decoded_slots(symbols: Sequence[str], replies: Sequence[Sequence[bytes]]) -> "pl.DataFrame":
    """Return slot values, a list for each of `symbols`, as a candle frame in their order.

    Raises:
        SlotsError: a value is no candle.
    """
    import polars as pl

    owners = [symbol for symbol, reply in zip(symbols, replies, strict=True) for _ in reply]
    values = _values([value for reply in replies for value in reply])
    if values is None:
        strange = next(
            symbol for symbol, reply in zip(symbols, replies, strict=True) if _values(reply) is None
        )
        raise _strange(strange)
    return values.with_columns(
        pl.Series("symbol", owners, dtype=pl.String()),
        *(
            pl.from_epoch(column, time_unit="ms").cast(candle_schema()[column])
            for column in TIME_COLUMNS
        ),
    ).select(CANDLE_COLUMNS)


def _values(values: Sequence[bytes]) -> "pl.DataFrame | None":
    """Return the values as rows, times in milliseconds; None if one of them is not a candle."""
    import orjson
    import polars as pl

    schema = {
        column: pl.Int64() if column in TIME_COLUMNS else candle_schema()[column]
        for column in VALUE_COLUMNS
    }
    try:
        # All in one call: a call for each of 7,500 values takes longer than their parsing.
        frame = pl.DataFrame(orjson.loads(b"[" + b",".join(values) + b"]"), schema=schema)
    except (orjson.JSONDecodeError, pl.exceptions.PolarsError, TypeError, OverflowError):
        frame = None
    return None if frame is None or frame["open_time"].null_count() else frame
