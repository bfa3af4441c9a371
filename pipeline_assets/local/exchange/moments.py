"""Moments as people write them (ISO 8601, UTC) to and from milliseconds. No clock here."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 moment; without an offset it is UTC.

    Raises:
        ValueError: the text is no ISO 8601 date or moment.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def format_moment(milliseconds: int) -> str:
    """Return the ISO 8601 text, UTC, of milliseconds since the epoch."""
    return (EPOCH + timedelta(milliseconds=milliseconds)).isoformat().replace("+00:00", "Z")
