"""Settings with which the trader refuses to start."""

import pytest

from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.trading_documents import note_trading_rules
from pipeline_assets.services.gateway.client import GatewayClient
from pipeline_assets.services.trader import _trader
from pipeline_assets.services.trader_gateway import GrpcGateway
from pipeline_assets.settings import Settings
from pipeline_assets_tests.trading.test_core import _RULES
from pipeline_assets_tests.trading.virtual_world import BEGIN


def test_leverage_without_margin_is_refused(gateway_settings: Settings) -> None:
    """As a backtest does: the position would be liquidated as soon as it is opened."""
    store = ObjectStore(gateway_settings.s3)
    note_trading_rules(store, {"BTCUSDT": _RULES}, from_milliseconds(BEGIN))
    chosen = [{"name": "macd_cross", "rules": {"leverage": 40}}]
    fields = gateway_settings.model_dump(exclude={"gateway"}, exclude_unset=True)
    settings = Settings(_env_file=None, **fields | {"strategies": chosen})
    with (
        GatewayClient(gateway_settings.gateway) as connection,
        pytest.raises(InputError, match="leverage 40 leaves no margin above BTCUSDT's"),
    ):
        _trader(settings, GrpcGateway(connection), lambda: BEGIN)
