"""The exchange's first answers that it has no candle of a finished day, kept so that the same answer to a
later run is known as a repetition. Whether an answer is believed is decided in collection/empty_days.py.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, without
from pipeline_assets.resources.finalized_days import STABLE_AFTER
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    Symbol,
    documented_days,
    left_out_alone,
    require,
    update_document,
    utc_time,
)
from pipeline_assets.resources.object_store import ObjectStore


@dataclass(frozen=True)
class EmptyAnswer:
    """The exchange's first answer that it has no candle of a symbol in a finished day.

    Attributes:
        asked: the part of the day in which the symbol traded, as was known then.
        run: the run that got the answer.
        at: when that was, by the exchange's time, UTC.
    """

    asked: Window
    run: str
    at: datetime

    def repeated_by(self, other: "EmptyAnswer") -> bool:
        """Return whether another run got the same answer, long enough after this one."""
        covered = not without(other.asked, [self.asked])
        return covered and other.run != self.run and other.at - self.at >= STABLE_AFTER


def _answer_of(row: Sequence[Any]) -> EmptyAnswer:
    start, end, run, at = row
    return EmptyAnswer(Window(utc_time(start), utc_time(end)), require(run, str), utc_time(at))


def _answer_row(each: EmptyAnswer) -> list[str]:
    start, end = each.asked.start.isoformat(), each.asked.end.isoformat()
    return [start, end, each.run, each.at.isoformat()]


_Answer = Annotated[EmptyAnswer, PlainValidator(_answer_of), PlainSerializer(_answer_row)]
_ANSWERS: TypeAdapter[dict[str, EmptyAnswer]] = TypeAdapter(
    Annotated[dict[Symbol, _Answer], left_out_alone()], config=DEFERRED
)


def _prefix(interval: Interval) -> str:
    return f"state/empty_answers/{interval}/"


def _key(interval: Interval, day: date) -> str:
    return f"{_prefix(interval)}{day:%Y%m%d}.json"


def note_empty_answers(
    store: ObjectStore, interval: Interval, day: date, answers: Mapping[str, EmptyAnswer]
) -> dict[str, EmptyAnswer]:
    """Remember the first empty answers of a day by symbol; returns the first ones of these symbols.

    Idempotent, and safe beside other runs. A first answer stays, unless it was of a shorter part of the
    day. A document that is lost or damaged is begun again, so that the day is believed later only.
    """

    def change(held: dict[str, EmptyAnswer] | None) -> dict[str, EmptyAnswer]:
        known = dict(held or {})
        for symbol, answer in answers.items():
            first = known.get(symbol)
            if first is None or without(answer.asked, [first.asked]):
                known[symbol] = answer
        return dict(sorted(known.items()))

    held = update_document(store, _key(interval, day), _ANSWERS, change) or {}
    return {symbol: held[symbol] for symbol in answers}


def forget_empty_answers(store: ObjectStore, interval: Interval, days: Container[date]) -> None:
    """Forget the empty answers of days of which candles came after all. May be repeated."""
    held = [day for day in documented_days(store, _prefix(interval)) if day in days]
    if held:
        store.delete([_key(interval, day) for day in held])
