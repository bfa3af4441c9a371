"""ccxt on the replay exchange, by its own class for USD-M futures: see also test_trading_clients.py."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from pipeline_assets.local.exchange.accounts.desk import DEFAULT_KEY, DEFAULT_SECRET
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle

BTC, CHINESE = "BTC/USDT:USDT", "币安人生/USDT:USDT"
REDUCES = {"reduceOnly": True}


@pytest.fixture
def client(exchange: ExchangeHandle, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Provide ccxt's client, pointed at the exchange and with its clock."""
    # The package imports more than a hundred exchanges, which takes seconds: one is loaded here.
    found = importlib.util.find_spec("ccxt")
    assert found is not None
    package = ModuleType("ccxt")
    package.__path__ = list(found.submodule_search_locations or ())
    monkeypatch.setitem(sys.modules, "ccxt", package)
    binanceusdm = importlib.import_module("ccxt.binanceusdm").binanceusdm
    client = binanceusdm(
        {"apiKey": DEFAULT_KEY, "secret": DEFAULT_SECRET, "enableRateLimit": False}
    )
    root = exchange.url.removesuffix("/fapi")
    for name, address in client.urls["api"].items():
        client.urls["api"][name] = root + address[address.index("/", len("https://")) :]
    client.nonce = lambda: exchange.state()["now_ms"]
    return client


def test_ccxt_trades(client: Any) -> None:
    """ccxt sets an account up, opens, protects and closes a position, and reads all of it."""
    assert {BTC, CHINESE} <= client.load_markets().keys()
    assert client.fetch_balance()["USDT"]["total"] == 100_000
    client.set_leverage(5, BTC)
    client.set_margin_mode("isolated", BTC)
    assert client.fetch_leverage(BTC)["longLeverage"] == 5
    bought = client.create_order(BTC, "market", "buy", 0.01)
    assert (bought["status"], bought["filled"]) == ("closed", 0.01)
    (position,) = client.fetch_positions([BTC])
    assert (position["contracts"], position["side"], position["marginMode"]) == (
        0.01,
        "long",
        "isolated",
    )
    stop = client.create_order(
        BTC, "market", "sell", 0.01, None, {"triggerPrice": 80_000} | REDUCES
    )
    (waiting,) = client.fetch_open_orders(BTC, params={"trigger": True})
    assert (waiting["id"], waiting["triggerPrice"]) == (stop["id"], 80_000)
    target = client.create_order(BTC, "limit", "sell", 0.01, 95_000, REDUCES)
    assert [each["id"] for each in client.fetch_open_orders(BTC)] == [target["id"]]
    assert client.cancel_order(target["id"], BTC)["status"] == "canceled"
    client.cancel_order(stop["id"], BTC, {"trigger": True})
    assert client.fetch_open_orders(BTC, params={"trigger": True}) == []
    sold = client.create_order(BTC, "market", "sell", 0.01, None, REDUCES)
    assert [each["order"] for each in client.fetch_my_trades(BTC)] == [bought["id"], sold["id"]]
    assert client.fetch_positions([BTC]) == []
    assert client.fetch_balance()["USDT"]["total"] < 100_000


def test_ccxt_signs_other_scripts(client: Any) -> None:
    """A symbol in Chinese characters is signed and traded like any other."""
    client.create_order(CHINESE, "market", "buy", 100)
    assert [each["contracts"] for each in client.fetch_positions([CHINESE])] == [100]


def test_ccxt_reads_refusals(client: Any) -> None:
    """Refusals reach a person with Binance's text."""
    # ccxt has finer classes of errors for addresses of Binance itself only.
    failed = importlib.import_module("ccxt.base.errors").ExchangeError
    with pytest.raises(failed, match="Margin is insufficient"):
        client.create_order(BTC, "market", "buy", 100)
    with pytest.raises(failed, match="Order does not exist"):
        client.fetch_order("1", BTC)
    with pytest.raises(failed, match="would immediately trigger"):
        client.create_order(BTC, "market", "sell", 0.01, None, {"stopLossPrice": 200_000})
    client.secret = "wrong"
    with pytest.raises(failed, match="Signature"):
        client.create_order(BTC, "market", "buy", 0.01)
