"""The archive: its files hold what the exchange serves, in each form, and each fault is seen in them."""

import csv
import hashlib
import io
import json
import urllib.parse
import urllib.request
import zipfile
from datetime import UTC, datetime
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner

from pipeline_assets.local.exchange.command import exchange as exchange_command
from pipeline_assets_tests.fixtures.exchange import START, start_exchange

NAMES = [
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
]
YESTERDAY = ("daily", "BTCUSDT", "1m", "2026-11-19")


def fetch(exchange, period, symbol, interval, label, ending=".zip"):
    path = (
        f"data/futures/um/{period}/klines/{symbol}/{interval}/{symbol}-{interval}-{label}{ending}"
    )
    url = f"{exchange.url.removesuffix('/fapi')}/{urllib.parse.quote(path)}"
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read()


def status(exchange, *what):
    try:
        fetch(exchange, *what)
    except HTTPError as error:
        return error.code
    return 200


def lines(body, name):
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == [f"{name}.csv"]
        text = archive.read(f"{name}.csv").decode()
    assert text.endswith("\n")
    return list(csv.reader(io.StringIO(text)))


def rows(exchange, *what):
    _, symbol, interval, label = what
    found = lines(fetch(exchange, *what), f"{symbol}-{interval}-{label}")
    return found[1:] if found[0] == NAMES else found


def day_ms(day):
    return int(datetime.fromisoformat(f"{day}T00:00Z").timestamp() * 1000)


def served(exchange, symbol, interval, start, end):
    """The truth by the exchange's own interface, every field as text."""
    found = []
    begin, last = (day_ms(day) for day in (start, end))
    while begin < last:
        query = {"symbol": symbol, "interval": interval, "startTime": begin, "endTime": last - 1}
        encoded = urllib.parse.urlencode(query | {"limit": 1500})
        with urllib.request.urlopen(f"{exchange.url}/v1/klines?{encoded}", timeout=30) as reply:
            page = json.load(reply)
        if not page:
            break
        found += page
        begin = page[-1][6] + 1
    return [[str(field) for field in row] for row in found]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT"])
@pytest.mark.parametrize("interval", ["1m", "15m", "1h"])
def test_day_holds_the_exchanges_candles(exchange, symbol, interval):
    """A day's file holds the candles that the exchange serves of it."""
    day = "2026-11-19", "2026-11-20"
    assert rows(exchange, "daily", symbol, interval, "2026-11-19") == served(
        exchange, symbol, interval, *day
    )


def test_a_month_holds_its_days(exchange):
    month = "2026-10-01", "2026-11-01"
    found = rows(exchange, "monthly", "ETHUSDT", "15m", "2026-10")
    assert len(found) == 31 * 96
    assert found == served(exchange, "ETHUSDT", "15m", *month)


def test_checksum_is_sha256_of_the_zip(exchange):
    """The checksum is that of the ZIP file, in the format of sha256sum."""
    body = fetch(exchange, *YESTERDAY)
    message = fetch(exchange, *YESTERDAY, ".zip.CHECKSUM").decode()
    assert message == f"{hashlib.sha256(body).hexdigest()}  BTCUSDT-1m-2026-11-19.zip\n"


def test_same_candles_give_same_bytes(exchange):
    """The same candles give the same bytes."""
    first = fetch(exchange, *YESTERDAY)
    exchange.outages("2026-11-19T01:00/2026-11-19T02:00")
    assert len(rows(exchange, *YESTERDAY)) == 1440 - 60
    exchange.outages()
    assert fetch(exchange, *YESTERDAY) == first


def test_only_ended_listed_days_exist(exchange):
    """Only days that have ended and in which the symbol was listed have a file."""
    assert status(exchange, "daily", "BTCUSDT", "1m", "2026-11-20") == 404
    assert status(exchange, "monthly", "BTCUSDT", "1m", "2026-11") == 404
    exchange.set_clock(datetime(2026, 11, 21, tzinfo=UTC))
    assert status(exchange, "daily", "BTCUSDT", "1m", "2026-11-20") == 200
    for absent in [
        ("daily", "NOPEUSDT", "1m", "2026-11-19"),
        ("daily", "BTCUSDT", "2m", "2026-11-19"),
        ("daily", "BTCUSDT", "1m", "2026-1-9"),
        ("weekly", "BTCUSDT", "1m", "2026-11-19"),
        ("daily", "BTCUSDT", "1m", "2026-10"),
        ("daily", "AGIXUSDT", "1m", "2024-07-09"),
        ("daily", "雪球USDT", "1m", "2026-09-15"),
    ]:
        assert status(exchange, *absent) == 404, absent


def test_partial_days_hold_traded_candles(exchange):
    """The files of the days of listing and delivery hold the traded candles."""
    assert len(rows(exchange, "daily", "AGIXUSDT", "1m", "2024-07-08")) == 9 * 60
    listed = rows(exchange, "daily", "雪球USDT", "1m", "2026-09-16")
    assert len(listed) == 13 * 60 + 30


def test_header_exists_since_june_2022(exchange):
    """Files before June 2022 have no header, and later ones do."""
    for label, has_header in [("2022-05-31", False), ("2022-06-01", True)]:
        name = f"BTCUSDT-1h-{label}"
        found = lines(fetch(exchange, "daily", "BTCUSDT", "1h", label), name)
        assert (found[0] == NAMES) is has_header
        assert len(found) == 24 + has_header


