"""Which minutes of each symbol are due, and up to where the sensor has come: decisions over what was
read. No I/O here (evaluation.py, history.py).
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.document_versions import cursor_content

if TYPE_CHECKING:
    import polars as pl

MINUTE = Interval.ONE_MINUTE.span
# A minute that is missing in the slots is waited for while the next ingest runs may still bring it: each
# of them reads the hour again. After that the minute is searched for on the lake and at the exchange. If
# it is missing there as well, it does not exist.
PATIENCE = 3 * MINUTE


@dataclass(frozen=True)
class Cursor:
    """The minute up to which each symbol is evaluated, as of the sensor's last tick.

    The states in Redis hold the same minutes, or newer ones. After a flush of Redis this cursor says
    which minutes are done, so that no minute in between is lost. `evaluated` holds for every symbol that
    is not in `others`. `strategies` are the ones known to the lake (evaluation_record.Evaluation), by name
    and version; `reported` are the continuing problems that were already reported.
    """

    evaluated: datetime | None = None
    others: Mapping[str, datetime] = field(default_factory=dict)
    strategies: frozenset[str] = frozenset()
    reported: frozenset[str] = frozenset()

    def of(self, symbol: str) -> datetime | None:
        """Return the newest evaluated minute of a symbol; None before the sensor's first tick."""
        return self.others.get(symbol, self.evaluated)

    def at(self, positions: Mapping[str, datetime]) -> "Cursor":
        """Return the cursor with the symbols at these positions; most of them stand at the same minute."""
        if not positions:
            return self
        most = Counter(positions.values()).most_common(1)[0][0]
        others = {symbol: at for symbol, at in positions.items() if at != most}
        return replace(self, evaluated=most, others=others)

    def to_text(self) -> str:
        """Return the cursor as Dagster keeps it."""
        return json.dumps(
            {
                "evaluated": self.evaluated and self.evaluated.isoformat(),
                "others": {s: moment.isoformat() for s, moment in sorted(self.others.items())},
                "strategies": sorted(self.strategies),
                "told": sorted(self.reported),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_text(cls, text: str | None) -> "Cursor":
        """Return the cursor that `to_text` wrote; an empty one where it cannot be read, or was reset.

        Raises:
            NewerVersionError: a newer release wrote the cursor.
        """
        try:
            held = cursor_content(text, "candidates")
            moment = datetime.fromisoformat
            return cls(
                moment(held["evaluated"]) if held["evaluated"] else None,
                {symbol: moment(at) for symbol, at in held["others"].items()},
                frozenset(held["strategies"]),
                frozenset(held["told"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()


@dataclass(frozen=True)
class Due:
    """The minutes that can be evaluated now.

    Attributes:
        candles: the next candles of each symbol, sorted by symbol and open time.
        holes: missing minutes that must be searched elsewhere before the symbol can go on.
        waiting: symbols whose next minute may still come, with that minute.
    """

    candles: "pl.DataFrame"
    holes: Mapping[str, Window]
    waiting: Mapping[str, datetime]


def due_minutes(
    candles: "pl.DataFrame",
    evaluated: Mapping[str, datetime],
    settled: Mapping[str, datetime],
) -> Due:
    """Return the candles that each symbol may fold now: in order, and past no minute that may still come.

    Args:
        candles: a candle frame sorted by symbol and open time, one row for each; only rows newer
            than `evaluated` count, and only symbols that are in it.
        evaluated: the newest minute that each symbol has evaluated.
        settled: by symbol, the open time before which every candle that exists is in `candles`.
    """
    import polars as pl

    opens = pl.col("open_time")
    places = candles.select("symbol", "open_time").with_row_index("row")
    taken: list[int] = []
    holes: dict[str, Window] = {}
    waiting: dict[str, datetime] = {}
    for symbol, first, last, rows, times in (
        places.filter(pl.col("symbol").is_in(list(evaluated)))
        .group_by("symbol", maintain_order=True)
        .agg(opens.first().alias("first"), opens.last().alias("last"), "row", "open_time")
        .iter_rows()
    ):
        following = evaluated[symbol] + MINUTE
        if first == following == last:
            taken += rows
            continue
        end = settled.get(symbol, following)
        for row, opened in zip(rows, times, strict=True):
            if opened < following:
                continue
            if opened != following and opened > end:
                if last - following >= PATIENCE:
                    holes[symbol] = Window(max(following, end), opened)
                else:
                    waiting[symbol] = following
                break
            taken.append(row)
            following = opened + MINUTE
    return Due(candles[taken], holes, waiting)


def rounds(candles: "pl.DataFrame") -> "list[pl.DataFrame]":
    """Split a sorted candle frame into frames of at most one candle a symbol, each newer than the last."""
    import polars as pl

    place = pl.int_range(pl.len()).over("symbol")
    if candles["symbol"].is_unique().all():
        return [candles] if candles.height else []
    parts = candles.with_columns(place=place).partition_by("place", include_key=False, as_dict=True)
    return [parts[key] for key in sorted(parts)]


def earliest(
    position: datetime, newest: datetime, limit: timedelta
) -> tuple[datetime, Window | None]:
    """Return where a symbol continues, and the minutes too old to be evaluated, if there are any.

    Args:
        position: the newest minute that is evaluated.
        newest: the symbol's newest closed candle.
        limit: minutes longer than this before `newest` are skipped.
    """
    oldest = newest - limit
    if position >= oldest:
        return position, None
    return oldest, Window(position + MINUTE, oldest + MINUTE)
