"""Leases in Redis: who executes a run or serves an account, and whether that process still lives. When a
lease is renewed and what its loss means is write_guard.py's.

A lease is one key that ends by Redis' own clock, so the clocks and names of the hosts do not matter. Its
value names the holder by a random token. No process extends or removes the lease of another.
"""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.redis_client import REPEAT, RedisConnection

if TYPE_CHECKING:
    from pipeline_assets.settings import RedisSettings

# A lease that is not renewed ends after this time. With 60 s, the run of a worker whose host lost power ended
# after 71 s and was repeated after 76 s, so that the next minute's run had to wait.
LEASE_SECONDS = 36.0


class LeaseStoreError(OutsideSystemError):
    """Redis failed while a lease was taken, renewed or read. The message says where and what to do."""


class LeaseStore:
    """The leases of all runs. Connects on first use; safe to share between threads."""

    def __init__(
        self, settings: "RedisSettings", seconds: float = LEASE_SECONDS, then: str = REPEAT
    ) -> None:
        """Take over an address; nothing is sent.

        Args:
            settings: where Redis is.
            seconds: how long a lease lives without a renewal.
            then: what a person does once Redis works again, for the errors' text.
        """
        self.seconds = seconds
        self._milliseconds = round(seconds * 1000)
        self._redis = RedisConnection(settings, LeaseStoreError, then=then)

    def take(self, run_id: str, holder: str = "", token: str = "") -> str | None:
        """Take the lease of a run if it is free.

        Args:
            run_id: the run, or another thing that one process at a time may have.
            holder: names this process for people.
            token: of a holder that has several leases, by `new_token`; empty for one of this lease alone.

        Returns:
            The holder's token, or None if another process holds the lease.

        Raises:
            LeaseStoreError: Redis failed.
        """
        token = token or new_token(holder)

        def attempt(client: Any) -> bool:
            if client.set(lease_key(run_id), token, nx=True, px=self._milliseconds):
                return True
            # The first attempt may have taken the lease, and only its answer was lost.
            return bool(client.get(lease_key(run_id)) == token.encode())

        return token if self._redis.run(attempt) else None

    def holder(self, run_id: str) -> str | None:
        """Return the name of a lease's holder, empty if it gave none; None if the lease is free.

        Raises:
            LeaseStoreError: Redis failed.
        """
        held: bytes | None = self._redis.run(lambda client: client.get(lease_key(run_id)))
        return None if held is None else held.decode().partition(" ")[2]

    def renew(self, run_id: str, token: str) -> bool:
        """Extend a lease; return whether it still belonged to the holder.

        Raises:
            LeaseStoreError: Redis failed.
        """
        return self.renew_all([run_id], token)

    def renew_all(self, run_ids: Sequence[str], token: str) -> bool:
        """Extend several leases of one holder at once; return whether each still belonged to the holder.

        Raises:
            LeaseStoreError: Redis failed.
        """
        calls = [(1, lease_key(each), token, self._milliseconds) for each in run_ids]
        return all(self._redis.run_script("renew_lease", calls))

    def release(self, run_id: str, token: str) -> None:
        """Give a lease back; one that has ended or is another's stays as it is. Safe to repeat.

        Raises:
            LeaseStoreError: Redis failed. The lease then ends by itself.
        """
        self._redis.run_script("release_lease", [(1, lease_key(run_id), token)])

    def held(self, run_ids: Sequence[str]) -> frozenset[str]:
        """Return the runs whose lease has not ended.

        Raises:
            LeaseStoreError: Redis failed.
        """
        if not run_ids:
            return frozenset()

        def read(client: Any) -> list[int]:
            pipeline = client.pipeline(transaction=False)
            for run_id in run_ids:
                pipeline.exists(lease_key(run_id))
            replies: list[int] = pipeline.execute()
            return replies

        return frozenset(
            run_id for run_id, there in zip(run_ids, self._redis.run(read), strict=True) if there
        )


def new_token(holder: str) -> str:
    """Return a random token that names its holder for people."""
    return f"{secrets.token_hex(8)} {holder}".strip()


def lease_key(run_id: str) -> str:
    """Return the key of a run's lease."""
    return f"leases:{run_id}"
