"""A gateway's account at an exchange: one key has one gateway, and a journal stays at its venue."""

import asyncio
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.resources.journals import open_journal
from pipeline_assets.resources.leases import LeaseStore, lease_key
from pipeline_assets.services.gateway.client import GatewayCallError, GatewayClient
from pipeline_assets.services.gateway.doors import Doors
from pipeline_assets.services.gateway.lease import GatewayLease, SecondGatewayError
from pipeline_assets.services.gateway.lease_claim import LeaseClaim
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.services.gateway.switches import LiveRefusedError
from pipeline_assets.trading.binance_checks import AccountUnfitError
from pipeline_assets.trading.messages import Event
from pipeline_assets.trading.records import GATEWAY_RECORDS, DayBegun
from pipeline_assets_tests.fixtures.gateway import order
from pipeline_assets_tests.fixtures.gateway_process import KEY, Process, TimedVenue, placed
from pipeline_assets_tests.fixtures.redis import RedisServer


class UnfitVenue(TimedVenue):
    """Refuses the account."""

    async def start(self, hear: Callable[[Event], None]) -> None:
        raise AccountUnfitError("the account is in hedge mode")


@pytest.mark.parametrize(
    ("venue", "address"), [("demo", "http://localhost:1"), ("live", "https://proxy.example.com")]
)
def test_two_names_with_one_key(process: Process, tmp_path: Path, venue: str, address: str) -> None:
    """Two accounts by name with one API key are one, at every address: the second gateway does not start."""
    process.trade_at("demo", account="desk-1", rest_url="http://127.0.0.1:1")
    second = Process(process.settings, process.redis)
    second.trade_at(venue, account="desk-2", rest_url=address)
    with process.running() as client:
        keys = process.redis.client().keys("leases:gateway*")
        with pytest.raises(SecondGatewayError) as refused:
            asyncio.run(second.run(asyncio.Event(), lease_seconds=0.2))
        placed(client)
    said = str(refused.value)
    assert "key of account desk-2 is used by another gateway" in said
    assert "account desk-1" in said
    assert len(keys) == 2
    assert KEY not in said + "".join(keys)
    # Neither the refused one nor the stopped one leaves a lease.
    assert process.redis.client().keys("leases:gateway*") == []
    assert not open_journal(second.settings.trading, tmp_path, "gateway").last


class Waiting(LeaseStore):
    """At the first question, the key lease's other holder gives it back, and the account's runs out."""

    redis: Any
    other: str | None = None

    def holder(self, run_id: str) -> str | None:
        found = super().holder(run_id)
        self.redis.pexpire(lease_key("gateway:desk-1"), 1_000)
        assert self.other
        self.release(run_id, self.other)
        return found


def test_wait_for_key_keeps_account(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The account's lease is renewed while the gateway waits for the key's."""
    monkeypatch.setattr("pipeline_assets.services.gateway.lease._ASKING_SHARE", 0.0)
    store = Waiting(redis_server.settings(), 60.0)
    store.redis = redis_server.client()
    store.other = store.take("gateway-key:digest", "a gateway that died")
    claim = LeaseClaim(tmp_path / "desk-1.lease")

    async def scene() -> None:
        lease = await GatewayLease.take(store, "desk-1", claim, "digest")
        assert store.redis.pttl(lease_key("gateway:desk-1")) > 30_000
        await lease.release()

    asyncio.run(scene())
    assert store.held(["gateway:desk-1", "gateway-key:digest"]) == frozenset()


def test_lost_key_lease_ends_gateway(process: Process) -> None:
    """A gateway that holds the account's lease, and the key's no longer, sends nothing."""
    process.trade_at("demo", account="desk-1")
    with process.running() as client:
        placed(client)
        (lease,) = process.redis.client().keys("leases:gateway-key:*")
        process.redis.client().set(lease, "another gateway")
        with pytest.raises(GatewayCallError, match="lease"):
            client.call(pb.PlaceOrderRequest(order=order("a-2")), pb.PlaceOrderResponse)
    assert process.venue.posts == {"a-1": 1}


def test_journal_stays_at_its_venue(process: Process) -> None:
    """A journal of an earlier version adopts the venue; then no other venue, and no other host, begins."""
    process.trade_at("demo", account="desk-1")
    journal = open_journal(process.settings.trading, process.settings.data_dir, "gateway")
    journal.append([GATEWAY_RECORDS.encode(DayBegun(at=1, day=1, result=0))])
    journal.close()
    for _ in range(2):
        with process.running() as client:
            bound = [each for each in _events(client) if each.WhichOneof("event") == "venue_bound"]
            assert [(each.venue_bound.venue, each.venue_bound.host) for each in bound] == [
                ("demo", "demo-fapi.binance.com")
            ]
    assert not process.failures
    process.trade_at("live", account="desk-1")
    with pytest.raises(LiveRefusedError, match=r"is of demo at demo-fapi.*live at fapi\.binance"):
        asyncio.run(process.run(asyncio.Event()))
    process.trade_at("demo", account="desk-1", rest_url="http://127.0.0.1:1")
    with pytest.raises(LiveRefusedError, match=r"--moved-from demo-fapi\.binance\.com"):
        asyncio.run(process.run(asyncio.Event()))


def test_exchange_may_move(process: Process) -> None:
    """A person names the former host: the journal belongs to the new one from there on, and to no third."""
    process.trade_at("demo", account="desk-1")
    with process.running():
        pass
    process.trade_at("demo", account="desk-1", rest_url="https://moved.example.com:443")
    with pytest.raises(LiveRefusedError):
        asyncio.run(process.run(asyncio.Event(), moved_from="another.example.com"))
    with process.running(moved_from="demo-fapi.binance.com"):
        pass
    with process.running() as client:
        bound = [each for each in _events(client) if each.WhichOneof("event") == "venue_bound"]
    assert [each.venue_bound.host for each in bound] == [
        "demo-fapi.binance.com",
        "moved.example.com",
    ]
    assert not process.failures


def _events(client: GatewayClient) -> list[pb.StreamEventsResponse]:
    """Return the events that the journal has."""
    newest = client.call(pb.GetStateRequest(), pb.GetStateResponse).state.sequence
    return list(islice(client.events(0), newest))


def test_failed_start_never_listens(process: Process) -> None:
    """The venue refuses the account: no door was open, nothing is bound, and the error is the venue's."""
    process.trade_at("demo", account="desk-1")
    process.venue = UnfitVenue()
    opened: list[Doors] = []
    with pytest.raises(AccountUnfitError, match="hedge mode"):
        asyncio.run(process.run(asyncio.Event(), on_ready=opened.append))
    assert not opened
    journal = open_journal(process.settings.trading, process.settings.data_dir, "gateway")
    assert journal.last == 0
    journal.close()
