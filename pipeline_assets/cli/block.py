"""What keeps this address from asking the exchange, told to people, and lifting it. Printing is in
cli.py.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Block


def current_block(settings: Settings) -> "Block | None":
    """Return the block of the address from which the exchange is asked, or None.

    Raises:
        WeightBudgetError: Redis failed.
    """
    return Exchange(settings).budget.block()


def lift_block(settings: Settings) -> "Block | None":
    """Lift the block and return what it was, or None if there was none.

    Raises:
        WeightBudgetError: Redis failed.
    """
    return Exchange(settings).budget.unblock()


def describe(block: "Block") -> str:
    """Return one sentence: until when, how much longer, and which reply asked for it."""
    until = _until(block).isoformat(timespec="seconds").replace("+00:00", "Z")
    seconds = -(-block.left_ms // 1000)
    cause = block.cause or "a refusal of the exchange"
    return f"blocked until {until} by the exchange's clock ({seconds} s more): {cause}"


def as_document(block: "Block | None") -> dict[str, Any] | None:
    """Return the block for a program: `until` (ISO 8601, UTC), `seconds_left` and `cause`."""
    if block is None:
        return None
    return {
        "until": _until(block).isoformat(timespec="seconds"),
        "seconds_left": -(-block.left_ms // 1000),
        "cause": block.cause,
    }


def _until(block: "Block") -> datetime:
    try:
        return from_milliseconds(block.until_ms)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
