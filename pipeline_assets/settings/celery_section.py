"""The settings of the workers that execute runs. Other sections are in sections.py."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline_assets.settings.redis_section import RedisAddress
from pipeline_assets.settings.sections import Section

_SCHEMES = ("redis://", "rediss://", "amqp://", "amqps://", "pyamqp://")
_SENTINELS = ("redis+sentinel://", "rediss+sentinel://")
NO_CLUSTER = (
    "Celery knows no cluster of Redis. Name a single Redis (redis://), the sentinels of one "
    "(redis+sentinel://), or RabbitMQ (amqp://)"
)


class CelerySettings(Section):
    """The workers that execute runs, and the broker between them and Dagster."""

    # May hold a password, so it is a secret. Unset: the Redis of the settings.
    broker_url: SecretStr | None = Field(
        None, examples=["rediss://user:…@redis.example.com:6379/1"]
    )
    concurrency: int = Field(6, ge=1, le=64)
    max_tasks_per_child: int = Field(200, ge=1)
    max_memory_mb: int = Field(450, ge=200)

    @staticmethod
    def refusal(problem: str) -> ValidationError:
        """Return the error of a broker's address that does not go with other sections."""
        error = PydanticCustomError("value_error", "{problem}", {"problem": problem})
        detail = InitErrorDetails(type=error, loc=("broker_url",), input=None)
        return ValidationError.from_exception_data("CelerySettings", [detail])

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_broker(value.get_secret_value())
        return value


def _check_broker(text: str) -> None:
    """Refuse an address that the broker's client cannot take. No message repeats a part: it may be secret."""
    parts = urlsplit(text)
    if "+cluster" in parts.scheme:
        raise ValueError(f"must not be a cluster: {NO_CLUSTER}")
    if "sentinel" in parts.scheme and text.startswith(_SENTINELS):
        RedisAddress.with_login(text)
        return
    if not text.startswith(_SCHEMES):
        raise ValueError(
            "must be an address that starts with redis://, rediss://, redis+sentinel:// or amqp://"
        )
    try:
        is_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_place = False
    if not is_place or parts.fragment:
        raise ValueError(
            "must have a host, and no port or one from 1 to 65535; write special characters of a password "
            "as %23 (#), %2F (/), %3F (?) or %40 (@)"
        )
    database = parts.path.strip("/")
    if parts.scheme.startswith("redis") and database and not database.isdecimal():
        raise ValueError("must end with the number of a Redis database, such as /0")
