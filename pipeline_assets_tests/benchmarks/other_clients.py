"""Other people's clients that fetch candles, as shipped: one function a client. bench_backfill.py measures
our own and runs this file as a program. The file needs only the client's own library, so that each
client may have an environment of its own.

`python other_clients.py NAME ADDRESS DAYS END SYMBOL…` prints one JSON line: rows and seconds, without
imports; `error`, and no rows, where the client gave up or did not fetch exactly the rows of the range.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

MINUTE_MS = 60_000
LOGGED = "run other_clients.py by itself to read the client's log on standard error"


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
    """`freqtrade download-data` of the candles alone, into its own files.

    Included are its configuration, the list of markets, a page for each pair to find its listing, its
    throttle and the writing of Feather files. Left out, by its own options, are the archive, mark
    candles, funding rates, and the markets other than USD-M, for which it asks other hosts than the
    replay exchange.
    """
    import pandas as pd

    # The command imports the first and the last only when it downloads.
    from freqtrade.data import history  # type: ignore[import-not-found]  # noqa: F401
    from freqtrade.main import main as command  # type: ignore[import-not-found]
    from freqtrade.resolvers import exchange_resolver  # type: ignore[import-not-found]  # noqa: F401

    home = tempfile.TemporaryDirectory()
    (Path(home.name) / "user_data").mkdir()
    pairs = [f"{symbol.removesuffix('USDT')}/USDT:USDT" for symbol in symbols]
    config = {
        "exchange": {
            "name": "binance",
            "only_from_ccxt": True,
            "ccxt_config": {
                "urls": {"api": {"fapiPublic": f"{address}/fapi/v1"}},
                "options": {"fetchCurrencies": False, "fetchMarkets": {"types": ["linear"]}},
            },
            "pair_whitelist": pairs,
        },
        "stake_currency": "USDT",
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "dataformat_ohlcv": "feather",
    }
    (Path(home.name) / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = [
        *("download-data", "--config", f"{home.name}/config.json"),
        *("--userdir", f"{home.name}/user_data"),
        *("--timeframes", "1m", "--candle-types", "futures"),
        *("--timerange", f"{first:%Y%m%d}-{end:%Y%m%d}", "--pairs", *pairs),
    ]

    def fetch() -> int:
        try:
            # Its progress bars would stand where the result belongs.
            with redirect_stdout(sys.stderr):
                command(arguments)
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"It ended with status {ended.code}; {LOGGED}") from ended
        opened = [
            pd.read_feather(path)["date"] for path in Path(home.name).rglob("*-1m-futures.feather")
        ]
        # Its last page runs on beyond the range.
        return sum(int((times < pd.Timestamp(end, tz="UTC")).sum()) for times in opened)

    return fetch


def complete(rows: int, wanted: int) -> int:
    """Return the rows, if they are all: freqtrade, for one, ends with status 0 where pages failed.

    Raises:
        RuntimeError: there are fewer, or more.
    """
    if rows != wanted:
        raise RuntimeError(f"It fetched {rows} rows of {wanted}; {LOGGED}")
    return rows


def main(name: str, address: str, days: str, end: str, *symbols: str) -> None:
    clients = {"python_binance": python_binance, "ccxt": ccxt, "freqtrade": freqtrade}
    until = date.fromisoformat(end)
    prepared = clients[name](address, symbols, until - timedelta(days=int(days)), until)
    began = time.perf_counter()
    found: dict[str, Any] = {"rows": 0}
    try:
        found["rows"] = complete(prepared(), len(symbols) * int(days) * 1440)
    except Exception as error:  # noqa: BLE001 - whatever a client gives up with is its result
        found["error"] = f"{type(error).__name__}: {error}"[:200]
    print(json.dumps({**found, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
