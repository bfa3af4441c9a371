"""The settings of the warehouse. Other sections are in sections.py."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from pipeline_assets.settings.sections import Section, is_embedded


class SnowflakeSettings(Section):
    """The warehouse. `host`, `port` and `protocol` are for the embedded server only."""

    account: str = Field("embedded", min_length=1, examples=["xy12345.eu-central-1"])
    user: str = Field("pipeline", min_length=1, examples=["PIPELINE"])
    password: SecretStr | None = Field(None, examples=["…"])
    private_key_path: Path | None = Field(None, examples=["/run/secrets/snowflake.p8"])
    private_key_passphrase: SecretStr | None = Field(None, examples=["…"])
    # An OAuth token, or that of a workload identity by OIDC. A file may be renewed under way.
    token: SecretStr | None = Field(None, examples=["…"])
    token_path: Path | None = Field(None, examples=["/run/secrets/snowflake.token"])
    workload_identity: Literal["AWS", "AZURE", "GCP", "OIDC"] | None = Field(None, examples=["AWS"])
    # Only for AZURE.
    workload_identity_resource: str | None = Field(None, examples=["api://1234"])
    role: str | None = Field(None, examples=["CANDLE_LOADER"])
    warehouse: str | None = Field(None, examples=["CANDLE_LOADING"])
    database: str = Field("MARKET_DATA", pattern=r"^[A-Z][A-Z0-9_]*$")
    schema_name: str = Field("FUTURES", pattern=r"^[A-Z][A-Z0-9_]*$")
    host: str | None = "127.0.0.1"
    port: int | None = Field(28083, ge=1, le=65535)
    protocol: Literal["http", "https"] = Field("http", examples=["https"])
    timeout_seconds: int = Field(120, ge=1)
    storage_integration: str | None = Field(
        None, pattern=r"^[A-Z][A-Z0-9_]*$", examples=["S3_CANDLES"]
    )

    @property
    def has_login(self) -> bool:
        """Whether a way to log in is set."""
        ways = (self.password, self.private_key_path, self.token, self.token_path)
        return self.workload_identity is not None or any(way is not None for way in ways)

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return self.host is not None and is_embedded(f"{self.protocol}://{self.host}")
