"""Kafka: publishing candidates and other records of a symbol. Reading is in candidate_reader.py.

The candidate itself is defined in market/candidates.py; options and errors of the clients are in
kafka_clients.py.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.resources.candidate_reader import CandidateReader
from pipeline_assets.resources.kafka_clients import BrokerError, KafkaClients, UndeliveredError
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.write_guard import require_lease
from pipeline_assets.stop_flag import StopFlag

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from pipeline_assets.settings import KafkaSettings

CONTENT_TYPE = "application/json"
# The name of the JSON Schema of a message's value: market/candidate.schema.json.
SCHEMA = "candidate.schema.json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """The result of one publish: the number of messages, and the seconds until the last acknowledgement."""

    count: int
    seconds: float


class Publishable(Protocol):
    """A record with an id that is the same in all repeats."""

    @property
    def id(self) -> str:
        """Tells repeats from others."""

    @property
    def symbol(self) -> str:
        """Chooses the partition."""

    def model_dump_json(self) -> str:
        """Return the record as JSON."""


class CandidateTopic:
    """The topic of candidates, or another one whose records have an id and a symbol.

    A message's key is the symbol, so that a symbol's candidates stay in order; its value is the
    candidate as JSON; its headers are `id`, `content-type` and `schema`. Consumers tell repeats by
    the id: the same candidate may arrive again after any failure.

    It connects on first use and then keeps one producer a process. Safe to share between threads,
    which publish one after another, and across a fork: the child makes a producer of its own.
    """

    def __init__(self, settings: "KafkaSettings", schema: str = SCHEMA) -> None:
        """Connect later. `schema` names the JSON Schema of the records that are published."""
        self._settings, self._schema = settings, schema
        self._lock = Lock()
        # One producer per process: librdkafka's threads do not survive a fork. Destroying the parent's
        # producer in the child would wait for those threads without end.
        self._producers: dict[int, Producer] = {}
        self._clients = KafkaClients(settings)

    def publish(self, candidates: Sequence[Publishable]) -> Published:
        """Send candidates and return once the brokers acknowledged every one (acks=all).

        The producer is idempotent: a message that it repeats by itself is stored once. An error says
        nothing about single messages: publish all of them again. A message of the failed attempt that
        arrives late or twice carries the same id, by which a consumer recognizes it.

        Raises:
            BrokerError: not all were acknowledged within the delivery time-out.
        """
        begun = time.monotonic()
        if not candidates:
            return Published(0, 0.0)
        require_lease()
        seconds = self._settings.delivery_timeout_ms / 1000
        # librdkafka repeats a message itself until delivery.timeout.ms. A producer whose state the
        # broker lost (it was killed) is finished, not the broker: a new one makes a second attempt.
        policy = RetryPolicy(attempts=2, deadline=seconds)
        with self._lock:
            self._forget_if_cut_off()
            self._clients.reasons.clear()
            try:
                policy.run(
                    lambda: self._attempt(candidates, begun + seconds),
                    lambda error: isinstance(error, UndeliveredError) and error.lost_state,
                )
            except UndeliveredError as failure:
                text = f"{failure.acknowledged} of {len(candidates)} candidates were acknowledged"
                raise BrokerError(self._clients.explain(failure.error, text)) from None
        return Published(len(candidates), time.monotonic() - begun)

    def read(
        self,
        *,
        from_beginning: bool = False,
        follow: bool = True,
        stop: StopFlag | None = None,
        on_skipped: Callable[[str], object] = _logger.warning,
    ) -> Iterator[Candidate]:
        """Yield the topic's candidates as they come; connected when this returns, read by iterating.

        Nothing is committed and no group is joined, so that readers neither share nor disturb. A
        broker that goes away is waited for.

        Args:
            from_beginning: from the oldest message kept, instead of those that come from now on.
                (The embedded broker counts the last batch published as still to come.)
            follow: wait for more at the end; otherwise end there.
            stop: ends the iteration once set, within a fifth of a second.
            on_skipped: is called with where a message is and why, for each that is no candidate.
                Another program's message, or one of another version, must not end the reading of
                those that follow.

        Raises:
            BrokerError: Kafka cannot be reached or refuses.
        """
        reader = CandidateReader(self._settings, self._clients)
        return reader.candidates(
            from_beginning=from_beginning,
            follow=follow,
            stop=stop or StopFlag(),
            on_skipped=on_skipped,
        )

    def _attempt(self, candidates: Sequence[Publishable], deadline: float) -> None:
        """Send all with this process's producer; one that failed is not used again.

        Raises:
            UndeliveredError: not all were acknowledged.
        """
        from confluent_kafka import KafkaError, KafkaException

        outcome = UndeliveredError()
        try:
            producer = self._producer(deadline)
            for candidate in candidates:
                producer.produce(
                    self._settings.topic,
                    key=candidate.symbol,
                    value=candidate.model_dump_json(),
                    headers={
                        "id": candidate.id,
                        "content-type": CONTENT_TYPE,
                        "schema": self._schema,
                    },
                    on_delivery=outcome.count,
                )
            producer.flush(max(0.0, deadline - time.monotonic()))
        except KafkaException as error:
            outcome.error = error.args[0]
        except SystemError as error:
            # confluent-kafka 2.16 goes on calling back for other messages after it has raised for a
            # fatal error. Python then reports that instead: with the error as its cause, or, where
            # a call back cleared it, with none.
            cause = error.__cause__
            outcome.error = (
                cause.args[0]
                if isinstance(cause, KafkaException)
                else KafkaError(KafkaError._FATAL, "the producer failed for good", fatal=True)
            )
        if outcome.acknowledged < len(candidates):
            self._discard()
            raise outcome

    def _producer(self, deadline: float) -> "Producer":
        from confluent_kafka import Producer

        process = os.getpid()
        if process not in self._producers:
            timeout = self._settings.delivery_timeout_ms
            producer = Producer(
                self._clients.options(
                    {
                        "enable.idempotence": True,
                        "acks": "all",
                        "delivery.timeout.ms": timeout,
                        # A request that is not answered fails with its messages, not before: a repeat
                        # over a connection that holds would only wait behind it.
                        "request.timeout.ms": timeout,
                        "linger.ms": 5,
                        # A publish is sent whole: six hours of 500 symbols, missed, are 720,000 at most.
                        "queue.buffering.max.messages": 1_000_000,
                    }
                )
            )
            self._producers[process] = producer
            self._clients.partitions(producer, max(0.001, deadline - time.monotonic()))
        return self._producers[process]

    def _forget_if_cut_off(self) -> None:
        """Begin with a new producer if the connection was lost since the last publish.

        A broker that was restarted may not know the old one, which then spends the delivery time
        on finding that out.
        """
        producer = self._producers.get(os.getpid())
        if producer is not None:
            self._clients.reasons.clear()
            producer.poll(0)
            if self._clients.reasons:
                self._discard()

    def _discard(self) -> None:
        producer = self._producers.pop(os.getpid(), None)
        if producer is not None:
            # Unsent messages are dropped, and what is under way is no longer waited for.
            producer.purge()