def test_form_is_chosen_by_option():
    """The form of the files can be chosen on the command line."""
    options = {"archive-header": "never", "archive-times": "us"}
    with start_exchange(symbols="BTCUSDT", clock=f"stepped:{START}", **options) as own:
        found = lines(fetch(own, *YESTERDAY), "BTCUSDT-1m-2026-11-19")
        truth = served(own, "BTCUSDT", "1m", "2026-11-19", "2026-11-20")
    assert [(line[0], line[6]) for line in found] == [
        (f"{row[0]}000", f"{row[6]}999") for row in truth
    ]
    assert [line[1:6] + line[7:] for line in found] == [row[1:6] + row[7:] for row in truth]


@pytest.mark.parametrize("option", ["--archive-header", "--archive-times"])
def test_unknown_form_is_named(option):
    """The error for an unknown form names it."""
    result = CliRunner().invoke(exchange_command, ["--port", "0", option, "ns"])
    assert result.exit_code == 1
    assert "'ns'" in result.output


# Faults


def test_corrupted_zip_fails_its_checksum(exchange):
    """A corrupted ZIP file has another checksum and cannot be opened."""
    whole = fetch(exchange, *YESTERDAY)
    exchange.faults(archive_corrupt=1)
    body = fetch(exchange, *YESTERDAY)
    assert (len(body), body == whole) == (len(whole), False)
    assert (
        hashlib.sha256(whole).hexdigest() in fetch(exchange, *YESTERDAY, ".zip.CHECKSUM").decode()
    )
    with pytest.raises(Exception, match=r"Bad CRC|invalid|Error -3"):
        lines(body, "BTCUSDT-1m-2026-11-19")


def test_wrong_checksum_belongs_to_another(exchange):
    """A wrong checksum is that of another file."""
    right = fetch(exchange, *YESTERDAY, ".zip.CHECKSUM")
    exchange.faults(archive_checksum=1)
    wrong = fetch(exchange, *YESTERDAY, ".zip.CHECKSUM")
    assert wrong != right
    assert wrong[64:] == right[64:]


def test_missing_file_misses_its_checksum(exchange):
    """A missing file is missing at each request, together with its checksum."""
    exchange.faults(archive_missing=0.5, seed=2)
    labels = [f"2026-11-{day:02}" for day in range(1, 20)]
    found = [status(exchange, "daily", "BTCUSDT", "1h", label) for label in labels]
    assert set(found) == {200, 404}
    again = [status(exchange, "daily", "BTCUSDT", "1h", label) for label in labels]
    sums = [status(exchange, "daily", "BTCUSDT", "1h", label, ".zip.CHECKSUM") for label in labels]
    assert found == again == sums


def test_content_faults_match_their_checksum(exchange):
    """Faults of the content are in the file and covered by its checksum."""
    truth = rows(exchange, *YESTERDAY)
    changes = {}
    for fault in ("archive_holes", "archive_zero_volume", "archive_partial"):
        exchange.faults(**{fault: 1})
        digest = hashlib.sha256(fetch(exchange, *YESTERDAY)).hexdigest()
        assert fetch(exchange, *YESTERDAY, ".zip.CHECKSUM").decode().startswith(digest)
        found = rows(exchange, *YESTERDAY)
        changes[fault] = (
            [row for row in truth if row not in found],
            [row for row in found if row not in truth],
        )
    lost, added = changes["archive_holes"]
    assert (len(lost), added) == (30, [])
    lost, added = changes["archive_zero_volume"]
    assert len(lost) == len(added) == 74
    assert {row[5] for row in added} == {"0"}
    assert len({tuple(row[1:5]) for row in added}) == 1
    [lost], [added] = changes["archive_partial"]
    assert lost[0] == added[0]
    assert 0 < float(added[5]) < float(lost[5])
    assert int(added[8]) == int(lost[8]) // 2
    exchange.faults()
    assert rows(exchange, *YESTERDAY) == truth


def test_malformed_files_differ_in_first_row(exchange):
    """Malformed files differ from the true ones in their first row alone."""
    found = set()
    for day in range(1, 15):
        what = "daily", "BTCUSDT", "1h", f"2026-11-{day:02}"
        exchange.faults()
        truth = rows(exchange, *what)
        exchange.faults(archive_malformed=1)
        body = fetch(exchange, *what)
        digest = hashlib.sha256(body).hexdigest()
        assert fetch(exchange, *what, ".zip.CHECKSUM").decode().startswith(digest)
        _, first, *others = lines(body, f"BTCUSDT-1h-2026-11-{day:02}")
        assert others == truth[1:]
        found.add("blank" if not first else "long" if len(first) == 13 else "short")
        assert len(first) != 12 or first != truth[0]
    assert found == {"blank", "short", "long"}


def test_general_faults_strike_the_archive(exchange):
    """Faults of any request strike the archive too; the archive's own faults strike no call."""
    exchange.faults(http_503=1)
    assert status(exchange, *YESTERDAY) == 503
    exchange.faults(archive_missing=1, archive_corrupt=1)
    start = "2026-11-19", "2026-11-20"
    assert len(served(exchange, "BTCUSDT", "1h", *start)) == 24
    assert exchange.state()["faults_struck"] == {}


def test_archive_costs_no_weight(exchange):
    """The archive costs no weight and is counted as one path."""
    fetch(exchange, *YESTERDAY)
    status(exchange, "daily", "BTCUSDT", "1m", "2036-01-01")
    state = exchange.state()
    assert state["weight"]["used"] == {}
    assert state["requests"]["/data/futures/um"] == {"200": 1, "404": 1}
