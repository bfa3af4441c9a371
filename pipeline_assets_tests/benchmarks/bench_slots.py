"""How long 500 symbols take into and out of the slots, and one reservation of request weight."""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline_assets_tests.benchmarks.harness import report

SYMBOLS, ROWS, REPEATS = 500, 60, 15
# A write takes at most so many times what plain pipelined HSET takes, which compares nothing.
MOST = 1.3
NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)


def milliseconds(prepare: Callable[[], object], run: Callable[[], object]) -> float:
    """Return the median of repeated runs, each after an untimed `prepare`."""
    taken = []
    for _ in range(REPEATS):
        prepare()
        began = time.perf_counter()
        run()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def compared(
    benchmark: str,
    figure: float,
    target: float,
    reference: float,
    against: str,
    most: float = math.inf,
) -> bool:
    """Report a figure; its target is met if its ratio to the reference is at most `most` as well."""
    ratio = figure / reference
    met = figure <= target and ratio <= most
    return report(benchmark, figure, "ms", target, ratio=ratio, against=against, met=met)


def candles():
    """Return an hour and one minute of every symbol."""
    import polars as pl

    from pipeline_assets.market.candles import candle_schema

    rows = ROWS + 1
    opens = [NOON + timedelta(minutes=row) for row in range(rows)] * SYMBOLS
    prices = [round(100 + row * 0.37 % 900, 2) for row in range(rows * SYMBOLS)]
    volumes = [round(row * 7.771 % 90_000, 3) for row in range(rows * SYMBOLS)]
    columns = dict.fromkeys(("open", "high", "low", "close"), prices)
    columns |= {name: volumes for name in candle_schema() if "volume" in name}
    return pl.DataFrame(
        {
            "symbol": [f"SYMBOL{number}USDT" for number in range(SYMBOLS) for _ in range(rows)],
            "open_time": opens,
            "close_time": [one + timedelta(milliseconds=59_999) for one in opens],
            "trades": [row * 13 % 5000 for row in range(rows * SYMBOLS)],
            **columns,
        }
    ).select(pl.col(name).cast(dtype) for name, dtype in candle_schema().items())


def main() -> int:
    import polars as pl

    from pipeline_assets.resources.slots import CandleSlots
    from pipeline_assets.resources.weight_budget import Priority, WeightBudget
    from pipeline_assets_tests.fixtures.redis import RedisServer

    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory)) as server:
        settings, client = server.settings(), server.client()
        slots = CandleSlots(settings)
        budget = WeightBudget(settings, "benchmark", 10**9, 0)
        every = candles()
        hour = every.filter(pl.col("open_time") < NOON + timedelta(minutes=ROWS))
        following = every.filter(pl.col("open_time") > NOON)
        symbols = hour["symbol"].unique(maintain_order=True).to_list()
        slots.write(hour)
        values = {symbol: client.hgetall(f"ohlcv:1m:{{{symbol}}}") for symbol in symbols}

        def plain_write() -> None:
            pipeline = client.pipeline(transaction=False)
            for symbol, fields in values.items():
                pipeline.hset(f"plain:{symbol}", mapping=fields)
            pipeline.execute()

        def plain_read() -> None:
            pipeline = client.pipeline(transaction=False)
            for symbol in symbols:
                pipeline.hgetall(f"plain:{symbol}")
            pipeline.execute()

        writing = milliseconds(client.flushall, plain_write)
        reading = milliseconds(lambda: None, plain_read)
        ping = milliseconds(lambda: None, client.ping)
        slots.write(hour)
        reset = lambda: (client.flushall(), slots.write(hour))  # noqa: E731
        against = "pipelined HSET of the same values, without any comparison"
        met = [
            compared(
                "500 symbols x 60 rows into empty slots",
                milliseconds(client.flushall, lambda: slots.write(hour)),
                100,
                writing,
                against,
                MOST,
            ),
            compared(
                "500 symbols x 60 rows, one new minute each",
                milliseconds(reset, lambda: slots.write(following)),
                100,
                writing,
                against,
                MOST,
            ),
            compared(
                "500 symbols x 15 slots read as a frame",
                milliseconds(reset, lambda: slots.read(symbols)),
                120,
                reading,
                "pipelined HGETALL without decoding",
            ),
            compared(
                "one reservation of weight",
                milliseconds(lambda: None, lambda: budget.reserve(Priority.INGEST_1M, 1, 10**12)),
                2,
                ping,
                "PING",
            ),
        ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
