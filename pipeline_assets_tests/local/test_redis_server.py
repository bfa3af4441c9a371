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
def test_what_was_answered_survives_the_servers_end(own_redis_server, end):
    own_redis_server.client().hset("ohlcv:1m:{BTCUSDT}", "5", "kept")
    end(own_redis_server)
    own_redis_server.start()
    assert own_redis_server.client().hgetall("ohlcv:1m:{BTCUSDT}") == {"5": "kept"}


def test_it_listens_on_the_loopback_address_only(redis_server):
    listening = [
        connection.laddr
        for connection in psutil.Process(redis_server.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [tuple(one) for one in listening] == [("127.0.0.1", redis_server.port)]


def test_a_full_memory_refuses_writes_and_keeps_what_is_there(own_redis_server):
    client = own_redis_server.client()
    client.set("slot", "kept")
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError):
        client.set("another", "value")
    assert client.get("slot") == "kept"


def test_with_a_password_nobody_enters_without_it(tmp_path: Path):
    with RedisServer(tmp_path, PASSWORD) as server:
        assert server.client().ping()
        for wrong in (None, "guess"):
            with pytest.raises(redis.AuthenticationError):
                redis.Redis.from_url(server.url, password=wrong).get("slot")


def test_the_password_is_neither_on_the_command_line_nor_on_disk(tmp_path: Path):
    command = redis_command(tmp_path, 1, PASSWORD)
    assert not [part for part in command if PASSWORD.get_secret_value() in part]
    (file,) = tmp_path.iterdir()
    assert PASSWORD.get_secret_value() not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_password_file_that_others_could_read_is_closed_to_them(tmp_path: Path):
    file = tmp_path / "server.conf"
    file.touch(0o644)
    redis_command(tmp_path, 1, PASSWORD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_data_directory_with_blanks_is_made_and_used(tmp_path: Path):
    with RedisServer(tmp_path / "a b" / "ü") as server:
        server.client().set("slot", "kept")
        server.kill()
        server.start()
        assert server.client().get("slot") == "kept"
    assert (tmp_path / "a b" / "ü" / "appendonlydir").is_dir()
