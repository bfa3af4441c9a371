"""The gateway's lease in Redis: one gateway at a time serves an account, on whatever host. Keys and
commands are in resources/leases.py.
"""

import asyncio
import logging
import os
import socket
from typing import Self

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.trading.gateway import GatewayStoppedError

_RENEWAL_SHARE = 1 / 3
_ASKING_SHARE = 1 / 10
_logger = logging.getLogger(__name__)


class SecondGatewayError(OutsideSystemError):
    """Another gateway serves the account. The message names its host and process."""


class GatewayLease:
    """The right to send orders for an account, held by this process."""

    def __init__(self, store: LeaseStore, account: str, token: str) -> None:
        self._store, self._name, self._token = store, _name(account), token

    @classmethod
    async def take(cls, store: LeaseStore, account: str) -> Self:
        """Take the account's lease, waiting as long as a gateway that died may still hold it.

        Raises:
            SecondGatewayError: another gateway renews the lease.
            LeaseStoreError: Redis failed.
        """
        loop = asyncio.get_running_loop()
        holder = f"{socket.gethostname()} pid {os.getpid()}"
        # A lease that outlives its own length was renewed.
        end = loop.time() + store.seconds * (1 + _ASKING_SHARE)
        while True:
            token = await asyncio.to_thread(store.take, _name(account), holder)
            if token:
                return cls(store, account, token)
            other = await asyncio.to_thread(store.holder, _name(account))
            if loop.time() > end:
                raise SecondGatewayError(
                    f"Account {account} is served by another gateway ({other or 'just ended'}). Two "
                    "would not know each other's orders: stop that one first."
                )
            _logger.warning("Account %s is held by %s: waiting for the lease.", account, other)
            await asyncio.sleep(store.seconds * _ASKING_SHARE)

    def holds(self) -> bool:
        """Return whether this gateway holds the lease, as Redis says; renews it, too.

        Raises:
            LeaseStoreError: Redis does not say, so nothing may be sent.
        """
        return self._store.renew(self._name, self._token)

    async def keep(self) -> None:
        """Renew the lease until cancelled. A renewal that Redis does not answer is repeated.

        Raises:
            GatewayStoppedError: the lease is another gateway's, or ended.
        """
        while True:
            await asyncio.sleep(self._store.seconds * _RENEWAL_SHARE)
            try:
                held = await asyncio.to_thread(self.holds)
            except LeaseStoreError as error:
                _logger.warning("The account's lease was not renewed: %s", error)
                continue
            if not held:
                raise GatewayStoppedError(
                    "The account's lease ended: this process was paused, or Redis lost its data. Start "
                    "the gateway again; it resolves what it was sending."
                )

    async def release(self) -> None:
        """Give the lease back, so that the next gateway starts at once."""
        try:
            await asyncio.to_thread(self._store.release, self._name, self._token)
        except LeaseStoreError as error:
            _logger.warning("The account's lease ends by itself: %s", error)


def _name(account: str) -> str:
    return f"gateway:{account}"
