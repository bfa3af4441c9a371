"""Frames on the lake as Parquet objects: encoded alike, decoded with a check of the columns. Keys and columns
are named by the modules of the objects.
"""

import io
from typing import TYPE_CHECKING

from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl


def encode_frame(frame: "pl.DataFrame") -> bytes:
    """Return a frame as Parquet: the same rows in the same order give the same bytes."""
    body = io.BytesIO()
    frame.rechunk().write_parquet(body, compression="zstd", compression_level=3, statistics=False)
    return body.getvalue()


def read_frame(
    store: ObjectStore, key: str, schema: "pl.Schema", remedy: str
) -> "pl.DataFrame | None":
    """Return the frame at a key; None if there is no such object.

    Args:
        store: the bucket.
        key: the object's key.
        schema: the columns that the object must have.
        remedy: what a person does about a damaged object.

    Raises:
        ObjectStoreError: S3 refuses, or the object is damaged.
    """
    from pipeline_assets.market.encoding import MalformedObjectError, decode_parquet

    body = store.get(key)
    if body is None:
        return None
    try:
        found = decode_parquet(body)
    except MalformedObjectError as error:
        raise store.damaged(key, f"{error} {remedy}") from error
    if found.schema != schema:
        raise store.damaged(key, f"it has the columns {found.schema}, not {schema}. {remedy}")
    return found
