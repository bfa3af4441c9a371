"""The stack starts what the settings place on this machine, and keeps its data."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import psutil
import pytest
import redis
from botocore.exceptions import ClientError
from pydantic import SecretStr

from pipeline_assets.credentials_file import make_credentials
from pipeline_assets.local.errors import StackError
from pipeline_assets.local.stack import (
    REPOSITORY,
    dagster_environment,
    prepared,
    run_stack,
    running_stack,
    settings_environment,
    stack_services,
    stack_status,
    systems,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets.process_identity import is_alive
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import (
    DagsterSettings,
    InferenceSettings,
    Settings,
    load_settings,
    with_embedded_credentials,
)
from pipeline_assets.stack_state import read_state, write_state
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually, free_port

# A loopback address at which the stack starts no server: a system there counts as elsewhere.
ELSEWHERE = "127.0.0.2"

RUN = """
from pipeline_assets.local.stack import run_stack
from pipeline_assets.settings import load_settings
def announce(status):
    print(*(service.name for service in status.services if service.pid), flush=True)
run_stack(load_settings(), with_dagster=False, on_ready=announce)
"""


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def stores_only(tmp_path: Path, **changes: object) -> Settings:
    """S3 and Redis here; exchange, Snowflake and Kafka elsewhere, at addresses without a server."""
    return Settings(
        **{
            "data_dir": tmp_path / "data",
            "binance": {"rest_url": f"http://{ELSEWHERE}:{free_port()}"},
            "snowflake": {"host": ELSEWHERE, "port": free_port()},
            "kafka": {"bootstrap_servers": f"{ELSEWHERE}:{free_port()}"},
            "s3": {
                "endpoint_url": f"http://127.0.0.1:{free_port()}",
                "bucket": "lake",
                "access_key_id": "AKIASTACK",
                "secret_access_key": "a secret = with, signs",
            },
            "redis": {"url": f"redis://localhost:{free_port()}/0", "password": "it's secret"},
            "dagster": {"webserver_port": free_port(), "code_server_port": free_port()},
            "gateway": {"grpc_port": free_port(), "http_port": free_port()},
        }
        | changes
    )


def s3_client(settings: Settings, secret: str | None = None):
    return boto3.client(
        "s3",
        endpoint_url=settings.s3.endpoint_url,
        region_name=settings.s3.region,
        aws_access_key_id=settings.s3.access_key_id,
        aws_secret_access_key=secret or settings.s3.secret_access_key.get_secret_value(),
    )


def redis_client(settings: Settings) -> redis.Redis:
    password = settings.redis.password.get_secret_value()
    return redis.Redis.from_url(settings.redis.url, password=password)


def test_data_survive_a_restart(tmp_path: Path) -> None:
    """Data are kept from one run of the stack to the next."""
    settings = stores_only(tmp_path)
    with running_stack(settings, with_dagster=False):
        s3_client(settings).put_object(Bucket="lake", Key="a", Body=b"candles")
        redis_client(settings).hset("ohlcv:1m:{BTCUSDT}", "0", "a candle")
    with running_stack(settings, with_dagster=False):
        assert s3_client(settings).get_object(Bucket="lake", Key="a")["Body"].read() == b"candles"
        assert redis_client(settings).hget("ohlcv:1m:{BTCUSDT}", "0") == b"a candle"


def test_the_embedded_servers_refuse_wrong_credentials(tmp_path: Path) -> None:
    settings = stores_only(tmp_path)
    with running_stack(settings, with_dagster=False):
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            s3_client(settings, "guessed").list_objects_v2(Bucket="lake")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(settings.redis.url).ping()


def stores_with_made_credentials(tmp_path: Path, **changes: object) -> Settings:
    """S3, Redis, Snowflake and Kafka here, none of them with a credential in the settings."""
    own = {
        "s3": {"endpoint_url": f"http://127.0.0.1:{free_port()}", "bucket": "lake"},
        "redis": {"url": f"redis://localhost:{free_port()}/0"},
        "snowflake": {"port": free_port()},
        "kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}", "topic": "found"},
    }
    return stores_only(tmp_path, **(own | changes))


def logged_in(settings: Settings, password: str) -> bool:
    """Return whether the Snowflake server lets the user in."""
    from snowflake.connector import DatabaseError, connect

    held = settings.snowflake
    try:
        connect(
            account=held.account, user=held.user, password=password, host=held.host,
            port=held.port, protocol="http", login_timeout=10,
        ).close()  # fmt: skip
    except DatabaseError as error:
        # A refused login: the connector's number, and the server's own behind it.
        if error.errno not in (250001, 390100):
            raise
        return False
    return True


def files_open_to_others(directory: Path) -> list[str]:
    found = [path for path in (directory, *directory.rglob("*")) if not path.is_symlink()]
    return [f"{path} {path.stat().st_mode:o}" for path in found if path.stat().st_mode & 0o077]


def test_generated_credentials_stay_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack makes credentials that its servers ask for and that no one else sees.

    A person's own AWS variables do not reach the embedded S3 server.
    """
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-an-account")
    bare = stores_with_made_credentials(tmp_path)
    before = os.umask(0o022)
    try:
        with running_stack(bare, with_dagster=False) as status:
            settings = with_embedded_credentials(bare)
            made = make_credentials(bare.data_dir)
            s3_client(settings).put_object(Bucket="lake", Key="a", Body=b"candles")
            with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
                s3_client(settings, "embedded").list_objects_v2(Bucket="lake")
            assert redis_client(settings).ping()
            with pytest.raises(redis.AuthenticationError):
                redis.Redis.from_url(settings.redis.url).ping()
            assert logged_in(settings, made["PIPELINE_SNOWFLAKE__PASSWORD"])
            assert not logged_in(settings, "embedded")
            CandidateTopic(settings.kafka).publish(candidates())

            assert files_open_to_others(settings.data_dir) == []
            commands = "".join(
                " ".join(process.cmdline())
                for each in status.services
                if each.pid
                for process in (
                    psutil.Process(each.pid),
                    *psutil.Process(each.pid).children(recursive=True),
                )
            )
            written = commands + "".join(
                path.read_text(errors="replace")
                for path in settings.data_dir.rglob("*")
                if path.is_file() and path.name != "credentials.env"
            )
            secrets = {name: value for name, value in made.items() if "KEY_ID" not in name}
            assert [name for name, value in secrets.items() if value in written] == []
    finally:
        os.umask(before)


