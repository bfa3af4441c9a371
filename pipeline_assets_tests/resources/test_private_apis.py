"""A dependency that no longer has what is used of its insides is named before anything goes wrong."""

from importlib.metadata import version

import pytest

from pipeline_assets.resources import binance_client
from pipeline_assets.resources.private_apis import DependencyChangedError


def test_changed_dependency_is_named(monkeypatch):
    from binance.async_client import AsyncClient

    monkeypatch.delattr(AsyncClient, "_handle_response")
    with pytest.raises(DependencyChangedError) as caught:
        binance_client._client_class.__wrapped__()
    told = str(caught.value)
    assert f"python-binance {version('python-binance')} has no AsyncClient._handle_response" in told
    assert "binance_client" in told
