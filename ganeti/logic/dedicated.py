"""The best node where all storage is exclusive: the one that loses the fewest other instances.

On such nodes disks have spindles for themselves, and what counts is not how even the load is but what
still fits. For every smallest size of the policy, the largest disks first, it is counted how many such
instances a node could take before and after; the losses are compared one after the other, and where they are
equal, the node with the least disk space left wins, so that large rooms stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from ganeti.logic.constraints import primary_problem
from ganeti.logic.node_state import Demand, NodeState
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId
from ganeti.model.ipolicy import InstanceSpec
from ganeti.model.node import AllocPolicy

Rank = tuple[tuple[int, ...], int]
"""Losses by size, and disk space left; the smaller the better."""


def is_dedicated(cluster: Cluster, demand: Demand, group: GroupId | None) -> bool:
    """Whether all nodes of the groups that an instance might enter have exclusive storage, usable or not.

    Args:
        cluster: the configuration.
        demand: the instance.
        group: the only one that it may enter; None: all that take instances.
    """
    if demand.nodes_needed > 1 or not demand.is_local:
        return False
    asked = {
        node.group
        for node in cluster.nodes.values()
        if node.group == group
        or (group is None and cluster.groups[node.group].alloc_policy is not AllocPolicy.UNALLOCABLE)
    }
    return bool(asked) and all(has_exclusive_storage(cluster, one) for one in asked)


def has_exclusive_storage(cluster: Cluster, group: GroupId) -> bool:
    """Whether disks of a group have spindles for themselves."""
    params = {**cluster.settings.ndparams, **cluster.groups[group].ndparams}
    return bool(params.get("exclusive_storage"))


def rank(before: NodeState, after: NodeState, specs: Sequence[InstanceSpec]) -> Rank:
    """What an instance costs a node.

    Args:
        before: the node without it.
        after: the same with it.
        specs: smallest sizes that the policy allows.
    """
    ordered = sorted(specs, key=lambda spec: spec.disk_size, reverse=True)
    return tuple(_fitting(before, spec) - _fitting(after, spec) for spec in ordered), after.free_disk


def _fitting(state: NodeState, spec: InstanceSpec) -> int:
    """How many instances of one size a node could take, spindles aside."""
    if not _fits(state, spec, 1):
        return 0
    low, high = 1, 2
    while _fits(state, spec, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(state, spec, middle) else (low, middle)
    return low


def _fits(state: NodeState, spec: InstanceSpec, count: int) -> bool:
    """Whether so many fit: as much as one of all their sizes together, as every rule is about sums."""
    together = Demand(
        name="",
        memory=spec.memory_size * count,
        vcpus=spec.cpu_count * count,
        disk=spec.disk_size * spec.disk_count * count,
        disk_spindles=0,
    )
    return primary_problem(state, together, is_strict=True) is None
