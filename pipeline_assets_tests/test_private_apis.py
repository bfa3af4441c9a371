"""A dependency that no longer has what is used of its insides is named before anything goes wrong."""

from importlib.metadata import version

import pytest

from pipeline_assets.dagster_instance.private_storage import AssetEventTagsTable
from pipeline_assets.private_apis import (
    DependencyChangedError,
    private_imports,
    require_names,
)
from pipeline_assets.resources import binance_account, binance_client


def test_changed_dependency_is_named(monkeypatch):
    from binance.async_client import AsyncClient

    monkeypatch.delattr(AsyncClient, "_handle_response")
    with pytest.raises(DependencyChangedError) as caught:
        binance_client.client_class.__wrapped__()
    message = str(caught.value)
    assert (
        f"python-binance {version('python-binance')} has no AsyncClient._handle_response" in message
    )
    assert "binance_client" in message


def test_changed_signature_is_named(monkeypatch):
    """The gateway opens its client before it trades, so that it does not start with another library."""
    from binance.base_client import BaseClient

    monkeypatch.delattr(BaseClient, "_hmac_signature")
    with pytest.raises(DependencyChangedError, match=r"_hmac_signature, which .*binance_account"):
        binance_account._signing_class.__wrapped__()


def test_missing_part_of_an_object_is_named_by_its_class() -> None:
    with pytest.raises(DependencyChangedError) as caught:
        require_names("dagster", AssetEventTagsTable.c, ("event_id", "renamed_since"), __name__)
    assert str(caught.value) == (
        f"dagster {version('dagster')} has no ReadOnlyColumnCollection.renamed_since, which {__name__} "
        "uses. Install the version in constraints.txt, or change that module."
    )


def test_moved_module_is_named() -> None:
    expected = (
        r"^dagster \S+ has changed \(No module named 'dagster._core.moved'\), which .*constraints"
    )
    with (
        pytest.raises(DependencyChangedError, match=expected),
        private_imports("dagster", __name__),
    ):
        __import__("dagster._core.moved")
