"""Rules a node must keep when an instance is put on it; each failure says by how much.

The rules are those of iallocator.md section 6.2, tested in their order. *Soft* rules may be set aside
where an instance has to leave a node that is offline.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from ganeti.logic.node_state import Demand, NodeState
from ganeti.model.ids import NodeId
from ganeti.model.ipolicy import InstancePolicy, InstanceSpec

_IF_ALL_RAN = "if all its instances ran"


class Constraint(StrEnum):
    """Kinds of rules."""

    STATE = "state"
    GROUP = "group"
    POLICY = "policy"
    MEMORY = "memory"
    DISK = "disk"
    SPINDLES = "spindles"
    CPU = "cpu"
    TAGS = "tags"
    MIGRATION = "migration"
    REDUNDANCY = "redundancy"


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that an instance breaks, in words and, where it is about an amount, by how much."""

    constraint: Constraint
    text: str
    lacking: int = 0
    resource: Constraint | None = None
    """Of a policy: what it is about, where that is memory, disk, processors or spindles."""


def primary_problem(state: NodeState, demand: Demand, *, is_strict: bool = True) -> Shortfall | None:
    """Why an instance cannot run on this node; None: it can.

    Args:
        state: the node without the instance.
        demand: the instance.
        is_strict: soft rules count, too.
    """
    if not demand.migration_tags <= state.accepted_migrations:
        missing = demand.migration_tags - state.accepted_migrations
        text = f"instances cannot be migrated to it from a node with the tag {min(missing)!r}"
        return Shortfall(constraint=Constraint.MIGRATION, text=text)
    new_unallocated = state.unallocated - demand.up_memory
    if new_unallocated <= 0:
        return _memory(demand.memory, state.unallocated - 1)
    if demand.is_local:
        problem = _disk_problem(state, demand, is_strict=is_strict)
        if problem is not None:
            return problem
    if is_strict:
        if new_unallocated <= state.reserved and not state.fails_n1:
            return _memory(demand.memory, state.unallocated - state.reserved - 1, why=_kept(state.reserved))
        if (state.used_cpus + demand.cpus) / state.total_cpus > state.vcpu_ratio:
            return _cpus(state, demand, state.used_cpus)
        for tag in demand.exclusion_tags:
            if state.exclusion_tags.get(tag, 0) > 0:
                text = f"an instance with the exclusive tag {tag!r} runs there already"
                return Shortfall(constraint=Constraint.TAGS, text=text)
    return _planned_problem(state, demand) if is_strict else None


def secondary_problem(
    state: NodeState,
    demand: Demand,
    primary: NodeId | None = None,
    *,
    is_strict: bool = True,
    is_move: bool = False,
) -> Shortfall | None:
    """Why the mirror of an instance cannot lie on this node; None: it can.

    Args:
        state: the node without the mirror.
        demand: the instance.
        primary: where it runs; None: some node that has no mirrors here so far.
        is_strict: soft rules count, too.
        is_move: it has a mirror already, elsewhere or in another role: then what this node keeps for others
            need not suffice if all instances that are stopped ran, too.
    """
    problem = _disk_problem(state, demand, is_strict=is_strict)
    if problem is not None or not is_strict:
        return problem
    memory = demand.failover_memory
    if memory >= state.unallocated:
        return _memory(memory, state.unallocated - 1, purpose="for a failover")
    kept = state.peers.get(primary, 0) if primary is not None else 0
    if state.unallocated <= max(state.reserved, kept + memory) and not state.fails_n1:
        return _memory(memory, state.unallocated - kept - 1, why=_kept(kept), purpose="for a failover")
    planned = state.planned_unallocated
    if memory >= planned:
        return _memory(memory, planned - 1, why=_IF_ALL_RAN, purpose="for a failover")
    if not is_move and planned <= max(state.reserved, kept + memory) and planned > state.reserved:
        why = f"{_IF_ALL_RAN} {_kept(kept)}".strip()
        return _memory(memory, planned - kept - 1, why=why, purpose="for a failover")
    return None


def policy_problem(demand: Demand, policy: InstancePolicy, *, is_exclusive: bool = False) -> Shortfall | None:
    """Why a group's policy forbids an instance; None: it allows it.

    It has to lie within one of the ranges. Network interfaces are not looked at: the operation
    that creates them does that.

    Args:
        demand: the instance.
        policy: of the group.
        is_exclusive: the group has exclusive storage, where spindles are those of the disks.
    """
    if is_exclusive:
        demand = msgspec.structs.replace(demand, spindle_use=demand.own_spindles)
    if demand.template not in policy.disk_templates:
        text = f"its policy does not allow {demand.template} disks"
        return Shortfall(constraint=Constraint.POLICY, text=text, resource=Constraint.DISK)
    first: tuple[str, Constraint | None] = ("any instance", None)
    is_first = True
    for allowed in policy.minmax:
        broken = next(_out_of_range(demand, allowed.min, allowed.max), None)
        if broken is None:
            return None
        if is_first:
            first, is_first = broken, False
    what, resource = first
    return Shortfall(
        constraint=Constraint.POLICY, text=f"its policy does not allow {what}", resource=resource
    )


