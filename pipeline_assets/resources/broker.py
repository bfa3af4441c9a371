"""Kafka: publishing candidates and reading them. What a candidate is stands in market/candidates.py."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer

    from pipeline_assets.settings import KafkaSettings

CONTENT_TYPE = "application/json"
# The name of the JSON Schema of a message's value: market/candidate.schema.json.
SCHEMA = "candidate.schema.json"
_GROUP = "pipeline-assets"
_WAIT = 0.2
_UNREAD = "it could not be read"
_logger = logging.getLogger(__name__)


class BrokerError(OutsideSystemError):
    """Kafka refused, or did not acknowledge in time. Names servers, topic and what to do."""


@dataclass(frozen=True)
class Published:
    """What one publish came to: how many messages, and the seconds until the last acknowledgement."""

    count: int
    seconds: float


class CandidateTopic:
    """The topic of candidates.

    A message's key is the symbol, so that a symbol's candidates stay in order; its value is the
    candidate as JSON; its headers are `id`, `content-type` and `schema`. Consumers tell repeats by
    the id: the same candidate may arrive again after any failure.

    It connects on first use and then keeps one producer a process. Safe to share between threads,
    which publish one after another, and across a fork: the child makes a producer of its own.
    """

    def __init__(self, settings: "KafkaSettings") -> None:
        self._settings = settings
        self._lock = Lock()
        # By process: librdkafka's threads do not survive a fork, and to take down in the child what
        # the parent made waits for them for ever.
        self._producers: dict[int, Producer] = {}
        self._reasons: deque[KafkaError] = deque(maxlen=20)

    def publish(self, candidates: Sequence[Candidate]) -> Published:
        """Send candidates and return once the brokers acknowledged every one (acks=all).

        The producer is idempotent: what it repeats by itself is stored once. After an error nothing
        is known of any of them; publish the same ones again. What of the failed attempt arrives
        late or a second time carries the same id, so that a consumer takes it for the same.

        Raises:
            BrokerError: not all were acknowledged within the delivery time-out.
        """
        begun = time.monotonic()
        if not candidates:
            return Published(0, 0.0)
        deadline = begun + self._settings.delivery_timeout_ms / 1000
        with self._lock:
            self._forget_if_cut_off()
            self._reasons.clear()
            failure = self._attempt(candidates, deadline)
            # A producer whose state the broker lost (it was killed) is finished, not the broker.
            if failure is not None and failure.lost_state and time.monotonic() < deadline:
                failure = self._attempt(candidates, deadline)
        if failure is not None:
            raise BrokerError(self._explain(failure.error, failure.told(len(candidates))))
        return Published(len(candidates), time.monotonic() - begun)

    def read(
        self,
        *,
        from_beginning: bool = False,
        follow: bool = True,
        stop: Event | None = None,
        on_skipped: Callable[[str], object] = _logger.warning,
    ) -> Iterator[Candidate]:
        """The topic's candidates as they come; connected when this returns, read by iterating.

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
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

        topic = self._settings.topic
        self._reasons.clear()
        try:
            consumer = Consumer(
                self._client_options()
                | {"group.id": _GROUP, "enable.auto.commit": False, "enable.partition.eof": True}
            )
        except KafkaException as error:
            # For example a CA file that is no certificate.
            raise BrokerError(self._explain(error.args[0], _UNREAD)) from error
        timeout = self._settings.delivery_timeout_ms / 1000
        try:
            partitions = [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for number in self._partitions(consumer, timeout)
            ]
            if not from_beginning:
                for partition in partitions:
                    # Asked for now: left to the consumer, "the end" is where it is at its first
                    # fetch, and a candidate published until then would be passed over.
                    _, partition.offset = consumer.get_watermark_offsets(partition, timeout)
            consumer.assign(partitions)
        except KafkaException as error:
            consumer.close()
            raise BrokerError(self._explain(error.args[0], _UNREAD)) from error
        except BrokerError:
            consumer.close()
            raise
        return self._messages(
            consumer, len(partitions), follow=follow, stop=stop or Event(), on_skipped=on_skipped
        )

    def _messages(
        self,
        consumer: "Consumer",
        partitions: int,
        *,
        follow: bool,
        stop: Event,
        on_skipped: Callable[[str], object],
    ) -> Iterator[Candidate]:
        from confluent_kafka import KafkaError

        ended: set[int | None] = set()
        try:
            while not stop.is_set() and (follow or len(ended) < partitions):
                message = consumer.poll(_WAIT)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    candidate = self._decoded(message, on_skipped)
                    if candidate is not None:
                        yield candidate
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise BrokerError(self._explain(error, _UNREAD))
        finally:
            consumer.close()

    def _decoded(self, message: "Message", on_skipped: Callable[[str], object]) -> Candidate | None:
        try:
            return Candidate.model_validate_json(message.value() or b"")
        # A time of the year 1 or 9999 with a zone overflows where it is converted to UTC.
        except (ValidationError, OverflowError) as error:
            faults = error.error_count() if isinstance(error, ValidationError) else 1
            on_skipped(
                f"Message {message.offset()} of partition {message.partition()} of the topic "
                f"{self._settings.topic!r} at {self._settings.bootstrap_servers} is no candidate "
                f"({faults} faults)"
            )
            return None

    def _attempt(self, candidates: Sequence[Candidate], deadline: float) -> "_Failure | None":
        """Send all with this process's producer; one that failed is not used again."""
        from confluent_kafka import KafkaError, KafkaException

        outcome = _Failure()
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
                        "schema": SCHEMA,
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
        if outcome.acknowledged == len(candidates):
            return None
        self._discard()
        return outcome

    def _producer(self, deadline: float) -> "Producer":
        from confluent_kafka import Producer

        process = os.getpid()
        if process not in self._producers:
            timeout = self._settings.delivery_timeout_ms
            producer = Producer(
                self._client_options()
                | {
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
            self._producers[process] = producer
            self._partitions(producer, max(0.001, deadline - time.monotonic()))
        return self._producers[process]

    def _forget_if_cut_off(self) -> None:
        """Begin with a new producer if the connection was lost since the last publish.

        A broker that was restarted may not know the old one, which then spends the delivery time
        on finding that out.
        """
        producer = self._producers.get(os.getpid())
        if producer is not None:
            self._reasons.clear()
            producer.poll(0)
            if self._reasons:
                self._discard()

    def _discard(self) -> None:
        producer = self._producers.pop(os.getpid(), None)
        if producer is not None:
            # Unsent messages are dropped, and what is under way is no longer waited for.
            producer.purge()

    def _partitions(self, client: "Producer | Consumer", timeout: float) -> list[int]:
        """The topic's partitions; the topic is made, with the broker's defaults, if absent."""
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        topic = self._settings.topic
        deadline = time.monotonic() + timeout
        # A topic that is being made has no leader yet.
        absent = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE)
        try:
            found = client.list_topics(topic, timeout).topics[topic]
        except KafkaException:
            # Only a poll hands over the reasons, and this error is but "transport failure".
            client.poll(0)
            raise
        while found.error is not None:
            left = deadline - time.monotonic()
            if found.error.code() not in absent or left <= 0:
                raise KafkaException(found.error)
            # Kept by a name: it takes its requests with it when it goes.
            admin = AdminClient(self._client_options())
            made = admin.create_topics(
                [NewTopic(topic, num_partitions=-1, replication_factor=-1)], request_timeout=left
            )
            try:
                made[topic].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            found = client.list_topics(topic, left).topics[topic]
        return sorted(found.partitions)

    def _client_options(self) -> dict[str, Any]:
        """The options of every client.

        Raises:
            BrokerError: the CA file cannot be read.
        """
        settings, password = self._settings, self._settings.sasl_password
        options: dict[str, Any] = {
            "bootstrap.servers": settings.bootstrap_servers,
            "client.id": "pipeline-assets",
            "security.protocol": settings.security_protocol,
            "error_cb": self._reasons.append,
            # Its own log would go to standard error, beside the errors that are raised here.
            "log_level": 0,
            # A broker that comes back is found at once, not after the default of up to ten seconds.
            "reconnect.backoff.max.ms": 500,
            # A connection that a firewall forgot is noticed between two publishes, not by the next one.
            "socket.keepalive.enable": True,
            "socket.connection.setup.timeout.ms": settings.delivery_timeout_ms,
        }
        if settings.security_protocol.startswith("SASL_"):
            options |= {
                "sasl.mechanism": settings.sasl_mechanism,
                "sasl.username": settings.sasl_username,
                "sasl.password": password.get_secret_value() if password else "",
            }
        if settings.ssl_ca_location is not None:
            _check_readable(settings.ssl_ca_location)
            options["ssl.ca.location"] = str(settings.ssl_ca_location)
        return options

    def _explain(self, error: "KafkaError | None", what: str) -> str:
        from confluent_kafka import KafkaError

        settings = self._settings
        known = [*self._reasons, *([error] if error is not None else [])]
        codes = {each.code() for each in known}
        # That all brokers are down is said first, and is never the reason.
        reasons = [each for each in known if each.code() != KafkaError._ALL_BROKERS_DOWN]
        told = reasons[0].str() if reasons else "no answer"
        if codes & {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:
            told = _text(known, KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
            remedy = (
                "Check PIPELINE_KAFKA__SASL_USERNAME, PIPELINE_KAFKA__SASL_PASSWORD, "
                "PIPELINE_KAFKA__SASL_MECHANISM and PIPELINE_KAFKA__SECURITY_PROTOCOL"
            )
        elif KafkaError._INVALID_ARG in codes:
            remedy = "Check the settings PIPELINE_KAFKA__…, PIPELINE_KAFKA__SSL_CA_LOCATION first"
        elif KafkaError._SSL in codes:
            told = _text(known, KafkaError._SSL)
            remedy = (
                "Check PIPELINE_KAFKA__SECURITY_PROTOCOL (does this port speak TLS?) and "
                "PIPELINE_KAFKA__SSL_CA_LOCATION"
            )
        elif codes & {
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        }:
            remedy = (
                f"Let the user {settings.sasl_username!r} describe, write and read the topic, or "
                "have it made where it is missing"
            )
        elif KafkaError.UNKNOWN_TOPIC_OR_PART in codes:
            remedy = "Have the topic made, or set PIPELINE_KAFKA__TOPIC"
        else:
            remedy = (
                "Check that it runs (`pipeline-assets up` starts the embedded one) and that "
                "PIPELINE_KAFKA__BOOTSTRAP_SERVERS and PIPELINE_KAFKA__SECURITY_PROTOCOL are right"
            )
        return (
            f"Kafka at {settings.bootstrap_servers}, topic {settings.topic!r}: {what} within "
            f"{settings.delivery_timeout_ms / 1000:g} s ({printable(told)}). {remedy}, then repeat; what is "
            "published again carries the same ids."
        )


def _check_readable(path: Path) -> None:
    """Refuse a CA file that is missing: librdkafka's own error names neither setting nor reason."""
    try:
        if not path.is_dir():
            with path.open("rb"):
                return
    except OSError as error:
        raise BrokerError(
            f"PIPELINE_KAFKA__SSL_CA_LOCATION: {path} cannot be read ({error.strerror}). Name a PEM "
            "file with the broker's certificate authority, or leave it empty for the certificates "
            "that the system trusts."
        ) from error


class _Failure:
    """What became of the messages of one attempt."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.error: KafkaError | None = None

    def count(self, error: "KafkaError | None", _message: "Message") -> None:
        if error is None:
            self.acknowledged += 1
        elif self.error is None:
            self.error = error

    @property
    def lost_state(self) -> bool:
        """Whether the broker no longer knows this producer, and would know a new one."""
        from confluent_kafka import KafkaError

        return self.error is not None and (
            self.error.fatal()
            or self.error.code()
            in {
                KafkaError._FATAL,
                KafkaError.UNKNOWN_PRODUCER_ID,
                KafkaError.PRODUCER_FENCED,
                KafkaError.INVALID_PRODUCER_EPOCH,
                KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
            }
        )

    def told(self, count: int) -> str:
        return f"{self.acknowledged} of {count} candidates were acknowledged"


def _text(errors: "Sequence[KafkaError]", *codes: int) -> str:
    return next(error.str() for error in errors if error.code() in codes)
