"""Orders through the gateway's gRPC door, durable before each answer, and recovery. The venue answers at
once; the server is a process of its own. Each figure's ratio is to a gateway whose journal is in memory.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import psutil

from pipeline_assets.services.gateway.grpc_door import SERVICE
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import RiskSettings
from pipeline_assets_tests.benchmarks.harness import report

BURST, RATE, SECONDS, FLIGHT, SUSTAINED, HISTORY = 500, 200, 10, 32, 6000, 100_000
_MUCH = 10**15
_TOKEN = "a-token-of-the-benchmark"
Place = Callable[[str], Awaitable[object]]


class MemoryJournal:
    """Keeps records until the process ends."""

    name = "memory"

    def __init__(self, _: Path) -> None:
        self.bodies: list[bytes] = []

    @property
    def last(self) -> int:
        return len(self.bodies)

    def append(self, bodies: Sequence[bytes]) -> int:
        self.bodies += bodies
        return len(self.bodies)

    def read(self, after: int = 0, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        end = None if most is None else after + most
        return iter(list(enumerate(self.bodies[after:end], after + 1)))

    def close(self) -> None:
        pass


def without_limits() -> RiskSettings:
    """Return limits that no order of the tests reaches."""
    much = dict.fromkeys(
        ("order_notional", "symbol_notional", "gross_notional", "daily_loss"), 10**6
    )
    rates = {"orders_per_ten_seconds": _MUCH, "orders_per_minute": _MUCH}
    return RiskSettings().model_copy(update=much | rates)


def serve(kind: str, directory: Path) -> None:
    """Serve a gateway without limits until standard input ends."""
    from pipeline_assets.resources.journal import Journal, SqliteJournal
    from pipeline_assets_tests.fixtures import gateway as fixture

    fixture.TOKEN = _TOKEN
    made: Callable[[Path], Journal] = {"memory": MemoryJournal, "file": SqliteJournal}[kind]
    with fixture.GatewayServer(directory, without_limits(), made) as server:
        print(server.settings.grpc_port, flush=True)
        sys.stdin.read()


@contextmanager
def gateway(kind: str) -> Iterator[tuple[psutil.Process, int]]:
    """Provide a gateway's process and its port."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", __spec__.name, kind, directory]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            yield psutil.Process(child.pid), int(child.stdout.readline())
            child.stdin.close()


@asynccontextmanager
async def client(port: int) -> Any:
    """Provide a function that places an order of this id; buys and sales alternate."""
    metadata = (("authorization", f"Bearer {_TOKEN}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/PlaceOrder",
            request_serializer=pb.PlaceOrderRequest.SerializeToString,
            response_deserializer=pb.PlaceOrderResponse.FromString,
        )

        async def place(client_id: str) -> object:
            side = pb.SIDE_BUY if int(client_id.rpartition("-")[2]) % 2 else pb.SIDE_SELL
            order = pb.Order(
                client_id=client_id,
                symbol="BTCUSDT",
                side=side,
                kind=pb.KIND_MARKET,
                quantity="0.1",
            )
            return await call(pb.PlaceOrderRequest(order=order), metadata=metadata)

        await asyncio.gather(*(place(f"warm-{number}") for number in range(50)))
        yield place


async def burst(place: Place) -> float:
    """Return the seconds until all orders of a burst are acknowledged."""
    began = time.perf_counter()
    await asyncio.gather(*(place(f"burst-{number}") for number in range(BURST)))
    return time.perf_counter() - began


async def open_loop(place: Place) -> list[float]:
    """Return the sorted latencies (ms) of orders sent at fixed times, from when each was due."""
    begin, taken = time.perf_counter() + 0.1, []

    async def one(number: int) -> None:
        due = begin + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await place(f"loop-{number}")
        taken.append(1000 * (time.perf_counter() - due))

    await asyncio.gather(*(one(number) for number in range(RATE * SECONDS)))
    return sorted(taken)


async def sustained(place: Place) -> float:
    """Return orders a second with so many always on their way."""
    numbers = iter(range(SUSTAINED))

    async def worker() -> None:
        for number in numbers:
            await place(f"flow-{number}")

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(FLIGHT)))
    return SUSTAINED / (time.perf_counter() - began)


