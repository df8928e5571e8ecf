"""Rules that decide which jobs may run (objects.md section 9)."""

from __future__ import annotations

from typing import Any

import msgspec


class FilterRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule; the first rule that matches a job and is not CONTINUE decides."""

    uuid: str
    watermark: int
    priority: int
    predicates: tuple[tuple[str, Any], ...] = ()
    action: str | tuple[str, int] = "ACCEPT"
    reason_trail: tuple[tuple[str, str, int], ...] = ()
