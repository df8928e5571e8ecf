"""Identifiers: which string names what, and which names are allowed."""

from __future__ import annotations

import re
from typing import NewType

NodeId = NewType("NodeId", str)
"""UUID of a node."""
GroupId = NewType("GroupId", str)
"""UUID of a node group."""
InstanceId = NewType("InstanceId", str)
"""UUID of an instance."""
DiskId = NewType("DiskId", str)
"""UUID of a disk."""
NetworkId = NewType("NetworkId", str)
"""UUID of a network."""
JobId = NewType("JobId", int)
"""Number of a job, counted from 1 and never used again."""

PLUGIN_NAME = re.compile(r"^[a-zA-Z0-9_-]+\Z")
"""Names of plugins that are looked up in a directory (OS, allocator, storage provider)."""

HOST_NAME = re.compile(
    r"^(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)

GROUP_NAME = re.compile(r"^[a-zA-Z0-9_.][a-zA-Z0-9_.-]*\Z")

# All of these end with \Z: `$` also allows a line break, and names stand in files that have a line for each.


def is_host_name(text: str) -> bool:
    """Whether a text, lower case already, can be the name of a host or an instance."""
    return HOST_NAME.match(text) is not None


def names_match(wanted: str, full: str) -> bool:
    """Whether a possibly short host name means a full one: `node1` means `node1.example.com`."""
    wanted, full = wanted.lower(), full.lower()
    return wanted == full or full.startswith(wanted + ".")
