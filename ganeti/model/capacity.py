"""How many more instances fit: what is asked, and the answer (S2.3-080 to S2.3-093, iallocator.md 4)."""

from __future__ import annotations

import msgspec

InstanceSpec = tuple[int, int, int]
"""Memory in MiB, disk in MiB, virtual processors."""

Tier = tuple[int, int, int, int]
"""An `InstanceSpec`, and how many of it fit after those before."""


class CapacitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters as far as they are set, for the cluster or a group (S2.3-082); None: inherited."""

    max_inst_spec: InstanceSpec | None = None
    default_template: str | None = None
    max_cpu_ratio: float | None = None
    max_disk_usage: float | None = None


NOT_SET = CapacitySettings()


class CapacityParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the capacity of a group is computed, everything filled in."""

    max_inst_spec: InstanceSpec
    """The largest instance, with which the count begins."""
    default_template: str
    """Disk template of the counted instances."""
    max_cpu_ratio: float
    """Virtual processors for each physical one."""
    max_disk_usage: float
    """Part of the disk space of a node that may be used, above 0, at most 1."""


class GroupCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """The capacity of a node group."""

    params: CapacityParams
    """With which it was computed."""
    tspecs: tuple[Tier, ...]
    """In decreasing order of memory, disk and processors."""
    failure_reason: str = ""
    """Why no more fit."""
    allocator: str = ""
    """Who computed it."""
    ctime: float = 0.0
    """When, seconds since the epoch."""
