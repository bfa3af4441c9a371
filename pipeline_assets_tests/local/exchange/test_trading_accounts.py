"""Accounts on the replay exchange: signatures, settings, margin, funding, liquidation, changes by others."""

from datetime import UTC, datetime
from urllib.error import HTTPError

import pytest

from pipeline_assets_tests.fixtures.signed import SignedClient

MINUTE, HOUR = 60_000, 3_600_000
NOON = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
START = NOON + 30_000


@pytest.fixture
def client(exchange):
    return SignedClient(exchange)


def poor(exchange, balance, **changes):
    """Open a second account with little money, for liquidations."""
    exchange.trading("account", key="second", secret="other", balances={"USDT": balance}, **changes)
    return SignedClient(exchange, "second", "other")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"key": "short"}, 401, -2014),
        ({"key": "x" * 64}, 401, -2015),
        ({"secret": "wrong"}, 400, -1022),
        ({"at_ms": START - 5001}, 400, -1021),
        ({"at_ms": START - 5000}, 200, 0),
        ({"at_ms": START + 1000}, 400, -1021),
        ({"at_ms": START + 999}, 200, 0),
    ],
)
def test_requests_must_be_signed(exchange, changes, status, code):
    """Key, signature and time are checked with the codes of the real exchange."""
    answer = SignedClient(exchange, **changes).call("GET", "v3/balance")
    assert (answer.status, answer.code) == (status, code)


def test_time_window_is_asked_for(client):
    client.at_ms = START - 8000
    assert client.call("GET", "v3/balance").code == -1021
    assert client.call("GET", "v3/balance", recvWindow=9000).status == 200
    assert client.send("GET", "v3/balance").code == -1102


def test_revoked_key_is_refused(client, exchange):
    """A key that its owner deletes is refused; one without trading rights reads and does not trade."""
    exchange.trading("account", can_trade=False)
    assert (client.call("GET", "v3/balance").status, client.order("BUY", "0.010").code) == (
        200,
        -2015,
    )
    rights = client.call("GET", "/sapi/v1/account/apiRestrictions").document
    assert (rights["enableFutures"], rights["enableWithdrawals"]) == (False, False)
    exchange.trading("account", revoked=True)
    assert client.call("GET", "v3/balance").code == -2015
    exchange.reset()
    assert client.order("BUY", "0.010").code == 0


