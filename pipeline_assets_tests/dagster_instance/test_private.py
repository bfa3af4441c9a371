"""A Dagster that has changed a private part is named at the start, with its version and what changed."""

import dagster
import pytest

from pipeline_assets.dagster_instance.private import private_names, require
from pipeline_assets.dagster_instance.private_storage import SqliteEventLogStorage


def test_names_missing_dagster_part() -> None:
    """The error names Dagster's version and the missing part."""
    with pytest.raises(ImportError) as raised, private_names():
        require(SqliteEventLogStorage, "_connect", "_renamed_since")
    assert str(raised.value) == (
        f"Dagster {dagster.__version__} has changed: SqliteEventLogStorage has no _renamed_since. "
        "Install the version in constraints.txt."
    )


def test_names_a_module_that_has_moved() -> None:
    expected = "has changed: No module named 'dagster._core.moved'"
    with pytest.raises(ImportError, match=expected), private_names():
        __import__("dagster._core.moved")
