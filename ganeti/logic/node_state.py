"""A node as placement sees it: what it has, what is used, what is kept for failover.

States are values. `with_primary` and `with_secondary` give the node after an instance was put on it,
`without_primary` and `without_secondary` take one off. How each figure is defined is the table of
docs/architecture/placement.md; all of them follow the established allocator, so that scores of the
two can be compared digit by digit.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ganeti.logic.node_figures import (
    NodeFigures,
    Question,
    backend_reader,
    disk_space,
    node_figures,
    nodes_needed,
    traits_of,
    use_of,
    uses_local_disk,
)
from ganeti.logic.placement_tags import TagRules, Tags, tag_rules
from ganeti.model.allocation import ClusterView, InstanceRequest
from ganeti.model.cluster import Cluster, common_template, other_nodes
from ganeti.model.disk import Disk, Mirroring
from ganeti.model.filled import BackendParams, ndparams_of
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.node import Node

NO_TAGS: Tags = frozenset()


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance asks of its nodes."""

    name: str
    memory: int
    vcpus: int
    disk: int = 0
    """MiB on each node"""
    disk_sizes: tuple[int, ...] = ()
    template: str = "plain"
    spindle_use: int = 1
    disk_spindles: int | None = None
    """Spindles of all its disks, which count in place of its spindle use on exclusive storage."""
    lacks_spindles: bool = False
    """A disk does not say how many it takes."""
    nodes_needed: int = 1
    is_local: bool = True
    """Its disks take space of the nodes."""
    is_movable: bool = False
    """Its disks can be reached from any node of the group."""
    is_up: bool = True
    """It uses memory."""
    uses_cpu: bool = True
    is_balanced: bool = True
    """Memory is kept free for its failover."""
    is_forthcoming: bool = False
    exclusion_tags: tuple[str, ...] = ()
    desired_locations: Tags = NO_TAGS
    migration_tags: Tags = NO_TAGS
    """What the node that it leaves wants of the next one."""

    @property
    def up_memory(self) -> int:
        """MiB that it uses on its primary node."""
        return self.memory if self.is_up else 0

    @property
    def failover_memory(self) -> int:
        """MiB that its secondary keeps for it."""
        return self.memory if self.is_balanced and self.uses_cpu and not self.is_forthcoming else 0

    @property
    def own_spindles(self) -> int:
        """Spindles that it has for itself on a node with exclusive storage."""
        return self.spindle_use if self.disk_spindles is None else self.disk_spindles

    @property
    def cpus(self) -> int:
        """Virtual processors that count on its primary node."""
        return self.vcpus if self.uses_cpu else 0


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """Resources of one node in one state of the cluster; MiB and counts.

    The `planned` figures also count instances that are only reserved (forthcoming), and memory as if
    stopped instances ran.
    """

    node: NodeId
    name: str
    group: GroupId
    is_online: bool = True
    """May get instances and answered; all others only count as places to leave."""
    total_memory: int = 0
    node_memory: int = 0
    unaccounted: int = 0
    """Memory that is neither free nor explained by the node and its instances."""
    instance_memory: int = 0
    planned_unallocated: int = 0
    """Memory left if stopped and forthcoming instances ran, too."""
    total_disk: int = 0
    free_disk: int = 0
    planned_free_disk: int = 0
    kept_disk: int = 0
    """Disk space that new instances have to leave free."""
    has_disk_report: bool = True
    total_cpus: int = 1
    used_cpus: int = 0
    planned_cpus: int = 0
    vcpu_ratio: float = 4.0
    spindle_limit: float = 32.0
    spindles: int = 0
    planned_spindles: int = 0
    has_exclusive_storage: bool = False
    total_spindles: int = 0
    free_spindles: int = 0
    primaries: int = 0
    secondaries: int = 0
    reserved: int = 0
    """What the worst failure of one other node would bring here."""
    peers: Mapping[NodeId, int] = {}
    """Memory that would come here if that node failed."""
    partners: frozenset[NodeId] = frozenset()
    """Secondary nodes of the instances that run here."""
    exclusion_tags: Mapping[str, int] = {}
    movable_memory: tuple[int, ...] = ()
    """Memory of each running instance that could be restarted on any other node."""
    location_tags: Tags = NO_TAGS
    """Causes for which it fails together with other nodes."""
    locations: Mapping[NodeId, Tags] = {}
    """The same of every online node that has some; one mapping for all states of a cluster."""
    misplaced: int = 0
    """Locations that its primaries ought to have and have not here."""
    common_causes: int = 0
    """Causes for which instances would lose their primary node together with their mirror here."""
    accepted_migrations: Tags = NO_TAGS
    """Wishes of nodes whose instances may come here."""

    @property
    def unallocated(self) -> int:
        """Memory that no instance uses."""
        return self.total_memory - self.node_memory - self.unaccounted - self.instance_memory

    @property
    def fails_n1(self) -> bool:
        """Whether some other node could fail whose instances would not fit here."""
        return self.unallocated <= self.reserved

    @property
    def tag_conflicts(self) -> int:
        """Number of primaries that share an exclusion tag with an earlier one."""
        return sum(count - 1 for count in self.exclusion_tags.values() if count > 1)

    def with_primary(self, demand: Demand, secondary: NodeId | None = None) -> NodeState:
        """This node after an instance was started on it."""
        state = self._occupied(demand, 1)
        state = msgspec.structs.replace(
            state,
            planned_unallocated=self.planned_unallocated - demand.memory,
            planned_cpus=self.planned_cpus + demand.cpus,
        )
        if demand.is_forthcoming:
            return state
        return msgspec.structs.replace(
            state,
            instance_memory=self.instance_memory + demand.up_memory,
            used_cpus=self.used_cpus + demand.cpus,
            primaries=self.primaries + 1,
            partners=self.partners | {secondary} if secondary is not None else self.partners,
            exclusion_tags=_counted(self.exclusion_tags, demand.exclusion_tags, 1),
            misplaced=self.misplaced + self.missing_locations(demand),
            movable_memory=(*self.movable_memory, demand.memory)
            if demand.is_movable and demand.is_up
            else self.movable_memory,
        )

    def without_primary(self, demand: Demand) -> NodeState:
        """This node after an instance whose primary it was has left.

        `partners` stays as it is: a node too many there costs time only.
        """
        state = self._occupied(demand, -1)
        state = msgspec.structs.replace(
            state,
            planned_unallocated=self.planned_unallocated + demand.memory,
            planned_cpus=self.planned_cpus - demand.cpus,
        )
        if demand.is_forthcoming:
            return state
        movable = list(self.movable_memory)
        if demand.is_movable and demand.is_up and demand.memory in movable:
            movable.remove(demand.memory)
        return msgspec.structs.replace(
            state,
            instance_memory=self.instance_memory - demand.up_memory,
            used_cpus=self.used_cpus - demand.cpus,
            primaries=self.primaries - 1,
            exclusion_tags=_counted(self.exclusion_tags, demand.exclusion_tags, -1),
            misplaced=self.misplaced - self.missing_locations(demand),
            movable_memory=tuple(movable),
        )

    def with_secondary(self, demand: Demand, primary: NodeId) -> NodeState:
        """This node after it got the mirror of an instance that runs on another."""
        return self._mirroring(demand, primary, 1)

    def without_secondary(self, demand: Demand, primary: NodeId) -> NodeState:
        """This node after the mirror of an instance has left."""
        return self._mirroring(demand, primary, -1)

    def missing_locations(self, demand: Demand) -> int:
        """How many of the locations that an instance ought to have this node is not in."""
        return len(demand.desired_locations - self.location_tags) if demand.desired_locations else 0

    def causes_shared_with(self, primary: NodeId) -> int:
        """For how many causes this node and another, if it is online, fail together."""
        return len(self.location_tags & self.locations.get(primary, NO_TAGS)) if self.location_tags else 0

    def _mirroring(self, demand: Demand, primary: NodeId, sign: int) -> NodeState:
        state = self._occupied(demand, sign)
        if demand.is_forthcoming:
            return state
        peers = dict(self.peers)
        peers[primary] = peers.get(primary, 0) + sign * demand.failover_memory
        return msgspec.structs.replace(
            state,
            secondaries=self.secondaries + sign,
            common_causes=self.common_causes + sign * self.causes_shared_with(primary),
            peers=peers,
            reserved=max(peers.values(), default=0),
        )

    def _occupied(self, demand: Demand, sign: int) -> NodeState:
        """Disk and spindles, which count alike on both nodes of an instance."""
        if not demand.is_local:
            return self
        disk = sign * demand.disk
        spindles = 0 if self.has_exclusive_storage else sign * demand.spindle_use
        real = not demand.is_forthcoming
        return msgspec.structs.replace(
            self,
            free_disk=self.free_disk - (disk if real else 0),
            planned_free_disk=self.planned_free_disk - disk,
            spindles=self.spindles + (spindles if real else 0),
            planned_spindles=self.planned_spindles + spindles,
            free_spindles=self.free_spindles
            - (sign * demand.own_spindles if real and self.has_exclusive_storage else 0),
        )


