"""The gateway's leases in Redis: one gateway at a time serves an account's name, and one an API key, on
whatever host. Two names with one key would be two gateways that trade one account. Keys and commands are in
resources/leases.py.

A thread renews the lease from its first moment on: reading a long journal, or waiting for the exchange, may
take the start longer than a lease lasts.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Sequence
from typing import Self

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError, new_token
from pipeline_assets.services.gateway.lease_claim import LeaseClaim
from pipeline_assets.trading.gateway import GatewayStoppedError

# Several renewals may fail before the lease ends.
_RENEWAL_SHARE = 1 / 6
_ASKING_SHARE = 1 / 10
_logger = logging.getLogger(__name__)


class SecondGatewayError(OutsideSystemError):
    """Another gateway serves the account. The message names its host, process and account."""


class GatewayLease:
    """The right to send orders for an account, held by this process and renewed until released."""

    def __init__(
        self, store: LeaseStore, names: Sequence[str], token: str, claim: LeaseClaim
    ) -> None:
        """Renew leases that were taken, from now on. Made in the event loop that waits for their loss.

        Args:
            store: of the leases.
            names: of the leases.
            token: of all of these.
            claim: names the token on this host, until the release.
        """
        self._store, self._names, self._token, self._claim = store, names, token, claim
        self._ended, self._released = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        # A daemon: a process that ends without a release leaves the lease to end by itself.
        self._thread = threading.Thread(
            target=self._renew_on, args=(loop,), name="lease", daemon=True
        )
        self._thread.start()

    @classmethod
    async def take(
        cls, store: LeaseStore, account: str, claim: LeaseClaim, key_digest: str = ""
    ) -> Self:
        """Take the account's leases, waiting as long as a gateway that died may still hold these.

        Args:
            store: of the leases.
            account: the account's name.
            claim: names the leases of a process of this host that has ended: these are not waited for.
            key_digest: of the API key; empty where orders need none.

        Raises:
            SecondGatewayError: another gateway renews one of the leases.
            LeaseStoreError: Redis failed.
        """
        holder = f"{socket.gethostname()} pid {os.getpid()}, account {account}"
        wanted = [(f"gateway:{account}", f"Account {account} is served")]
        if key_digest:
            used = f"The API key of account {account} is used"
            wanted.append((f"gateway-key:{key_digest}", used))
        token, names = new_token(holder), list[str]()
        try:
            for name, taken in wanted:
                await _wait_for(store, claim, name, token, taken, names)
                names.append(name)
            await asyncio.to_thread(claim.write, token)
        except BaseException:
            claim.close()
            await _release(store, names, token)
            raise
        return cls(store, names, token, claim)

    def holds(self) -> bool:
        """Return whether this gateway holds every lease, as Redis says; renews these, too.

        Raises:
            LeaseStoreError: Redis does not say, so nothing may be sent.
        """
        return self._store.renew_all(self._names, self._token)

    async def require(self) -> None:
        """Return if this gateway holds the lease, as Redis says.

        Raises:
            GatewayStoppedError: the lease is another gateway's, or ended.
            LeaseStoreError: Redis does not say.
        """
        if not await asyncio.to_thread(self.holds):
            self._ended.set()
            await self.until_lost()

    async def until_lost(self) -> None:
        """Wait until the lease is lost; the caller cancels the wait when the gateway stops.

        Raises:
            GatewayStoppedError: the lease is another gateway's, or ended.
        """
        await self._ended.wait()
        raise GatewayStoppedError(
            "The account's lease ended: this process was paused, or Redis lost its data. Start the "
            "gateway again; it resolves what it was sending."
        )

    async def release(self) -> None:
        """Stop renewing and give the lease back, so that the next gateway starts at once."""
        self._released.set()
        await asyncio.to_thread(self._thread.join)
        await _release(self._store, self._names, self._token)
        self._claim.close()

    def _renew_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Renew the lease until it is lost or released. A renewal that Redis does not answer is repeated."""
        try:
            while not self._released.wait(self._store.seconds * _RENEWAL_SHARE):
                try:
                    if not self.holds():
                        return
                except LeaseStoreError as error:
                    _logger.warning("The account's lease was not renewed: %s", error)
        finally:
            # Also after an unforeseen error: the lease is then renewed no more, so the gateway ends.
            loop.call_soon_threadsafe(self._ended.set)


async def _wait_for(
    store: LeaseStore, claim: LeaseClaim, name: str, token: str, taken: str, held: Sequence[str]
) -> None:
    """Take a lease once it is free.

    Args:
        store: of the leases.
        claim: names the lease of a process of this host that has ended: that one is not waited for.
        name: of the lease.
        token: of the lease.
        taken: begins the text about another holder.
        held: leases with this token, which must not end during the wait.

    Raises:
        SecondGatewayError: another gateway renews the lease.
        LeaseStoreError: Redis failed.
    """
    loop = asyncio.get_running_loop()
    # A lease that outlives its own length was renewed.
    end = loop.time() + store.seconds * (1 + _ASKING_SHARE)
    while True:
        dead = await asyncio.to_thread(claim.dead_token)
        if dead:
            # The lease of any other process has another token, and stays.
            await _release(store, [name], dead)
        if await asyncio.to_thread(store.take, name, token=token):
            return
        other = await asyncio.to_thread(store.holder, name)
        if loop.time() > end:
            raise SecondGatewayError(
                f"{taken} by another gateway ({other or 'just ended'}). Two would not know each other's "
                "orders: stop that one first, or give each an account of its own with a key of its own."
            )
        _logger.warning("%s by %s: waiting for the lease.", taken, other)
        await asyncio.to_thread(store.renew_all, held, token)
        await asyncio.sleep(store.seconds * _ASKING_SHARE)


async def _release(store: LeaseStore, names: Sequence[str], token: str) -> None:
    """Give leases back; those that Redis does not take back end by themselves."""
    try:
        for name in names:
            await asyncio.to_thread(store.release, name, token)
    except LeaseStoreError as error:
        _logger.warning("The account's lease ends by itself: %s", error)
