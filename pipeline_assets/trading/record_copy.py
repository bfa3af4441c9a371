"""The copy of an account's records on the lake, which the gateway writes beside its work. The records
themselves are in account_records.py.

- `accounts/{yyyyMMdd}/{HHmmss}-{account}-{sequence}.json`: what changed since the document before.
- `state/gateway/{account}.json`: the newest journal record that was copied, and when the copy began.

The document is written before the place: after a crash between the two, the next document has the same
records again, and readers keep one row an order and a fill.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from pydantic import TypeAdapter

from pipeline_assets.errors import DataError, OutsideSystemError
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.resources.lake_documents import read_document, write_document
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import TradingSettings
from pipeline_assets.trading.account_records import ACCOUNTS, AccountRecords, Touched, summary_of
from pipeline_assets.trading.gateway import PAGE, Gateway
from pipeline_assets.trading.journal_places import has_record

_PERIOD_SECONDS = 30.0
# The records of one document; a burst makes several documents.
_MOST = 5_000
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopyPlace:
    """The newest journal record that was copied.

    Attributes:
        sequence: its number.
        begun: when the copy of this journal began, in milliseconds.
        at: its time in milliseconds; another one means that the journal was restored. 0 in places of
            earlier versions.
    """

    sequence: int
    begun: int
    at: int = 0


_PLACE = TypeAdapter(CopyPlace)


class RecordCopy:
    """Copies one account's records. The gateway does not wait for the lake."""

    def __init__(
        self,
        gateway: Gateway,
        store: ObjectStore,
        trading: TradingSettings,
        clock: Callable[[], int],
    ) -> None:
        """Join the parts.

        Args:
            gateway: runs in the event loop of the calls.
            store: the bucket.
            trading: names account and venue.
            clock: the exchange's time in milliseconds.
        """
        self._gateway, self._store, self._trading, self._clock = gateway, store, trading, clock
        self._key = f"state/gateway/{trading.account}.json"
        self._place: CopyPlace | None = None

    async def run(self) -> None:
        """Copy twice a minute until cancelled; a lake that does not answer is waited for."""
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            try:
                await self.copy()
            except (OutsideSystemError, DataError) as error:
                _logger.warning("The account's records are copied to the lake later: %s", error)

    async def copy(self) -> int:
        """Copy what is new; return the number of documents.

        Raises:
            ObjectStoreError: the lake does not answer; the next call copies the same records.
            NewerVersionError: a newer release wrote the place.
            GatewayStoppedError: the gateway stopped.
        """
        place = self._place or await self._begin()
        documents = 0
        while (found := await self._next(place)) is not None:
            documents += 1
            document, copied = found
            await asyncio.to_thread(self._write, document, place, copied)
            place = self._place = copied
        return documents

    async def _begin(self) -> CopyPlace:
        """Return where to go on: at the journal's beginning if it is another journal than was copied."""
        place = await asyncio.to_thread(read_document, self._store, self._key, _PLACE)
        if place is None:
            return CopyPlace(0, self._clock())
        if place.sequence and not await has_record(self._gateway.page, place.sequence, place.at):
            _logger.warning(
                "Record %d of the journal was copied to the lake and is not in the journal any more, or "
                "is another record. The journal was restored: all of its records are copied again.",
                place.sequence,
            )
            return CopyPlace(0, self._clock())
        return place

    async def _next(self, place: CopyPlace) -> tuple[AccountRecords, CopyPlace] | None:
        """Return the next document and the place after it, or None if nothing is new."""
        touched = Touched()
        touched.sequence = place.sequence
        full = await self._read(touched, _MOST)
        async with self._gateway.settled() as state:
            if not full:
                # Without these, the state would know more than the records that were read.
                await self._read(touched, _MOST)
            if not touched.count:
                return None
            document = AccountRecords(
                account=self._trading.account,
                venue=self._trading.venue,
                at=self._clock(),
                sequence=touched.sequence,
                copy_begun=place.begun,
                orders=touched.orders(state),
                fills=touched.fills(state),
                funding=touched.funding(),
                summary=summary_of(state),
            )
            return document, replace(place, sequence=touched.sequence, at=touched.at)

    async def _read(self, touched: Touched, most: int) -> bool:
        """Read records until the journal's end; return whether `most` were read before it."""
        while touched.count < most:
            page = await self._gateway.page(touched.sequence)
            touched.add(page)
            if len(page) < PAGE:
                return False
        return True

    def _write(self, document: AccountRecords, place: CopyPlace, copied: CopyPlace) -> None:
        """Write a document, then the place after it, `copied`. `place` is that before."""
        if not place.sequence:
            # Kept first: a repeat after a crash has the same beginning, so its rows are the same.
            write_document(self._store, self._key, _PLACE, place)
        at = from_milliseconds(document.at)
        key = f"{ACCOUNTS}{at:%Y%m%d/%H%M%S}-{document.account}-{document.sequence:012d}.json"
        self._store.put(key, msgspec.json.encode(document))
        write_document(self._store, self._key, _PLACE, copied)
