"""Instance policies: how large an instance may be, and which disk templates it may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Size of an instance; memory in MiB, disk size in MiB of each disk."""

    memory_size: int
    cpu_count: int
    disk_count: int
    disk_size: int
    nic_count: int
    spindle_use: int


class SpecRange(msgspec.Struct, frozen=True, kw_only=True):
    """An instance fits when every figure lies between the two."""

    min: InstanceSpec
    max: InstanceSpec


class InstancePolicy(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A complete policy, as the cluster has one; groups override parts (objects.md section 14)."""

    minmax: tuple[SpecRange, ...]
    std: InstanceSpec
    disk_templates: tuple[str, ...]
    vcpu_ratio: float = 4.0
    spindle_ratio: float = 32.0


DEFAULT_MIN = InstanceSpec(
    memory_size=128, cpu_count=1, disk_count=1, disk_size=1024, nic_count=1, spindle_use=1
)
DEFAULT_MAX = InstanceSpec(
    memory_size=32768, cpu_count=8, disk_count=16, disk_size=1048576, nic_count=8, spindle_use=12
)
DEFAULT_POLICY = InstancePolicy(
    minmax=(SpecRange(min=DEFAULT_MIN, max=DEFAULT_MAX),),
    std=DEFAULT_MIN,
    disk_templates=(
        "blockdev",
        "diskless",
        "drbd",
        "ext",
        "file",
        "gluster",
        "plain",
        "rbd",
        "sharedfile",
    ),
)


def merge_policy(base: InstancePolicy, partial: Mapping[str, Any]) -> InstancePolicy:
    """A cluster policy with a group's partial one laid over it.

    `std` is merged figure by figure, everything else replaced.
    """
    values = msgspec.to_builtins(base)
    values.update({key: value for key, value in partial.items() if key != "std"})
    values["std"] = {**values["std"], **partial.get("std", {})}
    return msgspec.convert(values, InstancePolicy)
