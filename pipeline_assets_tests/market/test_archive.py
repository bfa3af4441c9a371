"""The archive's files: names as on data.binance.vision, exact rows, and no false day that passes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_assets.market.archive import (
    ArchiveFile,
    MalformedArchiveError,
    archive_files,
    read_archive,
    verify_checksum,
)
from pipeline_assets.market.archive_comparison import (
    DIFFERENT,
    FALSE_ZERO_VOLUME,
    HOLE,
    NOT_SERVED,
    disagreements,
    distrusted_days,
)
from pipeline_assets.market.candles import RAW_COLUMNS
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.market.frames import candle_frame, raw_frame, raw_row

DAY = date(2026, 10, 25)
START = datetime(2026, 10, 25, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
FILE = ArchiveFile("BTCUSDT", Interval.ONE_MINUTE, DAY)
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)


def minutes(count=60, **changes):
    return [raw_row(START + number * MINUTE, **changes) for number in range(count)]


def text_of(rows, *, header=True, unit="ms"):
    lines = []
    for row in rows:
        fields = [str(row[name]) for name in RAW_COLUMNS[1:]]
        if unit == "us":
            fields[0] += "000"
            fields[6] += "999"
        lines.append(",".join(fields) + "\n")
    return (HEADER if header else "") + "".join(lines)


def zipped(text, name="BTCUSDT-1m-2026-10-25.csv", packing=zipfile.ZIP_DEFLATED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        archive.writestr(name, text)
    return target.getvalue()


ZIPS = [
    zipped(text_of(minutes(3)), packing=packing)
    for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
]
ONE_HOUR = candle_frame([raw_row(START, Interval.ONE_HOUR)])


# Names


def test_files_lie_where_binance_puts_them():
    assert FILE.path == ("data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-10-25.zip")
    month = ArchiveFile("币安人生USDT", Interval.FIFTEEN_MINUTES, date(2026, 2, 1), monthly=True)
    assert month.path == (
        "data/futures/um/monthly/klines/币安人生USDT/15m/币安人生USDT-15m-2026-02.zip"
    )
    assert len(month.days) == 28


@given(st.dates(date(2020, 1, 1), date(2026, 1, 1)), st.integers(1, 120))
def test_files_cover_the_days_once(first, count):
    """Files cover the requested days once; monthly files only where the whole month is requested."""
    days = [first + timedelta(days=number) for number in range(count)]
    files = archive_files("BTCUSDT", Interval.ONE_MINUTE, days)
    assert [day for file in files for day in file.days] == days
    by_month: dict[tuple[int, int], list[ArchiveFile]] = {}
    for file in files:
        by_month.setdefault((file.first.year, file.first.month), []).append(file)
    assert all(len({file.monthly for file in held}) == 1 for held in by_month.values())
    # The range may cut its first and its last month only.
    for held in list(by_month.values())[1:-1]:
        assert [file.monthly for file in held] == [True]


# Checksums


def test_checksum_has_sha256sum_format():
    """A checksum is read in the format of sha256sum."""
    body = zipped(text_of(minutes()))
    digest = hashlib.sha256(body).hexdigest()
    verify_checksum(FILE, body, f"{digest}  {FILE.name}.zip\n".encode())
    verify_checksum(FILE, body, f"{digest.upper()} *币安人生USDT.zip".encode())
    for reported, problem in [
        (f"{'0' * 64}  {FILE.name}.zip", "its checksum file says 000"),
        (f"{digest[1:]}  {FILE.name}.zip", "holds no SHA-256"),
        ("<html>\xff", "holds no SHA-256"),
        ("", "holds no SHA-256"),
    ]:
        with pytest.raises(MalformedArchiveError, match=problem):
            verify_checksum(FILE, body, reported.encode("latin-1"))


# Rows


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_rows_are_exact_in_every_form(header, unit):
    rows = minutes(7, volume="0.10000000", open="95000.0100", high="95000.0100")
    found = read_archive(FILE, zipped(text_of(rows, header=header, unit=unit)))
    assert_frame_equal(found, raw_frame(rows))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_unflagged_utf8_name_is_read(packing):
    """A file name in UTF-8 without ZIP's UTF-8 flag is read as ZIP tools write it."""
    file = ArchiveFile("币安人生USDT", Interval.ONE_MINUTE, date(2026, 10, 25))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        archive.writestr(f"{file.name}.csv", text_of(minutes(7)))
    body = bytearray(target.getvalue())
    # The flag for UTF-8, in the member's own header and in the directory: Info-ZIP sets neither.
    for flags in (6, body.rfind(b"PK\x01\x02") + 8):
        body[flags + 1] &= ~0x08
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() != [f"{file.name}.csv"]
    assert read_archive(file, bytes(body)).height == 7


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "cannot be unpacked"),
        (b"<html>502 Bad Gateway</html>", "cannot be unpacked"),
        (zipped(text_of(minutes()))[:-40], "cannot be unpacked"),
        (zipped(text_of(minutes()), "other.csv"), r"holds \['other.csv'\], not BTCUSDT-1m"),
        (zipped(""), "has other columns: b''"),
        (zipped(HEADER), "has no rows"),
        (zipped(HEADER.replace("count", "trades") + "1"), "has other columns: b'open_time"),
        (zipped("1792886400000,1,2,3\n"), "has 4 columns, not 12"),
        (zipped(text_of(minutes(2)) + "1792886520000,1,2\n"), "no whole number"),
        (zipped(text_of(minutes(2)).replace(",31,", ",many,")), "cannot be read"),
        (zipped(f"{HEADER}\n{text_of(minutes(2), header=False)}"), "cannot be read"),
        (zipped(f"{HEADER}1792886400000,1,2\n"), "cannot be read"),
        (zipped(text_of(minutes(1))[:-1] + ",0\n"), "cannot be read"),
        (zipped(text_of(minutes(2))[:-3] + "\n"), "fewer columns than the first"),
        (zipped("\ufeff" + text_of(minutes(2))), "has other columns"),
        (zipped(text_of([raw_row(START + 24 * HOUR)])), "rows that do not open from 2026-10-25"),
        (zipped(text_of([raw_row(START - MINUTE)])), "rows that do not open from 2026-10-25"),
    ],
    # A ZIP file holds the time when it was made, so as a test id it would differ between workers.
    ids=lambda value: value if isinstance(value, str) else "zip",
)
def test_foreign_file_is_refused_by_name(body, problem):
    """A file that is not a candle archive is refused with its name."""
    with pytest.raises(MalformedArchiveError, match=problem) as caught:
        read_archive(FILE, body)
    assert str(caught.value).startswith("BTCUSDT-1m-2026-10-25.zip ")


