"""Keeps why an instance was last started, stopped or rebooted on this node, for monitoring."""

from __future__ import annotations

import contextlib
import os

import msgspec

from ganeti.interfaces import IHost
from ganeti.model.calls.instances import Reason


def reason_file(host: IHost, instance: str) -> str:
    """Where the reason trail of an instance is kept, JSON."""
    return f"{host.paths.run_dir}/instance-reason/{instance}"


def keep_reason(host: IHost, instance: str, reason: Reason) -> None:
    """Store the trail of a change that was made; failing to do so never fails the change."""
    path = reason_file(host, instance)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(f"{path}.new", "wb") as file:
            file.write(msgspec.json.encode(reason))
        os.replace(f"{path}.new", path)
