"""Sizes and times as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"^([.\d]+)\s*([a-z]*)$", re.IGNORECASE)
_FACTORS = {"": 1, "m": 1, "mb": 1, "mib": 1, "g": 1024, "gb": 1024, "gib": 1024}
_FACTORS.update(dict.fromkeys(("t", "tb", "tib"), 1024 * 1024))
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

SIZE_STEP_MIB = 4
"""Sizes with a unit are rounded up to a multiple of this, the usual LVM extent."""


def parse_size_mib(text: str) -> int:
    """MiB of a size such as `512`, `1.5g` or `20 GiB`, rounded up to a multiple of 4.

    Raises:
        ValueError: with a text for the user.
    """
    match = _SIZE.match(text.strip())
    factor = _FACTORS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"cannot read the size {text!r}; write a number with m, g or t, such as 10g")
    try:
        exact = float(match.group(1)) * factor
    except ValueError:
        raise ValueError(f"cannot read the number in the size {text!r}") from None
    whole = int(exact) if exact == int(exact) else int(exact) + 1
    return -(-whole // SIZE_STEP_MIB) * SIZE_STEP_MIB


def format_size(mib: float, units: str = "h") -> str:
    """A size in MiB as lists show it.

    Args:
        mib: the size.
        units: `m`, `g`, `t`: number in that unit; `h`: with the fitting unit letter.
    """
    match units:
        case "m":
            return f"{mib:.0f}"
        case "g":
            return f"{mib / 1024:.1f}"
        case "t":
            return f"{mib / 1024 / 1024:.1f}"
    if mib < 1024:
        return f"{mib:.0f}M"
    if mib < 1024 * 1024:
        return f"{mib / 1024:.1f}G"
    return f"{mib / 1024 / 1024:.1f}T"


def parse_duration_s(text: str) -> int:
    """Seconds of a duration such as `90`, `5m`, `2h`, `7d` or `1w`.

    Raises:
        ValueError: with a text for the user.
    """
    match = re.match(r"^(\d+)([smhdw]?)$", text.strip())
    if match is None:
        raise ValueError(f"cannot read the duration {text!r}; write a number with s, m, h, d or w")
    return int(match.group(1)) * _SECONDS[match.group(2)]
