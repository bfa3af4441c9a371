"""Every setting, where it comes from and what it may be. What reads a setting does not belong here.

Order: config.yaml < .env < environment (prefix PIPELINE_, nested by __). Secrets are SecretStr and
come from .env or the environment only.
"""

import os
import re
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableSettingError

from pipeline_assets.web_guard import host_names

PREFIX = "PIPELINE_"
CONFIG_FILE = f"{PREFIX}CONFIG_FILE"
SECRETS = (
    ("s3", "secret_access_key"),
    ("redis", "password"),
    ("snowflake", "password"),
    ("kafka", "sasl_password"),
    ("alerts", "webhook_url"),
)
LISTS = ("symbols", "strategies", "allowed_hosts")
_SYMBOL = re.compile(r"^[^\s/{},a-z]+$")
_SERVER = re.compile(r"^(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})$")

_DATABASE = re.compile(r"^(/[0-9]*)?$")


class SettingsError(Exception):
    """A setting is wrong. The message names the key, what is wrong with it, and an example."""


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
    settle_ms: int = Field(2000, ge=0, le=60_000, examples=[2000])
    weight_limit: int = Field(2400, ge=10, examples=[2400])
    weight_margin: int = Field(60, ge=0, examples=[60])
    concurrency: int = Field(40, ge=1, le=500, examples=[40])
    timeout_seconds: float = Field(10.0, gt=0, examples=[10])
    retries: int = Field(5, ge=0, le=20, examples=[5])

    @property
    def settle(self) -> timedelta:
        """How long after its close time a candle counts as closed."""
        return timedelta(milliseconds=self.settle_ms)

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
        return _url(value, ("http://", "https://")).rstrip("/")

    @field_validator("stream_url")
    @classmethod
    def _websocket(cls, value: str) -> str:
        return _url(value, ("ws://", "wss://"))


class S3Settings(Section):
    """The object store that holds the lake. Without `endpoint_url` it is AWS itself."""

    endpoint_url: str | None = Field("http://127.0.0.1:28081", examples=["http://127.0.0.1:28081"])
    bucket: str = Field("candles", min_length=3, max_length=63, examples=["my-candles"])
    region: str = Field("us-east-1", examples=["eu-central-1"])
    # The embedded server is started with these; null means boto3's own chain (roles, profiles).
    access_key_id: str | None = Field("embedded", examples=["AKIA…"])
    secret_access_key: SecretStr | None = Field(SecretStr("embedded"), examples=["…"])
    concurrency: int = Field(10, ge=1, le=64, examples=[10])

    @field_validator("endpoint_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return _url(value, ("http://", "https://")).rstrip("/") if value else None


class RedisSettings(Section):
    """The slots and the weight budget."""

    url: str = Field("redis://127.0.0.1:28082/0", examples=["rediss://user@host:6379/0"])
    password: SecretStr | None = Field(None, examples=["…"])
    slot_ttl_seconds: int = Field(1800, ge=900, examples=[1800])
    timeout_seconds: float = Field(5.0, gt=0, examples=[5])

    @field_validator("url")
    @classmethod
    def _redis(cls, value: str) -> str:
        _url(value, ("redis://", "rediss://"))
        parts = urlsplit(value)
        if parts.password or "password=" in parts.query:
            raise ValueError("must not carry a password: set PIPELINE_REDIS__PASSWORD instead")
        # The client takes database 0 for what is no number, and says nothing.
        if not _DATABASE.match(parts.path):
            raise ValueError("must end with the number of a database, like /0, or with none")
        return value


class SnowflakeSettings(Section):
    """The warehouse. `host`, `port` and `protocol` are for the embedded server only."""

    account: str = Field("embedded", min_length=1, examples=["xy12345.eu-central-1"])
    user: str = Field("pipeline", min_length=1, examples=["PIPELINE"])
    password: SecretStr | None = Field(SecretStr("embedded"), examples=["…"])
    private_key_path: Path | None = Field(None, examples=["/run/secrets/snowflake.p8"])
    role: str | None = Field(None, examples=["CANDLE_LOADER"])
    warehouse: str | None = Field(None, examples=["CANDLE_LOADING"])
    database: str = Field("MARKET_DATA", pattern=r"^[A-Z][A-Z0-9_]*$", examples=["MARKET_DATA"])
    schema_name: str = Field("FUTURES", pattern=r"^[A-Z][A-Z0-9_]*$", examples=["FUTURES"])
    host: str | None = Field("127.0.0.1", examples=["127.0.0.1"])
    port: int | None = Field(28083, ge=1, le=65535, examples=[28083])
    protocol: Literal["http", "https"] = Field("http", examples=["https"])
    timeout_seconds: int = Field(120, ge=1, examples=[120])
    storage_integration: str | None = Field(
        None, pattern=r"^[A-Z][A-Z0-9_]*$", examples=["S3_CANDLES"]
    )


class KafkaSettings(Section):
    """The broker that candidates are published to."""

    bootstrap_servers: str = Field("127.0.0.1:28084", examples=["a.example.com:9092,b:9092"])
    # Kafka's own rule for a topic's name.
    topic: str = Field("candidates", pattern=r"^[A-Za-z0-9._-]{1,249}$", examples=["candidates"])
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", examples=["SSL"]
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", examples=["SCRAM-SHA-512"]
    )
    sasl_username: str | None = Field(None, validate_default=True, examples=["pipeline"])
    sasl_password: SecretStr | None = Field(None, validate_default=True, examples=["…"])
    ssl_ca_location: Path | None = Field(None, examples=["/etc/ssl/certs/kafka-ca.pem"])
    delivery_timeout_ms: int = Field(5000, ge=1000, le=300_000, examples=[5000])

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

    @field_validator("sasl_username", "sasl_password")
    @classmethod
    def _given_with_sasl(cls, value: Any, others: ValidationInfo) -> Any:
        protocol = others.data.get("security_protocol", "")
        if value is None and protocol.startswith("SASL_"):
            raise ValueError(f"must be set, because the security protocol is {protocol}")
        return value


