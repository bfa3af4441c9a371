"""Kafka: reading candidates, with or without their places in the topic. No group is joined and nothing is
committed: a reader that must not miss anything keeps the places itself. Publishing is in broker.py.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from pipeline_assets.market.candidates import Candidate, contradiction
from pipeline_assets.resources.kafka_clients import BrokerError, KafkaClients
from pipeline_assets.stop_flag import StopFlag

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

    from pipeline_assets.settings import KafkaSettings

_GROUP = "pipeline-assets"
_WAIT = 0.2
_UNREAD = "it could not be read"
_logger = logging.getLogger(__name__)


class PlacedCandidate(NamedTuple):
    """A candidate and its place in the topic."""

    candidate: Candidate
    partition: int
    offset: int


@dataclass(frozen=True)
class CandidateReader:
    """Reads the topic of the settings.

    Attributes:
        settings: the brokers and the topic.
        clients: options, and the errors of all clients of the topic.
    """

    settings: "KafkaSettings"
    clients: KafkaClients

    def candidates(
        self,
        *,
        from_beginning: bool,
        follow: bool,
        stop: StopFlag,
        on_skipped: Callable[[str], object],
    ) -> Iterator[Candidate]:
        """Yield candidates, as CandidateTopic.read does; connected when this returns.

        Raises:
            BrokerError: Kafka cannot be reached or refuses.
        """
        consumer, partitions = self._consumer({}, from_beginning=from_beginning)
        return self._alone(
            self._messages(
                consumer, len(partitions), follow=follow, stop=stop, on_skipped=on_skipped
            )
        )

    @staticmethod
    def _alone(found: Iterator[PlacedCandidate]) -> Iterator[Candidate]:
        """Yield the candidates alone; closing this closes the consumer."""
        try:
            for each in found:
                yield each.candidate
        finally:
            found.close()  # type: ignore[attr-defined]

    def read_from(
        self,
        offsets: Mapping[int, int],
        *,
        stop: StopFlag,
        on_skipped: Callable[[str], object] = _logger.warning,
        on_begun: Callable[[dict[int, int]], object] = lambda _: None,
    ) -> Iterator[PlacedCandidate]:
        """Yield candidates with their places as they come, until `stop` is set; see `candidates`.

        Args:
            offsets: by partition, the first message to read; other partitions begin at their end.
            stop: ends the iteration once set.
            on_skipped: as for `candidates`.
            on_begun: gets the place of each partition, before the first message is read. A caller that
                keeps these reads all that comes to a partition that had no message yet.

        Raises:
            BrokerError: Kafka cannot be reached or refuses.
        """
        consumer, partitions = self._consumer(offsets, from_beginning=False)
        on_begun({each.partition: each.offset for each in partitions})
        return self._messages(
            consumer, len(partitions), follow=True, stop=stop, on_skipped=on_skipped
        )

    def _consumer(
        self, offsets: Mapping[int, int], *, from_beginning: bool
    ) -> "tuple[Consumer, list[TopicPartition]]":
        """Return a consumer, and the places at which it begins.

        Raises:
            BrokerError: Kafka cannot be reached or refuses.
        """
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

        topic = self.settings.topic
        self.clients.reasons.clear()
        try:
            consumer = Consumer(
                self.clients.options(
                    {
                        "group.id": _GROUP,
                        "enable.auto.commit": False,
                        "enable.partition.eof": True,
                        # A place that the broker has deleted: what it still has may not be passed over.
                        "auto.offset.reset": "earliest",
                    }
                )
            )
        except KafkaException as error:
            # For example a CA file that is no certificate.
            raise BrokerError(self.clients.explain(error.args[0], _UNREAD)) from error
        timeout = self.settings.delivery_timeout_ms / 1000
        try:
            partitions = [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for number in self.clients.partitions(consumer, timeout)
            ]
            if not from_beginning:
                for partition in partitions:
                    if partition.partition in offsets:
                        partition.offset = offsets[partition.partition]
                        continue
                    # Asked for now: left to the consumer, "the end" is where it is at its first
                    # fetch, and a candidate published until then would be passed over.
                    _, partition.offset = consumer.get_watermark_offsets(partition, timeout)
            consumer.assign(partitions)
        except KafkaException as error:
            consumer.close()
            raise BrokerError(self.clients.explain(error.args[0], _UNREAD)) from error
        except BrokerError:
            consumer.close()
            raise
        return consumer, partitions

    def _messages(
        self,
        consumer: "Consumer",
        partitions: int,
        *,
        follow: bool,
        stop: StopFlag,
        on_skipped: Callable[[str], object],
    ) -> Iterator[PlacedCandidate]:
        from confluent_kafka import KafkaError

        ended: set[int | None] = set()
        try:
            while not stop.is_set() and (follow or len(ended) < partitions):
                message = consumer.poll(_WAIT)
                if message is None:
                    self.clients.require_certificates(_UNREAD)
                    continue
                self.clients.reasons.clear()
                error = message.error()
                if error is None:
                    candidate = decoded(message, self.settings, on_skipped)
                    partition, offset = message.partition(), message.offset()
                    if candidate is not None and partition is not None and offset is not None:
                        yield PlacedCandidate(candidate, partition, offset)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise BrokerError(self.clients.explain(error, _UNREAD))
        finally:
            consumer.close()


def decoded(
    message: "Message", settings: "KafkaSettings", on_skipped: Callable[[str], object]
) -> Candidate | None:
    """Return the candidate of a message, or None for another one; `on_skipped` gets the reason."""
    try:
        candidate = Candidate.model_validate_json(message.value() or b"")
        fault = contradiction(candidate)
        if not fault:
            return candidate
    # A time of the year 1 or 9999 with a zone overflows where it is converted to UTC.
    except (ValidationError, OverflowError) as error:
        fault = f"{error.error_count() if isinstance(error, ValidationError) else 1} faults"
    on_skipped(
        f"Message {message.offset()} of partition {message.partition()} of the topic "
        f"{settings.topic!r} at {settings.bootstrap_servers} is no candidate ({fault})"
    )
    return None
