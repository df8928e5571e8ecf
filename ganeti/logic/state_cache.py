"""What the nodes said lately, by node group, and what of it still counts. Pure: time is an argument.

    ticket = cache.ticket()                                  # before a node is asked
    cache.learned(cluster, node.uuid, state, ticket)         # a full answer; dropped if it is too old already
    cache.node(node.uuid, now=now)                           # None: ask the node

The rules are those of the document's cluster state cache: only full answers get in; a partial one that
differs takes the node's state away; whatever takes a node's state away takes the capacity of its group,
too, and so does an answer that tells of less than before, while one that tells of more does not; nothing
lives longer than an hour. The state of an instance is part of that of its primary node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.report import KnownReport
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.model.capacity import CapacityParams, GroupCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta
from ganeti.model.ids import GroupId, InstanceId, NodeId

LIFETIME_S = 3600.0

NOISE_MIB = 64
"""Free memory goes up and down by itself; less than this, one step of the table of capacities, is nothing."""

_NODE_PARTS = ("group", "offline", "drained", "vm_capable", "ndparams", "primary_ip")
"""Of a node: a change of these makes what it said before worthless, or what fits on it."""
_GROUP_PARTS = ("ndparams", "ipolicy", "diskparams", "alloc_policy", "capacity_params")
_SETTINGS = ("ndparams", "ipolicy", "diskparams", "beparams", "capacity_params")
"""Of the cluster: a change of these changes what fits."""
_ASKED = (
    "enabled_disk_templates",
    "enabled_hypervisors",
    "volume_group_name",
    "file_storage_dir",
    "shared_file_storage_dir",
    "gluster_storage_dir",
)
"""Of the cluster: a change of these changes what a node tells when it tells everything."""

Running = Mapping[str, RunningInstance]
"""Instances that run on a node, by name."""


class _Group:
    """State of the nodes of a group, and its capacity."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, KnownReport] = {}
        self.dropped = 0
        """Number of the event by which the states of all nodes were dropped last."""
        self.capacity: GroupCapacity | None = None
        self.measured: dict[NodeId, NodeInfoResult] = {}
        """What each node said when the capacity was computed, or first since: small losses add up."""
        self.capacity_dropped = 0
        """Number of the event by which the capacity was dropped last."""


