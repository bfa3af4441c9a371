"""The arguments of the lake's reader, checked at the door. Reading is in lake.py."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.settings import is_symbol

# Keys have years of four digits, and a day is added to and taken from times.
_EARLIEST, _LATEST = datetime(1000, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def interval_of(given: Any) -> Interval:
    """Return the interval of this name; raises ValueError if there is none."""
    if given not in list(Interval):
        raise ValueError(f"{given!r} is not an interval: use one of {', '.join(Interval)}")
    return Interval(given)


def symbols_of(given: Any) -> list[str]:
    """Return the symbols, sorted and without repetition.

    Raises:
        TypeError: `given` is no list of texts.
        ValueError: a text cannot be a symbol.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"symbols must be a list such as ['BTCUSDT'], not {given!r}")
    symbols = list(given)
    for symbol in symbols:
        if not isinstance(symbol, str):
            raise TypeError(f"symbols must be a list of texts, and {symbol!r} is none")
        if not is_symbol(symbol):
            raise ValueError(
                f"{symbol!r} is not a symbol: symbols are upper case, without / or blanks"
            )
    return sorted(set(symbols))


def window_of(start: Any, end: Any) -> Window:
    """Return the span in UTC: keys are stamped in UTC, and the day of `start` in another zone may differ.

    Raises:
        TypeError: a time is no datetime.
        ValueError: a time has no zone, or `end` is not after `start`.
    """
    for name, given in (("start", start), ("end", end)):
        if not isinstance(given, datetime):
            raise TypeError(
                f"{name} must be a datetime such as datetime(2026, 11, 1, tzinfo=UTC), not {given!r}"
            )
        if given.tzinfo is None:
            raise ValueError(
                f"{name} must be an aware datetime such as datetime(2026, 11, 1, tzinfo=UTC); "
                f"{given!r} has no zone"
            )
    if end <= start:
        raise ValueError(f"end must be after start, got {start.isoformat()} and {end.isoformat()}")
    # datetime.min and datetime.max mean "everything".
    first, last = (min(max(each, _EARLIEST), _LATEST).astimezone(UTC) for each in (start, end))
    return Window(first, last)
