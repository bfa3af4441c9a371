"""Chance that a seed repeats: a number that depends on nothing but names. Its uses are in faults.py."""

import hashlib


def uniform(name: str, text: str) -> float:
    """Return a number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b(f"{name}:{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