def test_older_data_without_credentials_are_kept(tmp_path: Path) -> None:
    """Data of a stack without generated credentials are kept.

    The former version used the word `embedded` for S3 and Snowflake, and no Redis password.
    """
    bare = stores_with_made_credentials(tmp_path)
    with RedisServer(bare.data_dir / "redis") as former:
        former.client().hset("ohlcv:1m:{BTCUSDT}", "0", "a candle")
    word = {"access_key_id": "embedded", "secret_access_key": SecretStr("embedded")}
    old = bare.model_copy(
        update={
            "s3": bare.s3.model_copy(update=word),
            "snowflake": bare.snowflake.model_copy(update={"password": SecretStr("embedded")}),
        }
    )
    found = candidates(minutes=2)
    for directory in (old.data_dir, old.data_dir / "redis"):
        directory.chmod(0o755)
    with running_stack(old, with_dagster=False):
        s3_client(old).put_object(Bucket="lake", Key="a", Body=b"candles")
        Warehouse(old.snowflake, old.s3).make_tables(Interval.ONE_HOUR)
        CandidateTopic(old.kafka).publish(found)
    (old.data_dir / "credentials.env").unlink()
    for path in (old.data_dir, *old.data_dir.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    new = prepared(bare)
    assert files_open_to_others(new.data_dir) == []
    with running_stack(new, with_dagster=False):
        assert s3_client(new).get_object(Bucket="lake", Key="a")["Body"].read() == b"candles"
        assert redis_client(new).hget("ohlcv:1m:{BTCUSDT}", "0") == b"a candle"
        assert Warehouse(new.snowflake, new.s3).table_summary(Interval.ONE_HOUR) == {}
        kept = list(CandidateTopic(new.kafka).read(from_beginning=True, follow=False))
    assert [each.id for each in kept] == [each.id for each in found]


def test_status_tells_local_and_elsewhere(tmp_path: Path) -> None:
    """status reports which services run here and which are elsewhere."""
    settings = stores_only(tmp_path)
    with (
        socket.create_server((ELSEWHERE, settings.snowflake.port)),
        running_stack(settings, with_dagster=False) as status,
    ):
        found = {service.name: (service.embedded, service.alive) for service in status.services}
        assert found == {
            "exchange": (False, False),
            "s3": (True, True),
            "redis": (True, True),
            "snowflake": (False, True),
            "kafka": (False, False),
            "code-server": (True, False),
            "webserver": (True, False),
            "daemon": (True, False),
            "worker": (True, False),
            "gateway": (True, False),
            "trader": (True, False),
        }
        assert (status.running, status.pid) == (True, os.getpid())
    after = stack_status(settings)
    assert (after.running, after.pid) == (False, None)
    assert not any(service.alive for service in after.services)


def test_status_sees_a_killed_supervisor(tmp_path: Path) -> None:
    """status sees that the supervisor was killed."""
    settings = stores_only(tmp_path)
    with running(settings) as process:
        assert stack_status(settings).running
        record = read_state(settings.data_dir)
        process.kill()
        process.wait(30)
        eventually(
            lambda: not any(is_alive(child.pid, child.created) for child in record.processes),
            "the servers have ended",
        )
        status = stack_status(settings)
        assert not status.running
        assert not any(service.alive for service in status.services)


def running(settings: Settings) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env=settings_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().split() == ["s3", "redis"]
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_stack_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """A signal stops the stack in order."""
    settings = stores_only(tmp_path)
    with running(settings) as process:
        record = read_state(settings.data_dir)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")
    assert not any(is_alive(child.pid, child.created) for child in record.processes)
    assert "bye bye" in (settings.data_dir / "logs" / "redis.log").read_text()


def test_second_stack_on_data_is_refused(tmp_path: Path) -> None:
    """A second stack over the same data is refused."""
    settings = stores_only(tmp_path)
    others = stores_only(tmp_path)
    with running_stack(settings, with_dagster=False):
        with (
            pytest.raises(StackError, match=rf"already runs over .* \(pid {os.getpid()}\)"),
            running_stack(others, with_dagster=False),
        ):
            pytest.fail("two stacks over one directory")
        assert redis_client(settings).ping()


def test_taken_port_names_the_setting(tmp_path: Path) -> None:
    """The error for a port in use names the setting, and the former signal handlers are restored."""
    settings = stores_only(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    port = int(settings.redis.url.split(":")[2].split("/")[0])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StackError, match=rf"Port {port} .* redis .* PIPELINE_REDIS__URL"),
    ):
        run_stack(settings, with_dagster=False, on_ready=lambda _: pytest.fail("ready"))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("wrong", ["/proc/pipeline", "/etc/passwd", "/etc/passwd/pipeline"])
