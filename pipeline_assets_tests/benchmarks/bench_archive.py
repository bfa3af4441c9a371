"""How fast files of the archive become candle objects: checksum, zip, CSV, cleaning, Parquet bytes.

Two threads share the symbols, as inflating, hashing, reading CSV and compressing leave the
interpreter to others; the best of several rounds is taken. Files are a symbol's month of 1m, as the
product takes them for whole months, and besides a symbol-day each; the replay exchange made them.
Downloading them is not measured here.
"""

from __future__ import annotations

import io
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pandas as pd
import polars as pl

from pipeline_assets.local.exchange import archive as exchange_archive
from pipeline_assets.local.exchange.market import synthetic_market
from pipeline_assets.market.archive import ArchiveFile, read_archive, verify_checksum
from pipeline_assets.market.candles import CANDLE_COLUMNS, RAW_COLUMNS
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets_tests.benchmarks.harness import report

SYMBOLS = [
    "BTCUSDT",
    "ETHUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "DOGEUSDT",
    "1000PEPEUSDT",
    "币安人生USDT",
    "雪球USDT",
]
FIRST = date(2026, 10, 1)
DAYS = 31  # all of October
ROUNDS = 5
CORES = 2
MINUTE = Interval.ONE_MINUTE
Held = tuple[ArchiveFile, bytes, bytes]


def files(*, monthly: bool) -> dict[str, list[Held]]:
    """Return, by symbol, the files of all days, their ZIP files and their checksums."""
    archive = exchange_archive.Archive(synthetic_market(SYMBOLS), exchange_archive.ArchiveForm())
    made: dict[str, list[Held]] = {symbol: [] for symbol in SYMBOLS}
    for symbol in SYMBOLS:
        for number in range(1 if monthly else DAYS):
            file = ArchiveFile(symbol, MINUTE, FIRST + timedelta(days=number), monthly)
            name = f"{file.name}.zip"
            period = "monthly" if monthly else "daily"
            wanted = exchange_archive.ArchiveFile.parse(period, symbol, "1m", name)
            assert wanted is not None
            body = archive.zip_bytes(wanted, 2**60, frozenset())
            assert body is not None
            made[symbol].append((file, body, exchange_archive.checksum(body, name)))
    return made


def product(held: Sequence[Held]) -> list[bytes]:
    """A symbol's candle objects, as the product makes them."""
    symbol = held[0][0].symbol
    days = [day_window(FIRST + timedelta(days=number)) for number in range(DAYS)]
    frames = []
    for file, body, reported in held:
        verify_checksum(file, body, reported)
        frames.append(read_archive(file, body))
    cleaned = clean(pl.concat(frames), MINUTE, {symbol: Window(days[0].start, days[-1].end)})
    assert cleaned.rejected.is_empty()
    # Every day of these symbols is whole.
    by_day = cleaned.candles.iter_slices(MINUTE.per_day)
    return [
        encode_candles(candles, MINUTE, symbol, day)
        for candles, day in zip(by_day, days, strict=True)
    ]


def by_pandas(held: Sequence[Held]) -> list[bytes]:
    """The same columns by pandas.read_csv and DataFrame.to_parquet, nothing checked."""
    found = []
    for file, body, _ in held:
        with zipfile.ZipFile(io.BytesIO(body)) as archive, archive.open(f"{file.name}.csv") as csv:
            month = pd.read_csv(csv, names=list(RAW_COLUMNS[1:]), header=0)
        for name in ("open_time", "close_time"):
            month[name] = pd.to_datetime(month[name], unit="ms", utc=True).astype(
                "datetime64[us, UTC]"
            )
        month["symbol"] = file.symbol
        for first in range(0, len(month), MINUTE.per_day):
            frame = month.iloc[first : first + MINUTE.per_day]
            target = io.BytesIO()
            frame[list(CANDLE_COLUMNS)].to_parquet(target, compression="zstd", index=False)
            found.append(target.getvalue())
    return found


def seconds(
    work: Callable[[Sequence[Held]], list[bytes]], held: dict[str, list[Held]]
) -> tuple[float, float]:
    """The least wall time of all symbols on two threads, and the CPU time of that round."""
    best = (float("inf"), 0.0)
    with ThreadPoolExecutor(CORES) as pool:
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), time.process_time()
            made = list(pool.map(work, held.values()))
            best = min(best, (time.perf_counter() - began, time.process_time() - cpu))
            assert sum(map(len, made)) == len(SYMBOLS) * DAYS
    return best


def main() -> int:
    held, daily = files(monthly=True), files(monthly=False)
    rows = len(SYMBOLS) * DAYS * MINUTE.per_day
    # The first round of either also pays for imports.
    wall, cpu = seconds(product, held)
    of_days, _ = seconds(product, daily)
    plain, _ = seconds(by_pandas, held)
    met = report(
        "archive: zips to Parquet bytes of clean candles, two cores",
        rows / wall,
        "rows/s",
        700_000,
        at_least=True,
        ratio=plain / wall,
        against="pandas.read_csv and to_parquet on two threads, no checksum, no checks",
        cpu_s_per_million_rows=cpu / rows * 1_000_000,
        files=len(SYMBOLS),
        rows_per_s_of_a_file_a_day=rows / of_days,
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
