"""Refusals that the core acts on, by the venue's code with which a reason begins. Codes that say whether an
order exists at all are in binance_answers.py.
"""

# Refusals that say that the filters known here are not the exchange's any more.
FILTER_CODES = frozenset(
    {-1111, -1013, -1121, -4001, -4003, -4004, -4005, -4013, -4014, -4023, -4164}
)
# The reason begins with this word where the venue's code here refused the order before it was sent.
UNFIT = "filter"
_BLOCKED = -4118
_BAD_TIME = -1021


def is_filter(reason: str) -> bool:
    """Return whether a filter of the symbol refused the order."""
    code = _code(reason)
    return code == UNFIT or code in map(str, FILTER_CODES)


def is_blocked(reason: str) -> bool:
    """Return whether the order only reduces, and resting orders already reduce the whole position."""
    return _code(reason) == str(_BLOCKED)


def is_too_late(reason: str) -> bool:
    """Return whether the order's time was refused: it waited too long, or a clock was moved."""
    return _code(reason) == str(_BAD_TIME)


def _code(reason: str) -> str:
    return reason.partition(":")[0]