class DagsterSettings(Section):
    """Where Dagster's web server and code server listen, and who schedules."""

    host: str = Field("127.0.0.1", examples=["127.0.0.1"])
    webserver_port: int = Field(23000, ge=1, le=65535, examples=[3000])
    code_server_port: int = Field(24000, ge=1, le=65535, examples=[4000])
    schedules: bool = Field(False, examples=[True])
    read_only: bool = Field(False, examples=[True])


class AirflowSettings(Section):
    """The embedded Airflow. When it schedules, Dagster's own schedules stay off."""

    enabled: bool = Field(False, examples=[True])
    port: int = Field(26000, ge=1, le=65535, examples=[8080])


class AlertsSettings(Section):
    """Who is told of stale candles and failed DAG runs: an address that takes JSON by POST."""

    webhook_url: SecretStr | None = Field(None, examples=["https://hooks.slack.com/services/…"])

    @field_validator("webhook_url")
    @classmethod
    def _http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _url(value.get_secret_value(), ("http://", "https://"))
        return value


class RepairSettings(Section):
    """How far back history is asked for that nobody asked for by name."""

    since: date | None = Field(None, examples=["2025-01-01"])


class HousekeepingSettings(Section):
    """How long what may be made again is kept."""

    staging_days: int = Field(3, ge=1, examples=[3])
    tick_run_days: int = Field(2, ge=1, examples=[2])
    failed_run_days: int = Field(14, ge=1, examples=[14])


class CandidatesSettings(Section):
    """The search for candidates. Which strategies there are is in `strategies`."""

    # A day of 500 symbols, minute by minute, is what one tick can hold in memory.
    catch_up_minutes: int = Field(360, ge=15, le=1440, examples=[360])


class StrategySettings(BaseModel):
    """One strategy to look for candidates with. What it takes besides `name` is its own business."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, examples=["rsi_reversal"])

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of its parameters that are not to have their defaults."""
        return self.model_extra or {}


class Settings(BaseSettings):
    """All settings, validated at start."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="forbid",
        frozen=True,
    )

    symbols: Annotated[tuple[str, ...] | Literal["all"], NoDecode] = Field(
        (
            "BTCUSDT",
            "ETHUSDT",
            "BNBUSDT",
            "SOLUSDT",
            "XRPUSDT",
            "DOGEUSDT",
            "ADAUSDT",
            "AVAXUSDT",
            "LINKUSDT",
            "NEARUSDT",
        ),
        examples=["BTCUSDT,ETHUSDT"],
    )
    data_dir: Path = Field(Path(".pipeline"), examples=["/var/lib/pipeline"])
    allowed_hosts: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, examples=["dagster.example.com,localhost:3000"]
    )
    binance: BinanceSettings = BinanceSettings()
    s3: S3Settings = S3Settings()
    redis: RedisSettings = RedisSettings()
    snowflake: SnowflakeSettings = SnowflakeSettings()
    kafka: KafkaSettings = KafkaSettings()
    dagster: DagsterSettings = DagsterSettings()
    airflow: AirflowSettings = AirflowSettings()
    alerts: AlertsSettings = AlertsSettings()
    repair: RepairSettings = RepairSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    candidates: CandidatesSettings = CandidatesSettings()
    strategies: tuple[StrategySettings, ...] = Field(
        tuple(
            StrategySettings(name=name)
            for name in ("rsi_reversal", "macd_cross", "ema_trend", "bollinger_breakout")
        ),
        examples=['[{"name":"rsi_reversal","period":14}]'],
    )

    @field_validator("symbols", mode="before")
    @classmethod
    def _symbols(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.strip().lower() == "all":
                return "all"
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError("must be `all` or a list of symbols separated by commas")
        for symbol in value:
            if not isinstance(symbol, str) or not _SYMBOL.match(symbol):
                raise ValueError(
                    f"{symbol!r} is not a symbol: symbols are upper case, without / or blanks"
                )
        return tuple(dict.fromkeys(value))

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _host_names(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        return host_names(names) or None if isinstance(names, (list, tuple)) else names

    @field_validator("data_dir", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("must name a directory")
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put config.yaml below .env and the environment."""
        del file_secret_settings
        file = os.environ.get(CONFIG_FILE, "config.yaml")
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            YamlConfigSettingsSource(settings_cls, yaml_file=file),
        )


