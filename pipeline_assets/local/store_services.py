"""How the exchange and the stores of the embedded stack are started, and when each is ready. Health checks
are probes.py's.
"""

import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import SecretStr

from pipeline_assets.local import probes
from pipeline_assets.local.environment import outer_environment, settings_environment
from pipeline_assets.local.errors import StackError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.ports import http_answers, tcp_answers
from pipeline_assets.local.s3_server import HEALTH_PATH
from pipeline_assets.local.service import TIMEOUT, Service, module, option, service
from pipeline_assets.local.service_secrets import all_but
from pipeline_assets.local.systems import System, s3_address, systems
from pipeline_assets.resources.s3_clients import boto3_client
from pipeline_assets.settings import PREFIX, Settings


def exchange_service(settings: Settings, system: System, options: Sequence[str]) -> Service:
    """Return the replay exchange; `options` are its own."""
    argv = module("pipeline_assets.local.exchange", *option("--port", system.port), *options)
    ready = partial(http_answers, f"http://{system.host}:{system.port}/fapi/v1/ping")
    health = HealthCheck(probes.exchange(system.host, system.port or 0, TIMEOUT))
    return service(system, argv, ready, settings_environment(settings, all_but()), health=health)


def s3_service(settings: Settings, system: System) -> Service:
    """Return the S3 server, ready once the bucket of the lake is there."""
    argv = module(
        "pipeline_assets.local.s3_server",
        *option("--port", system.port),
        *option("--data-dir", settings.data_dir / "s3"),
    )
    if settings.s3.access_key_id and settings.s3.secret_access_key:
        argv += option("--access-key-id", settings.s3.access_key_id)
        argv += option("--secret-access-key-env", f"{PREFIX}S3__SECRET_ACCESS_KEY")

    def ready() -> bool:
        if not http_answers(f"http://{system.host}:{system.port}{HEALTH_PATH}"):
            return False
        create_bucket(settings)
        return True

    environment = settings_environment(settings, all_but("S3__SECRET_ACCESS_KEY"))
    health = HealthCheck(probes.s3(settings.s3, TIMEOUT))
    return service(system, argv, ready, environment, health=health)


def redis_service(settings: Settings, system: System) -> Service:
    """Return the Redis server."""
    from pipeline_assets.local.redis_server import redis_command

    directory, password = settings.data_dir / "redis", settings.redis.password
    argv = tuple(redis_command(directory, system.port or 0, password))
    port = system.port or 0
    ready = partial(_redis_answers, system.host, port, password)
    ask = probes.redis(settings.redis.url, system.host, port, password, TIMEOUT)
    return service(system, argv, ready, outer_environment(), health=HealthCheck(ask))


def _redis_answers(host: str, port: int, password: SecretStr | None) -> bool:
    """Return whether the server serves commands; while it still loads its data it says -LOADING."""
    # Without the password the answer would be -NOAUTH, loading or not.
    given = password.get_secret_value().encode() if password else None
    login = b"" if given is None else b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(given), given)
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(login + b"PING\r\n")
            with connection.makefile("rb") as replies:
                answers = [replies.readline(128) for _ in range(1 if given is None else 2)]
    except OSError:
        return False
    return answers[-1].startswith(b"+PONG")


def snowflake_service(settings: Settings, system: System) -> Service:
    """Return the Snowflake server, which reads the lake."""
    argv = module(
        "pipeline_assets.local.snowflake_server",
        *option("--port", system.port),
        *option("--data-dir", settings.data_dir / "snowflake"),
        *option("--s3-endpoint", s3_address(settings)),
    )
    # It has no page at /, and a 404 is the answer of a server that is there.
    ready = partial(http_answers, f"http://{system.host}:{system.port}/", below=500)
    # A statement over 500 objects keeps the server busy for ten seconds on a slow machine.
    ask = probes.snowflake(settings.snowflake, system.host, system.port or 0, 20.0)
    needed = ("S3__SECRET_ACCESS_KEY", "SNOWFLAKE__PASSWORD")
    environment = settings_environment(settings, all_but(*needed))
    health = HealthCheck(ask, period=15.0, timeout=20.0)
    return service(system, argv, ready, environment, health=health)


def kafka_service(settings: Settings, system: System) -> Service:
    """Return the Kafka broker."""
    argv = module("pipeline_assets.local.kafka_server", *option("--port", system.port))
    environment = settings_environment(settings, all_but())
    after: tuple[str, ...] = ()
    store, secret = settings.s3, settings.s3.secret_access_key
    # Messages outlast the broker where the lake is this stack's; a bucket elsewhere is not ours to
    # fill, so that beside it the broker keeps them in memory.
    if any(found.name == "s3" and found.embedded for found in systems(settings)):
        argv += option("--s3-endpoint", s3_address(settings))
        argv += option("--region", store.region)
        # A person's own token or profile would be taken beside this key, and be refused.
        for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE"):
            environment.pop(name, None)
        environment |= {
            "AWS_ACCESS_KEY_ID": store.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": secret.get_secret_value() if secret else "",
        }
        after = ("s3",)
    ready = partial(tcp_answers, system.host, system.port or 0)
    health = HealthCheck(probes.kafka(system.host, system.port or 0, TIMEOUT))
    return service(system, argv, ready, environment, health=health, after=after)


def create_bucket(settings: Settings) -> None:
    """Make the lake's bucket on the embedded server. Safe to repeat: an existing one stays.

    Raises:
        StackError: the server refuses.
    """
    from botocore.exceptions import ClientError

    s3 = settings.s3
    client = boto3_client(s3, attempts=2, connect_timeout=2, read_timeout=5, proxies={})
    # S3 refuses the default region as a constraint, and any other one without it.
    region: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": s3.region}}
    try:
        client.create_bucket(Bucket=s3.bucket, **({} if s3.region == "us-east-1" else region))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise StackError(
                f"The embedded S3 server refuses to make the bucket {s3.bucket!r} ({code}). "
                "Check PIPELINE_S3__BUCKET: lower-case letters, digits and hyphens."
            ) from error