def test_impossible_data_directory_names_setting(tmp_path: Path, wrong: str) -> None:
    """The error for a data directory that cannot be created names the setting."""
    settings = stores_only(tmp_path, data_dir=Path(wrong))
    reported = (
        rf"{wrong}.* cannot be made \(.+\)\. Set PIPELINE_DATA_DIR to a directory that you may"
    )
    with pytest.raises(StackError, match=reported):
        run_stack(settings, on_ready=lambda _: pytest.fail("started"))
    with pytest.raises(StackError, match=reported):
        dagster_environment(settings)


def test_refused_bucket_name_stops_start(
    tmp_path: Path,
) -> None:
    """A bucket name that S3 refuses stops the start and names the setting."""
    settings = stores_only(tmp_path)
    wrong = settings.model_copy(update={"s3": settings.s3.model_copy(update={"bucket": "La_Ke"})})
    with pytest.raises(StackError, match="PIPELINE_S3__BUCKET"):
        run_stack(wrong, with_dagster=False, on_ready=lambda _: pytest.fail("started"))


def test_bucket_is_made_in_other_region(tmp_path: Path) -> None:
    """The bucket is created in another region too."""
    settings = stores_only(tmp_path)
    s3 = settings.s3.model_copy(update={"region": "eu-central-1"})
    settings = settings.model_copy(update={"s3": s3})
    for _ in range(2):
        with running_stack(settings, with_dagster=False):
            s3_client(settings).put_object(Bucket="lake", Key="a", Body=b"")


