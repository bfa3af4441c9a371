"""From the bodies of klines replies to raw frames, exact to the character. No typing of prices.

cleaning.py interprets the rows and decides whether they are valid.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import orjson

from pipeline_assets.errors import DataError
from pipeline_assets.market.candles import RAW_COLUMNS, RAW_INTEGER_COLUMNS, empty_raw, raw_schema
from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds
from pipeline_assets.market.windows import Window, joined

if TYPE_CHECKING:
    import polars as pl

_FIELDS = RAW_COLUMNS[1:]
_IN_NUMBERS = b"0123456789.+-eE"
# A compact row after its numbers were removed, for instance `[,"","","","","",,"",,"","",""]`.
_ROW = b"[" + b",".join(b"" if name in RAW_INTEGER_COLUMNS else b'""' for name in _FIELDS) + b"]"
_AS_LINES = bytes.maketrans(b"]", b"\n")
_SHOWN = 80
_INT64 = range(-(2**63), 2**63)
_INTEGER: Any = Annotated[int, msgspec.Meta(ge=_INT64[0], le=_INT64[-1])]
# A row as an array of exactly these types. No object of the garbage collector is made for it.
_TYPED_ROW = msgspec.defstruct(
    "_TypedRow",
    [(name, _INTEGER if name in RAW_INTEGER_COLUMNS else str) for name in _FIELDS],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
)
_TYPED_ROWS: "msgspec.json.Decoder[list[Any]]" = msgspec.json.Decoder(list[_TYPED_ROW])  # type: ignore[valid-type]
_OPEN_TIME = attrgetter(_FIELDS[0])


class MalformedReplyError(DataError, ValueError):
    """A body is not a klines reply. The message has the symbol, the fault and the body's start."""


def check_reply(symbol: str, body: bytes) -> int:
    """Count the rows of one klines reply, and refuse what is not a complete one: see `open_times`."""
    return len(open_times(symbol, body))


def open_times(symbol: str, body: bytes) -> list[int]:
    """Return the open times of one klines reply, and refuse what is not a complete one.

    A whole reply is judged in one pass, some 0.5 µs a row; one with a fault is judged again, field by field,
    to name the fault. One that only `raw_candles` refused would cost the replies of other symbols too.

    Args:
        symbol: the symbol that was asked for, for the message only.
        body: the reply as received.

    Returns:
        The times in ms since the epoch, in the order received; none for `[]`.

    Raises:
        MalformedReplyError: HTML, a cut or empty body, an error object, a row of another width, or
            a field of another JSON type.
    """
    try:
        return list(map(_OPEN_TIME, _TYPED_ROWS.decode(body)))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return [row[0] for row in _parsed_rows(symbol, body)]


def holes(opens: Sequence[int], interval: Interval, window: Window) -> list[Window]:
    """Return the spans of a window's grid of which a reply has no row, in order of time.

    Args:
        opens: the open times of the reply's rows.
        interval: of the candles.
        window: what was asked for.
    """
    grid = range(to_milliseconds(window.start), to_milliseconds(window.end), interval.milliseconds)
    held = set(opens)
    if held.issuperset(grid):
        return []
    absent = (from_milliseconds(value) for value in grid if value not in held)
    return joined(Window(moment, moment + interval.span) for moment in absent)


def raw_candles(replies: "Sequence[tuple[str, bytes]]") -> "pl.DataFrame":
    """Put the rows of many replies into one raw frame, in the order received.

    Args:
        replies: pairs of the symbol asked for and the body received; a symbol may come repeatedly.

    Returns:
        A frame of `raw_schema()`; decimal strings keep every character.

    Raises:
        MalformedReplyError: as `check_reply`, and for a time or count that is not a 64-bit integer.
    """
    import polars as pl

    counted = ((symbol, body, _compact_rows(body)) for symbol, body in replies)
    frames = []
    for is_compact, group in groupby(counted, key=lambda reply: reply[2] is not None):
        if is_compact:
            frames.append(
                _from_compact([(symbol, body, count or 0) for symbol, body, count in group])
            )
        else:
            frames.extend(_from_parsed(symbol, body) for symbol, body, _ in group)
    return pl.concat(frames) if frames else empty_raw()


