from __future__ import annotations

import io
from datetime import datetime, timedelta

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.candles import candle_schema, empty_candles
from pipeline_assets.market.encoding import (
    MalformedObjectError,
    decode_candles,
    decode_open_times,
    decode_parquet,
    encode_candles,
    merge_candles,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets_tests.market.frames import DAY_START, candle_frame, raw_row
from pipeline_assets_tests.market_data import candle_file

MINUTE = timedelta(minutes=1)
HOUR = Window(DAY_START, DAY_START + timedelta(hours=1))
SYMBOL = "币安人生USDT"
numbers = st.floats(allow_nan=False)


@st.composite
def candle_frames(draw, symbols=(SYMBOL,), max_minutes=60):
    times = st.tuples(st.sampled_from(symbols), st.integers(0, max_minutes - 1))
    rows = []
    for symbol, number in draw(st.lists(times, unique=True, max_size=20)):
        moment = DAY_START + number * MINUTE
        floats = [draw(numbers) for _ in range(8)]
        trades = draw(st.integers(-(2**63), 2**63 - 1))
        rows.append((symbol, moment, *floats, trades, moment + MINUTE - timedelta(milliseconds=1)))
    return pl.DataFrame(rows, schema=candle_schema(), orient="row")


def encode(candles, window=HOUR):
    return encode_candles(candles, Interval.ONE_MINUTE, SYMBOL, window)


@given(candle_frames())
def test_encoded_candles_return_bit_for_bit(candles):
    """Encoded candles are read back sorted, bit for bit, with their window."""
    decoded, window = decode_candles(encode(candles))
    assert decoded.schema == candle_schema()
    assert [repr(row) for row in decoded.rows()] == [
        repr(row) for row in sorted(candles.rows(), key=lambda row: row[1])
    ]
    assert window == HOUR


@given(candle_frames(), st.integers(1, 5), st.randoms())
def test_same_rows_give_same_bytes(candles, size, order):
    """The same rows give the same bytes in any order and any chunks."""
    places = list(range(len(candles)))
    order.shuffle(places)
    shuffled = candles[places]
    pieces = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    chunked = pl.concat([empty_candles(), *pieces], rechunk=False)
    surrounded = pl.concat([chunked, chunked])[: len(chunked)]
    columns_reversed = candles.select(reversed(candles.columns))
    for other in (shuffled, chunked, surrounded, columns_reversed):
        assert encode(other) == encode(candles)


def test_chunks_leave_no_trace():
    """Chunks of a whole day leave no trace in the bytes."""
    rows = [raw_row(DAY_START + number * MINUTE, symbol=SYMBOL) for number in range(1440)]
    day = candle_frame(rows)
    window = Window(DAY_START, DAY_START + timedelta(days=1))
    chunked = pl.concat([day[start : start + 7] for start in range(0, 1440, 7)], rechunk=False)
    assert chunked.n_chunks() > 100
    assert encode(chunked, window) == encode(day, window)


def test_other_content_gives_other_bytes():
    """Other rows or another window give other bytes."""
    candles = candle_frame([raw_row(symbol=SYMBOL)])
    longer = Window(HOUR.start, HOUR.end + timedelta(hours=1))
    changed = candle_frame([raw_row(symbol=SYMBOL, close="100.3")])
    assert len({encode(candles), encode(candles, longer), encode(changed)}) == 3


@pytest.mark.parametrize(
    "rows",
    [
        [raw_row(symbol="BTCUSDT")],
        [raw_row(symbol=SYMBOL), raw_row(HOUR.start + MINUTE, symbol="BTCUSDT")],
        [raw_row(HOUR.end, symbol=SYMBOL)],
        [raw_row(HOUR.start - MINUTE, symbol=SYMBOL)],
        [raw_row(symbol=SYMBOL), raw_row(symbol=SYMBOL, close="100.3")],
    ],
)
def test_foreign_rows_are_refused(rows):
    """Rows that do not belong to the object are refused."""
    with pytest.raises(ValueError, match=SYMBOL):
        encode(candle_frame(rows))


def test_other_readers_see_the_same(tmp_path):
    """Other Parquet readers see the same rows, types and description."""
    candles = candle_frame([raw_row(DAY_START + n * MINUTE, symbol=SYMBOL) for n in range(60)])
    file = tmp_path / "object.parquet"
    file.write_bytes(encode(candles))

    assert pl.scan_parquet(file).collect().equals(candles)

    arrow = pq.read_table(file)
    assert pl.from_arrow(arrow).equals(candles)
    assert str(arrow.schema.field("open_time").type) == "timestamp[us, tz=UTC]"
    metadata = {
        key.decode(): value.decode() for key, value in pq.read_metadata(file).metadata.items()
    }
    assert metadata == {
        "interval": "1m",
        "symbol": SYMBOL,
        "window_start": "2026-10-25T00:00:00+00:00",
        "window_end": "2026-10-25T01:00:00+00:00",
    }

    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE FROM '{file}'").fetchall()
        types = {name: kind for name, kind, *_ in described}
        epochs = connection.execute(
            f"SELECT symbol, epoch_us(open_time), open, trades FROM '{file}' ORDER BY open_time"
        ).fetchall()
    assert types["open_time"] == types["close_time"] == "TIMESTAMP WITH TIME ZONE"
    assert types["open"] == "DOUBLE"
    assert types["trades"] == "BIGINT"
    start = int(DAY_START.timestamp()) * 1_000_000
    assert epochs == [(SYMBOL, start + n * 60_000_000, 100.1, 31) for n in range(60)]


def test_only_first_version_encodings_are_used():
    """Only encodings of the first Parquet version are used."""
    body = encode(candle_frame([raw_row(symbol=SYMBOL)]))
    group = pq.read_metadata(io.BytesIO(body)).row_group(0)
    used = {name for place in range(group.num_columns) for name in group.column(place).encodings}
    assert used <= {"PLAIN", "RLE", "PLAIN_DICTIONARY"}


BODY = encode(candle_frame([raw_row(symbol=SYMBOL)]))


def foreign(**columns):
    sink = io.BytesIO()
    described = {"window_start": HOUR.start.isoformat(), "window_end": HOUR.end.isoformat()}
    pl.DataFrame(columns).write_parquet(sink, metadata=described)
    return sink.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        BODY[:-5],
        BODY[100:],
        foreign(symbol=["BTCUSDT"]),
        foreign(**{name: [1] for name in candle_schema()}),
    ],
)
def test_foreign_bytes_are_refused(body):
    """Bytes that are not a candle object are refused."""
    with pytest.raises(MalformedObjectError, match="candle object"):
        decode_candles(body)


