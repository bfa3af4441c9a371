"""The cost of fetching: an hour of minutes of 500 symbols, and a backfill, from the replay exchange.

`python -m pipeline_assets_tests.benchmarks.bench_exchange`. Each client is a process of its own, so
that importing its library counts. The baseline is the same requests sent by aiohttp alone.
"""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.exchange_pages import pages
from pipeline_assets_tests.benchmarks.harness import report

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIVE = (500, timedelta(hours=1))
BACKFILL = (30, timedelta(days=7))
WARM, MEASURED = 1, 3


def plan(shape, listed):
    symbols, span = shape
    return dict.fromkeys(listed[:symbols], Window(END - span, END))


def ours(address, redis_url, windows):
    """Import python-binance and fetch through the exchange client."""
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.weight_budget import Priority, WeightBudget
    from pipeline_assets.settings import BinanceSettings, RedisSettings

    budget = WeightBudget(RedisSettings(url=redis_url), "bench", limit=10_000_000, margin=60)
    client = ExchangeClient(BinanceSettings(rest_url=address), budget, Priority.INGEST_1M)
    began = time.process_time()
    for library in ("binance.async_client", "redis"):
        import_module(library)
    imported = time.perf_counter(), time.process_time()
    rows = []
    with client:
        for fetched in client.klines(Interval.ONE_MINUTE, windows, rows.append):
            assert fetched.error is None, fetched.error
    return {"rows": sum(rows)} | measured(began, imported)


def bare(address, windows):
    """The same requests by aiohttp, 40 at once, the bodies kept as they come."""
    began = time.process_time()
    import aiohttp

    imported = time.perf_counter(), time.process_time()

    async def run():
        questions = (
            (symbol, page, limit)
            for symbol, window in windows.items()
            for page, limit in pages(Interval.ONE_MINUTE, window)
        )
        kept = []

        async def work(session):
            for symbol, page, limit in questions:
                query = {
                    "symbol": symbol,
                    "interval": "1m",
                    "startTime": to_milliseconds(page.start),
                    "endTime": to_milliseconds(page.end) - 1,
                    "limit": limit,
                }
                async with session.get(f"{address}/fapi/v1/klines", params=query) as reply:
                    kept.append(await reply.read())

        connector = aiohttp.TCPConnector(limit=40)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(work(session) for _ in range(40)))
        return sum(body.count(b"],[") + 1 for body in kept)

    return {"rows": asyncio.run(run())} | measured(began, imported)


def measured(began, imported):
    return {
        "import_cpu": imported[1] - began,
        "fetch_cpu": time.process_time() - imported[1],
        "fetch_wall": time.perf_counter() - imported[0],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def client(kind, shape, address, redis_url):
    """The median by CPU time of a few processes, after one that warms the exchange's caches."""
    command = [sys.executable, "-m", __spec__.name, kind, json.dumps(shape), address, redis_url]
    runs = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for _ in range(WARM + MEASURED)
    ]
    return sorted(runs[WARM:], key=lambda run: run["fetch_cpu"])[MEASURED // 2]


def main():
    from pipeline_assets_tests.fixtures.exchange import start_exchange
    from pipeline_assets_tests.fixtures.redis import RedisServer

    clock = f"stepped:{END:%Y-%m-%dT%H:%M}:30Z"
    with (
        tempfile.TemporaryDirectory() as data,
        RedisServer(Path(data)) as redis,
        start_exchange(symbols=LIVE[0], clock=clock, weight_limit=0) as exchange,
    ):
        address = exchange.url.removesuffix("/fapi")
        live, live_bare = (client(kind, "live", address, redis.url) for kind in ("ours", "bare"))
        assert live["rows"] == live_bare["rows"] == LIVE[0] * 60
        filled, bare_filled = (
            client(kind, "backfill", address, redis.url) for kind in ("ours", "bare")
        )
        assert filled["rows"] == bare_filled["rows"]
    against = "the same requests by aiohttp alone, in a process of its own"
    total = live["import_cpu"] + live["fetch_cpu"]
    met = report(
        "exchange.live_500_symbols",
        total,
        "CPU s of the client, imports included",
        1.5,
        ratio=total / (live_bare["import_cpu"] + live_bare["fetch_cpu"]),
        against=against,
        **live,
    )
    rate = filled["rows"] / filled["fetch_cpu"]
    met &= report(
        "exchange.backfill",
        rate,
        "candles per CPU s of the client, imports left out",
        300_000,
        at_least=True,
        ratio=rate / (bare_filled["rows"] / bare_filled["fetch_cpu"]),
        against=against,
        candles_per_wall_s=filled["rows"] / filled["fetch_wall"],
        candles_per_wall_s_bare=bare_filled["rows"] / bare_filled["fetch_wall"],
        **filled,
    )
    return 0 if met else 1


def child(kind, shape, address, redis_url):
    import urllib.request

    with urllib.request.urlopen(f"{address}/fapi/v1/exchangeInfo", timeout=30) as reply:
        entries = json.load(reply)["symbols"]
    trading = [entry for entry in entries if entry["status"] == "TRADING"]
    oldest_first = sorted(trading, key=lambda entry: entry["onboardDate"])
    listed = [entry["symbol"] for entry in oldest_first]
    windows = plan({"live": LIVE, "backfill": BACKFILL}[json.loads(shape)], listed)
    return ours(address, redis_url, windows) if kind == "ours" else bare(address, windows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(*sys.argv[1:])))
    else:
        sys.exit(main())