def test_flipped_bit_never_alters_rows() -> None:
    """A flipped bit anywhere never gives other rows."""
    rows = minutes(3)
    whole = zipped(text_of(rows))
    expected = raw_frame(rows)
    refused = 0
    for bit in range(8 * len(whole)):
        body = bytearray(whole)
        body[bit // 8] ^= 1 << bit % 8
        try:
            found = read_archive(FILE, bytes(body))
        except MalformedArchiveError:
            refused += 1
        else:
            assert found.equals(expected), bit
    assert refused > 4 * len(whole)


FRAGMENTS = (
    *(
        "",
        ",",
        ",,",
        "\r\n",
        "\r",
        '"',
        "\x00",
        "\ufeff",
        " ",
        "\t",
        "#",
        "abc",
        "币",
        "-1",
        "+1",
        "1.5",
    ),
    *("nan", "inf", "1e400", "9223372036854775808", "1792886400000", "1792886400000000", HEADER),
)
CHANGES = ("insert", "cut", "delete", "repeat", "splice", "field", "extra field", "fewer fields")


@st.composite
def mutated(draw, text):
    """Return the text of a file after some changes, of its first lines as often as of all others."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.one_of(st.integers(0, 2), st.integers(0, len(lines) - 1)))
        place = min(place, len(lines) - 1)
        line, fragment = lines[place], draw(st.sampled_from(FRAGMENTS))
        fields = line.split(",")
        field = draw(st.integers(0, len(fields) - 1))
        at = draw(st.integers(0, len(line)))
        without, with_other = fields[:field] + fields[field + 1 :], [*fields]
        with_other[field] = fragment
        lines[place : place + 1] = {
            "insert": [fragment, line],
            "cut": [line[:at]],
            "delete": [],
            "repeat": [line, line],
            "splice": [line[:at] + fragment + line[at:]],
            "field": [",".join(with_other)],
            "extra field": [f"{line},{fragment}"],
            "fewer fields": [",".join(without)],
        }[draw(st.sampled_from(CHANGES))]
        lines = lines or [""]
    return "\n".join(lines)


def read_or_refusal(body: bytes) -> pl.DataFrame | str:
    try:
        return read_archive(FILE, body)
    except MalformedArchiveError as error:
        return str(error)


@settings(max_examples=examples(150))
@given(mutated(text_of(minutes(60))))
def test_mutated_lines_are_refused_or_judged(text):
    """A file with mutated lines is refused by name, or its rows can be judged.

    No later step fails: cleaning, trust and comparison accept any rows that were read.
    """
    rows = read_or_refusal(zipped(text))
    if isinstance(rows, str):
        assert rows.startswith("BTCUSDT-1m-2026-10-25.zip ")
        return
    window = {"BTCUSDT": Window(START, START + HOUR)}
    kept = clean(rows, Interval.ONE_MINUTE, window).candles
    distrusted_days(kept, ONE_HOUR, Interval.ONE_MINUTE, window)
    disagreements(rows, raw_frame(minutes(60)), Interval.ONE_MINUTE)


@settings(max_examples=examples(150))
@given(st.data())
def test_mutated_zip_is_refused_or_unchanged(data):
    """A ZIP file with mutated bytes is refused by name or gives its rows."""
    body = bytearray(data.draw(st.sampled_from(ZIPS)))
    for _ in range(data.draw(st.integers(1, 4))):
        # The directory at the end steers the reading: it is struck as often as all before it.
        start = data.draw(st.sampled_from([0, max(0, len(body) - 120)]))
        first = data.draw(st.integers(start, len(body)))
        length = data.draw(st.integers(0, 40))
        body[first : first + length] = data.draw(
            st.one_of(st.binary(max_size=8), st.just(b"\xff" * length), st.just(b"\0" * length))
        )
    found = read_or_refusal(bytes(body))
    if isinstance(found, str):
        assert found.startswith("BTCUSDT-1m-2026-10-25.zip ")
    else:
        assert found.equals(raw_frame(minutes(3)))


# Trust


def market(seed: int, hours: int = 24) -> list[dict]:
    """Minutes whose prices, volumes and counts all differ."""
    rows = []
    for number in range(60 * hours):
        turn = (number * 7919 + seed) % 997
        rows.append(
            raw_row(
                START + number * MINUTE,
                open=f"{100 + turn / 100:.2f}",
                high=f"{120 + turn / 100:.2f}",
                low=f"{80 - turn / 100:.2f}",
                close=f"{100 + (turn * 13 % 997) / 100:.2f}",
                volume=f"{10 + turn / 1000:.3f}",
                quote_volume=f"{1000 + turn / 10:.1f}",
                taker_buy_volume=f"{5 + turn / 1000:.3f}",
                taker_buy_quote_volume=f"{500 + turn / 10:.1f}",
                trades=10 + turn,
            )
        )
    return rows


def hours_of(rows: list[dict]) -> pl.DataFrame:
    """Return the exchange's own hours over these minutes, by Python's arithmetic."""
    found = []
    for first in range(0, len(rows), 60):
        held = rows[first : first + 60]
        start = held[0]["open_time"] - held[0]["open_time"] % 3_600_000
        sums = {
            name: str(sum(float(row[name]) for row in held))
            for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
        }
        found.append(
            held[0]
            | sums
            | {
                "open_time": start,
                "high": max((row["high"] for row in held), key=float),
                "low": min((row["low"] for row in held), key=float),
                "close": held[-1]["close"],
                "trades": sum(row["trades"] for row in held),
                "close_time": start + 3_599_999,
            }
        )
    return candle_frame(found)


TRUTH = market(1)
HOURS = hours_of(TRUTH)
WINDOWS = {"BTCUSDT": day_window(DAY)}


def distrusted(rows, hours=HOURS, windows=WINDOWS):
    found = distrusted_days(candle_frame(rows), hours, Interval.ONE_MINUTE, windows)
    return found.rows()


def test_day_matching_exchange_hours_is_trusted():
    """A day that adds up to the exchange's hours is trusted."""
    assert distrusted(TRUTH) == []


@settings(max_examples=examples(60))
@given(st.data())
def test_faulty_candles_are_never_trusted(data):
    """A day with a hole, false zero volume or a partial candle is never trusted."""
    rows = list(TRUTH)
    first = data.draw(st.integers(0, 1439))
    count = data.draw(st.integers(1, min(100, 1440 - first)))
    fault = data.draw(st.sampled_from(["hole", "frozen", "partial"]))
    struck = slice(first, first + count)
    if fault == "hole":
        del rows[struck]
    elif fault == "frozen":
        close = rows[first]["open"]
        nothing = dict.fromkeys(
            ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"), "0"
        )
        prices = dict.fromkeys(("open", "high", "low", "close"), close)
        rows[struck] = [row | prices | nothing | {"trades": 0} for row in rows[struck]]
    else:
        rows[first] = rows[first] | {"trades": rows[first]["trades"] - 1}
    [(symbol, day, reason)] = distrusted(rows)
    assert (symbol, day) == ("BTCUSDT", DAY)
    assert ("of 1440 candles" in reason) is (fault == "hole")


def test_missing_requested_day_is_distrusted():
    """A day that is missing from the file is distrusted; a day that was not requested is not judged."""
    two_days = {"BTCUSDT": Window(START, START + 48 * HOUR)}
    assert distrusted(TRUTH, windows=two_days) == [
        ("BTCUSDT", date(2026, 10, 26), "0 of 1440 candles")
    ]
    before = {"BTCUSDT": Window(START - 24 * HOUR, START)}
    assert distrusted([], windows=before) == [("BTCUSDT", date(2026, 10, 24), "0 of 1440 candles")]


def test_partial_days_are_judged_while_traded():
    """The days of listing and delivery are judged by the part that was traded."""
    rows = TRUTH[10 * 60 + 30 : 20 * 60 + 30]
    hours = pl.concat([hours_of(rows[:30]), hours_of(rows[30:-30]), hours_of(rows[-30:])])
    part = {"BTCUSDT": Window(START + 10.5 * HOUR, START + 20.5 * HOUR)}
    assert distrusted(rows, hours, part) == []
    assert distrusted(rows[:-1], hours, part) == [("BTCUSDT", DAY, "599 of 600 candles")]


def test_hours_of_one_side_are_distrusted():
    """Hours that only one side has are distrusted."""
    assert distrusted(TRUTH, HOURS[1:]) == [
        ("BTCUSDT", DAY, "its candles do not add up to the exchange's of 00:00")
    ]


def test_one_symbols_fault_is_not_anothers():
    other = [row | {"symbol": "ETHUSDT"} for row in TRUTH]
    hours = pl.concat([HOURS, HOURS.with_columns(symbol=pl.lit("ETHUSDT"))])
    windows = dict.fromkeys(("BTCUSDT", "ETHUSDT"), day_window(DAY))
    found = distrusted(TRUTH + other[:-1], hours, windows)
    assert [row[:2] for row in found] == [("ETHUSDT", DAY)]


def test_disagreements_are_runs_of_one_kind():
    """Consecutive disagreements of one kind become one run."""
    archived = list(TRUTH[:120])
    zero = dict.fromkeys(
        ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"), "0"
    )
    for number in (*range(10, 20), 30):
        archived[number] = archived[number] | zero | {"trades": 0}
    archived[40] = archived[40] | {"close": "99.99"}
    del archived[50:53]
    archived.append(raw_row(START + 200 * MINUTE))
    found = disagreements(raw_frame(archived), raw_frame(TRUTH[:120]), Interval.ONE_MINUTE)

    def run(kind, first, last):
        return ("BTCUSDT", kind, START + first * MINUTE, START + last * MINUTE, last - first + 1)

    assert found.rows() == [
        run(FALSE_ZERO_VOLUME, 10, 19),
        run(FALSE_ZERO_VOLUME, 30, 30),
        run(DIFFERENT, 40, 40),
        run(HOLE, 50, 52),
        run(NOT_SERVED, 200, 200),
    ]


def test_disagreement_is_cut_at_midnight():
    """A disagreement across midnight becomes one of each day."""
    opens = [START + number * MINUTE for number in range(23 * 60, 25 * 60)]
    rows = [raw_row(at) for at in opens]
    found = disagreements(raw_frame(rows[:50] + rows[-10:]), raw_frame(rows), Interval.ONE_MINUTE)
    midnight = day_window(START.date()).end
    assert found.rows() == [
        ("BTCUSDT", HOLE, opens[50], midnight - MINUTE, (midnight - opens[50]) // MINUTE),
        ("BTCUSDT", HOLE, midnight, opens[-11], (opens[-11] - midnight) // MINUTE + 1),
    ]


def test_what_agrees_is_no_disagreement():
    same = raw_frame(TRUTH[:60])
    assert disagreements(same, same, Interval.ONE_MINUTE).is_empty()
