"""Every setting, where it comes from and what it may be. What reads a setting does not belong here.

Order: config.yaml < .env < environment (prefix PIPELINE_, nested by __). Secrets are SecretStr,
have no default, and come from .env or the environment only. Where neither has one, a system of the
embedded stack (plain text, on this machine) gets the credential that `pipeline-assets up` made in
`{data_dir}/credentials.env`; a system elsewhere never does.
"""

import codecs
import io
import os
import re
from collections.abc import Mapping
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
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableSettingError

from pipeline_assets.credentials_file import (
    CredentialsFileError,
    make_credentials,
    read_credentials,
)
from pipeline_assets.errors import InputError
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
LOCAL_HOSTS = ("127.0.0.1", "localhost")
ENV_FILE = ".env"
# Editors on Windows begin a file with a byte order mark, which would become part of the first name.
ENCODING = "utf-8-sig"
LISTS = ("symbols", "strategies", "allowed_hosts")
# What a symbol may be, in settings and on the exchange. Each becomes a part of S3 and Redis keys, of file
# names and of addresses: of ASCII only capital letters, digits and the underscore, beside letters of
# other scripts ("币安人生USDT"), but no blank, control or formatting character of any script.
_SYMBOL = re.compile(
    r"(?:[0-9A-Z_]|(?![\s\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff])"
    r"[\u00a1-\ud7ff\uf900-\uffff\U00010000-\U000dffff]){1,40}"
)
_SERVER = re.compile(r"^(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})$")

_AS_UTF8 = "Save the file as UTF-8, for example by `iconv -f UTF-16 -t UTF-8`."
_DATABASE = re.compile(r"^(/[0-9]*)?$")


def is_symbol(name: str) -> bool:
    """Whether the exchange can have a symbol of this name."""
    return _SYMBOL.fullmatch(name) is not None


class SettingsError(InputError):
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
    # Neither of the two: boto3's own chain (roles, profiles), or the embedded server's own key.
    access_key_id: str | None = Field(None, examples=["AKIA…"])
    secret_access_key: SecretStr | None = Field(None, validate_default=True, examples=["…"])
    concurrency: int = Field(10, ge=1, le=64, examples=[10])

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return self.endpoint_url is not None and is_embedded(self.endpoint_url)

    @field_validator("endpoint_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return _url(value, ("http://", "https://")).rstrip("/") if value else None

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


class RedisSettings(Section):
    """The slots and the weight budget."""

    url: str = Field("redis://127.0.0.1:28082/0", examples=["rediss://user@host:6379/0"])
    password: SecretStr | None = Field(None, examples=["…"])
    slot_ttl_seconds: int = Field(1800, ge=900, examples=[1800])
    timeout_seconds: float = Field(5.0, gt=0, examples=[5])
    retry_seconds: float = Field(10.0, ge=0, le=120, examples=[10])

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return is_embedded(self.url)

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
    password: SecretStr | None = Field(None, examples=["…"])
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

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return self.host is not None and is_embedded(f"{self.protocol}://{self.host}")


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
    sensors: bool = Field(True, examples=[False])
    read_only: bool = Field(False, examples=[True])


class AirflowSettings(Section):
    """The embedded Airflow. When it schedules, Dagster's own schedules stay off."""

    enabled: bool = Field(False, examples=[True])
    port: int = Field(26000, ge=1, le=65535, examples=[8080])


class AlertsSettings(Section):
    """Who is told of stale candles, failed services and DAG runs: an address that takes JSON by POST."""

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
    # Older ones are stored as evaluated late and not published: nobody may trade on them.
    publish_minutes: int = Field(15, ge=1, le=1440, examples=[15])


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
        env_file=ENV_FILE,
        env_file_encoding=ENCODING,
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
            if not isinstance(symbol, str) or not is_symbol(symbol):
                raise ValueError(
                    f"{symbol!r} is not a symbol: symbols are capital letters, digits and _"
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
    def _usable(cls, value: Path) -> Path:
        # Airflow replaces $HOME and its like in paths, and a database's address ends at ?.
        if "$" in str(value) or "?" in str(value):
            raise ValueError("must not contain $ or ?: variables are not replaced in settings")
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
        """Put config.yaml below .env and the environment, and take the values of .env literally."""
        del file_secret_settings
        if isinstance(dotenv_settings, DotEnvSettingsSource) and dotenv_settings.env_file:
            # python-dotenv would replace ${…}, in quotes too: a password with it would be changed.
            dotenv_settings.env_vars = _literal_values(Path(ENV_FILE))
        file = os.environ.get(CONFIG_FILE, "config.yaml")
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            YamlConfigSettingsSource(settings_cls, yaml_file=file, yaml_file_encoding=ENCODING),
        )


def is_embedded(address: str) -> bool:
    """Whether an address is one that the embedded stack serves: this machine's, in plain text."""
    parts = urlsplit(address)
    return parts.hostname in LOCAL_HOSTS and parts.scheme not in ("https", "rediss")


def with_embedded_credentials(settings: Settings) -> Settings:
    """Return the settings with the embedded stack's credentials where a system has none of its own.

    Raises:
        SettingsError: the file of the credentials is damaged or cannot be read.
    """
    try:
        return _with_credentials(settings, read_credentials(settings.data_dir))
    except CredentialsFileError as error:
        raise SettingsError(str(error)) from error


def making_embedded_credentials(settings: Settings) -> Settings:
    """Like `with_embedded_credentials`, and make the credentials first if there are none.

    For whoever starts the embedded stack. Safe to repeat: credentials that exist are kept.

    Raises:
        SettingsError: the file of the credentials is damaged, or cannot be read or written.
    """
    try:
        return _with_credentials(settings, make_credentials(settings.data_dir))
    except CredentialsFileError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}DATA_DIR: credentials cannot be written to {settings.data_dir} "
            f"({error.strerror}). Name a directory that this user may write to."
        ) from error


