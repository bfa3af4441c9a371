"""The gateway's lease in Redis: one gateway at a time serves an account, on whatever host. Keys and
commands are in resources/leases.py.

A thread renews the lease from its first moment on: reading a long journal, or waiting for the exchange, may
take the start longer than a lease lasts.
"""

import asyncio
import logging
import os
import socket
import threading
from typing import Self

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.services.gateway.lease_claim import LeaseClaim
from pipeline_assets.trading.gateway import GatewayStoppedError

# Several renewals may fail before the lease ends.
_RENEWAL_SHARE = 1 / 6
_ASKING_SHARE = 1 / 10
_logger = logging.getLogger(__name__)


class SecondGatewayError(OutsideSystemError):
    """Another gateway serves the account. The message names its host and process."""


class GatewayLease:
    """The right to send orders for an account, held by this process and renewed until released."""

    def __init__(self, store: LeaseStore, account: str, token: str, claim: LeaseClaim) -> None:
        """Renew a lease that was taken, from now on. Made in the event loop that waits for its loss."""
        self._store, self._name, self._token, self._claim = store, _name(account), token, claim
        self._ended, self._released = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        # A daemon: a process that ends without a release leaves the lease to end by itself.
        self._thread = threading.Thread(
            target=self._renew_on, args=(loop,), name="lease", daemon=True
        )
        self._thread.start()

    @classmethod
    async def take(cls, store: LeaseStore, account: str, claim: LeaseClaim) -> Self:
        """Take the account's lease, waiting as long as a gateway that died may still hold it.

        Args:
            store: of the leases.
            account: whose orders this process will send.
            claim: names the lease of a process of this host that has ended: that one is not waited for.

        Raises:
            SecondGatewayError: another gateway renews the lease.
            LeaseStoreError: Redis failed.
        """
        try:
            token = await _wait_for(store, account, claim)
            await asyncio.to_thread(claim.write, token)
        except BaseException:
            claim.close()
            raise
        return cls(store, account, token, claim)

    def holds(self) -> bool:
        """Return whether this gateway holds the lease, as Redis says; renews it, too.

        Raises:
            LeaseStoreError: Redis does not say, so nothing may be sent.
        """
        return self._store.renew(self._name, self._token)

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
        try:
            await asyncio.to_thread(self._store.release, self._name, self._token)
        except LeaseStoreError as error:
            _logger.warning("The account's lease ends by itself: %s", error)
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


async def _wait_for(store: LeaseStore, account: str, claim: LeaseClaim) -> str:
    """Return the token of the account's lease once it is free."""
    loop = asyncio.get_running_loop()
    holder = f"{socket.gethostname()} pid {os.getpid()}"
    # A lease that outlives its own length was renewed.
    end = loop.time() + store.seconds * (1 + _ASKING_SHARE)
    while True:
        dead = await asyncio.to_thread(claim.dead_token)
        if dead:
            # The lease of any other process has another token, and stays.
            await asyncio.to_thread(store.release, _name(account), dead)
        token = await asyncio.to_thread(store.take, _name(account), holder)
        if token:
            return token
        other = await asyncio.to_thread(store.holder, _name(account))
        if loop.time() > end:
            raise SecondGatewayError(
                f"Account {account} is served by another gateway ({other or 'just ended'}). Two "
                "would not know each other's orders: stop that one first."
            )
        _logger.warning("Account %s is held by %s: waiting for the lease.", account, other)
        await asyncio.sleep(store.seconds * _ASKING_SHARE)


def _name(account: str) -> str:
    return f"gateway:{account}"
