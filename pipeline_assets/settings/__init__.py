"""Every setting, its source and its allowed values. Code that uses a setting does not belong here.

A new setting is a field in sections.py (or in model.py, without a section): its default stands there and
nowhere else. config.yaml repeats it for people, and .env.example names it; test_settings.py compares them.

Order: config.yaml < .env < environment (prefix PIPELINE_, nested by __). Secrets are SecretStr,
have no default, and come from .env or the environment only. If neither has a credential, a system of the
embedded stack (plain text, on this machine) gets the one that `pipeline-assets up` made in
`{data_dir}/credentials.env`; a system elsewhere never does.
"""

from pipeline_assets.settings.celery_section import CelerySettings as CelerySettings
from pipeline_assets.settings.features_section import FeatureSettings as FeatureSettings
from pipeline_assets.settings.files import PREFIX as PREFIX
from pipeline_assets.settings.files import SECRETS as SECRETS
from pipeline_assets.settings.files import SettingsError as SettingsError
from pipeline_assets.settings.inference_section import InferenceSettings as InferenceSettings
from pipeline_assets.settings.kafka_section import KafkaSettings as KafkaSettings
from pipeline_assets.settings.loading import load_settings as load_settings
from pipeline_assets.settings.loading import (
    making_embedded_credentials as making_embedded_credentials,
)
from pipeline_assets.settings.loading import settings as settings
from pipeline_assets.settings.loading import with_embedded_credentials as with_embedded_credentials
from pipeline_assets.settings.model import Settings as Settings
from pipeline_assets.settings.model import is_symbol as is_symbol
from pipeline_assets.settings.orchestration_sections import DagsterSettings as DagsterSettings
from pipeline_assets.settings.redis_section import RedisAddress as RedisAddress
from pipeline_assets.settings.redis_section import RedisSettings as RedisSettings
from pipeline_assets.settings.sections import LOCAL_HOSTS as LOCAL_HOSTS
from pipeline_assets.settings.sections import PRODUCTION_BINANCE as PRODUCTION_BINANCE
from pipeline_assets.settings.sections import AlertsSettings as AlertsSettings
from pipeline_assets.settings.sections import BinanceSettings as BinanceSettings
from pipeline_assets.settings.sections import RepairSettings as RepairSettings
from pipeline_assets.settings.sections import S3Settings as S3Settings
from pipeline_assets.settings.sections import StrategySettings as StrategySettings
from pipeline_assets.settings.sections import is_embedded as is_embedded
from pipeline_assets.settings.snowflake_section import SnowflakeSettings as SnowflakeSettings
from pipeline_assets.settings.tls_section import ClientCertificate as ClientCertificate
from pipeline_assets.settings.tls_section import OwnAuthority as OwnAuthority
from pipeline_assets.settings.trading_sections import GatewaySettings as GatewaySettings
from pipeline_assets.settings.trading_sections import RiskSettings as RiskSettings
from pipeline_assets.settings.trading_sections import TradingSettings as TradingSettings
