"""The embedded Redis server: where it listens, what it keeps, who may enter."""

import stat
from pathlib import Path

import psutil
import pytest
import redis
from pydantic import SecretStr

from pipeline_assets.local.redis_server import redis_command
from pipeline_assets_tests.fixtures.redis import RedisServer

PASSWORD = SecretStr('p"a s\\s\nwörd')


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
def test_answered_writes_survive_the_end(own_redis_server, end):
    """Writes that were answered survive the end of the server."""
    own_redis_server.client().hset("ohlcv:1m:{BTCUSDT}", "5", "kept")
    end(own_redis_server)
    own_redis_server.start()
    assert own_redis_server.client().hgetall("ohlcv:1m:{BTCUSDT}") == {"5": "kept"}


def test_listens_on_loopback_only(redis_server):
    """The server listens on the loopback address only."""
    listening = [
        connection.laddr
        for connection in psutil.Process(redis_server.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [tuple(one) for one in listening] == [("127.0.0.1", redis_server.port)]


def test_full_memory_refuses_writes(own_redis_server):
    """A full memory refuses writes and keeps what is stored."""
    client = own_redis_server.client()
    client.set("slot", "kept")
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError):
        client.set("another", "value")
    assert client.get("slot") == "kept"


def test_password_is_required_if_set(tmp_path: Path):
    """With a password set, no client gets in without it."""
    with RedisServer(tmp_path, PASSWORD) as server:
        assert server.client().ping()
        for wrong in (None, "guess"):
            with pytest.raises(redis.AuthenticationError):
                redis.Redis.from_url(server.url, password=wrong).get("slot")


def test_password_is_not_exposed(tmp_path: Path):
    """The password is neither on the command line nor on disk."""
    command = redis_command(tmp_path, 1, PASSWORD)
    assert not [part for part in command if PASSWORD.get_secret_value() in part]
    (file,) = tmp_path.iterdir()
    assert PASSWORD.get_secret_value() not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_readable_password_file_is_closed(tmp_path: Path):
    """A password file that others could read is made private."""
    file = tmp_path / "server.conf"
    file.touch(0o644)
    redis_command(tmp_path, 1, PASSWORD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_directory_with_blanks_is_used(tmp_path: Path):
    """A data directory whose name has blanks is created and used."""
    with RedisServer(tmp_path / "a b" / "ü") as server:
        server.client().set("slot", "kept")
        server.kill()
        server.start()
        assert server.client().get("slot") == "kept"
    assert (tmp_path / "a b" / "ü" / "appendonlydir").is_dir()
