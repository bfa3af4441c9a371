"""Settings of the memory allocators of our processes. Code that uses memory does not belong here."""

import ctypes
import os

_M_ARENA_MAX = -8  # glibc's malloc.h


def return_freed_memory() -> None:
    """Let a process return freed memory to the system: 130 of 650 MB in a backfill of a year.

    Call this before any thread starts and before Arrow is loaded. Allocator settings in the environment
    are kept, and without glibc nothing is changed.
    """
    # Arrow's own allocator keeps what it has freed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # So does each heap of glibc, of which some thirty threads get one each: see mallopt(3). It reads
    # MALLOC_ARENA_MAX itself, but before any line of this program.
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
