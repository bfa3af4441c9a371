"""Small JSON documents on the lake: read them checked, and change them only if they are unchanged since the
read. The meaning of a document is explained in the module that names its key.

A damaged document is never believed and never ends a run: a warning names its key, a copy of it goes under
`damaged/` before it is replaced, and the caller makes its contents again. An entry that is wrong is left
out alone, so that one symbol's entry harms no other symbol.

A document's type is a pydantic TypeAdapter. The JSON keeps its shape, so that versions may share a lake; what
earlier versions wrote otherwise is accepted by a validator that says so; `info.context["version"]` is what it
reads. A document of a newer release is refused, and neither replaced nor made again.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from pipeline_assets.market.intervals import from_milliseconds, to_milliseconds
from pipeline_assets.market.windows import Window
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.document_versions import FIRST, content_of, with_version
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError, PreconditionFailedError
from pipeline_assets.resources.stored_objects import FoundObject, digest_of
from pipeline_assets.settings import is_symbol

T = TypeVar("T")
DAMAGED = "damaged/"
# For a TypeAdapter that many processes load and do not use: to build one takes some milliseconds.
DEFERRED = ConfigDict(defer_build=True)
_ATTEMPTS = 10
_LOG = logging.getLogger(__name__)
# Errors that Python raises for a value of another type or shape than expected, also for a number too large
# for a date, and for JSON nested too deeply.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def read_document(
    store: ObjectStore,
    key: str,
    kind: TypeAdapter[T],
    about: Any = None,
    left_out: list[str] | None = None,
    version: int = FIRST,
) -> T | None:
    """Return the document at a key; None if it is not there or damaged.

    Args:
        store: the bucket.
        key: the document's key.
        kind: what the document is.
        about: what validators find as `info.context["about"]`.
        left_out: takes the names of the entries that are left out.
        version: the newest version that `kind` reads.

    Raises:
        NewerVersionError: a newer release wrote the document.
        ObjectStoreError: the store does not answer.
    """
    found = store.find(key)
    if found is None:
        return None
    return _decoded(store, key, found, kind, about, [] if left_out is None else left_out, version)


def write_document(
    store: ObjectStore, key: str, kind: TypeAdapter[T], document: T, version: int = FIRST
) -> None:
    """Write a document whatever is there; may be repeated.

    The caller has read the document before, which refuses one of a newer release.
    """
    store.put(key, _encoded(kind, document, version))


def update_document(
    store: ObjectStore,
    key: str,
    kind: TypeAdapter[T],
    change: Callable[[T | None], T | None],
    about: Any = None,
    version: int = FIRST,
) -> T | None:
    """Change a document upon what was read, again if another writer came between; returns it.

    Nothing is written where `change` changes nothing. A damaged document is replaced by what `change`
    makes of None, after a copy of it was kept.

    Args:
        store: the bucket.
        key: the document's key.
        kind: what the document is.
        change: gets the document, or None, and returns the new one.
        about: as for `read_document`.
        version: as for `read_document`; the document is written with it.

    Raises:
        NewerVersionError: a newer release wrote the document.
        ObjectStoreError: the store does not answer, or other writers came between each time.
    """
    lost: PreconditionFailedError | None = None
    for _ in range(_ATTEMPTS):
        found = store.find(key)
        left_out: list[str] = []
        held = (
            None if found is None else _decoded(store, key, found, kind, about, left_out, version)
        )
        changed = change(held)
        if changed == held and not left_out:
            return held
        if found is not None and left_out:
            keep_damaged(store, key, found.body)
        try:
            store.put_if(key, _encoded(kind, changed, version), found.etag if found else None)
        except PreconditionFailedError as error:
            lost = error
        else:
            return changed
    raise ObjectStoreError(
        f"{store.address(key)} was changed by other writers {_ATTEMPTS} times in a row. Repeat the run."
    ) from lost


def keep_damaged(store: ObjectStore, key: str, body: bytes) -> str:
    """Keep a copy of damaged bytes before they are replaced; returns its key. May be repeated."""
    copy = f"{DAMAGED}{key}.{digest_of(body)[:12]}"
    store.put(copy, body)
    return copy


def left_out_alone(what: str = "") -> WrapValidator:
    """Return the annotation of a mapping whose wrong entries are left out, each noted by its name.

    Args:
        what: stands before the name in a warning.
    """

    def validate(held: Any, whole: ValidatorFunctionWrapHandler, info: Any) -> dict[str, Any]:
        if not isinstance(held, Mapping):
            raise TypeError(f"{what or 'it'} is no mapping")
        found: dict[str, Any] = {}
        for name, value in held.items():
            try:
                # Half of a surrogate pair is JSON, and cannot be written again.
                json.dumps([name, value], ensure_ascii=False).encode()
                found |= whole({name: value})
            except MALFORMED as error:
                info.context["note"](name, f"{what} {name} ({_reason(error)})".lstrip())
        return found

    return WrapValidator(validate)


def documented_days(store: ObjectStore, prefix: str, suffix: str = ".json") -> list[date]:
    """Return the days that have an object below a prefix, ascending."""
    return list(written_times(store, prefix, suffix))


def written_times(store: ObjectStore, prefix: str, suffix: str = ".json") -> dict[date, datetime]:
    """Return when each day's object below a prefix was written, by the store's clock, UTC; ascending."""
    return {
        day: each.modified
        for each in store.objects(prefix)
        if (day := day_of_key(each.key, prefix, suffix))
    }


def day_of_key(key: str, prefix: str, suffix: str) -> date | None:
    """Return the day in the key of a day's document; None if somebody else put the object there."""
    name = key.removeprefix(prefix).removesuffix(suffix)
    if f"{prefix}{name}{suffix}" != key or not re.fullmatch(r"[0-9]{8}", name):
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def utc_time(text: Any) -> datetime:
    """Return the time of an ISO 8601 text.

    Raises:
        ValueError, TypeError: it is none, or has another zone than UTC, or none.
    """
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() != timedelta(0):
        raise ValueError(f"{text!r} is not in UTC")
    return moment


