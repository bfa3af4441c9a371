"""Funding rates without I/O: replies, archive files, missing rates, changes of interval, objects' bytes."""

from __future__ import annotations

import io
import json
import random
import zipfile
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_assets.market.archive import MalformedArchiveError
from pipeline_assets.market.encoding import MalformedObjectError
from pipeline_assets.market.funding import (
    funding_rates,
    funding_schema,
    read_intervals,
    read_reply,
)
from pipeline_assets.market.funding_archive import FundingArchiveFile
from pipeline_assets.market.funding_encoding import decode_funding, encode_funding, merge_funding
from pipeline_assets.market.funding_intervals import interval_changes, missing_times
from pipeline_assets.market.replies import MalformedReplyError

ETH = "ETHUSDT"
MONTH = date(2026, 10, 1)
START = datetime(2026, 10, 1, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
HOUR_MS = 3_600_000
FILE = FundingArchiveFile(ETH, MONTH)
HEADER = "calc_time,funding_interval_hours,last_funding_rate"


def rates(hours, stated=None) -> pl.DataFrame:
    """Rates at these hours of the month, with the interval that the archive states of each."""
    rows = [
        (START_MS + hour * HOUR_MS, 0.0001, None, stated[place] if stated else None)
        for place, hour in enumerate(hours)
    ]
    return funding_rates(ETH, rows).rates


def missing(hours, until, stated=None, current=None) -> list[int]:
    """Hours of the month, from its start to before `until`, without a rate."""
    end = START + timedelta(hours=until)
    found = missing_times(rates(hours, stated), START, end, current)
    return [(each - START) // timedelta(hours=1) for each in found]


def reply(*rows, **changes) -> bytes:
    made = {"symbol": ETH, "fundingTime": START_MS, "fundingRate": "0.0001", "markPrice": "3200.5"}
    return json.dumps([{**made, **row, **changes} for row in rows or ({},)]).encode()


@given(
    st.dictionaries(
        st.integers(0, 743),
        st.tuples(
            st.integers(-299_999, 299_999),
            st.integers(-3_000_000, 3_000_000),
            st.one_of(st.just(""), st.integers(1, 10**12)),
        ),
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)
def test_reply_gives_rows_on_grid(held: dict, shuffle: random.Random) -> None:
    """Every row comes out once, at its full hour, exact, whatever the order and the milliseconds."""
    rows = [
        {
            "fundingTime": START_MS + hour * HOUR_MS + late,
            "fundingRate": f"{units / 10**8:.8f}",
            "markPrice": mark if mark == "" else f"{mark / 10**8:.8f}",
        }
        for hour, (late, units, mark) in held.items()
    ]
    shuffle.shuffle(rows)
    found = read_reply(ETH, reply(*rows) if rows else b"[]")
    assert found.rejected == []
    assert found.rates.schema == funding_schema()
    assert found.rates.rows() == [
        (
            ETH,
            START + timedelta(hours=hour),
            float(f"{units / 10**8:.8f}"),
            None if mark == "" else float(f"{mark / 10**8:.8f}"),
            None,
        )
        for hour, (_, units, mark) in sorted(held.items())
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is no list"),
        (b"<html>502</html>", "is no list"),
        (reply()[:-20], "is no list"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "is no list"),
        (b"[1]", "holds another thing"),
        (reply(symbol="BTCUSDT"), "holds another thing"),
        (reply(fundingRate="x"), "has the rate 'x'"),
        (reply(fundingRate=0.0001), "has the rate 0.0001"),
        (reply(fundingRate="nan"), "has the rate 'nan'"),
        (reply(fundingRate="1e9"), "beyond 100 %"),
        (reply(markPrice="a lot"), "has the mark price"),
        (reply(fundingTime="1"), "has the fundingTime '1'"),
        (reply(fundingTime=True), "has the fundingTime True"),
        (reply(fundingTime=10**17), "has the fundingTime"),
    ],
)
def test_odd_reply_names_its_fault(body: bytes, why: str) -> None:
    """A reply that is none is refused with symbol and fault."""
    with pytest.raises(MalformedReplyError, match=why) as caught:
        read_reply(ETH, body)
    assert ETH in str(caught.value)


def test_time_off_grid_is_rejected() -> None:
    """A row far from a full hour is left out with the reason; a mark price of 0 is none."""
    found = read_reply(
        ETH, reply({"markPrice": "0.00000000"}, {"fundingTime": START_MS + HOUR_MS // 2})
    )
    assert found.rates.rows() == [(ETH, START, 0.0001, None, None)]
    assert found.rejected == [
        "ETHUSDT has a rate at 2026-10-01 00:30:00 UTC, which is no full hour"
    ]


def test_fundinginfo_keeps_readable_entries() -> None:
    """An entry of fundingInfo that cannot be read is left out alone."""
    entries = [
        {"symbol": ETH, "fundingIntervalHours": 4},
        {"symbol": "X", "fundingIntervalHours": 0},
        {"symbol": 1, "fundingIntervalHours": 1},
        None,
    ]
    assert read_intervals(json.dumps(entries).encode()) == {ETH: 4}


def zipped(*lines: str, name: str = f"{FILE.name}.csv") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "\n".join(lines) + "\n")
    return target.getvalue()


@pytest.mark.parametrize("header", [[HEADER], []])
def test_archive_file_is_read(header: list[str]) -> None:
    """A month's file gives rates with the stated interval, with or without a header row."""
    body = zipped(*header, f"{START_MS + 5},8,-0.00011854", f"{START_MS + 8 * HOUR_MS},4,0.0001")
    assert FILE.read(body).rows() == [
        (ETH, START, -0.00011854, None, 8),
        (ETH, START + timedelta(hours=8), 0.0001, None, 4),
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"no zip", "cannot be unpacked"),
        (zipped(HEADER, name="other.csv"), "holds"),
        (zipped("open_time,open,high"), "other columns"),
        (zipped(HEADER), "has no rows"),
        (zipped(HEADER, ""), "cannot be read"),
        (zipped(HEADER, f"{START_MS},8"), "cannot be read"),
        (zipped(HEADER, f"{START_MS},8,0.1,0"), "cannot be read"),
        (zipped(HEADER, f"{START_MS},8,x"), "cannot be read"),
        (zipped(HEADER, f"{START_MS},0,0.1"), "cannot be"),
        (zipped(HEADER, f"{START_MS - HOUR_MS},8,0.1"), "another month"),
        (zipped(HEADER, f"{START_MS + HOUR_MS // 2},8,0.1"), "no full hour"),
    ],
    # The bytes hold the time at which they were made, and each process must collect the same names.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_archive_file_is_refused(body: bytes, why: str) -> None:
    """A file that is not what it should be is refused with its name and the fault."""
    with pytest.raises(MalformedArchiveError, match=why) as caught:
        FILE.read(body)
    assert "ETHUSDT-fundingRate-2026-10.zip" in str(caught.value)


@pytest.mark.parametrize(
    ("hours", "until", "expected"),
    [
        # One interval, whole; a rate missing within, at the start, at the end.
        ([0, 8, 16], 24, []),
        ([0, 16, 24], 32, [8]),
        ([8, 16], 24, [0]),
        ([0, 8], 24, [16]),
        ([], 24, [0, 8, 16]),
        # 8 to 4 to 1, also with a single interval of 4.
        ([0, 8, 16, 20, 24, 25, 26], 27, []),
        ([0, 8, 16, 20, 21, 22], 23, []),
        # A gap of 8 between intervals of 4, of 2 and 4 between hours.
        ([0, 4, 12, 16], 20, [8]),
        ([0, 1, 3, 4, 8, 9], 10, [2, 5, 6, 7]),
        # Back to longer ones.
        ([0, 1, 2, 3, 4, 8, 12, 16, 24, 32], 40, []),
        # Two in a row, and a gap where the interval changes.
        ([0, 24, 32], 40, [8, 16]),
    ],
)
def test_missing_rates_by_neighbours(hours: list, until: int, expected: list) -> None:
    """The distances beside a gap tell it from a change of the interval."""
    assert missing(hours, until) == expected


def test_single_rate_states_the_interval() -> None:
    """With one rate alone, the interval that the archive states for it holds before and after."""
    assert missing([8], 24, stated=[4]) == [0, 4, 12, 16, 20]
    assert missing([8], 24) == [0, 16]


def test_stated_interval_decides() -> None:
    """The interval that the archive states decides where distances alone would not."""
    assert missing([0, 8, 16], 24) == []
    assert missing([0, 8, 16], 17, stated=[4, 4, 4]) == [4, 12]
    assert missing([0, 4, 6, 7], 8, stated=[4, 4, 1, 1]) == [5]
    assert missing([0, 8], 9, stated=[8, None]) == []
    # The newest distance is longer than those before: a gap, unless the exchange states the interval.
    assert missing([0, 4, 8, 16], 17) == [12]
    assert missing([0, 4, 8, 16], 17, current=8) == []
    assert missing([0, 8], 12, current=1) == [9, 10, 11]


@given(
    st.lists(st.sampled_from([1, 4, 8]), min_size=1, max_size=4),
    st.data(),
)
def test_removed_rate_is_named(regimes: list[int], data: st.DataObject) -> None:
    """Over any sequence of intervals nothing is missing; with stated intervals a removed rate is."""
    hours, stated, hour = [], [], 0
    for step in regimes:
        for _ in range(6):
            hour += step
            # A change takes effect at a settlement of both intervals.
            hour += -hour % step
            hours.append(hour)
            stated.append(step)
        hour += -hour % 8
        if hour != hours[-1]:
            for extra in range(hours[-1] + step, hour + 1, step):
                hours.append(extra)
                stated.append(step)
    start = START + timedelta(hours=hours[0])
    end = START + timedelta(hours=hours[-1] + 1)
    assert missing_times(rates(hours), start, end) == []
    assert missing_times(rates(hours, stated), start, end) == []
    place = data.draw(st.integers(1, len(hours) - 2))
    # Nothing tells a missing rate from a change one interval later.
    assume(hours[place + 1] - hours[place - 1] not in (stated[place - 1], stated[place + 1]))
    gone = hours.pop(place)
    stated.pop(place)
    found = missing_times(rates(hours, stated), start, end)
    assert found == [START + timedelta(hours=gone)]


def test_changes_are_listed() -> None:
    """A change is listed at the settlement that begins the new interval; a gap is no change."""
    found = interval_changes(rates([0, 8, 16, 20, 24, 25, 26, 30, 31, 32]))
    at = [((each.time - START) // timedelta(hours=1), each.before, each.after) for each in found]
    assert at == [(16, 8, 4), (24, 4, 1)]


@given(st.lists(st.integers(0, 743), unique=True, min_size=1, max_size=60), st.randoms())
def test_same_rows_give_same_bytes(hours: list[int], shuffle: random.Random) -> None:
    """An object holds its rows, and its bytes do not depend on the rows' order."""
    ordered = rates(sorted(hours))
    places = list(range(len(hours)))
    shuffle.shuffle(places)
    body = encode_funding(ordered[places], ETH, MONTH)
    assert body == encode_funding(ordered, ETH, MONTH)
    assert_frame_equal(decode_funding(body, ETH, MONTH), ordered)


def test_merge_keeps_what_newer_has_not() -> None:
    """The newer rate counts; a mark price and an interval stay where the newer row has none."""
    archive = funding_rates(
        ETH, [(START_MS, 0.1, None, 8), (START_MS + HOUR_MS, 0.2, None, 1)]
    ).rates
    served = funding_rates(ETH, [(START_MS, 0.3, 99.0, None)]).rates
    both = [(0.3, 99.0, 8), (0.2, None, 1)]
    assert [row[2:] for row in merge_funding(archive, served).rows()] == both
    assert [row[2:] for row in merge_funding(served, archive).rows()] == [(0.1, 99.0, 8), both[1]]


def test_foreign_object_is_refused() -> None:
    """Cut bytes, and an object of another symbol or month, are damaged; foreign rows are refused."""
    body = encode_funding(rates([0]), ETH, MONTH)
    for wrong in ((body[:-9], ETH, MONTH), (body, "BTCUSDT", MONTH), (body, ETH, date(2026, 9, 1))):
        with pytest.raises(MalformedObjectError):
            decode_funding(*wrong)
    with pytest.raises(ValueError, match="another symbol or month"):
        encode_funding(rates([0]), ETH, date(2026, 11, 1))