def test_outside_systems_are_not_started(tmp_path: Path) -> None:
    """Systems whose address is not on this machine are not started."""
    production = Settings(
        data_dir=tmp_path,
        binance={"rest_url": "https://fapi.binance.com"},
        s3={"endpoint_url": None, "region": "eu-central-1"},
        redis={"url": "rediss://cache.example.com:6380/0"},
        snowflake={"host": None, "port": None, "account": "xy12345"},
        kafka={"bootstrap_servers": "a.example.com:9092,b.example.com:9092"},
    )
    started = [service.name for service in stack_services(production)]
    assert started == ["code-server", "webserver", "daemon", "worker", "gateway", "trader"]
    without = production.model_copy(update={"dagster": DagsterSettings(launcher="process")})
    assert [each.name for each in stack_services(without)] == [*started[:3], "gateway", "trader"]
    deciding = production.model_copy(update={"inference": InferenceSettings(enabled=True)})
    assert [each.name for each in stack_services(deciding)] == [
        *started[:-1],
        "inference",
        "trader",
    ]
    addresses = {system.name: system.address for system in systems(production)}
    assert addresses["s3"] == "https://s3.eu-central-1.amazonaws.com"
    assert addresses["snowflake"] == "https://xy12345.snowflakecomputing.com"
    assert addresses["kafka"] == "a.example.com:9092,b.example.com:9092"


def test_outside_exchange_is_not_started(tmp_path: Path) -> None:
    """An exchange elsewhere is not started, while all else is."""
    settings = Settings(data_dir=tmp_path, binance={"rest_url": "https://fapi.binance.com"})
    started = [service.name for service in stack_services(settings, with_dagster=False)]
    assert started == ["s3", "redis", "snowflake", "kafka"]


def test_stores_outlive_their_users(tmp_path: Path) -> None:
    """Exchange and stores end after everything of Dagster's, and the code server after the daemon."""
    services = {each.name: each for each in stack_services(Settings(data_dir=tmp_path))}
    stores = {"exchange", "s3", "redis", "snowflake", "kafka"}
    for name in ("code-server", "webserver", "daemon", "worker"):
        assert stores <= set(services[name].needed_until_its_end)
    assert "code-server" in services["daemon"].needed_until_its_end


def test_commands_show_no_secret(tmp_path: Path) -> None:
    """No server of the stack has a secret in its command."""
    services = stack_services(stores_only(tmp_path))
    shown = repr(services) + repr([service.argv for service in services])
    for secret in ("a secret = with, signs", "it's secret"):
        assert secret not in shown


