"""What a damaged or hostile JSON text may raise when it is read, in one place."""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of `msgspec.json.decode`: beside its own, those of texts that are no UTF-8 or too deep."""
