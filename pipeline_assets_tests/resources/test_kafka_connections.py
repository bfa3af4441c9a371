"""Kafka as production has it: certificates of both sides, tokens, further properties, and what errors say."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_group import CandidateGroup
from pipeline_assets.resources.kafka_clients import BrokerError, KafkaClients
from pipeline_assets.settings import KafkaSettings, SettingsError, load_settings
from pipeline_assets_tests.fixtures.http_answers import Answer, Asked, answering
from pipeline_assets_tests.fixtures.kafka import KafkaServer, candidates
from pipeline_assets_tests.fixtures.kafka_login import demanding_tokens
from pipeline_assets_tests.fixtures.s3 import free_port
from pipeline_assets_tests.fixtures.tls import Tls

SECRET = "a secret of the client"
BROKERS_KEY = "a key of the token server and its brokers"


def settings_of(
    tls: Tls, port: int, *, client: dict[str, bool] | None = None, **changes: Any
) -> Any:
    given: dict[str, Any] = {
        "bootstrap_servers": f"127.0.0.1:{port}",
        "security_protocol": "SSL",
        "ssl_ca_location": tls.ca_file,
        "delivery_timeout_ms": 1000,
    }
    if client is not None:
        given["ssl_certificate_location"], given["ssl_key_location"] = tls.client(**client)
    return KafkaSettings.model_validate(given | changes)


def test_client_certificate_is_accepted(own_kafka_server: KafkaServer, tls: Tls) -> None:
    """Candidates are published and read where brokers demand a certificate."""
    port = tls.server(own_kafka_server.port, asks_clients=True)
    own_kafka_server.kill()
    own_kafka_server.start_behind(port)
    settings = settings_of(tls, port, client={}, delivery_timeout_ms=20_000)
    assert CandidateTopic(settings).publish(candidates(2)).count == 2
    read = CandidateTopic(settings).read(from_beginning=True, follow=False)
    assert [each.symbol for each in read] == ["COIN0USDT"] * 2


def by_topic(settings: KafkaSettings) -> Iterator[object]:
    yield from CandidateTopic(settings).read(from_beginning=True)


def by_group(settings: KafkaSettings) -> Iterator[object]:
    with CandidateGroup(settings, "inference").joined() as group:
        while True:
            yield from group.read(0.2).candidates


@pytest.mark.parametrize("read", [by_topic, by_group])
@pytest.mark.parametrize("refused", ["server", "client"])
def test_waiting_reader_ends_by_refused_certificate(
    own_kafka_server: KafkaServer,
    tls: Tls,
    read: Callable[[KafkaSettings], Iterator[object]],
    refused: str,
) -> None:
    """A reader whose connection ends, and whose new ones are refused, says why; one begun anew reads on."""
    proxy = tls.proxy(own_kafka_server.port, asks_clients=True)
    own_kafka_server.kill()
    own_kafka_server.start_behind(proxy.port)
    settings = settings_of(tls, proxy.port, client={}, delivery_timeout_ms=20_000)
    CandidateTopic(settings).publish(candidates())
    reading = read(settings)
    assert next(reading)
    good = proxy.context
    if refused == "server":
        tls.issue(timedelta(days=-1)).configure_cert(proxy.context)
        reported = "its certificate has expired"
    else:
        proxy.context = tls.context_of_foreign_clients()
        reported = "does not trust the authority that signed the client's certificate"
    proxy.disconnect()
    with pytest.raises(BrokerError, match=reported):
        next(reading)
    proxy.context = good
    tls.issue(timedelta(days=1)).configure_cert(proxy.context)
    assert next(read(settings))


@pytest.mark.parametrize(
    ("server", "client", "reported"),
    [
        ({"expired": True}, None, "its certificate has expired .valid from 2.*Renew the server"),
        ({"foreign": True}, None, r"not trusted here \(.*Set PIPELINE_KAFKA__SSL_CA_LOCATION"),
        ({"name": "kafka.invalid"}, None, "its certificate is not for the name 127.0.0.1"),
        ({"asks_clients": True}, None, "is set.*Set PIPELINE_KAFKA__SSL_CERTIFICATE_LOCATION"),
        ({"asks_clients": True}, {"expired": True}, "client.pem has expired.*Renew the file"),
        ({"asks_clients": True}, {"foreign": True}, "does not trust the authority that signed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_error_names_the_certificate(tls: Tls, server: Any, client: Any, reported: str) -> None:
    """The error tells which side's certificate is wrong, why, and which setting helps."""
    settings = settings_of(tls, tls.server(free_port(), **server), client=client)
    topic = CandidateTopic(settings)
    for operation in (partial(topic.publish, candidates()), topic.read):
        with pytest.raises(BrokerError, match=reported):
            operation()


