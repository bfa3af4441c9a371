"""The worker's connection to its broker, which drops messages that it cannot read. Celery reports other bad
messages by itself, but these ended the worker, and some came again after each start.
How a message's run is executed is in worker_tasks.py.
"""

import logging
from queue import Empty
from typing import Any

from pipeline_assets.outside_text import printable
from pipeline_assets.private_apis import private_imports, require_names

with private_imports("kombu", __name__):
    from kombu.transport import TRANSPORT_ALIASES
    from kombu.transport.redis import Channel, SentinelChannel, SentinelTransport, Transport

    require_names("kombu", Channel, ("_brpop_read", "basic_reject"), __name__)
    require_names("kombu", Transport, ("_deliver", "Channel"), __name__)

# Errors of reading a message of another form. A failed connection raises none of them.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError)
_SHOWN = 80
logger = logging.getLogger("pipeline_assets.worker")


class ReadingChannel(Channel):
    """A channel that outlives a message which is not JSON."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:
            _report("", error)
            raise Empty from None


class ReadingSentinelChannel(ReadingChannel, SentinelChannel):
    """The same, of a Redis that sentinels name."""


class ReadingTransport(Transport):
    """Kombu's Redis transport, which drops each message that cannot be read and takes the next one."""

    Channel = ReadingChannel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except _UNREADABLE as error:
            _report(f" {printable(repr(message)[:_SHOWN])}", error)
            self._forget(message)

    def _forget(self, message: Any) -> None:
        """Take a message off the list of those that are delivered again."""
        properties = message.get("properties") if isinstance(message, dict) else None
        tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
        for channel in self.channels:
            if tag in channel.qos._delivered:
                channel.basic_reject(tag, requeue=False)


class ReadingSentinelTransport(ReadingTransport, SentinelTransport):
    """The same, of a Redis that sentinels name."""

    Channel = ReadingSentinelChannel
    default_port = SentinelTransport.default_port


def drop_unreadable_messages() -> None:
    """Let this process drop what its connections to a Redis broker cannot read; call before they are made."""
    readers = {
        "redis": ReadingTransport,
        "rediss": ReadingTransport,
        "sentinel": ReadingSentinelTransport,
    }
    for scheme, reader in readers.items():
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{reader.__name__}"


def _report(shown: str, error: Exception) -> None:
    logger.warning(
        "A message in the broker's queue is no run of Dagster and was dropped (%s):%s. Does another "
        "program use the same Redis database and the keys celery:*?",
        printable(str(error)),
        shown,
    )