def test_children_get_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes get the same settings, whatever their source."""
    settings = stores_only(tmp_path, symbols="BTCUSDT,币安人生USDT", dagster={"schedules": False})
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_unset_settings_stay_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are unset stay unset for child processes."""
    settings = Settings(
        data_dir=tmp_path,
        symbols="all",
        s3={"endpoint_url": None, "access_key_id": None, "secret_access_key": None},
        snowflake={"host": None, "port": None, "private_key_path": tmp_path / "key.p8"},
    )
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_dagster_home_is_in_data_directory(tmp_path: Path) -> None:
    """Dagster's home lies in the data directory and links the repository."""
    settings = stores_only(tmp_path)
    for _ in range(2):
        environment = dagster_environment(settings)
        link = Path(environment["DAGSTER_HOME"]) / "dagster.yaml"
        assert link.parent == settings.data_dir / "dagster"
        assert link.resolve() == REPOSITORY / "dagster.yaml"
        # As after the clone was moved.
        link.unlink()
        link.symlink_to(tmp_path / "gone" / "dagster.yaml")
    link.unlink()
    link.write_text("telemetry: {enabled: false}")
    dagster_environment(settings)
    assert link.read_text() == "telemetry: {enabled: false}"


def test_taken_port_is_waited_for(tmp_path: Path) -> None:
    """A port that is in use for a while is waited for.

    The S3 server cannot come back while another process holds its port, and then does.
    """
    settings = stores_only(tmp_path)
    address = ("127.0.0.1", int(settings.s3.endpoint_url.rsplit(":", 1)[1]))

    def hold_the_port() -> socket.socket | None:
        try:
            return socket.create_server(address)
        except OSError:
            return None

    def s3():
        return next(each for each in stack_status(settings).services if each.name == "s3")

    with running_stack(settings, with_dagster=False) as status:
        server = next(service for service in status.services if service.name == "s3")
        os.kill(server.pid, signal.SIGKILL)
        with eventually(hold_the_port, "the port is free"):
            eventually(lambda: s3().restarts > 1, "it tried again", seconds=60)
            assert not stack_status(settings).is_up
            assert (s3().state, s3().alive) == ("restarting", False)
        eventually(lambda: s3().alive, "it is up again", seconds=60)
        assert "ended with" in s3().last_restart


def test_status_sees_a_stopped_supervisor(tmp_path: Path) -> None:
    """status sees that the supervisor is stopped."""
    settings = stores_only(tmp_path)
    with running(settings) as process:
        process.send_signal(signal.SIGSTOP)
        try:
            # As it stands half a minute later.
            record = read_state(settings.data_dir)
            stale = (datetime.now(UTC) - timedelta(seconds=40)).isoformat()
            write_state(settings.data_dir, replace(record, checked_at=stale))
            status = stack_status(settings)
            assert status.running
            assert not status.is_up
            assert "the supervisor has not reported for 4" in status.problem
            assert [each.alive for each in status.services if each.pid] == [False, False]
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.communicate(timeout=60)


def test_broker_keeps_messages_across_runs(
    tmp_path: Path,
) -> None:
    """The broker keeps its messages from one run of the stack to the next."""
    settings = stores_only(
        tmp_path, kafka={"bootstrap_servers": f"localhost:{free_port()}", "topic": "found"}
    )
    topic = CandidateTopic(settings.kafka)
    found = candidates(minutes=2, symbols=3)
    with running_stack(settings, with_dagster=False) as status:
        service = next(service for service in status.services if service.name == "kafka")
        assert (service.alive, service.address) == (True, settings.kafka.bootstrap_servers)
        topic.publish(found)
    with running_stack(settings, with_dagster=False):
        kept = list(topic.read(from_beginning=True, follow=False))
    assert sorted(each.id for each in kept) == sorted(each.id for each in found)


def test_broker_with_credentials_is_outside(tmp_path: Path) -> None:
    """A broker that needs credentials is never taken for this machine's."""
    guarded = {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "p"}
    settings = Settings(data_dir=tmp_path, kafka=guarded)
    assert "kafka" not in [service.name for service in stack_services(settings)]


