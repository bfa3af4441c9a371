"""Small JSON documents on the lake: reading them checked, and changing them upon what was read. What each
document means is in lake_state.py.

A damaged document is never believed and never ends a run: a warning names its key, a copy of it goes under
`damaged/` before it is replaced, and the caller makes its contents again. An entry that is wrong is left
out alone, so that one symbol's entry harms no other symbol.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from pipeline_assets.outside_text import printable
from pipeline_assets.resources.object_store import (
    FoundObject,
    ObjectStore,
    ObjectStoreError,
    PreconditionFailedError,
    digest_of,
)

DAMAGED = "damaged/"
_ATTEMPTS = 10
_LOG = logging.getLogger(__name__)
# What Python raises for a value of another type or shape than expected, also for a number too large for
# a date, and for JSON nested too deeply.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

# Takes a decoded document and returns it with the entries that are right; raises one of MALFORMED where
# the document as a whole is wrong. The second argument takes a note of each entry left out.
Clean = Callable[[Any, Callable[[str], None]], Any]


def read_json(store: ObjectStore, key: str, clean: Clean) -> Any | None:
    """The document at a key as `clean` returns it; None if it is not there or damaged.

    Raises:
        ObjectStoreError: the store does not answer.
    """
    found = store.find(key)
    return None if found is None else _cleaned(store, key, found, clean)


def update_json(
    store: ObjectStore, key: str, clean: Clean, change: Callable[[Any | None], Any]
) -> Any:
    """Change a document upon what was read, again if another writer came between; returns it.

    Nothing is written where `change` changes nothing. A damaged document is replaced by what `change`
    makes of None, after a copy of it was kept.

    Args:
        store: the bucket.
        key: the document's key.
        clean: as for `read_json`.
        change: gets the document as `clean` returns it, or None, and returns the new one.

    Raises:
        ObjectStoreError: the store does not answer, or other writers came between each time.
    """
    lost: PreconditionFailedError | None = None
    for _ in range(_ATTEMPTS):
        found = store.find(key)
        notes: list[str] = []
        held = None if found is None else _cleaned(store, key, found, clean, notes)
        changed = change(held)
        if changed == held and not notes:
            return held
        if found is not None and notes:
            keep_damaged(store, key, found.body)
        try:
            store.put_if(key, encoded(changed), found.etag if found else None)
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


def encoded(document: Any) -> bytes:
    """The bytes of a document."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def good_entries(
    held: Any, check: Callable[[str, Any], object], note: Callable[[str], None], what: str = ""
) -> dict[str, Any]:
    """The entries of a mapping that `check` accepts; the others are noted by their names.

    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(held, Mapping):
        raise TypeError(f"{what or 'it'} is no mapping")
    found = {}
    for name, value in held.items():
        try:
            # Half of a surrogate pair is JSON, and cannot be written again.
            encoded([name, value])
            check(name, value)
        except MALFORMED as error:
            note(f"{what}{' ' if what else ''}{name} ({type(error).__name__}: {error})")
        else:
            found[name] = value
    return found


def day_of_key(key: str, prefix: str, suffix: str) -> date | None:
    """The day in the key of a day's document; None if somebody else put the object there."""
    name = key.removeprefix(prefix).removesuffix(suffix)
    if f"{prefix}{name}{suffix}" != key or not re.fullmatch(r"[0-9]{8}", name):
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def utc_time(text: Any) -> datetime:
    """The time of an ISO 8601 text.

    Raises:
        ValueError, TypeError: it is none, or has another zone than UTC, or none.
    """
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() != timedelta(0):
        raise ValueError(f"{text!r} is not in UTC")
    return moment


def require(value: Any, kind: type) -> None:
    """Check the type of a value exactly: True is no int.

    Raises:
        TypeError: it has another type.
    """
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")


def _cleaned(
    store: ObjectStore,
    key: str,
    found: FoundObject,
    clean: Clean,
    notes: list[str] | None = None,
) -> Any | None:
    """The document without what is wrong, or None; warnings and `notes` name what was left out."""
    left_out: list[str] = []
    why = ""
    held = None
    if not found.intact:
        why = "its bytes do not match the SHA-256 in its metadata"
    else:
        try:
            held = clean(json.loads(found.body), left_out.append)
        except MALFORMED as error:
            why = f"{type(error).__name__}: {_short([str(error)])}"
    if why:
        _LOG.warning(
            "%s is damaged (%s). It is taken as not there and made again.", store.address(key), why
        )
        left_out = [why]
    elif left_out:
        _LOG.warning(
            "%s has %d entries that are wrong, which are left out: %s",
            store.address(key),
            len(left_out),
            _short(left_out),
        )
    if notes is not None:
        notes += left_out
    return None if why else held


def _short(texts: Iterable[str]) -> str:
    return str(printable("; ".join(texts)))[:500]
