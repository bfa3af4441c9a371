"""From the trader's decision to the order's request at the exchange: through the gateway's gRPC door, its
journal file and python-binance, while each minute brings the prices of 500 symbols.

Orders leave one after the other, as the trader sends them. The exchange is a process of its own.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from aiohttp import TraceConfig

from pipeline_assets.market.trading_rules import units
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.trading import messages
from pipeline_assets_tests.benchmarks.bench_gateway import without_limits
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.gateway import GatewayServer, order
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading.binance_bench import SYMBOLS as TRADED
from pipeline_assets_tests.trading.binance_bench import VenueBench, settings_at

# More would reach the exchange's limit of 300 orders in ten seconds: the minutes pass in moments here.
MINUTES, ORDERS, SYMBOLS, TARGET_MS = 12, 20, 500, 20


class SentTimes:
    """When the body of each order's request was written to its connection."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def note(self, _session: Any, _context: Any, chunk: Any) -> None:
        """Note a written body."""
        begin = bytes(chunk.chunk).find(b"newClientOrderId=")
        if begin >= 0:
            client_id = bytes(chunk.chunk)[begin:].split(b"=", 1)[1].split(b"&")[0]
            self.at[client_id.decode()] = time.perf_counter()

    def watch(self, session: Any) -> None:
        """Watch the requests of a session."""
        trace = TraceConfig()
        trace.on_request_chunk_sent.append(self.note)
        trace.freeze()
        session._trace_configs.append(trace)


def measured(server: GatewayServer, sent: SentTimes) -> list[float]:
    """Return the milliseconds from each call to its order's request, sorted."""
    decided: dict[str, float] = {}
    with server.client() as client:
        for minute in range(-1, MINUTES):
            for number in range(SYMBOLS):
                symbol = f"S{number}USDT" if number else "BTCUSDT"
                price = messages.PriceSeen(symbol, units("88000"), server.clock())
                server._loop.call_soon_threadsafe(server.bench.gateway.hear, price)
            for number in range(ORDERS):
                client_id = f"m{minute}-{number}" if minute >= 0 else f"warm-{number}"
                side = "SIDE_BUY" if number % 2 else "SIDE_SELL"
                decided[client_id] = time.perf_counter()
                client.call(
                    pb.PlaceOrderRequest(order=order(client_id, side=side)), pb.PlaceOrderResponse
                )
    while decided.keys() - sent.at.keys():
        time.sleep(0.01)
    return sorted(
        1000 * (sent.at[each] - at) for each, at in decided.items() if each.startswith("m")
    )


def main() -> int:
    sent = SentTimes()
    with (
        tempfile.TemporaryDirectory() as directory,
        start_exchange(
            clock="start:2026-11-20T12:00:30Z", symbols=SYMBOLS, weight_limit=0
        ) as exchange,
        RedisServer(Path(directory) / "redis") as redis,
    ):
        exchange.trading(
            "account",
            leverage=dict.fromkeys(TRADED, 1),
            margin_type=dict.fromkeys(TRADED, "ISOLATED"),
        )
        settings = settings_at(exchange, redis.url)
        server = GatewayServer(Path(directory), without_limits())
        venue = VenueBench(settings)
        server.venue, server.clock = venue.venue, venue.time
        begin = venue.venue.start

        async def start(hear: Any) -> None:
            await begin(hear)
            sent.watch(venue.account._client.session)

        venue.venue.start = start  # type: ignore[method-assign]
        with server:
            while not venue.venue._tasks:
                assert not server.bench.task.done(), server.bench.task.exception()
                time.sleep(0.01)
            taken = measured(server, sent)
        posts = exchange.trading()["accounts"].popitem()[1]["posts"]
    p99 = taken[len(taken) * 99 // 100]
    met = report(
        f"decision to request sent, p99 of {len(taken)} orders, {ORDERS} a minute of {SYMBOLS} symbols",
        p99, "ms", TARGET_MS, ratio=p99 / statistics.median(taken), against="its own median",
        p50=statistics.median(taken), longest=taken[-1],
        posted_once=float(set(posts.values()) == {1}),
    )  # fmt: skip
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