class StateCache:
    """The states of all nodes; everything is gone when the daemon ends (S2.3-040, S2.3-041).

    Args:
        lifetime_s: of every element.
    """

    def __init__(self, *, lifetime_s: float = LIFETIME_S) -> None:
        self._lifetime_s = lifetime_s
        self._groups: dict[GroupId, _Group] = {}
        self._group_of: dict[NodeId, GroupId] = {}
        self._events = 0
        self._dropped: dict[NodeId, int] = {}
        """Number of the event by which the state of a node was dropped last."""
        self._all_dropped = 0

    def ticket(self) -> int:
        """To be had before nodes are asked: their answers do not bring back what is dropped from now on."""
        return self._events

    # --- reading -----------------------------------------------------------------------------

    def node(self, node: NodeId, *, now: float) -> KnownReport | None:
        """What a node said last, if that still counts."""
        group = self._group_with(node)
        state = None if group is None else group.nodes.get(node)
        return state if state is not None and self._is_alive(state.at, now) else None

    def nodes(self, group: GroupId, *, now: float) -> Mapping[NodeId, KnownReport]:
        """What counts of the nodes of a group."""
        found = self._groups.get(group)
        if found is None:
            return {}
        return {node: state for node, state in found.nodes.items() if self._is_alive(state.at, now)}

    def capacity(self, group: GroupId, params: CapacityParams, *, now: float) -> GroupCapacity | None:
        """The capacity of a group; one that was computed with other parameters is forgotten (S2.3-083)."""
        found = self._groups.get(group)
        if found is None or found.capacity is None:
            return None
        if found.capacity.params != params or not self._is_alive(found.capacity.ctime, now):
            found.capacity = None
        return found.capacity

    def rows(self, *, now: float) -> Iterator[tuple[GroupId, NodeId | None, float]]:
        """Group, node (None: its capacity) and age in seconds of everything that counts."""
        for group, state in self._groups.items():
            for node, known in state.nodes.items():
                if self._is_alive(known.at, now):
                    yield group, node, now - known.at
            if state.capacity is not None and self._is_alive(state.capacity.ctime, now):
                yield group, None, now - state.capacity.ctime

    # --- what nodes say ----------------------------------------------------------------------

    def learned(self, cluster: Cluster, node: NodeId, state: KnownReport, ticket: int) -> None:
        """A node gave a full answer: everything that is asked of it, and all instances on it (S2.3-044).

        Args:
            cluster: the newest configuration; an answer of a node that is not in it is dropped.
            node: who.
            state: all its storage units, hypervisors and instances.
            ticket: from before it was asked; the answer is dropped if the node's state was dropped since.
        """
        known = cluster.nodes.get(node)
        if known is None:
            return
        group = self._group(known.group)
        if ticket < max(self._dropped.get(node, 0), group.dropped, self._all_dropped):
            return
        if is_less(state.info, group.measured.setdefault(node, state.info)):
            self.drop_capacity(known.group)
        group.nodes[node] = state
        self._group_of[node] = known.group

    def seen(
        self,
        node: NodeId,
        info: NodeInfoResult | None = None,
        running: Running | None = None,
        *,
        is_all: bool = False,
        absent: Collection[str] = (),
    ) -> bool:
        """A node gave a partial answer; says whether it agrees with what is known (S2.3-045, S2.3-048).

        Args:
            node: who.
            info: some of its storage units and hypervisors.
            running: some of its instances.
            is_all: `running` are all of its instances.
            absent: names of instances that do not run there.
        """
        group = self._group_with(node)
        state = None if group is None else group.nodes.get(node)
        if state is None:
            return True
        agrees = info is None or agree(info, state.info)
        if agrees and running is not None:
            agrees = all(_same_run(one, state.running.get(name)) for name, one in running.items())
            agrees = agrees and not (is_all and len(running) != len(state.running))
        agrees = agrees and not any(name in state.running for name in absent)
        if not agrees:
            self.drop_nodes([node])
        return agrees

    def computed(self, group: GroupId, capacity: GroupCapacity, ticket: int) -> None:
        """The capacity of a group was computed; dropped if it was made worthless meanwhile."""
        found = self._group(group)
        if ticket >= max(found.capacity_dropped, self._all_dropped):
            found.capacity = capacity
            found.measured = {node: state.info for node, state in found.nodes.items()}

    # --- what does not count any more --------------------------------------------------------

    def drop_nodes(self, nodes: Iterable[NodeId]) -> None:
        """What these nodes said does not count, and so the capacity of their groups (S2.3-051)."""
        self._events += 1
        for node in nodes:
            self._dropped[node] = self._events
            group = self._group_of.pop(node, None)
            if group is not None:
                self._groups[group].nodes.pop(node, None)
                self._groups[group].measured.pop(node, None)
                self.drop_capacity(group)

    def drop_instances(self, cluster: Cluster, instances: Iterable[InstanceId]) -> None:
        """The state of these instances does not count: that of their primary nodes (S2.3-042)."""
        found = (cluster.instances.get(instance) for instance in instances)
        self.drop_nodes([instance.primary_node for instance in found if instance is not None])

    def drop_group(self, group: GroupId) -> None:
        """Nothing that is known of a group counts."""
        self.drop_nodes(list(self._group(group).nodes))
        self.drop_capacity(group)
        self._group(group).dropped = self._events

    def drop_all(self) -> None:
        """Nothing counts."""
        self._events += 1
        self._all_dropped = self._events
        self._groups.clear()
        self._group_of.clear()
        self._dropped.clear()

    def drop_capacity(self, group: GroupId) -> None:
        """What fits into a group has to be computed again."""
        self._events += 1
        found = self._group(group)
        found.capacity = None
        found.capacity_dropped = self._events

    def config_changed(self, old: Cluster, new: Cluster, changes: Delta) -> None:
        """Forget what a change of the configuration makes worthless; costs as much as what changed.

        Args:
            old: before.
            new: after.
            changes: the difference of both.
        """
        if any(name in changes.settings for name in _ASKED):
            self.drop_all()
        if any(name in changes.settings for name in _SETTINGS):
            for group in list(self._groups):
                self.drop_capacity(group)
        for uuid in changes.groups:
            group_id = GroupId(uuid)
            if group_id not in new.groups:
                self.drop_group(group_id)
                self._groups.pop(group_id, None)
            elif _differ(old.groups.get(group_id), new.groups[group_id], _GROUP_PARTS):
                self.drop_capacity(group_id)
        for uuid in changes.nodes:
            node = NodeId(uuid)
            if _differ(old.nodes.get(node), new.nodes.get(node), _NODE_PARTS):
                self.drop_nodes([node])
                for cluster in (old, new):
                    if node in cluster.nodes:
                        self.drop_capacity(cluster.nodes[node].group)
        for uuid in changes.instances:
            for cluster in (old, new):
                self._drop_capacity_around(cluster, InstanceId(uuid))
        for uuid in changes.disks:
            for cluster in (old, new):
                disk = cluster.disks.get(uuid)  # type: ignore[call-overload]
                for node in () if disk is None else disk.nodes:
                    if node in cluster.nodes:
                        self.drop_capacity(cluster.nodes[node].group)

    def _drop_capacity_around(self, cluster: Cluster, uuid: InstanceId) -> None:
        instance = cluster.instances.get(uuid)
        if instance is not None and instance.primary_node in cluster.nodes:
            self.drop_capacity(cluster.nodes[instance.primary_node].group)

    def _group_with(self, node: NodeId) -> _Group | None:
        group = self._group_of.get(node)
        return None if group is None else self._groups[group]

    def _group(self, group: GroupId) -> _Group:
        return self._groups.setdefault(group, _Group())

    def _is_alive(self, at: float, now: float) -> bool:
        # A clock that was set back makes nothing younger.
        return 0.0 <= now - at < self._lifetime_s


