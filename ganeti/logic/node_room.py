"""How much room a node has left by each rule, in the order of the rules.

`constraints` says in words why one instance does not fit on one node. Where thousands of sizes are tried
on thousands of nodes, as for the capacity of a group, that is too slow: here the same rules become limits
that are worked out once for each state of a node. They hold for instances like those that capacity
counts: running, balanced, without tags. `tests/unit/logic/test_node_room.py` holds both to each other.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import NamedTuple

from ganeti.logic.node_state import NodeState


class FailMode(IntEnum):
    """Why a place was refused, in the order and by the names of the established allocator."""

    MEMORY = 0
    DISK = 1
    CPU = 2
    N1 = 3
    TAGS = 4
    MIGRATION = 5
    DISK_COUNT = 6
    SPINDLES = 7
    INTERNAL = 8

    @property
    def established_name(self) -> str:
        """As hspace and hail print it."""
        return _NAMES[self]


_NAMES = {
    FailMode.MEMORY: "FailMem",
    FailMode.DISK: "FailDisk",
    FailMode.CPU: "FailCPU",
    FailMode.N1: "FailN1",
    FailMode.TAGS: "FailTags",
    FailMode.MIGRATION: "FailMig",
    FailMode.DISK_COUNT: "FailDiskCount",
    FailMode.SPINDLES: "FailSpindles",
    FailMode.INTERNAL: "FailInternal",
}


class Size(NamedTuple):
    """What an instance asks of a node; MiB and counts."""

    memory: int
    disk: int
    cpus: int
    spindles: int


class PrimaryRoom(NamedTuple):
    """The most that an instance may ask of the node that runs it, rule by rule."""

    memory: float
    disk: float
    spindles: float
    planned_disk: float
    spare_memory: float
    """Besides what is kept for failover."""
    cpus: float
    planned_memory: float
    planned_cpus: float
    planned_spindles: float
    spindle_mode: FailMode

    def failure(self, size: Size) -> FailMode | None:
        """The first rule that an instance breaks; None: it fits."""
        if size.memory > self.memory:
            return FailMode.MEMORY
        if size.disk > self.disk:
            return FailMode.DISK
        if size.spindles > self.spindles:
            return self.spindle_mode
        if size.disk > self.planned_disk:
            return FailMode.DISK
        if size.memory > self.spare_memory:
            return FailMode.MEMORY
        if size.cpus > self.cpus:
            return FailMode.CPU
        if size.memory > self.planned_memory:
            return FailMode.MEMORY
        if size.cpus > self.planned_cpus:
            return FailMode.CPU
        return FailMode.DISK if size.spindles > self.planned_spindles else None


class SecondaryRoom(NamedTuple):
    """The most that an instance may ask of the node with its mirror, rule by rule."""

    disk: float
    spindles: float
    planned_disk: float
    memory: float
    linked_memory: float
    """The same, with what is kept for a failure of the primary already, where that has mirrors here."""
    spindle_mode: FailMode

    def failure(self, size: Size) -> FailMode | None:
        """The first rule that an instance breaks; None: it fits."""
        if size.disk > self.disk:
            return FailMode.DISK
        if size.spindles > self.spindles:
            return self.spindle_mode
        if size.disk > self.planned_disk:
            return FailMode.DISK
        return FailMode.MEMORY if size.memory > self.memory else None


def primary_room(state: NodeState, *, is_local: bool = True) -> PrimaryRoom:
    """The limits of a node for instances that run there.

    Args:
        state: the node; redundant (`fails_n1` is no).
        is_local: the disks take space of the node.
    """
    disk, spindles, planned_disk = _disk_limits(state) if is_local else (inf, inf, inf)
    return PrimaryRoom(
        memory=state.unallocated - 1,
        disk=disk,
        spindles=spindles,
        planned_disk=planned_disk,
        spare_memory=state.unallocated - state.reserved - 1,
        cpus=_cpu_limit(state, state.used_cpus),
        planned_memory=state.planned_unallocated - 1,
        planned_cpus=_cpu_limit(state, state.planned_cpus),
        planned_spindles=state.spindle_limit - state.planned_spindles if is_local else inf,
        spindle_mode=_spindle_mode(state),
    )


def secondary_room(state: NodeState) -> SecondaryRoom:
    """The limits of a node for mirrors of instances; the node is redundant."""
    disk, spindles, planned_disk = _disk_limits(state)
    free, planned = state.unallocated, state.planned_unallocated
    return SecondaryRoom(
        disk=disk,
        spindles=spindles,
        planned_disk=planned_disk,
        memory=min(free, planned) - 1,
        linked_memory=free - 1,
        spindle_mode=_spindle_mode(state),
    )


def _disk_limits(state: NodeState) -> tuple[float, float, float]:
    if not state.has_disk_report:
        return -inf, inf, inf
    if state.has_exclusive_storage:
        spindles: float = state.free_spindles
    else:
        spindles = state.spindle_limit - state.spindles
    disk = min(state.free_disk - 1, state.free_disk - state.kept_disk)
    planned = min(state.planned_free_disk - 1, state.planned_free_disk - state.kept_disk)
    return disk, spindles, planned


def _spindle_mode(state: NodeState) -> FailMode:
    return FailMode.SPINDLES if state.has_exclusive_storage else FailMode.DISK


def _cpu_limit(state: NodeState, used: int) -> int:
    """The most processors for which the share is within the ratio, as the rule divides it."""
    limit = int(state.vcpu_ratio * state.total_cpus) - used + 1
    while limit > 0 and (used + limit) / state.total_cpus > state.vcpu_ratio:
        limit -= 1
    return limit
