"""The completeness picture shows each state of a day, read from its pixels."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from dagster import DagsterInstance, MarkdownMetadataValue, MaterializeResult, asset, materialize
from PIL import Image

from pipeline_assets.assets.presentation import picture_metadata
from pipeline_assets.collection.completeness_picture import completeness_picture
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window

END = datetime(2026, 11, 21, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = Interval.ONE_HOUR
# As a person sees them: which colour a cell has.
COMPLETE, NEARLY, PARTLY, LITTLE, NOTHING = (
    *((181, 220, 196), (255, 210, 77), (249, 142, 43), (215, 48, 31)),
    (92, 0, 17),
)
NOT_LISTED, BLANK = (228, 228, 228), (255, 255, 255)
Gap = tuple[str, int, int, str]  # symbol, first and last hour since the window's start, cause


def picture(symbols: list[str], days: int, *gaps: Gap, looked_at: set[int] | None = None) -> bytes:
    start = END - days * DAY
    rows = [
        (symbol, "1h", start + timedelta(hours=a), start + timedelta(hours=b), b - a + 1, cause)
        for symbol, a, b, cause in gaps
    ]
    time = pl.Datetime("us", "UTC")
    schema = {"symbol": pl.String, "interval": pl.String, "first": time, "last": time}
    frame = pl.DataFrame(
        rows, schema=schema | {"count": pl.Int64, "cause": pl.String}, orient="row"
    )
    dates: list[date] = [
        (start + number * DAY).date()
        for number in (range(days) if looked_at is None else looked_at)
    ]
    lifetimes = dict.fromkeys(symbols, (start, None))
    return completeness_picture(frame, lifetimes, HOUR, Window(start, END), dates)


def colours(body: bytes) -> Counter[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).reshape(-1, 3)
    return Counter(map(tuple, pixels.tolist()))


def difference(body: bytes, other: bytes) -> dict[tuple[int, ...], int]:
    """Return how many more pixels of each cell colour `body` has than `other`.

    Letters have grey edges, so a small surplus of grey is ignored.
    """
    mine, theirs = colours(body), colours(other)
    shown = [COMPLETE, NEARLY, PARTLY, LITTLE, NOTHING]
    if abs(mine[NOT_LISTED] - theirs[NOT_LISTED]) > 100:
        shown.append(NOT_LISTED)
    return {each: mine[each] - theirs[each] for each in shown if mine[each] != theirs[each]}


@pytest.mark.parametrize(
    ("gap", "colour"),
    [
        (("BUSDT", 24, 24, "exchange_outage"), PARTLY),
        (("BUSDT", 24, 46, "not_fetched"), LITTLE),
        (("BUSDT", 24, 47, "archive_hole"), NOTHING),
        (("BUSDT", 24, 47, "not_listed"), NOT_LISTED),
    ],
)
def test_cell_colour_shows_missing_share(gap: Gap, colour: tuple[int, ...]) -> None:
    """The colour of a cell shows the share that is missing."""
    changed = difference(picture(["AUSDT", "BUSDT"], 30, gap), picture(["AUSDT", "BUSDT"], 30))
    assert set(changed) == {COMPLETE, colour}
    assert changed[colour] == pytest.approx(-changed[COMPLETE], abs=20)
    assert changed[colour] > 300


def test_unlisted_candles_keep_the_share() -> None:
    """Candles that are not listed or not closed do not lower the share."""
    gaps = [("AUSDT", 0, 11, "not_listed"), ("AUSDT", 60, 71, "still_open")]
    assert difference(picture(["AUSDT"], 3, *gaps), picture(["AUSDT"], 3)) == {}


def test_unjudged_day_is_blank() -> None:
    """A day without a ledger is blank, whatever its gaps."""
    seen = picture(["AUSDT"], 3, ("AUSDT", 24, 47, "not_fetched"), looked_at={0, 2})
    changed = difference(seen, picture(["AUSDT"], 3))
    assert set(changed) == {COMPLETE}
    assert colours(seen)[BLANK] > colours(picture(["AUSDT"], 3))[BLANK] + 300


@pytest.mark.parametrize("days", [30, 2600])
def test_one_missing_hour_is_visible(
    days: int,
) -> None:
    """One missing hour of one symbol among five hundred is visible, and the picture is small."""
    symbols = [f"S{number}USDT" for number in range(499)] + ["币安人生USDT"]
    changed = difference(
        picture(symbols, days, ("S77USDT", 100, 100, "not_fetched")),
        whole := picture(symbols, days),
    )
    assert sum(changed.values()) == 0
    (colour,) = set(changed) - {COMPLETE}
    assert colour in (PARTLY, NEARLY)
    assert changed[colour] >= 4
    assert len(whole) < 80_000


def test_dagster_keeps_the_picture_as_metadata() -> None:
    body = picture(["AUSDT"], 3)

    @asset
    def drawn() -> MaterializeResult[None]:
        return MaterializeResult(metadata={"completeness": picture_metadata(body)})

    with DagsterInstance.ephemeral() as instance:
        materialize([drawn], instance=instance)
        event = instance.get_latest_materialization_event(drawn.key)
    assert event is not None
    assert event.asset_materialization is not None
    kept = event.asset_materialization.metadata["completeness"]
    assert isinstance(kept, MarkdownMetadataValue)
    assert str(kept.value).startswith("![completeness](data:image/png;base64,iVBOR")