def test_embedded_broker_fills_no_outside_bucket(tmp_path: Path) -> None:
    """If the object store is elsewhere, the broker writes to none of its buckets."""
    settings = Settings(data_dir=tmp_path, s3={"endpoint_url": "https://s3.example.com"})
    (broker,) = [each for each in stack_services(settings) if each.name == "kafka"]
    assert "--s3-endpoint" not in broker.argv
    assert broker.after == ()


def test_live_gateway_is_not_started(tmp_path: Path) -> None:
    """A person starts trading with money; the stack starts the gateway of the other venues."""
    started = [
        {
            each.name
            for each in stack_services(Settings(data_dir=tmp_path, trading={"venue": venue}))
        }
        for venue in ("paper", "demo", "live")
    ]
    assert ["gateway" in names for names in started] == [True, True, False]


_ACCOUNT = {
    "PIPELINE_TRADING__API_KEY": "key-of-desk",
    "PIPELINE_TRADING__API_SECRET": "word-of-desk",
}
_JOURNAL = "postgresql://gateway:word-of-journal@db.example.com/trading"


def test_secrets_reach_only_their_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a person writes a secret, no other process of the stack gets it, by .env neither."""
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in _ACCOUNT.items()))
    monkeypatch.setenv("pipeline_trading__api_secret", "word-of-desk")
    monkeypatch.setenv("PIPELINE_GATEWAY", '{"token": "word-of-the-gateway"}')
    monkeypatch.setenv("PIPELINE_TRADING__VENUE", "demo")
    monkeypatch.setenv("PIPELINE_TRADING__JOURNAL_URL", _JOURNAL)
    monkeypatch.setenv("PIPELINE_ALERTS__WEBHOOK_URL", "https://example.com/word-of-hook")
    monkeypatch.setenv("PIPELINE_INFERENCE__ENABLED", "true")
    monkeypatch.setenv("PIPELINE_AIRFLOW__ENABLED", "true")
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    settings = load_settings()
    environments = {each.name: each.environment for each in stack_services(settings)}
    assert {"watchdog", "inference", "airflow", "exchange", "redis"} < environments.keys()

    def holders(secret: str) -> set[str]:
        return {name for name, each in environments.items() if secret in repr(each)}

    assert holders("key-of-desk") == holders("word-of-desk") == {"gateway", "worker"}
    assert holders("word-of-the-gateway") == {"gateway", "trader"}
    assert holders("word-of-journal") == {"gateway"}
    servers = {"exchange", "s3", "redis", "snowflake", "kafka"}
    assert not holders("word-of-hook") & servers
    for name in ("trader", "inference"):
        with monkeypatch.context() as child:
            for variable, value in environments[name].items():
                child.setenv(variable, value)
            # Its own reading of .env brings nothing back.
            assert load_settings().trading.api_secret is None


def test_key_is_where_runs_are(tmp_path: Path) -> None:
    """Without workers the runs are children of the code server, and one of these compares a day."""
    trading = {"venue": "demo", "api_key": "key-of-desk", "api_secret": "word-of-desk"}
    made = Settings(
        _env_file=None, data_dir=tmp_path, trading=trading, dagster={"launcher": "process"}
    )
    secret = "PIPELINE_TRADING__API_SECRET"
    given = {each.name: (each.environment or {}).get(secret) for each in stack_services(made)}
    assert {name for name, value in given.items() if value} == {"gateway", "code-server"}


def test_kafka_properties_reach_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in a mapping were handed on as asterisks, in a form that no child could read."""
    kafka = {"bootstrap_servers": f"{ELSEWHERE}:1", "properties": {"client.rack": "eu-1a"}}
    settings = stores_only(tmp_path, kafka=kafka)
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().kafka == settings.kafka


def test_trader_needs_its_fill_delay(tmp_path: Path) -> None:
    """The trader refuses another delay than 2: the stack starts without it rather than not at all."""
    started = [
        {system.name for system in systems(Settings(data_dir=tmp_path, backtest=each))}
        for each in ({"fill_delay": 1}, {"fill_delay": 2})
    ]
    assert started[1] - started[0] == {"trader"}
