"""The version of the JSON documents that the product keeps: on the lake, between steps, as sensors' cursors.
How a document of the lake is read and written is in lake_documents.py.

A document without the field `version` has version 1, and version 1 is written without it: releases that do
not know the field take it for damage. A later version is an object that has the field. A release refuses
versions above the one that it knows: it would lose what it does not know when it writes the document.
"""

import json
from collections.abc import Mapping
from typing import Any

from pipeline_assets.errors import DataError

FIRST = 1
_FIELD = "version"


class NewerVersionError(DataError):
    """A newer release wrote a document. The message names the document and both versions."""


def content_of(held: Any, where: str, known: int = FIRST) -> tuple[Any, int]:
    """Return a document's content without its version, and the version.

    Args:
        held: the decoded JSON.
        where: names the document in an error.
        known: the newest version that the caller can read.

    Raises:
        NewerVersionError: the document has a newer version.
        ValueError: the version is below 1.
    """
    if not isinstance(held, Mapping) or type(held.get(_FIELD)) is not int:
        return held, FIRST
    version = held[_FIELD]
    if version < FIRST:
        raise ValueError(f"version {version} is below {FIRST}")
    if version > known:
        raise NewerVersionError(
            f"{where} has version {version}, and this installation of pipeline-assets reads versions up to "
            f"{known}. A newer release wrote it: update this installation. The document was left as it is."
        )
    return {name: value for name, value in held.items() if name != _FIELD}, version


def with_version(content: Any, version: int) -> Any:
    """Return the content of a document as it is written, with its version unless that is 1."""
    return content if version == FIRST else {_FIELD: version, **content}


def cursor_content(text: str | None, where: str) -> Any:
    """Return the content of a sensor's cursor, an empty mapping without one.

    Raises:
        NewerVersionError: a newer release wrote the cursor.
        ValueError: it is no JSON, or its version is below 1.
    """
    content, _ = content_of(json.loads(text or "{}"), f"The cursor of the sensor {where}")
    return content
