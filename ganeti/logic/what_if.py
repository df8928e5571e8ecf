"""What the nodes of a group would have if there were other nodes: answers on a copy of the view.

view = with_nodes(view, [NewNode(group=group, like="node1")])
view = without_nodes(view, ["node2"])
"""

from __future__ import annotations

import msgspec

from ganeti.errors import PrereqError
from ganeti.model.allocation import ClusterView
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.model.capacity import InstanceSpec
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, Disk, Mirroring
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.node import Node


class NewNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that could be bought."""

    group: GroupId
    like: NodeId | None = None
    """A node of the same make; None: `size` tells."""
    size: InstanceSpec = (0, 0, 0)
    """Memory and disk in MiB, processors."""


def with_nodes(view: ClusterView, added: list[NewNode]) -> ClusterView:
    """The view with further empty nodes.

    Raises:
        PrereqError: nothing is known of a node that one is to be like.
    """
    nodes, facts = view.cluster.nodes, dict(view.facts)
    for number, new in enumerate(added, start=1):
        node = NodeId(f"what-if-{number}")
        model = None if new.like is None else view.cluster.nodes[new.like]
        facts[node] = _empty(view, model) if model is not None else _of_size(view, new.size)
        value = Node(
            uuid=node,
            name=f"what-if-{number}.invalid",
            primary_ip="",
            secondary_ip="",
            group=new.group,
            ndparams={} if model is None else model.ndparams,
        )
        nodes = nodes.with_item(node, value)
    running = {**view.running, **{node: {} for node in facts if node not in view.running}}
    cluster = msgspec.structs.replace(view.cluster, nodes=nodes)
    return msgspec.structs.replace(view, cluster=cluster, facts=facts, running=running)


def _empty(view: ClusterView, model: Node) -> NodeInfoResult:
    """What a node would tell if it had no instances."""
    facts = view.facts.get(model.uuid)
    if facts is None:
        raise PrereqError(f"nothing is known of node {model.name}; give the size: memory,disk,cpus")
    hypervisors = {
        name: msgspec.structs.replace(one, memory_free=one.memory_total - one.memory_dom0)
        for name, one in facts.hypervisors.items()
    }
    storage = tuple(
        msgspec.structs.replace(space, storage_free=space.storage_size) for space in facts.storage
    )
    return msgspec.structs.replace(facts, hypervisors=hypervisors, storage=storage)


def _of_size(view: ClusterView, size: InstanceSpec) -> NodeInfoResult:
    memory, disk, cpus = size
    capacity = NodeCapacity(
        memory_total=memory, memory_free=memory, memory_dom0=0, cpu_total=cpus, cpu_dom0=0
    )
    kinds = sorted({traits.storage_type for traits in TRAITS.values()})
    return NodeInfoResult(
        boot_id="",
        storage=tuple(
            StorageSpace(type=kind, name="", storage_free=disk, storage_size=disk) for kind in kinds
        ),
        hypervisors=dict.fromkeys(view.cluster.settings.enabled_hypervisors, capacity),
    )


def without_nodes(view: ClusterView, lost: list[NodeId]) -> ClusterView:
    """The view after nodes broke down: what is mirrored runs on its secondary, everything else is down."""
    cluster = view.cluster
    for gone in lost:
        node = msgspec.structs.replace(cluster.nodes[gone], offline=True, master_candidate=False)
        cluster = msgspec.structs.replace(cluster, nodes=cluster.nodes.with_item(gone, node))
        for instance in list(cluster.instances.values()):
            if instance.primary_node == gone:
                cluster = _failed_over(cluster, instance)
    facts = {node: known for node, known in view.facts.items() if node not in lost}
    return msgspec.structs.replace(view, cluster=cluster, facts=facts)


def _failed_over(cluster: Cluster, instance: Instance) -> Cluster:
    mirrors = [node for node in cluster.secondary_nodes(instance) if cluster.nodes[node].may_get_instances]
    traits = TRAITS.get(cluster.disk_template(instance))
    if not mirrors or traits is None or traits.mirroring is not Mirroring.INTERNAL:
        return cluster
    moved = msgspec.structs.replace(instance, primary_node=mirrors[0])
    disks = {disk.uuid: _turned(disk) for disk in cluster.disks_of(instance)}
    return msgspec.structs.replace(
        cluster,
        instances=cluster.instances.with_item(instance.uuid, moved),
        disks=cluster.disks.with_items(disks),
    )


def _turned(disk: Disk) -> Disk:
    children = tuple(_turned(child) for child in disk.children)
    return msgspec.structs.replace(disk, nodes=disk.nodes[::-1], children=children)
