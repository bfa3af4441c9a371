"""Kafka: reading candidates as a member of a consumer group, which shares the topic's partitions. The reader
commits its places after its work. Reading without a group is in candidate_reader.py.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.resources.candidate_reader import decoded
from pipeline_assets.resources.kafka_clients import BrokerError, KafkaClients

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

    from pipeline_assets.settings import KafkaSettings

# A minute of 500 symbols at most; the broker redelivers the whole batch after a kill.
_LARGEST_BATCH = 500
# How long messages that arrive together are gathered.
_GATHERED_SECONDS = 0.02
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Candidates that arrived, and the places after these.

    Attributes:
        candidates: in the order of their arrival, repeats included.
        offsets: by partition, the next message; messages that are no candidates are behind it too.
    """

    candidates: tuple[Candidate, ...] = ()
    offsets: Mapping[int, int] = field(default_factory=dict)


class CandidateGroup:
    """A member of a consumer group on the topic of candidates."""

    def __init__(
        self,
        settings: "KafkaSettings",
        group_id: str,
        on_skipped: Callable[[str], object] = _logger.warning,
    ) -> None:
        """Keep the arguments; `joined` connects."""
        self._settings, self._group_id, self._on_skipped = settings, group_id, on_skipped
        self._clients = KafkaClients(settings)
        self._held: Consumer | None = None

    @contextmanager
    def joined(self) -> Iterator["CandidateGroup"]:
        """Join the group, and leave it at the end; a topic that is missing is made.

        A group without committed places begins at the oldest message that the broker keeps.

        Raises:
            BrokerError: Kafka cannot be reached or refuses.
        """
        from confluent_kafka import Consumer, KafkaException

        self._clients.reasons.clear()
        try:
            consumer = Consumer(self._clients.options(self._options()))
        except KafkaException as error:
            raise self._error(error, "it could not be joined") from error
        try:
            try:
                self._clients.partitions(consumer, self._settings.delivery_timeout_ms / 1000)
                consumer.subscribe([self._settings.topic])
            except KafkaException as error:
                raise self._error(error, "it could not be joined") from error
            self._held = consumer
            yield self
        finally:
            self._held = None
            consumer.close()

    def _options(self) -> dict[str, Any]:
        return {
            "group.id": self._group_id,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # With the default of 45 s, the partitions of a member that was killed wait for so long.
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 2_000,
            # An idle member asks each broker once a second.
            "fetch.wait.max.ms": 1_000,
        }

    def read(self, seconds: float) -> Batch:
        """Return what arrives within some seconds, at once when something has arrived.

        Raises:
            BrokerError: Kafka refuses, or a certificate is refused. A broker that goes away is waited for.
        """
        messages, until = [self._consumer.poll(seconds)], time.monotonic() + _GATHERED_SECONDS
        while messages[-1] is not None and len(messages) < _LARGEST_BATCH:
            messages.append(self._consumer.poll(max(0.0, until - time.monotonic())))
        if messages == [None]:
            self._clients.require_certificates("it could not be read")
        candidates: list[Candidate] = []
        offsets: dict[int, int] = {}
        for message in messages:
            if message is None or self._is_only_noise(message):
                continue
            candidate = decoded(message, self._settings, self._on_skipped)
            if candidate is not None:
                candidates.append(candidate)
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None:
                offsets[partition] = max(offset + 1, offsets.get(partition, 0))
        return Batch(tuple(candidates), offsets)

    def commit(self, batch: Batch) -> bool:
        """Commit the places after a batch; return False if another member has the partitions by now.

        The other member reads the batch again.

        Raises:
            BrokerError: Kafka did not answer or refused.
        """
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        if not batch.offsets:
            return True
        topic = self._settings.topic
        places = [TopicPartition(topic, number, at) for number, at in batch.offsets.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            moved = (
                *(KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID),
                *(KafkaError.REBALANCE_IN_PROGRESS, KafkaError._ASSIGNMENT_LOST),
                *(KafkaError._STATE, KafkaError._NO_OFFSET),
            )
            if error.args[0].code() not in moved:
                raise self._error(error, "the places were not committed") from error
            _logger.info("The group %s is shared anew; a batch is read again.", self._group_id)
            return False
        return True

    @property
    def _consumer(self) -> "Consumer":
        if self._held is None:
            raise RuntimeError("CandidateGroup is used within `joined` only.")
        return self._held

    def _is_only_noise(self, message: "Message") -> bool:
        """Return whether a message is an event that passes by itself.

        Raises:
            BrokerError: it is an error that stays.
        """
        from confluent_kafka import KafkaError

        error = message.error()
        if error is None:
            self._clients.reasons.clear()
            return False
        # Work that took longer than max.poll.interval.ms: the next poll joins again.
        if error.retriable() or error.code() == KafkaError._MAX_POLL_EXCEEDED:
            return True
        raise BrokerError(self._clients.explain(error, "it could not be read"))

    def _error(self, error: Any, what: str) -> BrokerError:
        return BrokerError(self._clients.explain(error.args[0], what))
