"""How many files a daemon may open: one for each node and client, which is more than is usual."""

from __future__ import annotations

import resource

WANTED = 65_536


def raise_open_files() -> None:
    """Allow ourselves as many open files as we may, up to what no cluster needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
