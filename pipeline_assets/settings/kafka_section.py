"""The settings of the broker. Which further properties its client takes is in kafka_properties.py; other
sections are in sections.py.
"""

import re
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from pipeline_assets.settings.kafka_properties import check_properties
from pipeline_assets.settings.sections import Section
from pipeline_assets.settings.tls_section import ClientCertificate, tls_keys

_SERVER = re.compile(r"^(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})$")


class KafkaSettings(Section, ClientCertificate):
    """The broker that candidates are published to."""

    bootstrap_servers: str = Field("127.0.0.1:28084", examples=["a.example.com:9092,b:9092"])
    # Further settings of the client library. Secret, because some of them are passwords.
    properties: dict[str, SecretStr] | None = Field(
        None, examples=['{"client.rack":"eu-central-1a"}']
    )
    # Kafka's own rule for a topic's name.
    topic: str = Field("candidates", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", examples=["SSL"]
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = (
        "SCRAM-SHA-512"
    )
    sasl_username: str | None = Field(None, validate_default=True, examples=["pipeline"])
    sasl_password: SecretStr | None = Field(None, validate_default=True, examples=["…"])
    # With OAUTHBEARER, in place of user and password: who asks which server for tokens.
    sasl_oauthbearer_token_endpoint_url: str | None = Field(
        None, validate_default=True, examples=["https://login.example.com/oauth2/token"]
    )
    sasl_oauthbearer_client_id: str | None = Field(
        None, validate_default=True, examples=["pipeline"]
    )
    sasl_oauthbearer_client_secret: SecretStr | None = Field(
        None, validate_default=True, examples=["…"]
    )
    sasl_oauthbearer_scope: str | None = Field(None, examples=["kafka"])
    delivery_timeout_ms: int = Field(5000, ge=1000, le=300_000)

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each bootstrap server."""
        pairs = (server.rsplit(":", 1) for server in self.bootstrap_servers.split(","))
        return tuple((host, int(port)) for host, port in pairs)

    @field_validator("bootstrap_servers")
    @classmethod
    def _hosts_and_ports(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",")]
        for server in servers:
            match = _SERVER.match(server)
            if not match or not 1 <= int(match["port"]) <= 65535:
                raise ValueError("must be host:port, several of them separated by commas")
        return ",".join(servers)

    @field_validator("properties", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: str(held).lower()
            if isinstance(held, bool)
            else held
            if _is_text(held)
            else str(held)
            for name, held in value.items()
        }

    @field_validator("properties")
    @classmethod
    def _known(cls, value: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        if value:
            check_properties(value)
        return value or None

    @field_validator("security_protocol")
    @classmethod
    def _with_tls(cls, value: str, others: ValidationInfo) -> str:
        if (unused := tls_keys(others.data)) and not value.endswith("SSL"):
            raise ValueError(f"must be SSL or SASL_SSL, because {unused[0]} is set")
        return value

    @field_validator("sasl_username", "sasl_password")
    @classmethod
    def _given_with_sasl(cls, value: Any, others: ValidationInfo) -> Any:
        if value is None and _login(others) not in (None, "OAUTHBEARER"):
            protocol = others.data["security_protocol"]
            raise ValueError(f"must be set, because the security protocol is {protocol}")
        return value

    @field_validator(
        "sasl_oauthbearer_token_endpoint_url",
        "sasl_oauthbearer_client_id",
        "sasl_oauthbearer_client_secret",
    )
    @classmethod
    def _given_with_tokens(cls, value: Any, others: ValidationInfo) -> Any:
        # The properties may name another way to get tokens.
        other_way = any(
            name.startswith("sasl.oauthbearer.") for name in others.data.get("properties") or {}
        )
        if value is None and _login(others) == "OAUTHBEARER" and not other_way:
            raise ValueError("must be set, because SASL_MECHANISM is OAUTHBEARER")
        return value


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, SecretStr))


def _login(others: ValidationInfo) -> str | None:
    """Return the mechanism by which the client logs in, if it does."""
    if not others.data.get("security_protocol", "").startswith("SASL_"):
        return None
    return others.data.get("sasl_mechanism")
