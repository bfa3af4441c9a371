"""The keys of certificates, which the sections of several systems have in common. How the files are used does
not belong here.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

_CLIENT_FILES = ("ssl_certificate_location", "ssl_key_location")


class OwnAuthority(BaseModel):
    """The authority that signed a server's certificate, where the system does not trust it anyway."""

    ssl_ca_location: Path | None = Field(None, examples=["/etc/ssl/pipeline/ca.pem"])


class ClientCertificate(OwnAuthority):
    """The certificate by which this client shows who it is."""

    # Chain and key may stand in one file, which is then the certificate's.
    ssl_certificate_location: Path | None = Field(None, examples=["/run/secrets/client.pem"])
    ssl_key_location: Path | None = Field(None, examples=["/run/secrets/client.key"])
    ssl_key_password: SecretStr | None = Field(None, examples=["…"])

    @property
    def tls_keys(self) -> list[str]:
        """Return the keys of this section that only make sense with TLS and are set."""
        return tls_keys(dict(self))

    @field_validator("ssl_key_location")
    @classmethod
    def _with_a_certificate(cls, value: Path | None, others: ValidationInfo) -> Path | None:
        # The key is absent where its own value was refused, which is reported already.
        if value is not None and others.data.get("ssl_certificate_location", "") is None:
            raise ValueError("is set, and SSL_CERTIFICATE_LOCATION of the same section is missing")
        return value


def tls_keys(values: dict[str, Any]) -> list[str]:
    """Return the keys among a section's values that only make sense with TLS and are set."""
    names = ("ssl_ca_location", *_CLIENT_FILES)
    return [name.upper() for name in names if values.get(name) is not None]
