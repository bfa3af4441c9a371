"""Warnings about days whose ledger differs from the exchange: documents `reconciliations/…`. The module that
writes these is in trading/, which research does not import.
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date

from pipeline_assets.resources.lake_documents import MALFORMED
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.wording import counted


def ledger_warnings(store: ObjectStore, account: str, days: Sequence[date]) -> list[str]:
    """Return a sentence for each day whose ledger differs from the exchange.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    found = store.each(lambda day: _warning(store, account, day), days)
    return [each for each in found if each]


def _warning(store: ObjectStore, account: str, day: date) -> str:
    key = f"reconciliations/{account}/{day:%Y%m%d}.json"
    found = store.find(key)
    if found is None:
        return ""
    try:
        if not found.intact:
            raise ValueError(key)
        kinds = Counter(str(each["what"]) for each in json.loads(found.body)["differences"])
    except MALFORMED:
        return f"The comparison of account {account} with the exchange is damaged: {key}."
    if not kinds:
        return ""
    parts = ", ".join(f"{kind}: {number}" for kind, number in sorted(kinds.items()))
    return (
        f"The ledger of account {account} has {counted(kinds.total(), 'difference')} from the exchange on "
        f"{day} ({parts})."
    )