@pytest.mark.parametrize("decode", [decode_candles, decode_open_times, decode_parquet])
@pytest.mark.parametrize(
    "body",
    [b"", b"PAR1", b"<html>", BODY[:-9], b"PAR1" * 90],
    ids=["empty", "magic number", "HTML", "cut end", "magic numbers"],
)
def test_bytes_without_footer_are_malformed(decode, body):
    """Bytes without a footer are a malformed object.

    Bytes with a footer that does not fit are not tested here: for some, Polars writes beyond its memory, and
    an unrelated test crashes minutes later. Readers compare the digest before they decode.
    """
    with pytest.raises(MalformedObjectError):
        decode(body)


def test_decoder_panic_is_malformed_object(monkeypatch):
    """A panic of the decoder is reported as a malformed object."""

    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(MalformedObjectError, match="index out of bounds"):
        decode_candles(BODY)


def test_candles_without_a_window_are_refused():
    sink = io.BytesIO()
    empty_candles().write_parquet(sink)
    with pytest.raises(MalformedObjectError, match="window_start"):
        decode_candles(sink.getvalue())


@given(
    candle_frames(symbols=(SYMBOL, "BTCUSDT"), max_minutes=8),
    candle_frames(symbols=(SYMBOL, "BTCUSDT"), max_minutes=8),
)
def test_merge_keeps_newer_row_per_time(older, newer):
    """A merge keeps one row per open time, and the newer wins."""
    held: dict[tuple[str, datetime], tuple] = {row[:2]: row for row in older.rows()}
    held |= {row[:2]: row for row in newer.rows()}
    merged = merge_candles(older, newer)
    assert merged.schema == candle_schema()
    assert merged.rows() == [held[key] for key in sorted(held)]
    assert merge_candles(merged, newer).equals(merged)


def test_day_takes_sixty_bytes_per_row():
    """A day of minutes takes no more than sixty bytes a row."""
    real = pl.read_parquet(candle_file("AVAXUSDT", "1m"))[:1440]
    microseconds = {
        column: (pl.col(column) * 1000).cast(pl.Datetime("us", "UTC"))
        for column in ("open_time", "close_time")
    }
    candles = real.rename(
        {"taker_buy_base": "taker_buy_volume", "taker_buy_quote": "taker_buy_quote_volume"}
    ).select(
        pl.col(column).cast(kind) if column not in microseconds else microseconds[column]
        for column, kind in candle_schema().items()
        if column != "symbol"
    )
    candles = candles.with_columns(symbol=pl.lit(SYMBOL)).select(candle_schema().names())
    start = candles["open_time"][0]
    assert len(encode(candles, Window(start, start + timedelta(days=1)))) <= 60 * 1440
