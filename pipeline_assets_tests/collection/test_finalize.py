"""When a row that cannot be a candle is what the exchange stores, and when it may come whole yet."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline_assets.collection.finalize import absences, since
from pipeline_assets.market.cleaning import CUT_SHORT
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.finalized_days import Absence, FinalizedDay, Rejected

NINE = datetime(2026, 11, 18, 9, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
GAP = Window(NINE, NINE + MINUTE)
ROW = Rejected(GAP, "high is below another price", "d1", "first run", NINE + 20 * HOUR)
SHORT = replace(ROW, reason=CUT_SHORT)


def later(row: Rejected, hours: float = 0, **changes: object) -> Rejected:
    return replace(row, run="second run", at=row.at + hours * HOUR, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "now", "absence"),
    [
        (None, ROW, Absence.REJECTED),
        (ROW, ROW, Absence.REJECTED),
        (ROW, later(ROW, 1), Absence.REJECTED),
        (ROW, later(ROW, 2), Absence.INVALID),
        (ROW, later(ROW, 9, digest="d2"), Absence.REJECTED),
        (SHORT, SHORT, Absence.REJECTED),
        (SHORT, later(SHORT), Absence.INVALID),
        (SHORT, later(SHORT, digest="d2"), Absence.REJECTED),
    ],
)
def test_row_settles_when_received_again(
    before: Rejected | None, now: Rejected, absence: Absence
) -> None:
    """A rejected row is final once another run receives it again."""
    mark = FinalizedDay("etag", ((GAP, Absence.REJECTED),), rejected=(before,) if before else ())
    mark = FinalizedDay.from_dict(mark.to_dict())
    [odd] = since([now], mark)
    # When it came first is kept.
    assert odd.rows == (before if before and before.digest == now.digest else now)
    assert absences([GAP], [], [odd]) == ((GAP, absence),)
    # A span that the exchange confirmed to be empty is an outage, even if a rejected row came for it.
    assert absences([GAP], [GAP], [odd]) == ((GAP, Absence.CONFIRMED),)


def test_old_mark_has_no_rejected_rows() -> None:
    """A mark of an earlier version has no rejected rows."""
    assert FinalizedDay.from_dict({"etag": "e", "missing": []}) == FinalizedDay("e")
    assert since([ROW], FinalizedDay("e"))[0].stable is False
    assert since([ROW], None)[0].stable is False
