"""How the broker is addressed."""

import ssl

import pytest
from kombu.exceptions import OperationalError

from pipeline_assets.dagster_instance.celery_app import make_celery
from pipeline_assets.settings import Settings


@pytest.mark.parametrize("options", ["", "?ssl_ca_certs={bundle}"])
def test_untrusted_broker_gets_no_password(tls_port: int, options: str) -> None:
    """A Redis over TLS with an untrusted certificate is refused before the password is sent."""
    bundle = ssl.get_default_verify_paths().openssl_cafile
    address = f"rediss://:secret@127.0.0.1:{tls_port}/0{options.format(bundle=bundle)}"
    app = make_celery(Settings(celery={"broker_url": address}))
    refused = pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED")
    with app.connection_for_write() as connection, refused:
        connection.default_channel.client.ping()
