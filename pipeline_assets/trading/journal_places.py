"""Whether a reader's place, the newest record that it took in, is still in the gateway's journal. A restored
journal is shorter, or gives the place's number again, at a later time.
"""

from collections.abc import Awaitable, Callable

from pipeline_assets.errors import InputError
from pipeline_assets.trading.records import AnyRecord


class BeyondJournalError(InputError):
    """A reader's place is beyond the journal's end. The message says what to do."""


def require_record(number: int, last: int) -> None:
    """Return if a journal that ends at `last` has a number, or the number is 0.

    Raises:
        BeyondJournalError: the journal ends before it. A reader that waited there would miss all that
            happens until the number is given again.
    """
    if number > last:
        raise BeyondJournalError(
            f"Record {number} is beyond the journal's end, which is {last}. If you had this record, the "
            "journal was restored from a backup: read it again from 0."
        )


async def has_record(
    page: Callable[[int], Awaitable[list[tuple[int, AnyRecord]]]], number: int, at: int
) -> bool:
    """Return whether the journal still has a reader's place.

    Args:
        page: returns the journal's next records above a number.
        number: of the place.
        at: the time of its record in milliseconds; 0 compares no time.
    """
    found = await page(number - 1)
    return bool(found) and at in (0, found[0][1].at)
