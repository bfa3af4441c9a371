"""The command line: what a person gets who types something wrong."""

import socket

import pytest
from click.testing import CliRunner

from pipeline_assets.local.exchange.command import exchange


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clock", "yesterday"], "no clock 'yesterday'"),
        (["--clock", "stepped:soon"], "use real, offset:SECONDS"),
        (["--symbols", "BTCEUR"], "must end in USDT"),
        (["--symbols", "99999"], "at most"),
        (["--outage", "2026-11-20"], "outage '2026-11-20' cannot be read"),
        (["--outage", "2026-11-20/2026-11-19"], "must end after it starts"),
        (["--listed", "NOPEUSDT=2026-11-20"], "names no symbol"),
        (["--faults", '{"http_999": 1}'], "no fault 'http_999'"),
        (["--faults", "http_500"], "--faults 'http_500' is no JSON: Expecting value"),
    ],
)
def test_a_wrong_option_is_named(arguments, message):
    result = CliRunner().invoke(exchange, ["--port", "0", *arguments])
    assert result.exit_code == 1
    assert message in result.output


def test_impossible_port_is_refused():
    """An impossible port number is refused."""
    result = CliRunner().invoke(exchange, ["--port", "99999"])
    assert result.exit_code == 2
    assert "Invalid value for '--port': 99999 is not in the range 0<=x<=65535" in result.output


@pytest.mark.parametrize(
    ("host", "options"), [("127.0.0.1", []), ("127.0.0.2", ["--host", "127.0.0.2"])]
)
def test_taken_port_is_named(host, options):
    """The error for a port in use names the port, and the address where the server was to listen."""
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(exchange, ["--port", str(port), *options])
    assert result.exit_code == 1
    assert f"Port {port} on {host} cannot be had" in result.output
    assert "--port" in result.output
