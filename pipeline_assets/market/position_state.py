"""The stored form of positions: version, checksum and the step's tables as bytes. The positions are moved
in position_keeper.py.
"""

from zlib import crc32

from pipeline_assets.errors import DataError
from pipeline_assets.market.step_tables import State

# To be raised whenever a table of the step gets another column or another meaning.
STATE_VERSION = 1
_CHECKSUM_BYTES = 4
_HEAD = 3


class PositionStateError(DataError, ValueError):
    """Bytes that are no state of these strategies and symbols. The message says what to do."""


def encode_state(state: State, fingerprint: int, *, begun: bool) -> bytes:
    """Return a state as bytes.

    Args:
        state: the tables.
        fingerprint: of the strategies, symbols and rules.
        begun: whether a minute was applied.
    """
    import numpy as np

    head = np.array([STATE_VERSION, fingerprint, begun], np.int64)
    body = b"".join(each.tobytes() for each in (head, *state.arrays()))
    return body + crc32(body).to_bytes(_CHECKSUM_BYTES, "little")


def decode_state(encoded: bytes, state: State, fingerprint: int) -> bool:
    """Fill the tables of a state from bytes; returns whether a minute was applied.

    Raises:
        PositionStateError: the bytes are damaged, or of another version, or of other strategies, symbols
            or rules. The tables are unchanged then.
    """
    import numpy as np

    body, tables = encoded[:-_CHECKSUM_BYTES], state.arrays()
    found = encoded[-_CHECKSUM_BYTES:]
    whole = len(body) % 8 == 0 and len(body) >= 8 * _HEAD
    if not whole or crc32(body).to_bytes(_CHECKSUM_BYTES, "little") != found:
        raise PositionStateError(
            f"The state of the positions is damaged ({len(encoded):,} bytes): derive it from fills."
        )
    numbers = np.frombuffer(body, np.int64)
    version, held, begun = numbers[:_HEAD].tolist()
    if version != STATE_VERSION:
        raise PositionStateError(
            f"The state of the positions has version {version}, and this program reads version "
            f"{STATE_VERSION}: start the program that wrote the state, or derive it from fills."
        )
    if held != fingerprint or len(numbers) != _HEAD + sum(each.size for each in tables):
        raise PositionStateError(
            "The state of the positions is of other strategies, symbols or rules, and cannot go on "
            "under these."
        )
    place = _HEAD
    for table in tables:
        table[...] = numbers[place : place + table.size].reshape(table.shape)
        place += table.size
    return bool(begun)