async def measured(server: psutil.Process, port: int) -> tuple[float, list[float], float, float]:
    """Return burst, latencies, flow, and the server's CPU time (ms) of one order of the flow."""
    async with client(port) as place:
        first, latencies = await burst(place), await open_loop(place)
        before = server.cpu_times()
        flow = await sustained(place)
        after = server.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return first, latencies, flow, 1000 * cpu / SUSTAINED


def recovery(path: Path) -> tuple[float, int]:
    """Return the seconds to restore a gateway from a journal of many orders, and its records."""
    from pipeline_assets.resources.journal import SqliteJournal
    from pipeline_assets.trading.core import GatewayCore
    from pipeline_assets.trading.order_types import Status
    from pipeline_assets.trading.records import (
        GATEWAY_RECORDS,
        FillBooked,
        OrderChanged,
        OrderSending,
    )
    from pipeline_assets_tests.trading.test_core import _RULES, LIMITS, ORDER, fill_of

    journal = SqliteJournal(path)
    bodies: list[bytes] = []
    for number in range(HISTORY):
        order = msgspec.structs.replace(
            ORDER, client_id=f"o-{number}", side=("buy", "sell")[number % 2]
        )
        fill = fill_of(order, number + 1, 100, number)
        bodies += map(
            GATEWAY_RECORDS.encode,
            (
                OrderSending(at=number, order=order, recv_window=5000),
                OrderChanged(
                    at=number, client_id=order.client_id, status=Status.OPEN, venue_id=fill.venue_id
                ),
                FillBooked(at=number, fill=fill),
                OrderChanged(
                    at=number, client_id=order.client_id, status=Status.FILLED,
                    venue_id=fill.venue_id, reported=order.quantity,
                ),
            ),
        )  # fmt: skip
    journal.append(bodies)
    journal.close()
    began = time.perf_counter()
    again = SqliteJournal(path)
    core = GatewayCore(
        LIMITS,
        {"BTCUSDT": _RULES},
        stored=(GATEWAY_RECORDS.decode(number, body) for number, body in again.read()),
    )
    taken = time.perf_counter() - began
    assert len(core.state.orders) == HISTORY
    again.close()
    return taken, len(bodies)


def main() -> int:
    figures = {}
    for kind in ("memory", "file"):
        with gateway(kind) as (server, port):
            figures[kind] = asyncio.run(measured(server, port))
    burst_memory, loop_memory, flow_memory, cpu_memory = figures["memory"]
    burst_file, loop_file, flow_file, cpu_file = figures["file"]
    p99 = [each[len(each) * 99 // 100] for each in (loop_memory, loop_file)]
    against = "the same with an in-memory journal"
    with tempfile.TemporaryDirectory() as directory:
        restored, records = recovery(Path(directory) / "journal")
    met = [
        report(
            f"burst of {BURST} orders acknowledged", burst_file, "s", 1,
            ratio=burst_file / burst_memory, against=against,
        ),
        report(
            f"p99 at {RATE} orders/s, open loop", p99[1], "ms", 10, ratio=p99[1] / p99[0],
            against=against, p50=loop_file[len(loop_file) // 2],
        ),
        report(
            f"orders with {FLIGHT} in flight", flow_file, "orders/s", 1000, at_least=True,
            ratio=flow_file / flow_memory, against=against, server_cpu_ms=cpu_file,
            server_cpu_ms_in_memory=cpu_memory,
        ),
        report(
            f"recovery with {HISTORY} journalled orders", restored, "s", 5, ratio=1,
            against="itself", records=records,
        ),
    ]  # fmt: skip
    return 0 if all(met) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1], Path(sys.argv[2]))
        sys.exit(0)
    sys.exit(main())
