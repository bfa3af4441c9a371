"""The gateway's process: lease, journal, core, venue, market and doors put together. Run by
`pipeline-assets gateway`; each part is in the module of its name.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from pipeline_assets.market.step_compilation import without_compilation
from pipeline_assets.resources.journal import Journal
from pipeline_assets.resources.journals import lease_file, open_journal
from pipeline_assets.resources.leases import LeaseStore
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.gateway.access import Access, access_of, guard_of
from pipeline_assets.services.gateway.alarm import Alarm
from pipeline_assets.services.gateway.backup import JournalBackup
from pipeline_assets.services.gateway.doors import Doors, open_doors
from pipeline_assets.services.gateway.feed import MarketFeed
from pipeline_assets.services.gateway.lease import GatewayLease
from pipeline_assets.services.gateway.lease_claim import LeaseClaim
from pipeline_assets.services.gateway.service import GatewayService
from pipeline_assets.services.gateway.switches import (
    banner,
    require_own_journal,
    require_switches,
)
from pipeline_assets.services.gateway.venues import VenueMaker, make_venue, timing_of, weight_of
from pipeline_assets.services.until_stopped import run_until_stopped
from pipeline_assets.settings import Settings
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.gateway import Gateway
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.record_copy import RecordCopy
from pipeline_assets.trading.records import GATEWAY_RECORDS
from pipeline_assets.trading.venue_identity import identity_of, key_digest

# A gateway that was killed leaves its lease for this long, unless the next one is on its host.
LEASE_SECONDS = 20.0
# How long the alerts of a gateway that ends by an error may delay its end, and so its next start.
LAST_ALERTS_SECONDS = 10.0
_logger = logging.getLogger(__name__)


def restored_core(journal: Journal, settings: Settings, feed: MarketFeed) -> GatewayCore:
    """Return the core as the journal's records say.

    Raises:
        JournalError, JournalDamagedError, JournalRecordError: the journal cannot be read.
        InvariantError: its records contradict each other.
    """
    limits = RiskLimits.from_settings(settings.risk)
    return GatewayCore(limits, feed.rules, timing_of(settings), GATEWAY_RECORDS.read(journal))


async def run_gateway(
    settings: Settings,
    stop: asyncio.Event,
    *,
    make: VenueMaker = make_venue,
    on_ready: Callable[[Doors], None] = lambda _: None,
    lease_seconds: float = LEASE_SECONDS,
    moved_from: str | None = None,
) -> None:
    """Serve the account of the settings until `stop` is set.

    Args:
        settings: with the token.
        stop: ends the gateway; what is on its way is resolved by the next start.
        make: chooses the venue.
        on_ready: called once the venue takes orders and the doors are open.
        lease_seconds: how long account and key stay locked for other hosts after a crash.
        moved_from: the host at which the journal's venue was before, if a person says that it moved.

    Raises:
        PipelineError: the gateway cannot start, or stopped by itself. The message says why.
    """
    access = access_of(settings)
    store = LeaseStore(settings.redis, lease_seconds, then="start the gateway again")
    trading = settings.trading
    claim = LeaseClaim(lease_file(trading, settings.data_dir))
    lease = await GatewayLease.take(store, trading.account, claim, key_digest(trading))
    alarm = Alarm(settings.alerts)
    try:
        journal = await asyncio.to_thread(open_journal, trading, settings.data_dir, "gateway")
        with closing(journal), MarketFeed(settings, weight_of(settings)) as feed:
            await feed.begin()
            core = await asyncio.to_thread(restored_core, journal, settings, feed)
            require_own_journal(settings, core.state, moved_from)
            venue = make(settings, feed.now)
            gateway = Gateway(core, journal, venue, feed.now, lease, alarm)
            service = GatewayService(
                gateway, trading, settings.risk, lambda: JournalBackup(settings)
            )
            copy = RecordCopy(gateway, ObjectStore(settings.s3), trading, feed.now)
            # A gateway that lost the lease during its start writes nothing into the journal.
            await lease.require()
            works = (gateway.run(), lease.until_lost(), feed.run(gateway.hear), copy.run())
            tasks = [asyncio.create_task(each) for each in works]
            await _serve(settings, service, access, tasks, stop, on_ready, alarm)
    finally:
        await lease.release()
        if not stop.is_set():
            await asyncio.to_thread(alarm.finish, LAST_ALERTS_SECONDS)


async def _serve(
    settings: Settings,
    service: GatewayService,
    access: Access,
    tasks: list[asyncio.Task[None]],
    stop: asyncio.Event,
    on_ready: Callable[[Doors], None],
    alarm: Alarm,
) -> None:
    """Open the doors once the venue takes orders, until a task ends or `stop` is set.

    The gateway ends before its doors close. A start that fails opens none: neither a caller nor the log took
    a gateway for running while its account was still being checked. A gateway that ends by an error after
    that alerts a person. A failed start does not: a supervisor repeats starts, and each would alert.
    """
    stopped = asyncio.create_task(_wait(stop))
    # Answered by the gateway's first step, after the venue's start.
    begun = asyncio.create_task(service.begin(identity_of(settings.trading)))
    ended: list[asyncio.Task[None]] = []
    try:
        await asyncio.wait((*tasks, stopped, begun), return_when=asyncio.FIRST_COMPLETED)
        if begun.done() and begun.exception() is None:
            async with open_doors(service, access, guard_of(settings), settings.gateway) as doors:
                on_ready(doors)
                ended = await _until_one_ends(tasks, stopped)
                _report_failure(ended, settings.trading.account, alarm)
        else:
            ended = await _until_one_ends(tasks, stopped)
    finally:
        await _cancel([*tasks, stopped, begun])
    for task in ended:
        task.result()


async def _until_one_ends(
    tasks: list[asyncio.Task[None]], stopped: asyncio.Task[None]
) -> list[asyncio.Task[None]]:
    """Wait until a task ends or the gateway is stopped, end the others, and return those that ended."""
    try:
        await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
        return [task for task in tasks if task.done()]
    finally:
        await _cancel([*tasks, stopped])


def _report_failure(ended: Sequence[asyncio.Task[None]], account: str, alarm: Alarm) -> None:
    """Tell a person of the first error that ended the gateway.

    The core has reported a broken promise by itself.
    """
    failures = (task.exception() for task in ended if not task.cancelled())
    failure = next((each for each in failures if each is not None), None)
    if failure is not None and not isinstance(failure, InvariantError):
        alarm(f"The gateway of account {account} ended: {failure}")


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main(
    settings: Settings, live_account: str | None = None, moved_from: str | None = None
) -> None:
    """Run the gateway until SIGINT or SIGTERM.

    Args:
        settings: of the gateway.
        live_account: the account that the command permits to trade with money, or None.
        moved_from: as for `run_gateway`.

    Raises:
        LiveRefusedError: settings and command do not agree about the venue.
        PipelineError: as `run_gateway`.
    """
    require_switches(settings, live_account)
    if settings.trading.venue != "paper":
        _logger.warning("\n%s", banner(settings))
    without_compilation()

    def report(doors: Doors) -> None:
        at, trading = settings.gateway, settings.trading
        _logger.info(
            "The gateway of account %s (%s) listens at %s: gRPC %d, HTTP %d.",
            *(trading.account, trading.venue, at.host, doors.grpc_port, doors.http_port),
        )

    run_until_stopped(
        lambda stop: run_gateway(settings, stop, on_ready=report, moved_from=moved_from)
    )
