"""The findings about what the exchange lists. The asset `universe` is tried in assets/test_universe.py."""

from pipeline_assets.collection.listing_changes import entries_finding


def test_unreadable_entry_is_named() -> None:
    """The check names an entry that cannot be read."""
    assert entries_finding({}, ()).passed
    odd = {"AUSDT": "underlyingType is missing", "ETHUSDT": "status: not a string (got None)"}
    found = entries_finding(odd, {"ETHUSDT"})
    assert not found.passed
    assert (
        "2 entries of exchangeInfo cannot be read, the first: ETHUSDT: status" in found.description
    )
    [first, _] = found.metadata["entries left out"].rows
    assert first == ("ETHUSDT", odd["ETHUSDT"])
