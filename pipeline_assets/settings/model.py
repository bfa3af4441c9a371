"""The settings as a whole, where they come from and in which order. Sections and their defaults are in
sections.py and the modules beside it.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipeline_assets.settings.backtest_section import BacktestSettings
from pipeline_assets.settings.celery_section import NO_CLUSTER, CelerySettings
from pipeline_assets.settings.features_section import FeatureSettings
from pipeline_assets.settings.files import (
    CONFIG_FILE,
    ENCODING,
    ENV_FILE,
    PREFIX,
    configured_values,
    literal_values,
)
from pipeline_assets.settings.inference_section import InferenceSettings
from pipeline_assets.settings.kafka_section import KafkaSettings
from pipeline_assets.settings.orchestration_sections import AirflowSettings, DagsterSettings
from pipeline_assets.settings.redis_section import RedisSettings
from pipeline_assets.settings.sections import (
    AlertsSettings,
    BinanceSettings,
    CandidatesSettings,
    HousekeepingSettings,
    IngestSettings,
    RepairSettings,
    S3Settings,
    StrategySettings,
)
from pipeline_assets.settings.snowflake_section import SnowflakeSettings
from pipeline_assets.settings.trading_sections import (
    GatewaySettings,
    RiskSettings,
    TradingSettings,
)
from pipeline_assets.settings.training_section import TrainingSettings
from pipeline_assets.web_guard import host_names

# The form of a symbol, in settings and on the exchange. A symbol becomes a part of S3 and Redis keys, of
# file names and of addresses. So the only ASCII characters are capital letters, digits and the underscore;
# letters of other scripts are allowed ("币安人生USDT"), blanks, control and formatting characters are not.
_SYMBOL = re.compile(
    r"(?:[0-9A-Z_]|(?![\s\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff])"
    r"[\u00a1-\ud7ff\uf900-\uffff\U00010000-\U000dffff]){1,40}"
)
_SYMBOLS = (
    *("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT"),
    *("DOGEUSDT", "ADAUSDT", "AVAXUSDT", "LINKUSDT", "NEARUSDT"),
)


def is_symbol(name: str) -> bool:
    """Return whether the exchange can have a symbol of this name."""
    return _SYMBOL.fullmatch(name) is not None


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
        _SYMBOLS,
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
    celery: CelerySettings = Field(CelerySettings(), validate_default=True)
    airflow: AirflowSettings = AirflowSettings()
    alerts: AlertsSettings = AlertsSettings()
    ingest: IngestSettings = IngestSettings()
    repair: RepairSettings = RepairSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    candidates: CandidatesSettings = CandidatesSettings()
    features: FeatureSettings = FeatureSettings()
    backtest: BacktestSettings = BacktestSettings()
    training: TrainingSettings = TrainingSettings()
    trading: TradingSettings = TradingSettings()
    gateway: GatewaySettings = GatewaySettings()
    risk: RiskSettings = RiskSettings()
    inference: InferenceSettings = InferenceSettings()
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

    @field_validator("celery")
    @classmethod
    def _a_broker(cls, value: CelerySettings, others: ValidationInfo) -> CelerySettings:
        redis, dagster = others.data.get("redis"), others.data.get("dagster")
        is_cluster = redis is not None and redis.address.kind == "cluster"
        has_workers = dagster is None or dagster.launcher == "celery"
        if value.broker_url is None and is_cluster and has_workers:
            raise value.refusal(f"is missing, and PIPELINE_REDIS__URL is a cluster: {NO_CLUSTER}")
        return value

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
            dotenv_settings.env_vars = literal_values(Path(ENV_FILE))
        file = os.environ.get(CONFIG_FILE, "config.yaml")
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            InitSettingsSource(settings_cls, configured_values(Path(file))),
        )
