"""The systems that the settings name. The embedded stack starts those at this machine's address; how is in
store_services.py and dagster_services.py.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline_assets.local import airflow
from pipeline_assets.resources.postgres_check import Database, databases
from pipeline_assets.settings import LOCAL_HOSTS, PREFIX, Settings, is_embedded

WORKER = "worker"
GATEWAY = "gateway"
TRADER = "trader"
INFERENCE = "inference"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class System:
    """A system that the settings name: where it is, and whether the stack would start it.

    Attributes:
        others: further servers of the system, for one that is at several.
    """

    name: str
    address: str
    setting: str
    host: str
    port: int | None
    embedded: bool
    others: tuple[tuple[str, int], ...] = ()


def systems(settings: Settings) -> list[System]:
    """Return every system of the settings, in the order in which people read them."""
    dagster, local = settings.dagster, "127.0.0.1"
    code, web = dagster.code_server_port, dagster.webserver_port
    code_setting, web_setting = (
        f"{PREFIX}DAGSTER__{name}_PORT" for name in ("CODE_SERVER", "WEBSERVER")
    )
    code_address, web_address = f"grpc://{local}:{code}", f"http://{dagster.host}:{web}"
    found = [
        _system("exchange", settings.binance.rest_url, "PIPELINE_BINANCE__REST_URL"),
        _system("s3", s3_address(settings), "PIPELINE_S3__ENDPOINT_URL"),
        _redis_system(settings),
        _system(
            "snowflake",
            snowflake_address(settings),
            f"PIPELINE_SNOWFLAKE__{'PORT' if settings.snowflake.host else 'ACCOUNT'}",
        ),
        _kafka_system(settings),
        *(_database_system(each) for each in databases(settings) if each.hosts),
        System("code-server", code_address, code_setting, local, code, embedded=True),
        System("webserver", web_address, web_setting, dagster.host, web, embedded=True),
        System("daemon", "", "", local, None, embedded=True),
    ]
    if dagster.launcher == "celery":
        found.append(System(WORKER, "", "", local, None, embedded=True))
    found.append(_gateway_system(settings))
    if settings.inference.enabled:
        found.append(System(INFERENCE, "", "", local, None, embedded=True))
    # The trader refuses any other delay, and trades on paper only where the gateway is the stack's own.
    if settings.gateway.embedded and settings.backtest.fill_delay == 2:
        found.append(System(TRADER, "", "", local, None, embedded=True))
    if settings.airflow.enabled:
        at, port = airflow.address(settings), settings.airflow.port
        found += [
            System(airflow.API, at, airflow.PORT_SETTING, airflow.HOST, port, embedded=True),
            System(airflow.SCHEDULER, "", "", local, None, embedded=True),
            System(airflow.PROCESSOR, "", "", local, None, embedded=True),
        ]
    return found


def _system(name: str, address: str, setting: str) -> System:
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    embedded = is_embedded(address)
    # `localhost` may resolve to ::1 first, where none of our servers listens.
    return System(
        name=name,
        address=address,
        setting=setting,
        host="127.0.0.1" if embedded else host,
        port=port,
        embedded=embedded,
    )


def _redis_system(settings: Settings) -> System:
    (host, port), *others = settings.redis.address.hosts
    embedded = settings.redis.embedded
    return System(
        name="redis",
        address=settings.redis.url,
        setting="PIPELINE_REDIS__URL",
        host="127.0.0.1" if embedded else host,
        port=port,
        embedded=embedded,
        others=tuple(others),
    )


def _database_system(database: Database) -> System:
    (host, port), *others = database.hosts
    return System(
        name=database.name,
        address=database.place,
        setting=database.setting,
        host=host,
        port=port,
        # The stack starts no PostgreSQL, on this machine neither.
        embedded=False,
        others=tuple(others),
    )


def _gateway_system(settings: Settings) -> System:
    at = settings.gateway
    host = "127.0.0.1" if at.embedded else at.host
    return System(
        name=GATEWAY,
        address=f"grpc://{host}:{at.grpc_port}",
        setting=f"{PREFIX}GATEWAY__GRPC_PORT",
        host=host,
        port=at.grpc_port,
        # Trading with money is begun by a person: by `pipeline-assets gateway --live ACCOUNT`.
        embedded=at.embedded and settings.trading.venue != "live",
    )


def _kafka_system(settings: Settings) -> System:
    kafka = settings.kafka
    (host, port), *others = kafka.servers
    alone = len(kafka.servers) == 1 and kafka.security_protocol == "PLAINTEXT"
    embedded = host in LOCAL_HOSTS and alone
    return System(
        name="kafka",
        address=kafka.bootstrap_servers,
        setting="PIPELINE_KAFKA__BOOTSTRAP_SERVERS",
        host="127.0.0.1" if embedded else host.strip("[]"),
        port=port,
        embedded=embedded,
        others=tuple((name.strip("[]"), number) for name, number in others),
    )


def s3_address(settings: Settings) -> str:
    """Return the address of the S3 service."""
    return settings.s3.endpoint_url or f"https://s3.{settings.s3.region}.amazonaws.com"


def snowflake_address(settings: Settings) -> str:
    """Return the address of the Snowflake account."""
    snowflake = settings.snowflake
    if snowflake.host is None:
        return f"https://{snowflake.account}.snowflakecomputing.com"
    port = f":{snowflake.port}" if snowflake.port else ""
    return f"{snowflake.protocol}://{snowflake.host}{port}"