def demand_of_request(request: InstanceRequest, cluster: Cluster) -> Demand:
    """What a new instance asks of its nodes; it counts as running."""
    rules = tag_rules(cluster)
    template = request.disk_template
    return Demand(
        name=request.name,
        memory=request.memory,
        vcpus=request.vcpus,
        disk=disk_space(template, request.disks),
        disk_sizes=request.disks,
        template=template,
        spindle_use=request.spindle_use,
        disk_spindles=_spindle_sum(request.disk_spindles),
        lacks_spindles=bool(request.disks) and _spindle_sum(request.disk_spindles) is None,
        nodes_needed=nodes_needed(template),
        is_local=uses_local_disk(template),
        is_movable=traits_of(template).mirroring is Mirroring.EXTERNAL,
        exclusion_tags=rules.exclusive(request.tags),
        desired_locations=rules.desired_locations(request.tags),
    )


def demand_of_instance(
    instance: Instance, cluster: Cluster, backend: BackendParams, rules: TagRules
) -> Demand:
    """What an existing instance takes of its nodes."""
    disks = cluster.disks_of(instance)
    return _demand_of_disks(instance, disks, cluster, backend, rules)


def _demand_of_disks(
    instance: Instance, disks: tuple[Disk, ...], cluster: Cluster, backend: BackendParams, rules: TagRules
) -> Demand:
    template = common_template(disks)
    use = use_of(template)
    home = cluster.nodes.get(instance.primary_node) if rules.migration else None
    sizes = tuple([disk.size for disk in disks])
    own_spindles = _spindle_sum(tuple([disk.spindles for disk in disks]))
    return Demand(
        name=instance.name,
        memory=backend.maxmem,
        vcpus=backend.vcpus,
        disk=disk_space(template, sizes),
        disk_sizes=sizes,
        template=template,
        spindle_use=backend.spindle_use,
        disk_spindles=own_spindles,
        lacks_spindles=bool(disks) and own_spindles is None,
        nodes_needed=use.nodes_needed,
        is_local=use.is_local,
        is_movable=use.is_movable,
        is_up=instance.admin_state is AdminState.UP,
        is_balanced=backend.auto_balance,
        uses_cpu=instance.admin_state is not AdminState.OFFLINE,
        is_forthcoming=instance.forthcoming,
        exclusion_tags=rules.exclusive(instance.tags) if instance.tags else (),
        desired_locations=rules.desired_locations(instance.tags) if instance.tags else NO_TAGS,
        migration_tags=NO_TAGS if home is None else rules.migration_tags(home.tags),
    )