def _url(value: str, schemes: tuple[str, ...]) -> str:
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


def _example(location: tuple[str | int, ...]) -> str | None:
    model: type[BaseModel] = Settings
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
            continue
        return str(field.examples[0]) if field.examples else None
    return None


def _explain(error: ValidationError) -> str:
    """One line a wrong setting. The value itself is not repeated: it may be a secret."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        location = problem["loc"]
        # A whole name stands there where .env has a key that is no setting.
        names = [str(part).lower().removeprefix(PREFIX.lower()) for part in location]
        key = (
            PREFIX
            + "__".join(
                names[:2] if len(names) > 1 and names[0] not in LISTS else names[:1]
            ).upper()
        )
        example = _example(location)
        hint = f" Example: {key}={example}" if example is not None else ""
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key}: there is no such setting; config.yaml lists all of them.")
        else:
            # Which entry of a list, and what of it: the key names the list only.
            place = (
                "".join(f"{part}: " for part in location[1:]) if names[0] == "strategies" else ""
            )
            told = problem["msg"].removeprefix("Value error, ")
            if problem["input"] is None and problem["type"] != "value_error":
                told = "must not be empty"
            lines.append(f"{key}: {place}{told}.{hint}")
    return "Wrong settings (config.yaml, .env or environment):\n  " + "\n  ".join(lines)


def load_settings() -> Settings:
    """Read the settings anew.

    Raises:
        SettingsError: a value is malformed, a key is unknown, or a secret stands in config.yaml.
    """
    file = Path(os.environ.get(CONFIG_FILE, "config.yaml"))
    if CONFIG_FILE in os.environ and not file.is_file():
        raise SettingsError(
            f"{CONFIG_FILE}: there is no file {file}. Example: {CONFIG_FILE}=config.yaml"
        )
    _refuse_unknown_variables()
    _refuse_secrets_in(file)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except UnreadableSettingError as error:
        # Pydantic's message names the field but not the value, which may hold a secret.
        raise SettingsError(
            f"Wrong settings: {error}. A section is set key by key, like "
            f"{PREFIX}BINANCE__SETTLE_MS=2000; strategies are JSON, like "
            f"{PREFIX}STRATEGIES={_example(('strategies',))}."
        ) from None


def _refuse_unknown_variables() -> None:
    """Pydantic passes over a variable that is no setting, such as PIPELINE_S3_BUCKET."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_FILE}
    for name in sorted(os.environ):
        upper = name.upper()
        if upper.startswith(PREFIX) and upper.split("__")[0] not in known:
            raise SettingsError(
                f"{name}: there is no such setting; config.yaml lists all of them. Levels are "
                f"joined by two underscores. Example: {PREFIX}S3__BUCKET=my-candles"
            )


def _refuse_secrets_in(file: Path) -> None:
    import yaml

    if not file.exists():
        return
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.MarkedYAMLError as error:
        # Its own text quotes the line, which may hold a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(
            f"{file} is not valid YAML: {error.problem} in line {line}. Example: `symbols: all`"
        ) from None
    if not isinstance(content, dict):
        raise SettingsError(f"{file} must hold a mapping of settings, like `symbols: all`.")
    sections = {str(section).lower(): held for section, held in content.items()}
    for section, key in SECRETS:
        held = sections.get(section)
        if isinstance(held, dict) and any(
            str(name).lower() == key and value is not None for name, value in held.items()
        ):
            name = f"{PREFIX}{section}__{key}".upper()
            raise SettingsError(
                f"{file}: {section}.{key} is a secret: put it into .env as {name}=… instead."
            )


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
