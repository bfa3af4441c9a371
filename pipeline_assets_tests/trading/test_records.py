"""The records of the journals: what a newer version wrote is refused, and the journal is named."""

import json
from typing import Any

import pytest

from pipeline_assets.trading.paper_records import PAPER_RECORDS, PaperAccepted
from pipeline_assets.trading.records import (
    GATEWAY_RECORDS,
    DayBegun,
    JournalRecordError,
    OrderSending,
    RecordCodec,
)
from pipeline_assets_tests.fixtures.journals import Place
from pipeline_assets_tests.trading.test_core import ORDER

_SENDING = json.loads(GATEWAY_RECORDS.encode(OrderSending(at=1, order=ORDER, recv_window=5000)))
_ACCEPTED = json.loads(
    PAPER_RECORDS.encode(PaperAccepted(at=1, order=ORDER, venue_id="v", after=1))
)


@pytest.mark.parametrize(
    ("codec", "newer"),
    [
        (GATEWAY_RECORDS, {"type": "hedge_begun", "at": 1}),
        (GATEWAY_RECORDS, _SENDING | {"leverage": 5}),
        (GATEWAY_RECORDS, _SENDING | {"order": _SENDING["order"] | {"time_in_force": "IOC"}}),
        (PAPER_RECORDS, _ACCEPTED | {"queue": 7}),
    ],
)
def test_newer_record_names_its_journal(
    journal_place: Place, codec: RecordCodec[Any], newer: dict[str, Any]
) -> None:
    """A type, and a field of a record or of an order, that this version does not know."""
    journal = journal_place.open()
    known = GATEWAY_RECORDS.encode(DayBegun(at=1, day=1, result=0))
    first = known if codec is GATEWAY_RECORDS else json.dumps(_ACCEPTED).encode()
    journal.append([first, json.dumps(newer).encode()])
    with pytest.raises(
        JournalRecordError, match=r"Record 2 .* Use the version that wrote"
    ) as caught:
        list(codec.read(journal))
    assert journal.name in str(caught.value)
    journal.close()


def test_order_without_stop_is_read() -> None:
    """Journals that were written before entries carried stops."""
    old = dict(_SENDING["order"])
    del old["stop_part"]
    body = json.dumps(_SENDING | {"order": old}).encode()
    assert GATEWAY_RECORDS.decode(1, body) == OrderSending(at=1, order=ORDER, recv_window=5000)