def _spindle_sum(given: tuple[int | None, ...]) -> int | None:
    """Spindles of all disks; None: there are none, or one does not say."""
    known = [count for count in given if count is not None]
    return sum(known) if known and len(known) == len(given) else None


def node_states(view: ClusterView, question: Question) -> tuple[NodeState, ...]:
    """Every node of the cluster, in the order of their names, with what is on it now."""
    figures = node_figures(view, question)
    rules = tag_rules(view.cluster)
    locations = _locations(view.cluster, rules)
    online = {node: tags for node, tags in locations.items() if _is_online(view.cluster.nodes[node], figures)}
    loads = {node: _Load(locations.get(node, NO_TAGS), online) for node in view.cluster.nodes}
    backend = backend_reader(view.cluster.settings)
    for instance in view.cluster.instances.values():
        disks = view.cluster.disks_of(instance)
        demand = _demand_of_disks(instance, disks, view.cluster, backend(instance), rules)
        _spread(loads, instance, disks, demand)
    nodes = sorted(view.cluster.nodes.values(), key=lambda node: node.name)
    return tuple(
        _state(view.cluster, node, figures.get(node.uuid), loads[node.uuid], rules) for node in nodes
    )


def _locations(cluster: Cluster, rules: TagRules) -> dict[NodeId, Tags]:
    """Location tags of the nodes that have some."""
    if not rules.location:
        return {}
    found = ((node.uuid, rules.locations(node.tags)) for node in cluster.nodes.values())
    return {node: tags for node, tags in found if tags}


def _is_online(node: Node, figures: Mapping[NodeId, NodeFigures]) -> bool:
    return node.may_get_instances and node.uuid in figures


