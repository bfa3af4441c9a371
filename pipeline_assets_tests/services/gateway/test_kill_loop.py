"""No acknowledgement before the journal: a gateway that serves orders is killed at random moments."""

import random
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline_assets.services.gateway.client import GatewayCallError, GatewayClient
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import GatewaySettings
from pipeline_assets.trading.records import GATEWAY_RECORDS, OrderSending
from pipeline_assets_tests.fixtures.gateway import TOKEN, order
from pipeline_assets_tests.fixtures.journals import Place

_GATEWAY = """
import sys
from pathlib import Path
from pipeline_assets_tests.benchmarks.bench_gateway import without_limits
from pipeline_assets_tests.fixtures.gateway import GatewayServer
with GatewayServer(Path(sys.argv[1]), without_limits(), lambda _: journal) as server:
    print(server.settings.grpc_port, flush=True)
    sys.stdin.read()
"""
_CALLERS = 4


class _Run:
    """A gateway's process, and callers that place orders until it is gone."""

    def __init__(self, place: Place, directory: Path, name: str) -> None:
        self.name, self.acknowledged, self.failures = name, list[str](), list[GatewayCallError]()
        self.news = threading.Condition()
        self.process = subprocess.Popen(
            [*place.program(_GATEWAY), str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        port = int(self.process.stdout.readline())
        self.settings = GatewaySettings(grpc_port=port, token=SecretStr(TOKEN))
        self.callers = [threading.Thread(target=self._place, args=(n,)) for n in range(_CALLERS)]
        for each in self.callers:
            each.start()

    def _place(self, caller: int) -> None:
        with GatewayClient(self.settings) as client:
            for number in range(10_000):
                side = "SIDE_BUY" if number % 2 else "SIDE_SELL"
                sent = order(f"{self.name}-{caller}-{number}", side=side)
                try:
                    client.call(pb.PlaceOrderRequest(order=sent), pb.PlaceOrderResponse)
                except GatewayCallError as error:
                    self.failures.append(error)
                    return
                with self.news:
                    self.acknowledged.append(sent.client_id)
                    self.news.notify_all()

    def kill_after(self, orders: int) -> None:
        """Kill the process once so many orders are acknowledged."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.acknowledged) >= orders, 120)
        self.process.send_signal(signal.SIGKILL)
        for each in self.callers:
            each.join(60)
        self.process.communicate()


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.matrix)])
@pytest.mark.timeout(1800)
def test_acknowledged_orders_are_journalled(
    journal_place: Place, tmp_path: Path, kills: int
) -> None:
    """Every acknowledged order of every run is in the journal, once, and the next gateway starts from it."""
    acknowledged: set[str] = set()
    moments = random.Random(kills)
    for kill in range(kills):
        run = _Run(journal_place, tmp_path, f"r{kill}")
        run.kill_after(moments.randint(1, 60))
        assert {each.status for each in run.failures} == {"UNAVAILABLE"}
        acknowledged |= set(run.acknowledged)
        journal = journal_place.open()
        sent = Counter(
            record.order.client_id
            for record in GATEWAY_RECORDS.read(journal)
            if isinstance(record, OrderSending)
        )
        journal.close()
        assert acknowledged <= sent.keys()
        assert set(sent.values()) == {1}
