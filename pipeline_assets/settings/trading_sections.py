"""The sections `trading`, `gateway` and `risk` of the settings: the account, where its order gateway
listens, and what the gateway accepts. The limits' meaning is in trading/limits.py.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, SecretStr, field_validator

from pipeline_assets.settings.postgres_address import postgres_address
from pipeline_assets.settings.sections import LOCAL_HOSTS, Section, web_address

# Shorter tokens of the gateway could be guessed.
_TOKEN_LENGTH = 16
# Inside, money is a 64-bit count of 1e-8.
_Money = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=8)]


# The addresses of Binance's demo and of the exchange itself; the stream's of the demo differs by source.
_ADDRESSES = {
    "demo": ("https://demo-fapi.binance.com", "wss://demo-fstream.binance.com/private/ws", None),
    "live": (
        "https://fapi.binance.com",
        "wss://fstream.binance.com/private/ws",
        "https://api.binance.com",
    ),
}


class VenueAddresses(NamedTuple):
    """Where a venue of Binance answers.

    Attributes:
        rest_url: of the signed requests, without /fapi.
        stream_url: of the private stream, without the listen key.
        key_url: where the rights of the key are asked for, without /sapi; None where nothing answers this.
    """

    rest_url: str
    stream_url: str
    key_url: str | None


class TradingSettings(Section):
    """Where orders go, and the account that they belong to."""

    venue: Literal["paper", "demo", "live"] = Field("paper", examples=["demo"])
    # By default the official addresses of the venue.
    rest_url: str | None = Field(None, examples=["https://demo-fapi.binance.com"])
    stream_url: str | None = Field(None, examples=["wss://demo-fstream.binance.com/private/ws"])
    key_url: str | None = Field(None, examples=["https://api.binance.com"])
    api_key: SecretStr | None = Field(None, examples=["…"])
    api_secret: SecretStr | None = Field(None, examples=["…"])
    # The gateway changes neither: it refuses to start where the account has others.
    leverage: int = Field(1, ge=1, le=125, examples=[2])
    margin_type: Literal["isolated", "cross"] = Field("isolated", examples=["cross"])
    # A part of a file's name and of a Redis key.
    account: str = Field("paper", pattern=r"^[a-z0-9_-]{1,40}$", examples=["desk-1"])
    journal: Path | None = Field(None, examples=["/var/lib/pipeline/trading/desk-1.sqlite"])
    # Holds a password, so it is a secret. Once set, the journals are in PostgreSQL and not in files.
    journal_url: SecretStr | None = Field(
        None, examples=["postgresql://user:…@db.example.com:5432/trading"]
    )
    # How long a position whose entry has a stop may be without a confirmed one.
    stop_seconds: int = Field(10, ge=1, le=300, examples=[5])

    @property
    def addresses(self) -> VenueAddresses:
        """The addresses of the venue `demo` or `live`.

        Raises:
            KeyError: the venue is `paper`.
        """
        rest_url, stream_url, key_url = _ADDRESSES[self.venue]
        return VenueAddresses(
            self.rest_url or rest_url, self.stream_url or stream_url, self.key_url or key_url
        )

    @field_validator("rest_url", "key_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return value and web_address(value, ("http://", "https://")).rstrip("/")

    @field_validator("stream_url")
    @classmethod
    def _websocket(cls, value: str | None) -> str | None:
        return value and web_address(value, ("ws://", "wss://")).rstrip("/")

    @field_validator("api_key", "api_secret")
    @classmethod
    def _one_word(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if " " in text or not text.isprintable():
            # A line end from a file cannot be sent in a header, and the error blamed the network.
            raise ValueError("must have no spaces and no line ends")
        return value

    @field_validator("journal_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return postgres_address(value)


class GatewaySettings(Section):
    """Where the order gateway listens. Its token permits every change."""

    host: str = Field("127.0.0.1", min_length=1)
    grpc_port: int = Field(28090, ge=1, le=65535, examples=[9090])
    http_port: int = Field(28091, ge=1, le=65535, examples=[9091])
    token: SecretStr | None = Field(None, examples=["0123456789abcdef…"])

    @field_validator("token")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < _TOKEN_LENGTH:
            # Pydantic's own message counts items.
            raise ValueError(f"The token must have {_TOKEN_LENGTH} characters or more")
        return value

    @property
    def embedded(self) -> bool:
        """Whether the embedded stack serves this address."""
        return self.host in LOCAL_HOSTS


class RiskSettings(Section):
    """The limits of the order gateway; money in the quote asset."""

    order_notional: _Money = Field(Decimal(1_500), examples=["5000"])
    symbol_notional: _Money = Field(Decimal(2_000), examples=["10000"])
    gross_notional: _Money = Field(Decimal(10_000), examples=["50000"])
    open_positions: int = Field(10, ge=0, le=1000, examples=[20])
    daily_loss: _Money = Field(Decimal(200), examples=["1000"])
    # The exchange allows 300 and 1,200.
    orders_per_ten_seconds: int = Field(50, ge=1, le=300)
    orders_per_minute: int = Field(200, ge=1, le=1200)
    price_collar: Decimal = Field(Decimal("0.02"), gt=0, le=1, decimal_places=8, examples=["0.01"])
    price_age_seconds: int = Field(150, ge=60, le=3600)
