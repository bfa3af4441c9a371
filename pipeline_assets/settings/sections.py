"""The sections of the settings: each key with its default, its bounds and an example. Keys without a section
are in model.py.
"""

import re
from datetime import date, timedelta
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from pipeline_assets.settings.files import PREFIX
from pipeline_assets.settings.tls_section import OwnAuthority

# An address with at most a typing error or a port too many. One that passed as a name would have a budget of
# its own, and hosts behind one address would together exceed its limit.
_LIKE_ADDRESS = re.compile(
    r"([0-9:]+(\.[0-9:]*)+|([0-9]+\.){3}.*|.*::.*|[0-9a-f.]*:[0-9a-f.]*:[0-9a-f.:]*)", re.IGNORECASE
)
LOCAL_HOSTS = ("127.0.0.1", "localhost")


class Section(BaseModel):
    """A group of settings; an unknown key is an error, so that a typo does not pass unseen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return None if value == "" else value


class BinanceSettings(Section):
    """The exchange."""

    rest_url: str = Field("http://127.0.0.1:28080", examples=["https://fapi.binance.com"])
    stream_url: str = Field("ws://127.0.0.1:28080/", examples=["wss://fstream.binance.com/"])
    archive_url: str = Field("http://127.0.0.1:28080", examples=["https://data.binance.vision"])
    archive: bool = Field(True, examples=[False])
    # An address of this machine is the one from which requests are sent. Any other names the budget only.
    egress: str | None = Field(None, pattern=r"^[A-Za-z0-9._:-]{1,100}$", examples=["203.0.113.7"])
    settle_ms: int = Field(2000, ge=0, le=60_000)
    weight_limit: int = Field(2400, ge=10)
    weight_margin: int = Field(60, ge=0)
    funding_limit: int = Field(500, ge=1)
    concurrency: int = Field(40, ge=1, le=500)
    timeout_seconds: float = Field(10.0, gt=0)
    retries: int = Field(5, ge=0, le=20)

    @property
    def settle(self) -> timedelta:
        """How long after its close time a candle counts as closed."""
        return timedelta(milliseconds=self.settle_ms)

    @property
    def budget_name(self) -> str:
        """The name of the limits that requests share: the exchange's host, and the egress address if set."""
        host = urlsplit(self.rest_url).netloc
        return host if self.egress is None else f"{host}@{self.egress}"

    @field_validator("egress")
    @classmethod
    def _address_or_name(cls, value: str | None) -> str | None:
        if value is None or not _LIKE_ADDRESS.fullmatch(value):
            return value
        try:
            return str(ip_address(value))
        except ValueError:
            raise ValueError(
                "looks like an address and is none: give the address alone, without a port, or a name"
            ) from None

    @field_validator("weight_margin")
    @classmethod
    def _below_limit(cls, value: int, others: ValidationInfo) -> int:
        limit = others.data.get("weight_limit")
        if limit is not None and value >= limit:
            raise ValueError(f"must be less than the weight limit {limit}")
        return value

    @field_validator("rest_url", "archive_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return web_address(value, ("http://", "https://")).rstrip("/")

    @field_validator("stream_url")
    @classmethod
    def _websocket(cls, value: str) -> str:
        return web_address(value, ("ws://", "wss://"))


# The public exchange's addresses, for `--exchange binance`.
PRODUCTION_BINANCE = {
    f"{PREFIX}BINANCE__{name.upper()}": str(field.examples[0])
    for name, field in BinanceSettings.model_fields.items()
    if name.endswith("_url") and field.examples
}


class S3Settings(Section, OwnAuthority):
    """The object store that holds the lake. Without `endpoint_url` it is AWS itself."""

    endpoint_url: str | None = "http://127.0.0.1:28081"
    bucket: str = Field("candles", min_length=3, max_length=63, examples=["my-candles"])
    region: str = Field("us-east-1", examples=["eu-central-1"])
    # Neither of the two: boto3's own chain (roles, profiles), or the embedded server's own key.
    access_key_id: str | None = Field(None, examples=["AKIA…"])
    secret_access_key: SecretStr | None = Field(None, validate_default=True, examples=["…"])
    addressing: Literal["path", "virtual"] = Field("path", examples=["virtual"])
    # Without the two a bucket's own default encryption holds.
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, examples=["aws:kms"]
    )
    kms_key_id: str | None = Field(None, examples=["arn:aws:kms:eu-central-1:1234:key/abcd"])
    concurrency: int = Field(10, ge=1, le=64)

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return self.endpoint_url is not None and is_embedded(self.endpoint_url)

    @field_validator("endpoint_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return http_address(value)

    @field_validator("addressing")
    @classmethod
    def _by_a_name(cls, value: str, others: ValidationInfo) -> str:
        host = urlsplit(others.data.get("endpoint_url") or "").hostname or ""
        if value == "virtual" and (":" in host or host.replace(".", "").isdigit()):
            raise ValueError(
                "must be path, because the endpoint is a number and has no names below it"
            )
        return value

    @field_validator("kms_key_id")
    @classmethod
    def _with_kms(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None and not (others.data.get("encryption") or "").startswith("aws:kms"):
            raise ValueError("is set, and PIPELINE_S3__ENCRYPTION is not aws:kms or aws:kms:dsse")
        return value

    @field_validator("secret_access_key")
    @classmethod
    def _both_or_neither(cls, value: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if (value is None) != (others.data.get("access_key_id") is None):
            state = "missing" if value is None else "set"
            other = "set" if value is None else "missing"
            raise ValueError(
                f"is {state}, and PIPELINE_S3__ACCESS_KEY_ID is {other}: set both, or neither for "
                "roles, profiles and the embedded server"
            )
        return value


class AlertsSettings(Section):
    """Where alerts of stale candles, failed services and DAG runs go: an address that takes JSON by POST."""

    webhook_url: SecretStr | None = Field(None, examples=["https://hooks.slack.com/services/…"])

    @field_validator("webhook_url")
    @classmethod
    def _http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            web_address(value.get_secret_value(), ("http://", "https://"))
        return value


class IngestSettings(Section):
    """How often ingest runs write to the paid stores. They fetch, and fill the slots, at every minute."""

    # At 15 the slots still hold every minute that is not uploaded.
    upload_minutes: int = Field(1, ge=1, le=15, examples=[5])
    load_minutes: int = Field(15, ge=15, le=1440, examples=[60])


class RepairSettings(Section):
    """The first day of the history that the sensor gap_repair requests by itself."""

    since: date | None = Field(None, examples=["2025-01-01"])


class HousekeepingSettings(Section):
    """How long data are kept that can be made again."""

    staging_days: int = Field(3, ge=1)
    tick_run_days: int = Field(2, ge=1)
    failed_run_days: int = Field(14, ge=1)


class CandidatesSettings(Section):
    """The search for candidates. The strategies themselves are configured in `strategies`."""

    # One tick of the sensor can hold at most a day of minutes of 500 symbols in memory.
    catch_up_minutes: int = Field(360, ge=15, le=1440)
    # Older candles are stored as evaluated late and not published: they are too old to trade on.
    publish_minutes: int = Field(15, ge=1, le=1440)


class StrategySettings(BaseModel):
    """One strategy that finds candidates. Its keys besides `name` and `rules` are checked by the strategy
    itself.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, examples=["rsi_reversal"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that the settings change from their defaults."""
        return {key: value for key, value in (self.model_extra or {}).items() if key != "rules"}

    @property
    def rules(self) -> Any:
        """The position rules that the settings change from their defaults."""
        return (self.model_extra or {}).get("rules", {})


def is_embedded(address: str) -> bool:
    """Return whether an address is one that the embedded stack serves: this machine's, in plain text."""
    parts = urlsplit(address)
    # A scheme with + names the sentinels of a Redis, or a cluster's nodes.
    is_plain = parts.scheme not in ("https", "rediss") and "+" not in parts.scheme
    return parts.hostname in LOCAL_HOSTS and is_plain


def http_address(value: str | None) -> str | None:
    """Return an address of HTTP without a slash at its end, or refuse it."""
    return web_address(value, ("http://", "https://")).rstrip("/") if value else None


def web_address(value: str, schemes: tuple[str, ...]) -> str:
    """Return an address that has one of these schemes.

    Raises:
        ValueError: the address has another one, a wrong port, or credentials.
    """
    if not value.startswith(schemes) or not urlsplit(value).hostname:
        raise ValueError(f"must be an address that starts with {' or '.join(schemes)}")
    try:
        given = urlsplit(value).port
    except ValueError:
        given = 0
    if given == 0:
        raise ValueError("must have a port from 1 to 65535, or none")
    if "@" in urlsplit(value).netloc and not value.startswith("redis"):
        raise ValueError("must not carry credentials")
    return value
