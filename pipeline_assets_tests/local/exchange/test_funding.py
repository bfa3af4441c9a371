"""Funding rates of the replay exchange: both endpoints, their own limit, the archive's months, own files."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.funding import HOUR_MS, alter_funding, call
from pipeline_assets_tests.local.exchange.helpers import klines

RATE, INFO = "/fapi/v1/fundingRate", "/fapi/v1/fundingInfo"
ARCHIVE = "/data/futures/um/monthly/fundingRate"
ETH = "ETHUSDT"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


def test_settlements_lie_near_full_hours(exchange: ExchangeHandle) -> None:
    """Rates come every eight hours, some milliseconds late, with the price at which the hour opens."""
    start, end = ms("2026-11-18T00:00"), ms("2026-11-20T00:00") - 1
    rows = call(exchange, RATE, symbol=ETH, startTime=start, endTime=end)
    hours = [row["fundingTime"] // HOUR_MS * HOUR_MS for row in rows]
    assert hours == [start + 8 * HOUR_MS * number for number in range(6)]
    assert all(row["fundingTime"] % HOUR_MS < 13 for row in rows)
    [candle] = klines(exchange.url, symbol=ETH, interval="1m", startTime=hours[1], limit=1)
    assert float(rows[1]["markPrice"]) == float(candle[1])
    assert rows == call(exchange, RATE, symbol=ETH, startTime=start, endTime=end)
    newest = call(exchange, RATE, symbol=ETH)
    assert newest[-1]["fundingTime"] // HOUR_MS * HOUR_MS == ms("2026-11-20T08:00")
    assert call(exchange, RATE, symbol="BTCUSDT_261225", startTime=start) == []


def test_interval_changes_and_gaps(exchange: ExchangeHandle) -> None:
    """An interval changes at the time that was set, fundingInfo names it, and a reset ends both."""
    intervals = {ETH: {"2026-11-19T08:00:00Z": 4, "2026-11-20T00:00:00Z": 1}}
    alter_funding(exchange, intervals=intervals, missing={ETH: ["2026-11-20T03:00:00Z"]})
    start = ms("2026-11-19T00:00")
    rows = call(exchange, RATE, symbol=ETH, startTime=start, limit=1000)
    hours = [(row["fundingTime"] - start) // HOUR_MS for row in rows]
    assert hours == [0, 8, 12, 16, 20, 24, 25, 26, *range(28, 37)]
    named = {entry["symbol"]: entry["fundingIntervalHours"] for entry in call(exchange, INFO)}
    assert named[ETH] == 1
    assert "BTCUSDT" not in named
    exchange.reset()
    assert len(call(exchange, RATE, symbol=ETH, startTime=start)) == 5
    with pytest.raises(urllib.error.HTTPError, match="400"):
        alter_funding(exchange, intervals={ETH: {"2026-11-19T08:00:00Z": 5}})


def test_limit_is_apart_from_weight() -> None:
    """Both endpoints share a limit of five minutes, refused with HTTP 429, and cost no weight."""
    with start_exchange(clock="stepped:2026-11-20T12:00:30Z", funding_limit=3) as own:
        call(own, INFO)
        call(own, RATE, symbol=ETH)
        own.advance(200)
        call(own, RATE)
        with pytest.raises(urllib.error.HTTPError) as caught:
            call(own, RATE, symbol=ETH)
        assert (caught.value.code, caught.value.headers["Retry-After"]) == (429, "100")
        own.advance(100)
        call(own, RATE, symbol=ETH)
        state = own.state()
        assert (state["funding"]["used"], state["funding"]["refused"]) == (2, 1)
        assert sum(state["weight"]["used"].values()) == 0


def test_archive_month_equals_endpoint(exchange: ExchangeHandle) -> None:
    """A month's file has the endpoint's rates and its checksum beside it; an open month has none."""
    address = exchange.url.removesuffix("/fapi") + f"{ARCHIVE}/{ETH}/{ETH}-fundingRate-2026-10.zip"
    with urllib.request.urlopen(address) as reply:
        body = reply.read()
    with urllib.request.urlopen(f"{address}.CHECKSUM") as reply:
        assert reply.read().decode().split()[0] == hashlib.sha256(body).hexdigest()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        lines = archive.read(f"{ETH}-fundingRate-2026-10.csv").decode().splitlines()
    first, last = ms("2026-10-01T00:00"), ms("2026-11-01T00:00") - 1
    rows = call(exchange, RATE, symbol=ETH, startTime=first, endTime=last, limit=1000)
    assert lines[0] == "calc_time,funding_interval_hours,last_funding_rate"
    assert lines[1:] == [f"{row['fundingTime']},8,{row['fundingRate']}" for row in rows]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address.replace("2026-10", "2026-11"))


def test_own_files_are_served(tmp_path: Path) -> None:
    """A person's own rates are served beside own candles; other symbols have made-up rates."""
    begin = datetime(2026, 11, 18, tzinfo=UTC)
    time = pl.datetime_range(begin, begin.replace(day=19), "1m", eager=True, time_zone="UTC")
    candles = pl.DataFrame({"open_time": time}).with_columns(
        pl.lit(100.5).alias(name) for name in ("open", "high", "low", "close")
    )
    for symbol in (ETH, "BTCUSDT"):
        candles.write_parquet(tmp_path / f"{symbol}-1m-x.parquet")
    times = [begin.replace(hour=hour) for hour in (0, 4, 8)]
    own = pl.DataFrame({"funding_time": times, "funding_rate": [0.0001, -0.0002, 0.0003]})
    own.write_parquet(tmp_path / f"{ETH}-fundingRate-x.parquet")
    with start_exchange(candles=tmp_path, clock="stepped:2026-11-18T12:00:00Z") as served:
        rows = call(served, RATE, symbol=ETH, startTime=ms("2026-11-18T00:00"))
        assert [row["fundingRate"] for row in rows] == ["0.00010000", "-0.00020000", "0.00030000"]
        assert {row["markPrice"] for row in rows} == {""}
        [other] = call(served, RATE, symbol="BTCUSDT", startTime=ms("2026-11-18T01:00"))
        assert other["markPrice"] == "100.50000000"
        assert served.state()["candles"]["skipped_files"] == {}