def _out_of_range(
    demand: Demand, least: InstanceSpec, most: InstanceSpec
) -> Iterator[tuple[str, Constraint | None]]:
    """What lies outside of a range, and which resource that is."""
    memory, disk, cpu = Constraint.MEMORY, Constraint.DISK, Constraint.CPU
    cpus, spindles = demand.vcpus, demand.spindle_use
    figures: list[tuple[Constraint | None, str, str, int, int, int]] = [
        (memory, "memory", "MiB", demand.memory, least.memory_size, most.memory_size)
    ]
    for size in demand.disk_sizes:
        figures.append((disk, "a disk of", "MiB", size, least.disk_size, most.disk_size))
    figures.append((cpu, "a number of virtual processors of", "", cpus, least.cpu_count, most.cpu_count))
    if demand.template != "diskless":
        count = len(demand.disk_sizes)
        figures.append((None, "a number of disks of", "", count, least.disk_count, most.disk_count))
    use = ("a spindle use of", "", spindles, least.spindle_use, most.spindle_use)
    figures.append((Constraint.SPINDLES, *use))
    for resource, what, unit, value, low, high in figures:
        if not low <= value <= high:
            yield " ".join(filter(None, (f"{what} {value}", unit, f"(allowed: {low} to {high})"))), resource


def _disk_problem(state: NodeState, demand: Demand, *, is_strict: bool) -> Shortfall | None:
    if not state.has_disk_report:
        if demand.template == "file":
            return None
        text = f"it reports no space for {demand.template} disks"
        return Shortfall(constraint=Constraint.DISK, text=text)
    if state.free_disk - demand.disk <= 0:
        return _disk(demand.disk, state.free_disk - 1)
    if is_strict and state.free_disk - demand.disk < state.kept_disk:
        return _disk(demand.disk, state.free_disk - state.kept_disk)
    if state.has_exclusive_storage:
        if demand.lacks_spindles:
            text = "it has exclusive storage, and a disk does not say how many spindles it takes (spindles=N)"
            return Shortfall(constraint=Constraint.SPINDLES, text=text)
        if state.free_spindles < demand.own_spindles:
            return _spindles(demand.own_spindles, state.free_spindles)
    elif is_strict and state.spindles + demand.spindle_use > state.spindle_limit:
        return _spindles(demand.spindle_use, int(state.spindle_limit) - state.spindles)
    planned = min(state.planned_free_disk - 1, state.planned_free_disk - state.kept_disk)
    if is_strict and demand.disk > planned:
        return _disk(demand.disk, planned)
    return None


def _planned_problem(state: NodeState, demand: Demand) -> Shortfall | None:
    """The same limits, instances that are only reserved counted, and memory as if all ran."""
    if state.planned_unallocated - demand.memory <= 0:
        return _memory(demand.memory, state.planned_unallocated - 1, why=_IF_ALL_RAN)
    if (state.planned_cpus + demand.cpus) / state.total_cpus > state.vcpu_ratio:
        return _cpus(state, demand, state.planned_cpus)
    if not demand.is_local or state.has_exclusive_storage:
        return None
    if state.planned_spindles + demand.spindle_use > state.spindle_limit:
        return _spindles(demand.spindle_use, int(state.spindle_limit) - state.planned_spindles)
    return None


def _memory(needed: int, usable: int, *, why: str = "", purpose: str = "") -> Shortfall:
    wanted = " ".join(filter(None, (f"{needed} MiB", purpose)))
    left = " ".join(filter(None, (f"{max(0, usable)} usable", why)))
    text = f"{needed - usable} MiB of memory missing ({wanted} needed, {left})"
    return Shortfall(constraint=Constraint.MEMORY, text=text, lacking=needed - usable)


def _kept(memory: int) -> str:
    return f"besides {memory} MiB kept for failover" if memory > 0 else ""


def _disk(needed: int, usable: int) -> Shortfall:
    text = f"{needed - usable} MiB of disk space missing ({needed} MiB needed, {max(0, usable)} usable)"
    return Shortfall(constraint=Constraint.DISK, text=text, lacking=needed - usable)


def _spindles(needed: int, usable: int) -> Shortfall:
    text = f"{needed - usable} spindles missing ({needed} needed, {max(0, usable)} usable)"
    return Shortfall(constraint=Constraint.SPINDLES, text=text, lacking=needed - usable)


def _cpus(state: NodeState, demand: Demand, used: int) -> Shortfall:
    usable = int(state.vcpu_ratio * state.total_cpus) - used
    text = (
        f"{demand.cpus - usable} virtual processors too many ({demand.cpus} needed, {max(0, usable)} usable:"
        f" {state.total_cpus} processors, policy allows {state.vcpu_ratio:g} each)"
    )
    return Shortfall(constraint=Constraint.CPU, text=text, lacking=demand.cpus - usable)
