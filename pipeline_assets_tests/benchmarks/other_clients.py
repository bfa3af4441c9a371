"""What others fetch candles with, as shipped: one function a client. What ours takes is in
bench_backfill.py, which runs this file as a program; it needs nothing but the client itself, so that a
client may live in an environment of its own.

`python other_clients.py NAME ADDRESS DAYS END SYMBOL…` prints one JSON line: rows and seconds, without
imports; `error` where the client gave up.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

MINUTE_MS = 60_000


def milliseconds(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def python_binance(
    address: str, symbols: Sequence[str], first: date, end: date
) -> Callable[[], int]:
    """`futures_historical_klines`, which pages by 1,000."""
    from binance import AsyncClient

    async def fetch() -> int:
        client = AsyncClient()
        client.FUTURES_URL = f"{address}/fapi"
        span = milliseconds(first), milliseconds(end) - 1
        try:
            return sum(
                [
                    len(await client.futures_historical_klines(symbol, "1m", *span))
                    for symbol in symbols
                ]
            )
        finally:
            await client.close_connection()

    return lambda: asyncio.run(fetch())


def ccxt(address: str, symbols: Sequence[str], first: date, end: date) -> Callable[[], int]:
    """`fetch_ohlcv` in a loop, which is how its documentation pages; its own throttle is on."""
    import ccxt as library  # type: ignore[import-not-found]

    exchange: Any = library.binanceusdm({"options": {"fetchCurrencies": False}})
    exchange.urls["api"] = {
        name: url.replace("https://fapi.binance.com", address) if isinstance(url, str) else url
        for name, url in exchange.urls["api"].items()
    }

    def fetch() -> int:
        by_id = {each["id"]: each["symbol"] for each in exchange.load_markets().values()}
        rows = 0
        for symbol in symbols:
            since = milliseconds(first)
            while since < milliseconds(end):
                page = exchange.fetch_ohlcv(by_id[symbol], "1m", since, 1500)
                rows += sum(row[0] < milliseconds(end) for row in page)
                since = page[-1][0] + MINUTE_MS if page else milliseconds(end)
        return rows

    return fetch


def freqtrade(address: str, symbols: Sequence[str], first: date, end: date) -> Callable[[], int]:
    """`freqtrade download-data` into its own files, from the exchange and not its archive."""
    home = Path(tempfile.mkdtemp())
    base = {
        name: f"{address}/fapi/{name[-2:].lower()}" for name in ("fapiPublicV2", "fapiPublicV3")
    }
    urls = {"api": {"fapiPublic": f"{address}/fapi/v1", **base}}
    named = {"urls": urls, "options": {"fetchCurrencies": False}}
    pairs = [f"{symbol.removesuffix('USDT')}/USDT:USDT" for symbol in symbols]
    config = {
        "exchange": {
            "name": "binance",
            "only_from_ccxt": True,
            "ccxt_config": named,
            "ccxt_async_config": named,
            "pair_whitelist": pairs,
        },
        "stake_currency": "USDT",
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "dataformat_ohlcv": "feather",
    }
    (home / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (home / "user_data").mkdir()
    command = [
        *(sys.executable, "-m", "freqtrade", "download-data", "--config", "config.json"),
        *("--userdir", "user_data", "--timeframes", "1m", "--candle-types", "futures"),
        *("--timerange", f"{first:%Y%m%d}-{end:%Y%m%d}", "--pairs", *pairs),
    ]

    def fetch() -> int:
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-300:])
        import pandas as pd

        files = (home / "user_data").rglob("*-1m-futures.feather")
        return sum(len(pd.read_feather(path)) for path in files)

    return fetch


def main(name: str, address: str, days: str, end: str, *symbols: str) -> None:
    clients = {"python_binance": python_binance, "ccxt": ccxt, "freqtrade": freqtrade}
    until = date.fromisoformat(end)
    prepared = clients[name](address, symbols, until - timedelta(days=int(days)), until)
    began = time.perf_counter()
    found: dict[str, Any] = {"rows": 0}
    try:
        found["rows"] = prepared()
    except Exception as error:  # noqa: BLE001 - whatever a client gives up with is its result
        found["error"] = f"{type(error).__name__}: {error}"[:200]
    print(json.dumps({**found, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
