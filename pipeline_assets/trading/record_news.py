"""One look at the records of trading: new documents of trader and gateway on the lake go into the daily
Parquet objects, and what changed is reported. Objects and columns are in record_objects.py; how a report is
shown is decided by the caller.

The lake is read in place of the gateway: a look needs neither its address nor its token, costs three listings
where nothing is new, and works while trader and gateway are stopped.
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec

from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets.trading.account_records import ACCOUNTS, AccountRecords
from pipeline_assets.trading.decision_store import (
    DECISIONS,
    INTENTS,
    TraderStateError,
    decoded_document,
)
from pipeline_assets.trading.decisions import MinuteDecisions, MinuteIntents
from pipeline_assets.trading.record_cursor import Mark, RecordCursor
from pipeline_assets.trading.record_objects import (
    DayObject,
    Kind,
    Row,
    damage_of,
    day_of_object,
    merge_records,
    object_key,
)
from pipeline_assets.trading.record_rows import (
    decision_row,
    fill_row,
    funding_row,
    intent_row,
    order_row,
)

# The documents of one look, of each prefix: what a day without the sensor has left is read in some looks.
MOST = 1_000
# A document can become visible after one that the store says it wrote later.
_MARGIN = timedelta(seconds=60)
# Objects that are remembered as reported: more than one look changes.
_REPORTED = 64
_MINUTE = "%Y%m%d/%H%M"
# By kind of record, the documents that have its rows. A day's rows are in documents of that day or later.
_SOURCES = {
    Kind.DECISIONS: DECISIONS,
    Kind.INTENTS: INTENTS,
    Kind.ORDERS: ACCOUNTS,
    Kind.FILLS: ACCOUNTS,
    Kind.FUNDING: ACCOUNTS,
}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordNews:
    """The result of a look.

    Attributes:
        days: the objects to report, by kind and day.
        accounts: by account, the newest document of one whose positions or mode changed.
        documents: how many documents were read.
        waiting: how many are left for the next look.
        damaged: by kind and day, what is wrong with an object that cannot be read.
        changed: the days whose object became damaged or readable since the look before.
        cursor: for the next look.
    """

    days: Mapping[tuple[Kind, date], DayObject]
    accounts: Mapping[str, AccountRecords]
    documents: int
    waiting: int
    damaged: Mapping[tuple[Kind, date], str]
    changed: Sequence[tuple[Kind, date]]
    cursor: RecordCursor


def look(store: ObjectStore, cursor: RecordCursor, lateness: timedelta) -> RecordNews:
    """Read new documents, merge their rows into the days' objects, and return what to report.

    May be repeated after a crash at any point: merging the same documents again changes nothing, and an
    object is reported unless the cursor says that it was, as it stands. A damaged object of a day harms no
    other day.

    Args:
        store: the bucket.
        cursor: of the look before.
        lateness: how much older than the newest minute a late document's minute can be.

    Raises:
        ObjectStoreError: S3 refuses.
        TraderStateError: a document is of another version.
    """
    before = [day_of_object(each) for each in cursor.damaged]
    damaged = {each: why for each in before if (why := damage_of(store, *each))}
    mended = [each for each in before if each not in damaged]
    marks, rows = _read_again(cursor.marks, mended), defaultdict[tuple[Kind, date], list[Row]](list)
    newest: dict[str, AccountRecords] = {}
    documents = waiting = 0
    for prefix in (DECISIONS, INTENTS, ACCOUNTS):
        new, left, marks[prefix] = _changed(store, prefix, marks.get(prefix, Mark()), lateness)
        documents, waiting = documents + len(new), waiting + left
        for key, body in _bodies(store, new):
            if prefix == ACCOUNTS:
                account = _account(store, key, body)
                newest[account.account] = max(
                    newest.get(account.account, account), account, key=_progress
                )
                found = _of_account(account)
            else:
                found = _of_trader(store, prefix, key, body)
            for kind, day, row in found:
                rows[kind, day].append(row)
    merged: dict[tuple[Kind, date], DayObject | None] = {}
    for each in sorted(rows.keys() - damaged):
        try:
            merged[each] = merge_records(store, *each, rows[each])
        except DamagedObjectError as error:
            damaged[each] = str(error)
    reported = dict(cursor.reported)
    days = {
        each: held
        for each, held in merged.items()
        if held and _is_news(reported, held.key, held.etag)
    }
    accounts = {name: each for name, each in newest.items() if _is_news(reported, *_stand(each))}
    kept = dict(list(reported.items())[-_REPORTED:])
    changed = [*mended, *(each for each in damaged if each not in before)]
    after = RecordCursor(marks, kept, [object_key(*each) for each in damaged])
    return RecordNews(days, accounts, documents, waiting, damaged, changed, after)


def merge_documents(store: ObjectStore, day: date) -> bool:
    """Merge an account's documents of a day and the next into the day's objects; return if there are any.

    For a reader that cannot wait for the next look. The look merges the same rows again, which changes
    nothing.

    Raises:
        ObjectStoreError: S3 refuses, or an object is damaged.
        TraderStateError: a document is of another version.
    """
    rows = defaultdict[Kind, list[Row]](list)
    for each in (day, day + timedelta(days=1)):
        listed = list(store.objects(f"{ACCOUNTS}{each:%Y%m%d}/"))
        for key, body in _bodies(store, listed):
            for kind, at, row in _of_account(_account(store, key, body)):
                if at == day:
                    rows[kind].append(row)
    for kind, found in rows.items():
        merge_records(store, kind, day, found)
    return bool(rows)


def _read_again(marks: Mapping[str, Mark], days: Iterable[tuple[Kind, date]]) -> dict[str, Mark]:
    """Return the marks, with each prefix read again from the first of these days on."""
    found = dict(marks)
    for kind, day in days:
        prefix = _SOURCES[kind]
        newest = min(found.get(prefix, Mark()).newest, f"{prefix}{day:%Y%m%d}/0000")
        found[prefix] = Mark(newest)
    return found


def _changed(
    store: ObjectStore, prefix: str, mark: Mark, lateness: timedelta
) -> tuple[list[StoredObject], int, Mark]:
    """Return the documents to read by key, how many are left, and the mark after them."""
    oldest = datetime.fromisoformat(mark.modified) - _MARGIN if mark.modified else None
    known = set(mark.known)
    listed = [
        each
        for each in store.objects(prefix, start_after=_first_key(prefix, mark, lateness))
        if oldest is None or each.modified >= oldest
    ]
    unread = [each for each in listed if _short(each.key, each.etag) not in known]
    taken = sorted(unread, key=lambda each: (each.modified, each.key))[:MOST]
    if not taken:
        return [], 0, mark
    modified = max([each.modified for each in taken] + ([oldest + _MARGIN] if oldest else []))
    left = {each.key for each in unread} - {each.key for each in taken}
    read = [each for each in listed if each.key not in left]
    recent = [each for each in read if each.modified >= modified - _MARGIN]
    # Listings begin later only once nothing before is left, and not because of documents so new that
    # others of the same time may become visible still.
    settled = [] if left else [each.key for each in read if each.modified < modified - _MARGIN]
    after = Mark(
        max([mark.newest, *settled]),
        modified.isoformat(),
        sorted(_short(each.key, each.etag) for each in recent),
    )
    return sorted(taken, key=lambda each: each.key), len(left), after


def _first_key(prefix: str, mark: Mark, lateness: timedelta) -> str | None:
    """Return the key after which a listing begins; None lists all."""
    if not mark.newest:
        return None
    return f"{prefix}{_minute_of(prefix, mark.newest) - lateness:{_MINUTE}}"


def _minute_of(prefix: str, key: str) -> datetime:
    stamp = key.removeprefix(prefix)[:13]
    return datetime.strptime(stamp, _MINUTE).replace(tzinfo=UTC)


def _bodies(store: ObjectStore, found: list[StoredObject]) -> Iterator[tuple[str, bytes]]:
    """Yield the documents; a damaged one is left out with a warning, and read once it is replaced."""

    def read(each: StoredObject) -> bytes | None:
        try:
            return store.get(each.key)
        except DamagedObjectError as error:
            _logger.warning("A document of trading is left out: %s", error)
            return None

    for each, body in zip(found, store.each(read, found), strict=True):
        if body is not None:
            yield each.key, body


def _of_trader(
    store: ObjectStore, prefix: str, key: str, body: bytes
) -> Iterator[tuple[Kind, date, Row]]:
    minute = _minute_of(prefix, key)
    if prefix == DECISIONS:
        for decision in decoded_document(store, key, body, MinuteDecisions).decisions:
            yield Kind.DECISIONS, decision.candidate.open_time.date(), decision_row(decision)
    else:
        for intent in decoded_document(store, key, body, MinuteIntents).intents:
            yield Kind.INTENTS, minute.date(), intent_row(intent, minute)


def _account(store: ObjectStore, key: str, body: bytes) -> AccountRecords:
    try:
        return msgspec.json.decode(body, type=AccountRecords)
    except msgspec.DecodeError as error:
        raise TraderStateError(
            f"{store.address(key)} cannot be read ({error}): use the version that wrote it, or restore the "
            "object."
        ) from error


def _progress(document: AccountRecords) -> tuple[int, int]:
    return document.copy_begun, document.sequence


def _of_account(document: AccountRecords) -> Iterator[tuple[Kind, date, Row]]:
    for order in document.orders:
        yield Kind.ORDERS, from_milliseconds(order.sent_at).date(), order_row(document, order)
    for fill in document.fills:
        yield Kind.FILLS, from_milliseconds(fill.filled_at).date(), fill_row(document, fill)
    for payment in document.funding:
        yield (
            Kind.FUNDING,
            from_milliseconds(payment.paid_at).date(),
            funding_row(document, payment),
        )


def _stand(document: AccountRecords) -> tuple[str, str]:
    """Return an account's name in the cursor, and the digest of its positions and mode."""
    held = document.summary
    return f"{ACCOUNTS}{document.account}", _short(held.mode, json.dumps(held.positions))


def _is_news(reported: dict[str, str], name: str, digest: str) -> bool:
    """Note a digest as reported; return whether it was not the one reported last."""
    before = reported.pop(name, None)
    reported[name] = digest
    return before != digest


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
