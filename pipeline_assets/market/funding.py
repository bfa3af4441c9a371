"""Funding rates: the shape of their frames, and replies of the exchange turned into frames.

Files of the archive are read in funding_archive.py, missing rates are found in funding_intervals.py, and
objects are encoded in funding_encoding.py.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from pipeline_assets.market.intervals import HOUR, from_milliseconds
from pipeline_assets.market.replies import MalformedReplyError
from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    import polars as pl

FUNDING_KEY = ("symbol", "funding_time")
FUNDING_COLUMNS = (*FUNDING_KEY, "funding_rate", "mark_price", "interval_hours")
# Settlements are stamped some milliseconds after their hour, and seconds after it on a busy day.
_HOUR_MS = HOUR.total_seconds() * 1000
_OFF_GRID_MS = 300_000
# The exchange caps a rate at 3 %; beyond 100 % the text is something else.
_LARGEST_RATE = 1.0
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?")
_TIMES = range(
    1_567_296_000_000, 10**14
)  # September 2019, before the first contract, to the year 5138
_SHOWN = 80
_Row = tuple[int, float, float | None, int | None]


@dataclass(frozen=True)
class FundingRates:
    """Rates of one symbol as received and typed.

    Attributes:
        rates: a frame of `funding_schema()`, ascending, one row a settlement.
        rejected: why rows were left out: their time is no full hour.
    """

    rates: "pl.DataFrame"
    rejected: list[str] = field(default_factory=list)


@cache
def funding_schema() -> "pl.Schema":
    """Return the columns of a frame of funding rates, which is unique by `FUNDING_KEY`.

    `funding_time` is the full hour of the settlement. `mark_price` is null where the source has none, as the
    archive. `interval_hours` is what the archive says of the row, and null in rows of the exchange.
    """
    import polars as pl

    return pl.Schema(
        {
            "symbol": pl.String(),
            "funding_time": pl.Datetime("us", "UTC"),
            "funding_rate": pl.Float64(),
            "mark_price": pl.Float64(),
            "interval_hours": pl.Int64(),
        }
    )


def empty_funding() -> "pl.DataFrame":
    """Return a frame of funding rates without rows."""
    return funding_schema().to_frame()


def read_reply(symbol: str, body: bytes) -> FundingRates:
    """Return the rates of one fundingRate reply.

    Args:
        symbol: the symbol that was asked for.
        body: the reply as received.

    Raises:
        MalformedReplyError: HTML, a cut body, an error object, another symbol's row, or a row without a
            time or a rate.
    """
    rows: list[_Row] = []
    for number, row in enumerate(_list(symbol, body)):
        if not isinstance(row, dict) or row.get("symbol") != symbol:
            _refuse(symbol, f"holds another thing than a rate of this symbol in row {number}", body)
        time_ms = row.get("fundingTime")
        if type(time_ms) is not int or time_ms not in _TIMES:
            _refuse(symbol, f"has the fundingTime {time_ms!r} in row {number}", body)
        try:
            rate, mark = rate_of(row.get("fundingRate")), _mark(row.get("markPrice"))
        except ValueError as error:
            _refuse(symbol, f"has {error} in row {number}", body)
        rows.append((time_ms, rate, mark, None))
    return funding_rates(symbol, rows)


def read_intervals(body: bytes) -> dict[str, int]:
    """Return the hours between settlements by symbol, from a fundingInfo reply.

    The reply names only symbols whose interval was changed. An entry that cannot be read is left out.

    Raises:
        MalformedReplyError: the reply is no list.
    """
    found = {}
    for entry in _list("fundingInfo", body):
        if isinstance(entry, dict):
            symbol, hours = entry.get("symbol"), entry.get("fundingIntervalHours")
            if isinstance(symbol, str) and type(hours) is int and 1 <= hours <= 24:
                found[symbol] = hours
    return found


def rate_of(text: Any) -> float:
    """Return a funding rate from its decimal text; raises ValueError for anything else."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ValueError(f"the rate {printable(repr(text))[:_SHOWN]}")
    rate = float(text)
    if abs(rate) > _LARGEST_RATE:
        raise ValueError(f"the rate {printable(text)}, which is beyond 100 %")
    return rate


def funding_rates(symbol: str, rows: Iterable[_Row]) -> FundingRates:
    """Return typed rows on the grid of full hours.

    A time is moved to the hour that it is within five minutes of. The later of two rows of one hour
    counts.

    Args:
        symbol: of all rows.
        rows: time in ms, rate, mark price, hours of the interval.
    """
    import polars as pl

    kept: dict[int, tuple[float, float | None, int | None]] = {}
    rejected = []
    for time_ms, rate, mark, hours in sorted(rows, key=lambda row: row[0]):
        hour = round(time_ms / _HOUR_MS)
        if abs(time_ms - hour * _HOUR_MS) > _OFF_GRID_MS:
            moment = from_milliseconds(time_ms)
            rejected.append(
                f"{symbol} has a rate at {moment:%Y-%m-%d %H:%M:%S} UTC, which is no full hour"
            )
            continue
        kept[hour] = (rate, mark, hours)
    made = [
        (symbol, from_milliseconds(round(hour * _HOUR_MS)), *held) for hour, held in kept.items()
    ]
    return FundingRates(pl.DataFrame(made, funding_schema(), orient="row"), rejected)


def _mark(text: Any) -> float | None:
    """Return the mark price; None where the exchange has none, which it writes as nothing or as 0."""
    if text is None or text == "":
        return None
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ValueError(f"the mark price {printable(repr(text))[:_SHOWN]}")
    price = float(text)
    return price if price > 0 and isfinite(price) else None


def _list(what: str, body: bytes) -> list[Any]:
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError:
        rows = None
    if not isinstance(rows, list):
        _refuse(what, "is no list", body)
    return rows


def _refuse(what: str, fault: str, body: bytes) -> NoReturn:
    start = body[:_SHOWN].decode("utf-8", "replace")
    raise MalformedReplyError(
        f"The funding reply for {what} {fault}. It begins: {start!r}. "
        "Fetch it again; if it stays so, look at what stands between here and the exchange."
    )