def _compact_rows(body: bytes) -> int | None:
    """Return the rows of a compact reply of the usual shape, or None where a parser must judge."""
    if body == b"[]":
        return 0
    punctuation = body.translate(None, _IN_NUMBERS)
    count = (len(punctuation) - 1) // (len(_ROW) + 1)
    is_usual = count > 0 and punctuation == b"[" + b",".join([_ROW] * count) + b"]"
    return count if is_usual else None


def _from_compact(replies: list[tuple[str, bytes, int]]) -> "pl.DataFrame":
    """Read many compact replies as one CSV.

    A row becomes a line in a single pass over the bytes (`]` ends a line, `[` and `"` go), where
    splitting by `],[` and dropping quotes take three times as long. The comma between two rows
    then leads the second one's line, hence the nameless first column.
    """
    import polars as pl

    held = [reply for reply in replies if reply[2]]
    if not held:
        return empty_raw()
    lines = b",".join([b"", *(body[:-1].translate(_AS_LINES, b'["') for _, body, _ in held)])
    types = {name: raw_schema()[name] for name in _FIELDS}
    try:
        fields = pl.read_csv(
            lines,
            has_header=False,
            schema={"": pl.String(), **types},
            columns=list(range(1, 1 + len(_FIELDS))),
            quote_char=None,
            empty_string_is_null=False,
        )
    except pl.exceptions.ComputeError:
        _blame(held)
    if any(fields[name].null_count() for name in RAW_INTEGER_COLUMNS):
        _blame(held)
    named = pl.DataFrame(
        {"symbol": [symbol for symbol, _, _ in held], "count": [count for _, _, count in held]}
    )
    symbols = named.select(pl.col("symbol").repeat_by("count").explode())["symbol"]
    return fields.insert_column(0, symbols)


def _blame(replies: list[tuple[str, bytes, int]]) -> NoReturn:
    """Name the reply that the CSV reader could not parse: it has a time or count that is not an integer."""
    for symbol, body, _ in replies:
        _parsed_rows(symbol, body)
    raise MalformedReplyError(f"One of {len(replies)} replies holds a number that cannot be read.")


def _from_parsed(symbol: str, body: bytes) -> "pl.DataFrame":
    import polars as pl

    rows = [(symbol, *row) for row in _parsed_rows(symbol, body)]
    return pl.DataFrame(rows, schema=raw_schema(), orient="row")


def _parsed_rows(symbol: str, body: bytes) -> list[list[Any]]:
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        kind = "is HTML" if body.lstrip().startswith(b"<") else f"is not complete JSON ({error})"
        raise MalformedReplyError(_message(symbol, kind if body else "is empty", body)) from None
    if not isinstance(rows, list):
        raise MalformedReplyError(_message(symbol, "is not a list of candles", body))
    fault = next(_faults(rows), None)
    if fault:
        raise MalformedReplyError(_message(symbol, fault, body))
    return rows


def _faults(rows: list[Any]) -> Iterator[str]:
    for number, row in enumerate(rows):
        if not isinstance(row, list):
            yield f"holds a {type(row).__name__} where candle {number} should be"
        elif len(row) != len(_FIELDS):
            yield f"has {len(row)} fields in candle {number}, not {len(_FIELDS)}"
        else:
            for name, value in zip(_FIELDS, row, strict=True):
                if name not in RAW_INTEGER_COLUMNS:
                    if type(value) is not str:
                        yield f"has {name} {value!r} in candle {number}, which is not a string"
                elif type(value) is not int or value not in _INT64:
                    yield f"has {name} {value!r} in candle {number}, which is not a 64-bit integer"


def _message(symbol: str, fault: str, body: bytes) -> str:
    start = body[:_SHOWN].decode("utf-8", "replace")
    return (
        f"The klines reply for {symbol} {fault}. It begins: {start!r}. "
        "Fetch it again; if it stays so, look at what stands between here and the exchange."
    )