def require(value: Any, kind: type[T]) -> T:
    """Return a value of exactly this type: True is no int.

    Raises:
        TypeError: it has another type.
    """
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _symbol(name: str) -> str:
    if not is_symbol(name):
        raise ValueError("it is no symbol")
    return name


def _span(ends: Any) -> Window:
    start, end = ends
    return Window(utc_time(start), utc_time(end))


# Values as documents hold them: ISO 8601 in UTC, milliseconds since the epoch, start and end.
Symbol = Annotated[str, AfterValidator(_symbol)]
UtcTime = Annotated[datetime, PlainValidator(utc_time), PlainSerializer(datetime.isoformat)]
MillisecondTime = Annotated[
    datetime,
    PlainValidator(lambda value: from_milliseconds(require(value, int))),
    PlainSerializer(to_milliseconds),
]
Span = Annotated[
    Window,
    PlainValidator(_span),
    PlainSerializer(lambda window: [window.start.isoformat(), window.end.isoformat()]),
]


def _encoded(kind: TypeAdapter[Any], document: Any, version: int) -> bytes:
    held = with_version(kind.dump_python(document), version)
    return json.dumps(held, ensure_ascii=False, separators=(",", ":")).encode()


def _decoded(
    store: ObjectStore,
    key: str,
    found: FoundObject,
    kind: TypeAdapter[T],
    about: Any,
    left_out: list[str],
    version: int,
) -> T | None:
    """Return the document without what is wrong, or None; a warning names what was left out."""
    notes: list[str] = []
    why = ""
    held = None

    def note(name: str, what: str) -> None:
        left_out.append(name)
        notes.append(what)

    if not found.intact:
        why = "its bytes do not match the SHA-256 in its metadata"
    else:
        try:
            content, read = content_of(json.loads(found.body), store.address(key), version)
            held = kind.validate_python(
                content, context={"note": note, "about": about, "version": read}
            )
        except MALFORMED as error:
            why = _short([_reason(error)])
    if why:
        _LOG.warning(
            "%s is damaged (%s). It is taken as not there and made again.", store.address(key), why
        )
        left_out.append(why)
        return None
    if notes:
        _LOG.warning(
            "%s: %d wrong entries are left out: %s",
            store.address(key),
            len(notes),
            _short(notes),
        )
    return held


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            ": ".join([*map(str, each["loc"]), each["msg"].removeprefix("Value error, ")])
            for each in error.errors(include_url=False, include_input=False)
        )
    return f"{type(error).__name__}: {error}"


def _short(texts: Iterable[str]) -> str:
    return str(printable("; ".join(texts)))[:500]