class _Load:
    """Sums over the instances of one node; in pairs the second counts forthcoming ones, too."""

    def __init__(self, location_tags: Tags, locations: Mapping[NodeId, Tags]) -> None:
        self.location_tags, self.locations = location_tags, locations
        self.misplaced = self.common_causes = 0
        self.cpus, self.spindles = [0, 0], [0, 0]
        self.memory = self.idle_memory = 0
        self.planned_disk = self.primaries = self.secondaries = 0
        self.peers: dict[NodeId, int] = {}
        self.partners: set[NodeId] = set()
        self.tags: dict[str, int] = {}
        self.movable: list[int] = []

    def occupy(self, demand: Demand) -> None:
        if demand.is_local:
            self.spindles[1] += demand.spindle_use
            if demand.is_forthcoming:
                self.planned_disk += demand.disk
            else:
                self.spindles[0] += demand.spindle_use


def _spread(
    loads: Mapping[NodeId, _Load], instance: Instance, disks: tuple[Disk, ...], demand: Demand
) -> None:
    """Add an instance to the sums of its nodes."""
    home = loads.get(instance.primary_node)
    if home is None:
        return
    home.occupy(demand)
    if demand.is_forthcoming or not demand.is_up:
        home.idle_memory += demand.memory
    home.cpus[1] += demand.cpus
    if not demand.is_forthcoming:
        home.memory += demand.up_memory
        home.cpus[0] += demand.cpus
        home.primaries += 1
        if demand.desired_locations:
            home.misplaced += len(demand.desired_locations - home.location_tags)
        for tag in demand.exclusion_tags:
            home.tags[tag] = home.tags.get(tag, 0) + 1
        if demand.is_movable and demand.is_up:
            home.movable.append(demand.memory)
    if demand.nodes_needed < 2:
        return
    for node in other_nodes(disks, instance.primary_node):
        mirror = loads[node]
        mirror.occupy(demand)
        if not demand.is_forthcoming:
            mirror.secondaries += 1
            if mirror.location_tags:
                shared = mirror.locations.get(instance.primary_node, NO_TAGS)
                mirror.common_causes += len(mirror.location_tags & shared)
            home.partners.add(node)
            known = mirror.peers.get(instance.primary_node, 0)
            mirror.peers[instance.primary_node] = known + demand.failover_memory


def _state(
    cluster: Cluster, node: Node, figures: NodeFigures | None, load: _Load, rules: TagRules
) -> NodeState:
    """One node's state; without figures it is offline for the purpose of placement."""
    state = NodeState(
        node=node.uuid,
        name=node.name,
        group=node.group,
        is_online=node.may_get_instances and figures is not None,
        primaries=load.primaries,
        secondaries=load.secondaries,
        peers=load.peers,
        reserved=max(load.peers.values(), default=0),
        partners=frozenset(load.partners),
        exclusion_tags=load.tags,
        movable_memory=tuple(load.movable),
        location_tags=load.location_tags,
        locations=load.locations,
        misplaced=load.misplaced,
        common_causes=load.common_causes,
        accepted_migrations=rules.accepted_migrations(node.tags) if rules.migration else NO_TAGS,
    )
    if figures is None:
        return state
    policy = cluster.policy_of(node.group)
    params = ndparams_of(cluster, node)
    exclusive = bool(params["exclusive_storage"])
    spindle_count = params["spindle_count"]
    assert isinstance(spindle_count, int)
    missing = figures.total_memory - figures.reserved_memory - figures.free_memory - load.memory
    return msgspec.structs.replace(
        state,
        total_memory=figures.total_memory,
        node_memory=figures.reserved_memory,
        unaccounted=max(0, missing),
        instance_memory=load.memory,
        planned_unallocated=figures.free_memory - load.idle_memory,
        total_disk=figures.total_disk or 0,
        free_disk=figures.free_disk or 0,
        planned_free_disk=(figures.free_disk or 0) - load.planned_disk,
        has_disk_report=figures.free_disk is not None,
        total_cpus=figures.total_cpus,
        used_cpus=figures.reserved_cpus + load.cpus[0],
        planned_cpus=figures.reserved_cpus + load.cpus[1],
        vcpu_ratio=policy.vcpu_ratio,
        spindle_limit=policy.spindle_ratio * spindle_count,
        spindles=0 if exclusive else load.spindles[0],
        planned_spindles=0 if exclusive else load.spindles[1],
        has_exclusive_storage=exclusive,
        total_spindles=figures.total_spindles,
        free_spindles=figures.free_spindles,
    )


def _counted(counts: Mapping[str, int], tags: tuple[str, ...], sign: int) -> Mapping[str, int]:
    if not tags:
        return counts
    changed = dict(counts)
    for tag in tags:
        changed[tag] = changed.get(tag, 0) + sign
    return changed