def test_settings_are_read_and_changed(client, exchange):
    """Leverage, margin type and modes are shown and changed, and refused where nothing would change."""
    changed = client.call("POST", "v1/leverage", symbol="BTCUSDT", leverage=5).document
    assert changed["leverage"] == 5
    assert client.call("POST", "v1/leverage", symbol="BTCUSDT", leverage=126).code == -4028
    isolated = {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
    assert [client.call("POST", "v1/marginType", **isolated).code for _ in range(2)] == [200, -4046]
    [shown] = client.call("GET", "v1/symbolConfig", symbol="BTCUSDT").document
    assert (shown["leverage"], shown["marginType"]) == (5, "ISOLATED")
    exchange.trading("account", leverage={"BTCUSDT": 50}, multi_assets=True)
    [shown] = client.call("GET", "v2/positionRisk", symbol="BTCUSDT").document
    assert (shown["leverage"], shown["marginType"]) == ("50", "isolated")
    assert client.call("GET", "v1/multiAssetsMargin").document == {"multiAssetsMargin": True}
    assert client.call("GET", "v1/feeBurn").document == {"feeBurn": False}
    exchange.trading("account", fee_burn=True)
    assert client.call("GET", "v1/feeBurn").document == {"feeBurn": True}
    dual = {"dualSidePosition": "true"}
    assert [client.call("POST", "v1/positionSide/dual", **dual).code for _ in range(2)] == [
        200,
        -4059,
    ]
    assert client.call("GET", "v1/positionSide/dual").document == {"dualSidePosition": True}
    assert client.order("BUY", "0.010").code == -4061


def test_account_adds_up(client):
    """Balance, margin and profit of the account agree with trades and price."""
    client.order("BUY", "0.100")
    client.order("SELL", "0.040")
    trades = client.call("GET", "v1/userTrades", symbol="BTCUSDT").document
    paid = sum(float(trade["commission"]) for trade in trades)
    earned = sum(float(trade["realizedPnl"]) for trade in trades)
    for version in ("v2", "v3"):
        account = client.call("GET", f"{version}/account").document
        assert float(account["totalWalletBalance"]) == pytest.approx(100_000 + earned - paid)
        [position] = [row for row in account["positions"] if float(row["positionAmt"])]
        assert position["positionAmt"] == "0.060"
        assert float(account["totalInitialMargin"]) == pytest.approx(client.price() * 0.06 / 20)
    assert account["assets"][0]["walletBalance"] == client.truth["wallets"]["USDT"]


def test_clock_counts_events(client, exchange):
    """The reply to a step counts the events of the step, and of the requests before it."""
    begin = exchange.advance(0)["events"]
    client.order("BUY", "0.01")
    ordered = exchange.advance(0)["events"]
    assert ordered == begin + sum(client.truth["events"].values())
    assert exchange.advance(60)["events"] == ordered


def test_funding_is_paid(client, exchange):
    """A position pays the rate of its settlement on its size at the mark price, as income."""
    client.order("SELL", "0.100")
    exchange.advance(5 * 3600)
    [paid] = client.call("GET", "v1/income", incomeType="FUNDING_FEE").document
    [rate] = client.send("GET", "v1/fundingRate", "symbol=BTCUSDT&limit=1").document
    assert paid["time"] == rate["fundingTime"]
    expected = 0.1 * float(rate["markPrice"]) * float(rate["fundingRate"])
    assert float(paid["income"]) == pytest.approx(expected, abs=1e-6)


def test_liquidation_closes_position(exchange):
    """A position whose margin is used up is closed at its liquidation price by the exchange."""
    second = poor(exchange, "100", leverage={"BTCUSDT": 100})
    assert second.order("SELL", "0.100").document["status"] == "FILLED"
    second.limit("SELL", "0.001", second.price() * 1.04, newClientOrderId="resting")
    [risk] = second.call("GET", "v2/positionRisk", symbol="BTCUSDT").document
    exchange.advance(24 * 3600)
    assert second.position() == 0
    resting, order = second.truth["orders"][-2:]
    assert (resting["clientOrderId"], resting["status"]) == ("resting", "CANCELED")
    assert order["clientOrderId"].startswith("autoclose-")
    assert (order["type"], order["status"]) == ("LIQUIDATION", "FILLED")
    assert float(order["avgPrice"]) == pytest.approx(float(risk["liquidationPrice"]), rel=1e-3)
    assert second.truth["events"]["MARGIN_CALL"] == 1
    kinds = {row["incomeType"] for row in second.truth["income"]}
    assert "INSURANCE_CLEAR" in kinds
    assert float(second.truth["wallets"]["USDT"]) >= 0


def test_deleveraging_takes_a_part(client, exchange):
    """Auto-deleveraging and a liquidation on demand carry the exchange's own client ids."""
    client.order("BUY", "0.100")
    exchange.trading("close", symbol="BTCUSDT", by="adl", quantity="0.040")
    assert client.position() == 0.06
    exchange.trading("close", symbol="BTCUSDT", by="liquidation")
    assert client.position() == 0
    ids = [order["clientOrderId"] for order in client.truth["orders"]]
    assert ids[1:] == ["adl_autoclose", f"autoclose-{START}"]


def test_delisting_settles_position(client, exchange):
    """A contract that ends closes positions and orders, and takes no more orders."""
    client.order("BUY", "0.100")
    client.limit("BUY", "0.010", client.price() * 0.97, newClientOrderId="resting")
    client.conditional("SELL", client.price() * 0.9, clientAlgoId="stop")
    exchange.trading("contract", symbol="BTCUSDT", delivery="2026-11-20T12:05:00Z")
    exchange.advance(300)
    assert client.position() == 0
    assert (
        client.truth["orders"][-1]["clientOrderId"] == f"settlement_autoclose-{NOON + 5 * MINUTE}"
    )
    assert client.truth["algo_orders"][0]["algoStatus"] == "EXPIRED"
    assert client.order("BUY", "0.010").code == -4141
    exchange.reset()
    assert client.order("BUY", "0.010").code == 0


def test_tick_size_changes_under_way(client, exchange):
    """A new tick size is shown by exchangeInfo and holds for the next order."""
    assert client.limit("BUY", "0.010", "86000.1").code == 0
    exchange.trading("contract", symbol="BTCUSDT", tick_size="1.00")
    assert client.limit("BUY", "0.010", "86000.1").code == -4014
    info = client.send("GET", "v1/exchangeInfo").document["symbols"][0]
    assert info["filters"][0]["tickSize"] == "1.00"


def test_person_trades_beside_program(client, exchange):
    """An order by hand has an id of its own kind and changes the same position."""
    exchange.trading(
        "order", order={"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": 0.02}
    )
    assert client.position() == 0.02
    assert client.truth["orders"][0]["clientOrderId"].startswith("web_")
    assert client.truth["posts"] == {}


@pytest.mark.parametrize(
    ("what", "document"),
    [
        ("account", {"key": "nobody", "revoked": True}),
        ("account", {"revoked": "yes"}),
        ("account", {"rights": "all"}),
        (
            "order",
            {"order": {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0"}},
        ),
        ("order", {}),
        ("close", {"symbol": "BTCUSDT", "by": "adl"}),
        ("streams", {"end": "world"}),
        ("contract", {"symbol": "BTCUSDT", "tick_size": "0.001"}),
    ],
)
def test_impossible_changes_are_refused(exchange, what, document):
    """A change that cannot be made is refused with its reason."""
    with pytest.raises(HTTPError, match="400"):
        exchange.trading(what, **document)


def test_isolated_margin_is_moved(client):
    """An isolated position has a margin of its own, which can be added to and taken from."""
    client.call("POST", "v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    client.order("BUY", "0.100")
    [before] = client.call("GET", "v2/positionRisk", symbol="BTCUSDT").document
    assert float(before["isolatedWallet"]) == pytest.approx(client.price() * 0.1 / 20)
    more = {"symbol": "BTCUSDT", "amount": "100", "type": 1}
    assert client.call("POST", "v1/positionMargin", **more).code == 200
    [after] = client.call("GET", "v2/positionRisk", symbol="BTCUSDT").document
    assert float(after["isolatedWallet"]) - float(before["isolatedWallet"]) == pytest.approx(100)
    assert float(after["liquidationPrice"]) < float(before["liquidationPrice"])
    assert (
        client.call("POST", "v1/positionMargin", **more | {"type": 2, "amount": "101"}).code
        == -4051
    )
