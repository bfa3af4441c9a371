"""The books of accounts as the gateway wrote them to the lake last: documents `accounts/…`. The gateway's own
module of these documents is in trading/, which research does not import.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

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
    """

    key: str
    account: str
    at: datetime
    mode: str
    mode_reason: str
    day_result: float
    funding: float


def newest_books(store: ObjectStore, days: Sequence[date]) -> list[Books]:
    """Return the newest books of each account, of the last of some days that has any; by account.

    Raises:
        ObjectStoreError: the lake does not answer, or a document is damaged.
    """
    for day in reversed(days):
        newest: dict[str, str] = {}
        # In the order of keys, which is that of time.
        for stored in store.objects(f"{_PREFIX}{day:%Y%m%d}/"):
            if match := _DOCUMENT.fullmatch(stored.key):
                newest[match[1]] = stored.key
        if newest:
            keys = [newest[account] for account in sorted(newest)]
            found = store.each(lambda key: (key, store.get(key)), keys)
            return [_books(store, key, body) for key, body in found if body is not None]
    return []


def _books(store: ObjectStore, key: str, body: bytes) -> Books:
    try:
        held: dict[str, Any] = json.loads(body)
        summary = held["summary"]
        return Books(
            key=key,
            account=str(held["account"]),
            at=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=held["at"]),
            mode=str(summary["mode"]),
            mode_reason=str(summary["mode_reason"]),
            day_result=summary["day_result"] / _UNIT,
            funding=summary["funding"] / _UNIT,
        )
    except (ValueError, KeyError, TypeError) as error:
        what = f"it is no document of an account ({type(error).__name__}). Remove it."
        raise store.damaged(key, what) from error
