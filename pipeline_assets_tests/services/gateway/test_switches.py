"""Trading with money needs two switches and every risk limit set by a person."""

import pytest
from pydantic import SecretStr

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.services.gateway.switches import (
    LiveRefusedError,
    banner,
    require_own_journal,
    require_switches,
    unset_limits,
)
from pipeline_assets.settings import Settings, TradingSettings
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.records import OrderChanged, OrderSending
from pipeline_assets.trading.state import GatewayState

_LIMITS = {
    f"PIPELINE_RISK__{name.upper()}": "1"
    for name in type(Settings(_env_file=None).risk).model_fields
}


def _settings(venue: str, account: str = "desk-1") -> Settings:
    trading = TradingSettings(
        venue=venue, account=account, api_key=SecretStr("a-key"), api_secret=SecretStr("a-word")
    )
    return Settings(_env_file=None, trading=trading)


def test_both_switches_start_live():
    require_switches(_settings("live"), "desk-1", _LIMITS)


@pytest.mark.parametrize("live_account", [None, "desk-2", ""])
def test_live_needs_its_account(live_account):
    with pytest.raises(LiveRefusedError, match="--live desk-1"):
        require_switches(_settings("live"), live_account, _LIMITS)


@pytest.mark.parametrize("venue", ["paper", "demo"])
def test_switch_alone_starts_nothing(venue):
    with pytest.raises(LiveRefusedError, match="PIPELINE_TRADING__VENUE=live"):
        require_switches(_settings(venue), "desk-1", _LIMITS)


@pytest.mark.parametrize("missing", _LIMITS)
def test_live_needs_every_limit(missing):
    """A limit that only config.yaml or a default has is one that no person chose for this account."""
    given = {name: "1" for name in _LIMITS if name != missing}
    assert unset_limits(_settings("live"), given) == [missing]
    with pytest.raises(LiveRefusedError, match=missing):
        require_switches(_settings("live"), "desk-1", given)


def test_limits_of_env_file_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in _LIMITS:
        monkeypatch.delenv(name, raising=False)
    lines = "".join(f"{name}=1\n" for name in _LIMITS)
    (tmp_path / ".env").write_text(lines)
    require_switches(_settings("live"), "desk-1")
    (tmp_path / ".env").write_text("")
    with pytest.raises(LiveRefusedError):
        require_switches(_settings("live"), "desk-1")


@pytest.mark.parametrize("venue", ["demo", "live"])
def test_exchange_account_has_own_name(venue):
    """A journal belongs to an account: that of paper trading would have positions that do not exist."""
    with pytest.raises(LiveRefusedError, match="PIPELINE_TRADING__ACCOUNT"):
        require_switches(_settings(venue, "paper"), None, _LIMITS)


def test_paper_needs_no_switch():
    require_switches(_settings("paper", "paper"), None, {})


def test_paper_journal_is_refused_elsewhere():
    state = GatewayState()
    order = Order(client_id="a", symbol="BTCUSDT", side="buy", kind="market", quantity=UNIT)
    state.apply(OrderSending(at=1, order=order, recv_window=5_000))
    require_own_journal(_settings("demo"), state)
    state.apply(
        OrderChanged(
            at=2, client_id="a", status=Status.OPEN, venue_id="paper-1", reported=0, reason=""
        )
    )
    with pytest.raises(LiveRefusedError, match="paper venue"):
        require_own_journal(_settings("demo"), state)
    require_own_journal(_settings("paper"), state)


def test_banner_is_loud_and_secret():
    said = banner(_settings("live"))
    assert "LIVE TRADING" in said
    assert "desk-1 at https://fapi.binance.com" in said
    assert "daily_loss: 200" in said
    assert "a-key" not in said
    assert "a-word" not in said