def _with_credentials(settings: Settings, known: Mapping[str, str]) -> Settings:
    s3, redis, snowflake = settings.s3, settings.redis, settings.snowflake
    changes: dict[str, Section] = {}
    if s3.embedded and s3.access_key_id is None:
        changes["s3"] = _filled("s3", s3, known, "access_key_id", "secret_access_key")
    if redis.embedded and redis.password is None:
        changes["redis"] = _filled("redis", redis, known, "password")
    if snowflake.embedded and snowflake.password is None and snowflake.private_key_path is None:
        changes["snowflake"] = _filled("snowflake", snowflake, known, "password")
    return settings.model_copy(update=changes)


def _filled(name: str, section: Section, known: Mapping[str, str], *keys: str) -> Section:
    """Return the section with all of the keys, or as it is: half a credential would be refused."""
    variables = {key: f"{PREFIX}{name}__{key}".upper() for key in keys}
    if not all(variable in known for variable in variables.values()):
        return section
    held = {field: getattr(section, field) for field in type(section).model_fields}
    return section.model_validate(
        held | {key: known[variable] for key, variable in variables.items()}
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
    # Before pydantic reads it, whose errors would not name the file.
    _literal_values(Path(ENV_FILE))
    try:
        return with_embedded_credentials(Settings())
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


def _literal_values(file: Path) -> dict[str, str | None]:
    """Return the values of an .env file by name in lower case, `${…}` in them as it stands.

    Raises:
        SettingsError: the file is not UTF-8, or a line is not NAME=value.
    """
    from dotenv.parser import parse_stream

    if not file.is_file():
        return {}
    values: dict[str, str | None] = {}
    for statement in parse_stream(io.StringIO(_text(file))):
        if statement.error:
            # python-dotenv would log a warning and go on without the setting.
            raise SettingsError(
                f"{file}: line {statement.original.line} is not NAME=value, or a quotation mark is "
                f"not closed. Example: {PREFIX}S3__BUCKET=my-candles"
            )
        if statement.key is not None:
            values[statement.key.lower()] = statement.value
    return values


def _text(file: Path) -> str:
    """Return the text of a file of settings. An error does not repeat it: it may hold secrets.

    Raises:
        SettingsError: the file cannot be read or is not UTF-8.
    """
    try:
        content = file.read_bytes()
        text = content.decode(ENCODING)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SettingsError(f"{file}: line 1: the file is UTF-16. {_AS_UTF8}") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{file}: line {line} is not UTF-8. {_AS_UTF8}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SettingsError(f"{file}: line {line} has a zero byte: UTF-16? {_AS_UTF8}")
    return text


def _refuse_secrets_in(file: Path) -> None:
    import yaml

    if not file.exists():
        return
    text = _text(file)
    try:
        content = yaml.safe_load(text) or {}
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"{file} is not valid YAML: a control character in line {line}. Example: `symbols: all`"
        ) from None
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
