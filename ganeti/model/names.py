"""The order in which people expect names: numbers inside them count as numbers. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_PARTS = re.compile(r"(\d+)")


@lru_cache(maxsize=65536)
def nice_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which `node2` comes before `node10`."""
    return tuple(
        (0, int(part), part) if part.isdecimal() else (1, 0, part) for part in _PARTS.split(name) if part
    )