def is_less(info: NodeInfoResult, before: NodeInfoResult) -> bool:
    """Whether a node tells of less than before in anything that decides what fits on it (S2.3-047)."""
    for name, capacity in before.hypervisors.items():
        now = info.hypervisors.get(name)
        if now is None or now.memory_free < capacity.memory_free - NOISE_MIB:
            return True
        if now.cpu_total - now.cpu_dom0 < capacity.cpu_total - capacity.cpu_dom0:
            return True
        if now.memory_total < capacity.memory_total:
            return True
    units = {(unit.type, unit.name): unit for unit in info.storage}
    for unit in before.storage:
        now_unit = units.get((unit.type, unit.name))
        if now_unit is None:
            return True
        if (now_unit.storage_size or 0) < (unit.storage_size or 0):
            return True
        if (now_unit.storage_free or 0) < (unit.storage_free or 0):
            return True
    return False


def agree(part: NodeInfoResult, whole: NodeInfoResult) -> bool:
    """Whether a partial answer says the same as a full one, but for what changes by itself."""
    if part.boot_id != whole.boot_id:
        return False
    for name, capacity in part.hypervisors.items():
        known = whole.hypervisors.get(name)
        if known is None or abs(capacity.memory_free - known.memory_free) > NOISE_MIB:
            return False
        if _fixed(capacity) != _fixed(known):
            return False
    units = {(unit.type, unit.name): unit for unit in whole.storage}
    return all(units.get((unit.type, unit.name)) == unit for unit in part.storage)


def _fixed(capacity: NodeCapacity) -> tuple[object, ...]:
    return (capacity.memory_total, capacity.cpu_total, capacity.cpu_dom0, capacity.hv_version)


def _same_run(one: RunningInstance, known: RunningInstance | None) -> bool:
    """Whether an instance runs as it did; the processor time it used does not count."""
    return known is not None and msgspec.structs.replace(one, time=known.time) == known


def _differ(old: Any, new: Any, parts: Iterable[str]) -> bool:
    if old is None or new is None:
        return True
    return any(getattr(old, part) != getattr(new, part) for part in parts)
