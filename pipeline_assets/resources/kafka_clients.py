"""Kafka's clients: their options, the topic they need, and what librdkafka's errors mean for people.

Publishing and reading are in broker.py.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.tls import TlsClient

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer
    from pydantic import SecretStr

    from pipeline_assets.settings import KafkaSettings

# One may be a connection that a restarted broker ended in its handshake.
_REFUSALS = 3


class BrokerError(OutsideSystemError):
    """Kafka refused, or did not acknowledge in time. Names servers, topic and what to do."""


@dataclass(frozen=True)
class KafkaClients:
    """Settings, options and error messages shared by all clients of one topic.

    Attributes:
        settings: the brokers and the topic.
        reasons: the latest errors that clients reported beside what they raise.
    """

    settings: "KafkaSettings"
    reasons: "deque[KafkaError]" = field(default_factory=lambda: deque(maxlen=20))

    def partitions(self, client: "Producer | Consumer", timeout: float) -> list[int]:
        """Return the topic's partitions; the topic is made, with the broker's defaults, if absent.

        Raises:
            KafkaException: the broker does not answer in time, or refuses; the caller explains the error.
        """
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        topic = self.settings.topic
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
            admin = AdminClient(self.options())
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

    def options(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the options of every client and `more`, both below the properties of the settings.

        Raises:
            BrokerError: a file of certificates is unusable.
        """
        settings = self.settings
        options: dict[str, Any] = {
            "bootstrap.servers": settings.bootstrap_servers,
            "client.id": "pipeline-assets",
            "security.protocol": settings.security_protocol,
            "error_cb": self.reasons.append,
            # Its own log would go to standard error, beside the errors that are raised here.
            "log_level": 0,
            # A broker that comes back is found at once, not after the default of up to ten seconds.
            "reconnect.backoff.max.ms": 500,
            # A connection that a firewall forgot is noticed between two publishes, not by the next one.
            "socket.keepalive.enable": True,
            "socket.connection.setup.timeout.ms": settings.delivery_timeout_ms,
        }
        if settings.security_protocol.startswith("SASL_"):
            options |= self._login()
        if settings.security_protocol.endswith("SSL"):
            self._tls.check_files(BrokerError)
            options |= self._certificates()
        properties = settings.properties or {}
        given = {name: value.get_secret_value() for name, value in properties.items()}
        return options | dict(more or {}) | given

    def _login(self) -> dict[str, Any]:
        settings = self.settings
        if settings.sasl_mechanism != "OAUTHBEARER":
            return {
                "sasl.mechanism": settings.sasl_mechanism,
                "sasl.username": settings.sasl_username,
                "sasl.password": _revealed(settings.sasl_password),
            }
        options = {
            "sasl.oauthbearer.token.endpoint.url": settings.sasl_oauthbearer_token_endpoint_url,
            "sasl.oauthbearer.client.id": settings.sasl_oauthbearer_client_id,
            "sasl.oauthbearer.client.secret": _revealed(settings.sasl_oauthbearer_client_secret),
            "sasl.oauthbearer.scope": settings.sasl_oauthbearer_scope,
        }
        return {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            **{name: value for name, value in options.items() if value},
        }

    def _certificates(self) -> dict[str, Any]:
        settings = self.settings
        certificate = settings.ssl_certificate_location
        options = {
            "ssl.ca.location": settings.ssl_ca_location,
            "ssl.certificate.location": certificate,
            # Both may stand in one file.
            "ssl.key.location": settings.ssl_key_location or certificate,
        }
        password = {"ssl.key.password": _revealed(settings.ssl_key_password)}
        return {name: str(file) for name, file in options.items() if file is not None} | (
            password if settings.ssl_key_password else {}
        )

    @property
    def _tls(self) -> TlsClient:
        return TlsClient(
            "KAFKA",
            self.settings,
            enabled=self.settings.security_protocol.endswith("SSL"),
            remedies=(
                "set PIPELINE_KAFKA__SECURITY_PROTOCOL to SSL or SASL_SSL",
                "let PIPELINE_KAFKA__BOOTSTRAP_SERVERS name its TLS port, or set "
                "PIPELINE_KAFKA__SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT",
            ),
        )

    def _tls_problem(self, reasons: "Sequence[KafkaError]") -> str | None:
        """Return what is wrong with TLS between this machine and a broker, if that is the reason."""
        from confluent_kafka import KafkaError

        # A server that expects TLS hangs up on a client that speaks plain text.
        hung_up = any(
            each.code() == KafkaError._TRANSPORT and "refused" not in each.str() for each in reasons
        )
        # Certificates that the properties name, or do not have checked, are not among the settings.
        differs = any("ssl." in name for name in self.settings.properties or {})
        if differs or not (self._tls.enabled or hung_up):
            return None
        found = (self._tls.problem(host, port) for host, port in self.settings.servers)
        return next((problem for problem in found if problem is not None), None)

    def require_certificates(self, what: str) -> None:
        """Give a client up that waits for a broker which refuses its certificate, or has a refused one.

        librdkafka reads certificates when a client is made. A consumer that went on waiting would neither
        say why nothing comes nor read a renewed file. To be called whenever nothing came.

        Raises:
            BrokerError: several connections in a row ended so.
        """
        from confluent_kafka import KafkaError

        # A broker refuses a client's certificate after the handshake, by an alert.
        refused = [
            each
            for each in self.reasons
            if each.code() == KafkaError._SSL or "SSL alert" in each.str()
        ]
        if len(refused) >= _REFUSALS:
            raise BrokerError(self.explain(refused[-1], what))

    def explain(self, error: "KafkaError | None", what: str) -> str:
        """Return the message for an error, or for none where there was no answer: what, why, what to do."""
        from confluent_kafka import KafkaError

        settings = self.settings
        known = [*self.reasons, *([error] if error is not None else [])]
        codes = {each.code() for each in known}
        # librdkafka reports first that all brokers are down, which is never the reason.
        reasons = [each for each in known if each.code() != KafkaError._ALL_BROKERS_DOWN]
        said = reasons[0].str() if reasons else "no answer"
        if codes & {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:
            said = _text(known, KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
            keys = (
                "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, PIPELINE_KAFKA__SASL_OAUTHBEARER_CLIENT_ID, "
                "PIPELINE_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET"
                if settings.sasl_mechanism == "OAUTHBEARER"
                else "SASL_USERNAME, PIPELINE_KAFKA__SASL_PASSWORD"
            )
            remedy = (
                f"Check PIPELINE_KAFKA__{keys}, PIPELINE_KAFKA__SASL_MECHANISM and "
                "PIPELINE_KAFKA__SECURITY_PROTOCOL"
            )
        elif KafkaError._INVALID_ARG in codes:
            remedy = "Check the settings PIPELINE_KAFKA__…, PIPELINE_KAFKA__SSL_CA_LOCATION first"
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
        elif (problem := self._tls_problem(reasons)) is not None:
            said, _, remedy = problem.partition(": ")
            remedy = remedy[:1].upper() + remedy[1:]
        elif KafkaError._SSL in codes:
            said = _text(known, KafkaError._SSL)
            remedy = (
                "Check PIPELINE_KAFKA__SECURITY_PROTOCOL (does this port speak TLS?) and "
                "PIPELINE_KAFKA__SSL_CA_LOCATION"
            )
        else:
            remedy = (
                "Check that it runs (`pipeline-assets up` starts the embedded one) and that "
                "PIPELINE_KAFKA__BOOTSTRAP_SERVERS and PIPELINE_KAFKA__SECURITY_PROTOCOL are right"
            )
        return (
            f"Kafka at {settings.bootstrap_servers}, topic {settings.topic!r}: {what} within "
            f"{settings.delivery_timeout_ms / 1000:g} s ({printable(said)}). {remedy}, then repeat; what is "
            "published again carries the same ids."
        )


def _revealed(secret: "SecretStr | None") -> str:
    return secret.get_secret_value() if secret else ""


def _text(errors: "Sequence[KafkaError]", *codes: int) -> str:
    return next(error.str() for error in errors if error.code() in codes)


class UndeliveredError(OutsideSystemError):
    """Not all messages of one attempt to publish were acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged = 0
        self.error: KafkaError | None = None

    def count(self, error: "KafkaError | None", _message: "Message") -> None:
        """Take one delivery report in: the first error is kept."""
        if error is None:
            self.acknowledged += 1
        elif self.error is None:
            self.error = error

    @property
    def lost_state(self) -> bool:
        """Return whether the broker no longer knows this producer, and would know a new one."""
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
