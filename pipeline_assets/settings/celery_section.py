"""The settings of the workers that execute runs. Other sections are in sections.py."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from pipeline_assets.settings.sections import Section

_SCHEMES = ("redis://", "rediss://", "amqp://", "amqps://", "pyamqp://")


class CelerySettings(Section):
    """The workers that execute runs, and the broker between them and Dagster."""

    # May hold a password, so it is a secret. Unset: the Redis of the settings.
    broker_url: SecretStr | None = Field(
        None, examples=["rediss://user:…@redis.example.com:6379/1"]
    )
    concurrency: int = Field(6, ge=1, le=64)
    max_tasks_per_child: int = Field(200, ge=1)
    max_memory_mb: int = Field(450, ge=200)

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            text = value.get_secret_value()
            if not text.startswith(_SCHEMES) or not urlsplit(text).hostname:
                raise ValueError(
                    "must be an address that starts with redis://, rediss:// or amqp://"
                )
        return value