def test_plain_text_against_tls(tls: Tls, kafka_server: KafkaServer) -> None:
    """The error says that one side speaks TLS and the other plain text."""
    port = tls.server(kafka_server.port)
    plain = kafka_server.settings(bootstrap_servers=f"127.0.0.1:{port}", delivery_timeout_ms=1000)
    with pytest.raises(BrokerError, match=r"speaks TLS\). Set PIPELINE_KAFKA__SECURITY_PROTOCOL"):
        CandidateTopic(plain).publish(candidates())
    with pytest.raises(BrokerError, match=r"does not speak TLS\). Let PIPELINE_KAFKA__BOOTSTRAP"):
        CandidateTopic(settings_of(tls, kafka_server.port)).publish(candidates())


# Tokens


def token() -> str:
    """Return a token that is signed by no one."""
    parts = ('{"alg":"none"}', '{"sub":"pipeline","iat":1700000000,"exp":4900000000}', "")
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def granted(access_token: str, status: int = 200) -> Answer:
    """Return a token server's answer, which librdkafka reads only where it is declared to be JSON."""
    body = json.dumps({"access_token": access_token, "expires_in": 3600})
    return Answer(body, status, (("Content-Type", "application/json"),))


@pytest.mark.parametrize("status", [200, 401])
def test_token_is_fetched_for_login(own_kafka_server: KafkaServer, status: int) -> None:
    """The client gets a token by id, secret and scope; a refusal names the settings and no secret.

    The embedded broker refuses every login, so a token that was given is refused there.
    """
    own_kafka_server.kill()
    own_kafka_server.start_asking_for_credentials()
    asked: list[Asked] = []

    def answer(request: Asked) -> Answer:
        asked.append(request)
        return granted(token(), status)

    with answering(answer) as port:
        settings = own_kafka_server.settings(
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauthbearer_token_endpoint_url=f"http://127.0.0.1:{port}/token",
            sasl_oauthbearer_client_id="pipeline",
            sasl_oauthbearer_client_secret=SECRET,
            sasl_oauthbearer_scope="candles",
            delivery_timeout_ms=3000,
        )
        reported = "Check PIPELINE_KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
        with pytest.raises(BrokerError, match=reported) as raised:
            CandidateTopic(settings).publish(candidates())
    assert SECRET not in f"{raised.value} {raised.value.__cause__!r}"
    form = asked[0].body.decode()
    credentials = asked[0].headers["authorization"]
    assert base64.b64decode(credentials.removeprefix("Basic ")).decode() == f"pipeline:{SECRET}"
    assert "grant_type=client_credentials" in form
    assert "scope=candles" in form


def signed_token(key: str) -> str:
    now = datetime.now(UTC)
    return jwt.encode(
        {"sub": "pipeline", "iat": now, "exp": now + timedelta(hours=1)}, key, "HS256"
    )


