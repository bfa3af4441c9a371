"""Objects that are written once: the first writer decides, every later one reads what stands there. Documents
that change are in lake_documents.py.
"""

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError, PreconditionFailedError


def read_once(store: ObjectStore, key: str) -> bytes | None:
    """Return the bytes of an object, or None if there is none.

    Raises:
        ObjectStoreError: the store does not answer, or the object is damaged. A damaged object is never
            replaced: something else may have followed from it.
    """
    found = store.find(key)
    return None if found is None else store.verified(key, found)


def write_once(store: ObjectStore, key: str, body: bytes) -> bytes:
    """Write an object if there is none; return what stands there now, from whichever writer.

    Raises:
        ObjectStoreError: the store does not answer, or the object is damaged.
    """
    try:
        store.put_if(key, body, None)
    except PreconditionFailedError:
        standing = read_once(store, key)
        if standing is None:
            raise ObjectStoreError(
                f"{store.address(key)} existed and is gone again: something deletes it. Find out what."
            ) from None
        return standing
    return body
