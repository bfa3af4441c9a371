"""The books of accounts as the gateway wrote them to the lake last: documents `accounts/…`. The gateway's own
module of these documents is in trading/, which research does not import.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipeline_assets.resources.lake_documents import MALFORMED
from pipeline_assets.resources.object_store import ObjectStore

_PREFIX = "accounts/"
_DOCUMENT = re.compile(rf"{_PREFIX}[0-9]{{8}}/[0-9]{{6}}-(.+)-[0-9]+\.json")
_UNIT = 1e8


@dataclass(frozen=True)
class Books:
    """An account by its newest document of a span.

    Attributes:
        key: of the document.
        account: whose books.
        at: when the document was made, UTC.
        mode: ACTIVE, REDUCING or HALTED.
        mode_reason: why.
        day_result: the result since 00:00 UTC of its day, in the quote asset: fills, fees, funding and open
            positions.
        funding: what funding payments brought since the account began, in the quote asset.
        damage: what is wrong with the document, of which nothing else is known then; empty if it is whole.
    """

    key: str
    account: str
    at: datetime
    mode: str
    mode_reason: str
    day_result: float
    funding: float
    damage: str = ""


def newest_books(store: ObjectStore, days: Sequence[date]) -> list[Books]:
    """Return the newest books of each account, of the last of some days that has any; by account.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    for day in reversed(days):
        newest: dict[str, str] = {}
        # In the order of keys, which is that of time.
        for stored in store.objects(f"{_PREFIX}{day:%Y%m%d}/"):
            if match := _DOCUMENT.fullmatch(stored.key):
                newest[match[1]] = stored.key
        if newest:
            found = store.each(lambda each: _books(store, *each), sorted(newest.items()))
            return [each for each in found if each is not None]
    return []


def _books(store: ObjectStore, account: str, key: str) -> Books | None:
    """Return an account's books; None if the document is gone. A damaged one ends no report."""
    found = store.find(key)
    if found is None:
        return None
    try:
        if not found.intact:
            raise ValueError(key)
        body = found.body
        held: dict[str, Any] = json.loads(body)
        summary = held["summary"]
        return Books(
            key=key,
            account=account,
            at=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=held["at"]),
            mode=str(summary["mode"]),
            mode_reason=str(summary["mode_reason"]),
            day_result=summary["day_result"] / _UNIT,
            funding=summary["funding"] / _UNIT,
        )
    except MALFORMED:
        day = datetime.strptime(key.removeprefix(_PREFIX)[:8], "%Y%m%d").replace(tzinfo=UTC)
        damage = f"The gateway's newest document of this span is damaged: {key}."
        return Books(key, account, day, "", "", 0.0, 0.0, damage)
