"""Properties that settings hand on to librdkafka, checked when the settings are read. Which properties this
program sets itself is decided in resources/kafka_clients.py.
"""

import re
from collections.abc import Mapping

from pydantic import SecretStr

# By librdkafka's names, the settings of their own.
_OWN_SETTINGS = {
    "bootstrap.servers": "BOOTSTRAP_SERVERS",
    "metadata.broker.list": "BOOTSTRAP_SERVERS",
    "security.protocol": "SECURITY_PROTOCOL",
    "sasl.mechanism": "SASL_MECHANISM",
    "sasl.mechanisms": "SASL_MECHANISM",
    "sasl.username": "SASL_USERNAME",
    "sasl.password": "SASL_PASSWORD",
    "sasl.oauthbearer.client.id": "SASL_OAUTHBEARER_CLIENT_ID",
    "sasl.oauthbearer.client.secret": "SASL_OAUTHBEARER_CLIENT_SECRET",
    "sasl.oauthbearer.token.endpoint.url": "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
    "sasl.oauthbearer.scope": "SASL_OAUTHBEARER_SCOPE",
    "ssl.ca.location": "SSL_CA_LOCATION",
    "ssl.certificate.location": "SSL_CERTIFICATE_LOCATION",
    "ssl.key.location": "SSL_KEY_LOCATION",
    "ssl.key.password": "SSL_KEY_PASSWORD",
    "delivery.timeout.ms": "DELIVERY_TIMEOUT_MS",
    "message.timeout.ms": "DELIVERY_TIMEOUT_MS",
}
# Without these values messages would be lost, published twice, or skipped.
_FIXED = {
    *("acks", "request.required.acks", "enable.idempotence", "transactional.id", "group.id"),
    *("enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store"),
    *("enable.partition.eof", "auto.offset.reset", "partition.assignment.strategy"),
}
# Names of confluent-kafka or librdkafka that take a function or an object.
_NO_TEXT = {"logger", "on_delivery", "on_commit", "opaque", "default_topic_conf"}
_UNKNOWN = "No such configuration property"
_QUOTED = re.compile(r"[\"`]([a-z0-9._]+)[\"`]")


def check_properties(properties: Mapping[str, SecretStr]) -> None:
    """Refuse properties that librdkafka would refuse, or that this program needs for itself.

    No message repeats a value: it may be a secret.

    Raises:
        ValueError: names the property and what is wrong with it.
    """
    for name in properties:
        if name in _OWN_SETTINGS:
            raise ValueError(f"must not hold {name}: set PIPELINE_KAFKA__{_OWN_SETTINGS[name]}")
        if name in _FIXED:
            raise ValueError(
                f"must not hold {name}, because delivery depends on this program's value"
            )
        if name in _NO_TEXT or name.endswith("_cb") or name == "default.topic.config":
            raise ValueError(f"must not hold {name}, which takes no text")
    problem = _refusal(properties)
    if problem is not None:
        raise ValueError(problem)


def _refusal(properties: Mapping[str, SecretStr]) -> str | None:
    """Return what librdkafka says against the properties, without their values."""
    from confluent_kafka import KafkaException, Producer, libversion

    given = {name: value.get_secret_value() for name, value in properties.items()}
    try:
        Producer({"bootstrap.servers": "", "log_level": 0} | given)
    except KafkaException as error:
        said = error.args[0].str()
    else:
        return None
    if "Failed to create" in said:
        # A combination, such as a file that is missing: the clients report it with all their options.
        return None
    named = [name for name in _QUOTED.findall(said) if name in given]
    if _UNKNOWN in said:
        unknown = named[0] if named else next(iter(given))
        return f"{unknown} is no property of librdkafka {libversion()[0]}"
    # librdkafka names some properties by an older name.
    which = named[0] if named else "one of " + ", ".join(given)
    return f"librdkafka refuses the value of {which}"
