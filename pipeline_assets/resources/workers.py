"""Which workers live, which queues they serve, and which code they and the code server run; all in Redis.
The workers themselves are services/worker.py's.

A worker that has not reported for BEAT_LIFE_SECONDS by Redis' own clock counts as gone.
"""

import hashlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.redis_client import RedisConnection

if TYPE_CHECKING:
    from pipeline_assets.settings import RedisSettings, Settings

BEAT_SECONDS = 5.0
BEAT_LIFE_SECONDS = 20.0
# A hash of workers, and the code server's fingerprint; the braces keep both on one node of a cluster.
WORKERS_KEY = "{workers}"
CODE_KEY = "{workers}:code"
_CODE_LIFE_SECONDS = 3600
_PACKAGE = Path(__file__).parents[1]
# Settings in which the machines of one deployment may differ. No run reads the switch of inference, and
# `up --inference` sets it for the stack alone: commands beside that stack found no worker of their settings.
_OF_ONE_MACHINE: dict[str, bool | set[str]] = {
    **dict.fromkeys(("data_dir", "allowed_hosts", "celery", "dagster", "airflow", "gateway"), True),
    "inference": {"enabled"},
    "binance": {"egress"},
}


class WorkerRegistryError(OutsideSystemError):
    """Redis failed while workers were read or written. The message says where and what to do."""


@dataclass(frozen=True)
class Worker:
    """A living worker: its name, the queues it serves, and the fingerprint of its code."""

    name: str
    queues: tuple[str, ...]
    code: str


class WorkerRegistry:
    """The living workers. Connects on first use; safe to share between threads."""

    def __init__(self, settings: "RedisSettings") -> None:
        self._redis = RedisConnection(settings, WorkerRegistryError)

    def beat(self, worker: Worker) -> str:
        """Note that a worker lives; return the code server's fingerprint, empty if none is known.

        Raises:
            WorkerRegistryError: Redis failed.
        """
        described = f"{','.join(worker.queues)} {worker.code}"
        life = round(BEAT_LIFE_SECONDS * 1000)
        call = (2, WORKERS_KEY, CODE_KEY, worker.name, life, described)
        return _text(self._redis.run_script("beat_worker", [call])[0])

    def leave(self, name: str) -> None:
        """Remove a worker that ends. Safe to repeat.

        Raises:
            WorkerRegistryError: Redis failed. The worker then counts as gone a little later.
        """
        self._redis.run(lambda client: client.hdel(WORKERS_KEY, name))

    def living(self) -> list[Worker]:
        """Return the living workers by name.

        Raises:
            WorkerRegistryError: Redis failed.
        """
        found = [
            _text(each) for each in self._redis.run_script("read_workers", [(1, WORKERS_KEY)])[0]
        ]
        workers = []
        for name, described in zip(found[::2], found[1::2], strict=True):
            queues, _, code = described.partition(" ")
            workers.append(Worker(name, tuple(queues.split(",")), code))
        return sorted(workers, key=lambda each: each.name)

    def publish_code(self, code: str) -> None:
        """Publish the fingerprint of the code server, which workers compare with their own.

        Raises:
            WorkerRegistryError: Redis failed.
        """
        self._redis.run(lambda client: client.set(CODE_KEY, code, ex=_CODE_LIFE_SECONDS))


def code_fingerprint(settings: "Settings") -> str:
    """Return a fingerprint of the package's files and of the settings, secrets left out.

    Two processes with the same fingerprint store the same rows of the same run.
    """
    digest = hashlib.sha256(_package_digest())
    digest.update(settings.model_dump_json(exclude=_OF_ONE_MACHINE).encode())
    return digest.hexdigest()[:16]


@cache
def _package_digest() -> bytes:
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(_PACKAGE.rglob("*")):
        if file.suffix in (".py", ".sql", ".lua", ".json") and file.is_file():
            digest.update(str(file.relative_to(_PACKAGE)).encode())
            digest.update(file.read_bytes())
    return digest.digest()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
