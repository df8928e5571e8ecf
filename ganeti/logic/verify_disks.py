"""Which disks of a node group are missing, or have to be opened (operations.md 1.9). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from ganeti.model.calls.disks import DiskState
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import fill_disk
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance

DiskPlace = tuple[str, int]
"""Name of an instance, and index of one of its disks."""


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the nodes said."""

    states: Mapping[NodeId, Mapping[DiskPlace, DiskState]] = {}
    silent: Mapping[NodeId, str] = {}
    """Nodes that did not answer, with the reason."""


class DiskVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be done; the established result is `as_result`."""

    errors: Mapping[NodeId, str]
    to_activate: tuple[str, ...]
    """Names of instances, sorted."""
    missing: Mapping[str, tuple[tuple[NodeId, str], ...]]
    """Name of an instance to node and name of what is missing there."""

    def as_result(self) -> tuple[Mapping[str, str], Sequence[str], Mapping[str, Sequence[Sequence[str]]]]:
        """The result of OP_GROUP_VERIFY_DISKS."""
        return (
            {str(node): error for node, error in self.errors.items()},
            self.to_activate,
            {name: [list(place) for place in places] for name, places in self.missing.items()},
        )


def instances_of_group(cluster: Cluster, group: GroupId) -> tuple[Instance, ...]:
    """Instances with a node in a group, by name."""
    members = {node.uuid for node in cluster.members(group)}
    found = [
        instance
        for instance in cluster.instances.values()
        if instance.primary_node in members
        or any(not members.isdisjoint(cluster.disks[disk].nodes) for disk in instance.disks)
    ]
    return tuple(sorted(found, key=lambda instance: instance.name))


def disks_to_ask_for(
    cluster: Cluster, instances: Collection[Instance], nodes: Collection[NodeId]
) -> Mapping[NodeId, Mapping[DiskPlace, Disk]]:
    """Disks that ought to be open on some nodes, filled for them.

    Nodes marked offline, and instances whose disks are closed or not made yet, are left out.
    """
    found: dict[NodeId, dict[DiskPlace, Disk]] = {}
    for instance in instances:
        if not instance.disks_active or instance.forthcoming:
            continue
        for index, disk in enumerate(cluster.disks_of(instance)):
            for node in disk.nodes or (instance.primary_node,):
                if node in nodes and not cluster.nodes[node].offline:
                    places = found.setdefault(node, {})
                    places[instance.name, index] = fill_disk(cluster, disk, node)
    return found


def judge_disks(cluster: Cluster, instances: Collection[Instance], facts: DiskFacts) -> DiskVerdict:
    """What is missing, and which instances need `activate-disks`.

    A mirror that does not reach its other end because that node is down needs nothing: opening it again
    would not help.
    """
    to_activate: list[str] = []
    missing: dict[str, tuple[tuple[NodeId, str], ...]] = {}
    for instance in sorted(instances, key=lambda one: one.name):
        lost: list[tuple[NodeId, str]] = []
        is_closed = False
        for index, disk in enumerate(cluster.disks_of(instance)):
            nodes = disk.nodes or (instance.primary_node,)
            asked = {node: facts.states.get(node, {}).get((instance.name, index)) for node in nodes}
            all_answered = all(state is not None for state in asked.values())
            for node, state in asked.items():
                if state is None:
                    continue
                lost += [(node, name) for name in state.missing]
                is_alone = state.is_connected is False and all_answered
                is_closed = is_closed or not state.is_open or is_alone
        if lost:
            missing[instance.name] = tuple(lost)
        elif is_closed:
            to_activate.append(instance.name)
    return DiskVerdict(errors=dict(facts.silent), to_activate=tuple(to_activate), missing=missing)
