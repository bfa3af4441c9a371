"""How fast replies become candles on one core, and how small and quick an object of them is.

Rates are per CPU second of one thread, the best of several rounds, so that other programs on the
machine count as little as can be. Real minutes are used where ../shared is there, else a seeded
random walk of the same number of decimals.
"""

from __future__ import annotations

import os

os.environ["POLARS_MAX_THREADS"] = "1"

import io
import random
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import orjson
import polars as pl

from pipeline_assets.market.candles import candle_schema, raw_schema
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.replies import raw_candles
from pipeline_assets.market.windows import Window
from pipeline_assets_tests.benchmarks.harness import report

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "market_data"
REAL = SHARED / "klines" / "twelve_columns" / "AVAXUSDT-1m-usdm-20260601_20260731.parquet"
FIRST = 1_780_272_000_000
MINUTE_MS = 60_000
ROWS = 61 * 1440
LIMIT = 499
COPIES = 3
ROUNDS = 5
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def real_minutes() -> list[list[int | str]]:
    def text(name: str, decimals: int) -> pl.Expr:
        return pl.col(name).map_elements(lambda value: f"{value:.{decimals}f}", pl.String)

    prices = [text(name, 4) for name in ("open", "high", "low", "close")]
    frame = pl.read_parquet(REAL).select(
        "open_time",
        *prices,
        text("volume", 0),
        "close_time",
        text("quote_volume", 4),
        "trades",
        text("taker_buy_base", 0),
        text("taker_buy_quote", 4),
        ignore=pl.lit("0"),
    )
    return [list(row) for row in frame.rows()]


def random_minutes() -> list[list[int | str]]:
    chance, price, rows = random.Random(7), 9.0, []
    for number in range(ROWS):
        path = [price + chance.gauss(0, 0.006) for _ in range(3)]
        volume, share = chance.randint(50, 20_000), chance.random()
        taken, start = int(volume * share), FIRST + number * MINUTE_MS
        rows.append(
            [
                start,
                *(f"{value:.4f}" for value in (price, max(price, *path), min(price, *path))),
                f"{path[-1]:.4f}",
                str(volume),
                start + MINUTE_MS - 1,
                f"{volume * price:.4f}",
                volume // 40,
                str(taken),
                f"{taken * price:.4f}",
                "0",
            ]
        )
        price = max(path[-1], 1.0)
    return rows


def cpu_seconds(run: Callable[[], object], repeats: int = 1) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(repeats):
            run()
        best = min(best, (time.process_time() - started) / repeats)
    return best


def from_lists(replies: list[tuple[str, bytes]]) -> pl.DataFrame:
    """The plain way: parse, put lists of rows into a frame, cast."""
    rows = [(symbol, *row) for symbol, body in replies for row in orjson.loads(body)]
    raw = pl.DataFrame(rows, schema=raw_schema(), orient="row")
    return raw.select(
        pl.from_epoch(name, "ms").cast(dtype) if dtype.is_temporal() else pl.col(name).cast(dtype)
        for name, dtype in candle_schema().items()
    )


def main() -> int:
    source = "AVAXUSDT, real" if REAL.exists() else "random walk"
    minutes = real_minutes() if REAL.exists() else random_minutes()
    pages = [minutes[start : start + LIMIT] for start in range(0, len(minutes), LIMIT)]
    symbols = [f"COIN{number}USDT" for number in range(COPIES)]
    replies = [(symbol, orjson.dumps(page)) for symbol in symbols for page in pages]
    start = from_milliseconds(int(minutes[0][0]))
    windows = dict.fromkeys(symbols, Window(start, start + len(minutes) // 1440 * DAY))

    rows = len(minutes) * COPIES
    cleaned = clean(raw_candles(replies), Interval.ONE_MINUTE, windows)
    if len(cleaned.candles) != rows or not cleaned.rejected.is_empty():
        raise SystemExit(
            f"{len(cleaned.candles)} of {rows} rows passed; rejected: {cleaned.rejected}"
        )
    raw = raw_candles(replies)
    formatting = cpu_seconds(lambda: clean(raw_candles(replies), Interval.ONE_MINUTE, windows))
    plain = cpu_seconds(lambda: from_lists(replies))
    reading = cpu_seconds(lambda: raw_candles(replies))
    cleaning = cpu_seconds(lambda: clean(raw, Interval.ONE_MINUTE, windows))
    results = [
        report(
            "formatting: reply bytes to clean typed columns, one core",
            rows / formatting,
            "rows/s",
            1_000_000,
            at_least=True,
            ratio=plain / formatting,
            against="orjson, lists of rows into polars, casts, no checks",
            reading_rows_per_s=round(rows / reading),
            cleaning_rows_per_s=round(rows / cleaning),
            source=source,
        )
    ]

    symbol = symbols[0]
    day = cleaned.candles.filter(symbol=symbol)[:1440]
    encoded = encode_candles(day, Interval.ONE_MINUTE, symbol, Window(start, start + DAY))
    default = io.BytesIO()
    day.write_parquet(default, compression="snappy")
    results.append(
        report(
            "size of a symbol-day of 1m, all columns",
            len(encoded) / len(day),
            "bytes/row",
            60,
            ratio=len(default.getvalue()) / len(encoded),
            against="polars' writer with snappy",
            source=source,
        )
    )

    hour, window = day[:60], Window(start, start + HOUR)
    encoding = cpu_seconds(
        lambda: encode_candles(hour, Interval.ONE_MINUTE, symbol, window), repeats=100
    )
    by_polars = cpu_seconds(
        lambda: hour.write_parquet(io.BytesIO(), compression="zstd"), repeats=100
    )
    results.append(
        report(
            "encoding an object of 60 rows",
            encoding * 1000,
            "ms",
            1.0,
            ratio=by_polars / encoding,
            against="polars' writer with zstd",
            bytes=len(encode_candles(hour, Interval.ONE_MINUTE, symbol, window)),
            source=source,
        )
    )
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
