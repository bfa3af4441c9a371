"""The clients of S3, all by the same settings: obstore's store and boto3's client. Both have the
credentials, the endpoint, the addressing and the proxy from here; what is asked of them does not belong here.

Both use path-style addresses, which every server understands, unless the settings say otherwise. Proxies
come from the environment, in which proxies.py excepts loopback. The lake's own checksum is the SHA-256 in an
object's metadata (object_store.py); those that boto3 sends by itself are left at its defaults.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.s3_errors import ObjectStoreError, S3Errors, tls_client

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3Store

    from pipeline_assets.settings import S3Settings

# A connection that was idle for longer is not used again: a firewall may have forgotten it, and the next
# request would wait in vain for a reply. Between two ingest runs lies up to a minute, and S3 itself closes
# idle connections too.
_IDLE = timedelta(seconds=15)


@dataclass(frozen=True)
class Patience:
    """How long a store that does not answer is waited for.

    Attributes:
        read: the longest time without a byte of a reply.
        retries: how a request is repeated, which obstore does itself.
    """

    read: timedelta
    retries: RetryPolicy


def _retries(attempts: int, deadline: float) -> RetryPolicy:
    return RetryPolicy(attempts=attempts, deadline=deadline, first_wait=0.1, longest_wait=15.0)


# A run outlasts a restart of the store: no person repeats a backfill. A hanging store takes 3 minutes.
RUN_PATIENCE = Patience(timedelta(minutes=1), _retries(5, 180.0))
# A person waits before a terminal. A hanging store takes 20 seconds.
PERSON_PATIENCE = Patience(timedelta(seconds=10), _retries(2, 15.0))


def obstore_store(settings: "S3Settings", patience: Patience) -> "S3Store":
    """Return the store of obstore; safe to use from many threads.

    Raises:
        ObjectStoreError: there are no credentials, or the authority's file is unusable.
    """
    from obstore.store import S3Store

    tls_client(settings).check_files(ObjectStoreError)
    return S3Store(
        settings.bucket,
        config=_config(settings),
        client_options=_client_options(settings, patience),
        retry_config=_retry_config(patience.retries),
        credential_provider=obstore_credentials(settings),
    )


def _config(settings: "S3Settings") -> "S3Config":
    """Return where the bucket is, how it is addressed and how its objects are encrypted."""
    virtual = settings.addressing == "virtual"
    # Said although they are the defaults: obstore would take another's from the environment.
    config: S3Config = {
        "region": settings.region,
        "skip_signature": False,
        "virtual_hosted_style_request": virtual,
    }
    if settings.endpoint_url:
        # obstore, unlike boto3, does not put the bucket before the host.
        address = settings.endpoint_url
        if virtual:
            address = address.replace("://", f"://{settings.bucket}.", 1)
        config |= {"endpoint": address, "aws_endpoint_url_s3": address}
    if settings.encryption is not None:
        config["server_side_encryption"] = settings.encryption
    if settings.kms_key_id is not None:
        # With a key for the bucket S3 asks KMS, which bills each request, once in a while.
        config |= {"sse_kms_key_id": settings.kms_key_id, "sse_bucket_key_enabled": True}
    return config


def _client_options(settings: "S3Settings", patience: Patience) -> "ClientConfig":
    """Return how connections are opened, and the time limits of a request."""
    client: ClientConfig = {
        "allow_http": (settings.endpoint_url or "").startswith("http:"),
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": patience.read,
        "pool_idle_timeout": _IDLE,
        # Limit for a whole request, such as the rows of a run on a slow line.
        "timeout": timedelta(minutes=30),
    }
    if settings.ssl_ca_location is not None:
        client["root_certificate"] = settings.ssl_ca_location.read_bytes()
    return client


def _retry_config(policy: RetryPolicy) -> "RetryConfig":
    """Return the retry policy in obstore's terms."""
    retries: RetryConfig = {
        "max_retries": (policy.attempts or 1) - 1,
        "retry_timeout": timedelta(seconds=policy.deadline or 0.0),
    }
    # obstore panics where there is nothing between the two.
    if policy.first_wait < policy.longest_wait:
        retries["backoff"] = {
            "init_backoff": timedelta(seconds=policy.first_wait),
            "max_backoff": timedelta(seconds=policy.longest_wait),
            "base": 2,
        }
    return retries


def obstore_credentials(settings: "S3Settings") -> Any:
    """Return the settings' key for obstore, or what boto3's own chain finds.

    Raises:
        ObjectStoreError: there are none.
    """
    key, secret = settings.access_key_id, settings.secret_access_key
    if key and secret:
        known: S3Credential = {
            "access_key_id": key,
            "secret_access_key": secret.get_secret_value(),
            "expires_at": None,
        }
        # Not by the configuration, to which obstore adds the environment's session token.
        return lambda: known
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session(region_name=settings.region)
        # obstore does not notice when a key expires. It asks for another one when 5 minutes of this are
        # left: after 10. boto3 gives out keys that have no more than that to live.
        return Boto3CredentialProvider(session, ttl=timedelta(minutes=15))
    except BotoCoreError as error:
        raise S3Errors(settings).without_credentials(str(error)) from error
    except ValueError as error:
        raise S3Errors(settings).without_credentials() from error


def boto3_client(
    settings: "S3Settings",
    *,
    attempts: int,
    connect_timeout: float = 60.0,
    read_timeout: float = 60.0,
    **more: Any,
) -> Any:
    """Return a boto3 client of S3; without a key in the settings boto3 looks for one itself.

    Args:
        settings: where S3 is.
        attempts: how often boto3 sends a request at most.
        connect_timeout: seconds.
        read_timeout: seconds without a byte of a reply.
        **more: further settings of botocore's Config.
    """
    import boto3
    from botocore.config import Config

    key, secret = settings.access_key_id, settings.secret_access_key
    # Not boto3's default session, which keeps the credentials that it found first.
    made = boto3 if key else boto3.Session()
    return made.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": settings.addressing},
            **more,
        ),
        # None leaves the choice to AWS_CA_BUNDLE.
        verify=str(settings.ssl_ca_location) if settings.ssl_ca_location else None,
    )