def is_signed(token: str) -> bool:
    try:
        jwt.decode(token, BROKERS_KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return False
    return True


def test_token_logs_in(own_kafka_server: KafkaServer) -> None:
    """A broker that accepts the token serves publishing and reading; a token of another key is refused."""
    key = BROKERS_KEY

    def answer(_: Asked) -> Answer:
        return granted(signed_token(key))

    own_kafka_server.kill()
    with demanding_tokens(own_kafka_server.port, is_signed) as broker, answering(answer) as port:
        own_kafka_server.start_behind(broker.port)
        settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{broker.port}",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauthbearer_token_endpoint_url=f"http://127.0.0.1:{port}/token",
            sasl_oauthbearer_client_id="pipeline",
            sasl_oauthbearer_client_secret=SECRET,
            delivery_timeout_ms=20_000,
        )
        assert CandidateTopic(settings).publish(candidates(2)).count == 2
        read = CandidateTopic(settings).read(from_beginning=True, follow=False)
        assert len(list(read)) == 2
        key = "another key, of some thirty-two bytes"
        impatient = settings.model_copy(update={"delivery_timeout_ms": 3000})
        with pytest.raises(BrokerError, match=r"token is refused.*SASL_OAUTHBEARER") as raised:
            CandidateTopic(impatient).publish(candidates())
    assert SECRET not in str(raised.value)
    assert not [token for token in broker.tokens if token in str(raised.value)]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, "sasl_oauthbearer_client_secret"),
        ({"sasl_mechanism": "PLAIN"}, "sasl_password"),
    ],
)
def test_login_needs_its_settings(changes: dict[str, str], missing: str) -> None:
    given = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"} | changes
    with pytest.raises(ValidationError, match=rf"{missing}\n.*must be set, because"):
        KafkaSettings.model_validate(given)
    other_way = {"sasl.oauthbearer.metadata.authentication.type": "azure_imds"}
    if not changes:
        assert KafkaSettings.model_validate(given | {"properties": other_way})


# Further properties


def test_properties_reach_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Properties of the environment go to every client, above this program's own options."""
    monkeypatch.setenv(
        "PIPELINE_KAFKA__PROPERTIES",
        f'{{"linger.ms": 50, "socket.nagle.disable": true, "ssl.keystore.password": "{SECRET}"}}',
    )
    settings = load_settings().kafka
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()
    options = KafkaClients(settings).options({"linger.ms": 5, "acks": "all"})
    assert options["linger.ms"] == "50"
    assert options["socket.nagle.disable"] == "true"
    assert options["acks"] == "all"


@pytest.mark.parametrize(
    ("properties", "reported"),
    [
        ('{"linger.msec": "1"}', r"linger.msec is no property of librdkafka 2\."),
        (f'{{"linger.ms": "{SECRET}"}}', "librdkafka refuses the value of one of linger.ms"),
        (f'{{"debug": "{SECRET}"}}', "librdkafka refuses the value of debug"),
        (f'{{"sasl.password": "{SECRET}"}}', "set PIPELINE_KAFKA__SASL_PASSWORD"),
        ('{"acks": "1"}', "must not hold acks, because delivery depends on"),
        ('{"error_cb": "print"}', "must not hold error_cb, which takes no text"),
        (SECRET, "PIPELINE_KAFKA__PROPERTIES"),
        ('["linger.ms"]', "PIPELINE_KAFKA__PROPERTIES"),
    ],
)
def test_unusable_property_stops_the_program(
    monkeypatch: pytest.MonkeyPatch, properties: str, reported: str
) -> None:
    """A property that librdkafka would refuse is a wrong setting; no value is repeated."""
    monkeypatch.setenv("PIPELINE_KAFKA__PROPERTIES", properties)
    with pytest.raises(SettingsError, match=reported) as raised:
        load_settings()
    assert "PIPELINE_KAFKA" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_certificates_need_tls(tls: Tls) -> None:
    with pytest.raises(ValidationError, match="must be SSL or SASL_SSL, because SSL_CA_LOCATION"):
        settings_of(tls, 9092, security_protocol="PLAINTEXT")
