"""Opcodes of new instances, for tests of all operations that make or meet them."""

from __future__ import annotations

from typing import Any

from ganeti.ops.instance.create import CreateInstance

NAME = "web.example.com"


def create(**changes: Any) -> CreateInstance:
    """An instance with one disk of 1 GiB and one network interface; where to is up to the test."""
    values: dict[str, Any] = {
        "instance_name": NAME,
        "mode": "create",
        "disk_template": "file",
        "disks": ({"size": 1024},),
        "nics": ({},),
        "os_type": "noop",
    }
    return CreateInstance(**{**values, **changes})
