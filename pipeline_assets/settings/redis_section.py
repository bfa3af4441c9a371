"""The Redis section, and what its address says: one server, the sentinels of a server, or a cluster's nodes.
How each is connected to is not here.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from pipeline_assets.settings.sections import Section, is_embedded, web_address
from pipeline_assets.settings.tls_section import ClientCertificate, tls_keys

_DATABASE = re.compile(r"/?|/[0-9]+")
_SERVICE = re.compile(r"/([A-Za-z0-9._-]+)(?:/([0-9]*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][:@/\s]+)(?::([0-9]{1,5}))?")
_PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}

Kind = Literal["server", "sentinel", "cluster"]


@dataclass(frozen=True)
class RedisAddress:
    """The parts of an address.

    Attributes:
        kind: what the hosts are.
        tls: whether they speak TLS.
        user: of the access control list of the servers that hold data.
        hosts: one server, some of the sentinels, or some of a cluster's nodes.
        service: the name under which sentinels know the server; empty for other kinds.
        database: its number.
    """

    kind: Kind
    tls: bool
    user: str | None
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    database: int = 0

    @classmethod
    def with_login(cls, text: str) -> tuple[str, Self]:
        """Return user and password as an address has them, and its other parts, as `parse` does."""
        scheme, _, rest = text.partition("://")
        place, slash, path = rest.partition("/")
        login, _, places = place.rpartition("@")
        return login, cls.parse(f"{scheme}://{places}{slash}{path}")

    @property
    def schemes(self) -> tuple[str, str]:
        """How an address of this kind starts, without TLS and with it."""
        suffix = "" if self.kind == "server" else f"+{self.kind}"
        return f"redis{suffix}://", f"rediss{suffix}://"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of an address.

        Raises:
            ValueError: the address has another form. The message repeats no part that may be secret.
        """
        scheme, _, rest = text.partition("://")
        tls, kind = scheme.startswith("rediss"), _kind(scheme)
        parts = urlsplit(f"//{rest}")
        login, _, places = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        if password or "password=" in parts.query:
            raise ValueError("must not carry a password: set PIPELINE_REDIS__PASSWORD instead")
        if kind == "server":
            if "," in places:
                raise ValueError(
                    "names several hosts, so it must start with redis+cluster:// (nodes of a cluster) or "
                    "redis+sentinel:// (sentinels)"
                )
            web_address(text, ("redis://", "rediss://"))
        elif parts.query or parts.fragment:
            raise ValueError("must not have options after ? or #")
        hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(","))
        service, database = _place(kind, parts.path)
        return cls(kind, tls, unquote(user) or None, hosts, service, database)


def _kind(scheme: str) -> Kind:
    match scheme.split("+"):
        case ["redis" | "rediss"]:
            return "server"
        case ["redis" | "rediss", "cluster"]:
            return "cluster"
        case ["redis" | "rediss", "sentinel"]:
            return "sentinel"
    raise ValueError(
        "must be an address that starts with redis://, redis+cluster:// or redis+sentinel://, with rediss in "
        "place of redis for TLS"
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[2] or default_port) if found else 0
    if found is None or not 1 <= port <= 65535:
        raise ValueError(
            "must name hosts, separated by commas, each with a port from 1 to 65535 or none"
        )
    return found[1].strip("[]"), port


def _place(kind: Kind, path: str) -> tuple[str, int]:
    """Return the service and the database that the path names."""
    if kind == "sentinel":
        found = _SERVICE.fullmatch(path)
        if found is None:
            raise ValueError(
                "must end with the name by which the sentinels know the server, such as /mymaster, or "
                "/mymaster/0 with the number of a database"
            )
        return found[1], int(found[2] or 0)
    # For a database that is not a number, the client silently takes database 0.
    if not _DATABASE.fullmatch(path):
        raise ValueError("must end with the number of a database, like /0, or with none")
    database = int(path.strip("/") or 0)
    if kind == "cluster" and database:
        raise ValueError("must not name a database other than /0: a cluster has no other")
    return "", database


class RedisSettings(Section, ClientCertificate):
    """The slots, the indicator states, the weight budget and the leases."""

    url: str = Field(
        "redis://127.0.0.1:28082/0", validate_default=True, examples=["rediss://user@host:6379/0"]
    )
    password: SecretStr | None = Field(None, examples=["…"])
    # Sentinels, of the broker too, have users and passwords of their own, or none.
    sentinel_user: str | None = Field(None, examples=["watcher"])
    sentinel_password: SecretStr | None = Field(None, examples=["…"])
    slot_ttl_seconds: int = Field(1800, ge=900)
    timeout_seconds: float = Field(5.0, gt=0)
    retry_seconds: float = Field(10.0, ge=0, le=120)

    @property
    def address(self) -> RedisAddress:
        """The parts of the URL."""
        return RedisAddress.parse(self.url)

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return is_embedded(self.url)

    @field_validator("url")
    @classmethod
    def _redis(cls, value: str, others: ValidationInfo) -> str:
        address = RedisAddress.parse(value)
        if (unused := tls_keys(others.data)) and not address.tls:
            raise ValueError(f"must start with {address.schemes[1]}, because {unused[0]} is set")
        return value
