"""The candidate record: its id, its frame and its message. Strategies, in strategies/, find candidates;
resources/ stores and sends them.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat

from pipeline_assets.market.intervals import Interval

if TYPE_CHECKING:
    import polars as pl

CANDIDATE_COLUMNS = (
    "id",
    "strategy",
    "version",
    "symbol",
    "interval",
    "side",
    "open_time",
    "price",
    "indicators",
    "created_at",
)
# Ids are compared over years and between programs: this never changes.
_NAMESPACE = UUID("7f0c6b1e-6a35-5d0b-9c39-3f6f0d1c4a58")
# The longest symbols of the exchange have about 20 characters. Any length from the topic would go into
# documents, orders and logs.
_LONGEST_NAME = 64


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


UtcTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def _plain(text: str) -> str:
    """Refuse text that a terminal would obey: another program may write to the topic."""
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


_Plain = Annotated[str, AfterValidator(_plain)]
_Name = Annotated[_Plain, Field(min_length=1, max_length=_LONGEST_NAME)]


def _possible(moment: datetime) -> datetime:
    """Refuse times near the ends of the calendar, from which no close can be calculated."""
    if not 1970 <= moment.year < 2200:
        raise ValueError("must be from 1970 to 2199")
    return moment


class Candidate(BaseModel):
    """A strategy's signal on one closed candle of one symbol.

    `price` is the candle's close, in the quote asset. `indicators` are the values that the strategy
    read, by column. `created_at` is the time of the evaluation and may differ between repeats; the `id`
    is the same in all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, title="Candidate")

    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    strategy: _Name
    version: _Name
    symbol: _Name
    interval: Interval
    side: Literal["long", "short"]
    open_time: Annotated[UtcTime, AfterValidator(_possible)]
    price: FiniteFloat = Field(gt=0)
    indicators: dict[_Plain, FiniteFloat]
    created_at: UtcTime


@cache
def candidate_schema() -> "pl.Schema":
    """Return a candidates frame: times Datetime(us, UTC), `price` Float64 in the quote asset, else String.

    `indicators` is a JSON object of numbers by name, its keys sorted. One row an `id`.
    """
    import polars as pl

    dtypes: dict[str, pl.DataType] = dict.fromkeys(CANDIDATE_COLUMNS, pl.String())
    dtypes |= dict.fromkeys(("open_time", "created_at"), pl.Datetime("us", "UTC"))
    return pl.Schema(dtypes | {"price": pl.Float64()})


def candidate_id(
    strategy: str, version: str, symbol: str, interval: Interval | str, open_time: datetime
) -> str:
    """Return the idempotency key of a candidate: the same for the same five, whenever and wherever found.

    A UUID of version 5, so that it fits into 36 characters of any alphabet: an exchange takes no
    longer name for an order.

    Raises:
        ValueError: `open_time` has no zone, or `interval` is unknown.
    """
    if open_time.tzinfo is None:
        raise ValueError(
            f"The open time {open_time} of a candidate has no zone: give an aware time."
        )
    named = (strategy, version, symbol, Interval(interval).value, _in_utc(open_time).isoformat())
    return str(uuid5(_NAMESPACE, json.dumps(named)))


def contradiction(candidate: Candidate) -> str:
    """Return what contradicts itself in a candidate from another program; empty if nothing does.

    Another content under a known id would get a decision of its own beside the first one.
    """
    if candidate.interval.floor(candidate.open_time) != candidate.open_time:
        return f"no candle of {candidate.interval.value} opens at its open time"
    key = (candidate.strategy, candidate.version, candidate.symbol, candidate.interval)
    expected = candidate_id(*key, candidate.open_time)
    return "" if candidate.id == expected else "its id is not the one of its content"


def indicators_text(values: Mapping[str, float]) -> str:
    """Indicator values as the column `indicators` holds them: the same values give the same text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def split_by_age(
    candidates: "pl.DataFrame", evaluated_at: datetime, max_age: timedelta
) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Return the candidates to publish and those evaluated too late for it, each in the order given.

    Args:
        candidates: a candidates frame of 1m candles.
        evaluated_at: when they were evaluated, by the exchange's clock, UTC.
        max_age: the greatest time from a candle's close to `evaluated_at` at which its candidate is
            still published.
    """
    import polars as pl

    in_time = pl.col("open_time") >= evaluated_at - max_age - Interval.ONE_MINUTE.span
    return candidates.filter(in_time), candidates.filter(~in_time)


def candidates_of(frame: "pl.DataFrame") -> list[Candidate]:
    """Return the rows of a candidates frame as records, in the order given.

    Raises:
        pydantic.ValidationError: a row is not a valid candidate.
    """
    return [
        Candidate(**row | {"indicators": json.loads(row["indicators"])})
        for row in frame.select(CANDIDATE_COLUMNS).to_dicts()
    ]
