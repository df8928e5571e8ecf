"""How many files a daemon may open, and into how many heaps its memory falls."""

from __future__ import annotations

import contextlib
import ctypes
import resource

WANTED = 65_536


_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> None:
    """Let all threads allocate from the same few heaps; to be called before there are any.

    The C library gives each thread one of its own, and what was used once in any of them is kept.
    """
    with contextlib.suppress(AttributeError):
        # Not there in other C libraries.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


def raise_open_files() -> None:
    """Allow ourselves as many open files as we may: one for each node and client, and more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
