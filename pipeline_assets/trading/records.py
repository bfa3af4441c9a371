"""The journal's records: each change of the gateway's state, in order. Reading all of them again gives the
same state. How a record changes the state is in state.py.

Records are JSON objects with a `type`. A field that is added needs a default, so that older journals remain
readable; a type is never removed.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from pipeline_assets.errors import DataError
from pipeline_assets.resources.journal import Journal
from pipeline_assets.trading.order_types import Fill, Mode, Order, Status


class JournalRecordError(DataError):
    """Stored bytes that are no journal record. The message says which and what to do."""


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """The base of all records. `at` is the exchange's time in milliseconds.

    A field that this version does not know may change what an order does, so its record is refused.
    """

    at: int


class OrderSending(Record, frozen=True, kw_only=True, tag="order_sending"):
    """An order is about to be sent. Until `at + recv_window` the venue may accept it."""

    order: Order
    recv_window: int


class OrderChanged(Record, frozen=True, kw_only=True, tag="order_changed"):
    """The state of an order changed. `reported` is what the venue said was filled, in 1e-8.

    `triggered_id` is the venue's id of the order that a triggered stop became.
    """

    client_id: str
    status: Status
    venue_id: str = ""
    reported: int = 0
    reason: str = ""
    triggered_id: str = ""


class CancelSending(Record, frozen=True, kw_only=True, tag="cancel_sending"):
    """A cancel is about to be sent."""

    client_id: str


class FillBooked(Record, frozen=True, kw_only=True, tag="fill_booked"):
    """A fill entered the ledger."""

    fill: Fill


class FundingBooked(Record, frozen=True, kw_only=True, tag="funding_booked"):
    """A funding payment entered the ledger; negative where the account paid."""

    symbol: str
    time: int
    amount: int


class ModeSet(Record, frozen=True, kw_only=True, tag="mode_set"):
    """The gateway accepts something else from here on."""

    mode: Mode
    reason: str
    by: str


class DayBegun(Record, frozen=True, kw_only=True, tag="day_begun"):
    """A UTC day begins, numbered from 1970; `result` is the account's result so far, in 1e-8."""

    day: int
    result: int


class CloseBegun(Record, frozen=True, kw_only=True, tag="close_begun"):
    """The position of a symbol is to be closed."""

    symbol: str
    close_id: str
    reason: str


class CloseDone(Record, frozen=True, kw_only=True, tag="close_done"):
    """The position of a symbol is closed."""

    symbol: str
    close_id: str


class SymbolHalted(Record, frozen=True, kw_only=True, tag="symbol_halted"):
    """No entry is accepted for a symbol from here on."""

    symbol: str
    reason: str


class SymbolResumed(Record, frozen=True, kw_only=True, tag="symbol_resumed"):
    """A person had entries of a symbol accepted again."""

    symbol: str
    reason: str
    by: str


class VenueBound(Record, frozen=True, kw_only=True, tag="venue_bound"):
    """The journal belongs to this venue: its name in the settings, and the host of its REST address."""

    venue: str
    host: str


AnyRecord = (
    OrderSending | OrderChanged | CancelSending | FillBooked | FundingBooked | ModeSet | DayBegun
    | CloseBegun | CloseDone | SymbolHalted | SymbolResumed | VenueBound
)  # fmt: skip


R = TypeVar("R", bound=Record)


class RecordCodec(Generic[R]):
    """Encodes and decodes the records of one journal."""

    def __init__(self, kinds: Any, journal: str) -> None:
        """Take the union of the record types, and the journal's name for errors."""
        self._encoder = msgspec.json.Encoder()
        self._decoder: msgspec.json.Decoder[R] = msgspec.json.Decoder(kinds)
        self._journal = journal

    def encode(self, record: R) -> bytes:
        """Return a record as JSON."""
        return self._encoder.encode(record)

    def decode(self, number: int, stored: bytes) -> R:
        """Return the record that was stored under a sequence number.

        Raises:
            JournalRecordError: the bytes are damaged, or a newer version wrote them.
        """
        try:
            return self._decoder.decode(stored)
        except msgspec.DecodeError as error:
            raise JournalRecordError(
                f"Record {number} of {self._journal} cannot be read ({error}). Use the version that wrote "
                "it, or restore the journals from their backups (docs/backup.md)."
            ) from error

    def read(self, journal: Journal) -> Iterator[R]:
        """Yield a journal's records in order.

        Raises:
            JournalError, JournalDamagedError: the journal cannot be read.
            JournalRecordError: as `decode`; the message also says where the journal is.
        """
        for number, body in journal.read():
            try:
                yield self.decode(number, body)
            except JournalRecordError as error:
                raise JournalRecordError(f"{journal.name}: {error}") from error


GATEWAY_RECORDS: RecordCodec[AnyRecord] = RecordCodec(AnyRecord, "the gateway's journal")
