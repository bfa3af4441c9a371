"""Which proxy leads where, and that the environment says the same to every library."""

import os

import pytest

from pipeline_assets.proxies import ProxyError, complete, first_hop, proxy_for

PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://fapi.binance.com", {}, None),
        ("https://fapi.binance.com", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://fapi.binance.com", {"https_proxy": PROXY}, PROXY),
        ("https://fapi.binance.com", {"HTTP_PROXY": PROXY}, None),
        ("https://fapi.binance.com", {"ALL_PROXY": PROXY}, PROXY),
        ("https://fapi.binance.com", {"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY),
        ("https://fapi.binance.com", {"HTTPS_PROXY": PROXY, "NO_PROXY": ".binance.com"}, None),
        ("https://fapi.binance.com", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("wss://fstream.binance.com/", {"HTTPS_PROXY": PROXY}, PROXY),
        ("ws://stream.example.com/", {"HTTP_PROXY": PROXY}, PROXY),
        *(
            (f"http://{host}:28080/fapi", {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, None)
            for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::1]", "a.localhost")
        ),
    ],
)
def test_the_proxy_of_an_address(monkeypatch, url, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == expected


@pytest.mark.parametrize("wrong", ["socks5://user:s3cret@proxy:1080", "http://", "http://a:99999"])
def test_unusable_proxy_hides_its_value(monkeypatch, wrong):
    """A proxy that cannot be used is named without its value."""
    monkeypatch.setenv("HTTPS_PROXY", wrong)
    with pytest.raises(ProxyError, match=r"HTTPS_PROXY.*Example: HTTPS_PROXY=http://") as raised:
        proxy_for("https://fapi.binance.com")
    assert "s3cret" not in str(raised.value)


def test_connection_tries_the_proxy_first(monkeypatch):
    """A connection goes to the proxy first."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert first_hop("https://s3.invalid", "s3.invalid", 443) == ("proxy.example.com", 3128)
    assert first_hop("http://127.0.0.1:28081", "127.0.0.1", 28081) == ("127.0.0.1", 28081)
    assert first_hop("rediss://redis.invalid:6379/0", "redis.invalid", 6379)[1] == 6379


def test_libraries_agree_on_the_proxy():
    """Every library reads the same proxy from the environment."""
    environment = {"ALL_PROXY": PROXY, "no_proxy": "intranet"}
    complete(environment)
    again = dict(environment)
    complete(again)
    assert again == environment
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        assert environment[name] == PROXY
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost,::1"
    assert environment["no_proxy"] == environment["NO_PROXY"]


def test_without_a_proxy_the_environment_stays():
    environment = dict(os.environ)
    complete(environment)
    assert environment == dict(os.environ)
