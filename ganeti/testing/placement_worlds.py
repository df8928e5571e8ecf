"""Clusters with live facts, of every kind that placement has to cope with, from a seed.

view = placement_view(cluster(nodes=3))                 # all nodes alike, 64 GiB each
view, request = random_case(seed=7, template="drbd")    # nodes of all sizes, partly full
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from ganeti.logic.node_figures import SPINDLE_REPORT, backend_reader, uses_local_disk
from ganeti.model.allocation import ClusterView, InstanceRequest
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState
from ganeti.model.node import AllocPolicy
from ganeti.testing.clusters import (
    changed_instance,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.clusters import cluster as new_cluster


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a node of a test has."""

    memory: int = 65536
    own_memory: int = 1024
    disk: int = 1048576
    cpus: int = 16
    own_cpus: int = 1
    lost_memory: int = 0
    """Used by something that nobody knows."""


def placement_view(
    cluster: Cluster,
    machines: Mapping[NodeId, Machine] | None = None,
    *,
    without_facts: frozenset[NodeId] = frozenset(),
    candidates: frozenset[NodeId] | None = None,
) -> ClusterView:
    """The view of a cluster whose nodes report what their machines have, less what instances use."""
    used: dict[NodeId, list[int]] = {node: [0, 0] for node in cluster.nodes}
    running: dict[NodeId, dict[str, RunningInstance]] = {node: {} for node in cluster.nodes}
    backend = backend_reader(cluster.settings)
    for instance in cluster.instances.values():
        memory, home = backend(instance).maxmem, instance.primary_node
        if instance.admin_state is AdminState.UP:
            used[home][0] += memory
            running[home][instance.name] = RunningInstance(
                name=instance.name, memory=memory, vcpus=backend(instance).vcpus
            )
        template = cluster.disk_template(instance)
        for node in cluster.nodes_of(instance) if uses_local_disk(template) else ():
            overhead = 128 if template == "drbd" else 0
            used[node][1] += sum(disk.size + overhead for disk in cluster.disks_of(instance))
    facts = {
        node: _facts((machines or {}).get(node, Machine()), *used[node])
        for node in cluster.nodes
        if node not in without_facts
    }
    return ClusterView(cluster=cluster, facts=facts, running=running, candidates=candidates)


def _facts(machine: Machine, memory: int, disk: int) -> NodeInfoResult:
    capacity = NodeCapacity(
        memory_total=machine.memory,
        memory_free=machine.memory - machine.own_memory - machine.lost_memory - memory,
        memory_dom0=machine.own_memory,
        cpu_total=machine.cpus,
        cpu_dom0=machine.own_cpus,
    )
    kinds = sorted({traits.storage_type for traits in TRAITS.values()})
    return NodeInfoResult(
        boot_id="boot",
        storage=tuple(
            StorageSpace(type=kind, name="store", storage_free=machine.disk - disk, storage_size=machine.disk)
            for kind in kinds
        ),
        hypervisors={"kvm": capacity, "fake": capacity},
    )


def request_for(name: str = "new.example.com", **changes: Any) -> InstanceRequest:
    """A request for a small instance."""
    values: dict[str, Any] = {
        "name": name,
        "memory": 2048,
        "vcpus": 2,
        "disks": (10240,),
        "disk_template": "plain",
        "hypervisor": "kvm",
        "os": "noop",
    }
    return InstanceRequest(**{**values, **changes})


def random_case(
    seed: int, template: str, *, most_nodes: int = 12, is_tagged: bool = False
) -> tuple[ClusterView, InstanceRequest]:
    """A cluster of a random shape and an instance to be placed in it; the same for the same seed.

    Args:
        seed: which one.
        template: disk template of the instance.
        most_nodes: nodes at most.
        is_tagged: with tags of every kind that placement knows; otherwise the same case.
    """
    rng = Random(f"{seed} {template}")
    count = rng.randint(2, most_nodes)
    groups = rng.choice((1, 1, 2, 3))
    cluster = new_cluster(nodes=count, groups=groups, enabled_hypervisors=("kvm", "fake"))
    if rng.random() < 0.3:
        cluster = with_settings(cluster, tags=("htools:iextags:svc",))
    if groups > 1:
        cluster = _with_policies(cluster, rng)
    machines = _machines(rng, count)
    cluster = _filled(cluster, rng, machines)
    for number in range(1, count + 1):
        if rng.random() < 0.12:
            flag = rng.choice(("offline", "drained", "vm_incapable"))
            change = {"vm_capable": False} if flag == "vm_incapable" else {flag: True}
            cluster = with_node(cluster, f"node{number}.example.com", master_candidate=False, **change)
    request = request_for(
        disk_template=template,
        memory=rng.choice((128, 1024, 4096, 16384)),
        vcpus=rng.choice((1, 2, 8)),
        disks=() if template == "diskless" else tuple(rng.choice(((10240,), (2048, 4096), (204800,)))),
        tags=rng.choice(((), ("svc:web",))),
        group=rng.choice((None, None, group_id(1))),
    )
    candidates = None
    if rng.random() < 0.2:
        candidates = frozenset(node_id(n) for n in range(1, count + 1) if rng.random() < 0.7)
    if is_tagged:
        cluster, request = _tagged(cluster, request, rng)
    return placement_view(cluster, machines, candidates=candidates), request


def exclusive_case(seed: int, *, is_everywhere: bool) -> tuple[ClusterView, InstanceRequest]:
    """A random case in which plain disks have spindles for themselves, in all groups or in the first."""
    view, request = random_case(seed, "plain")
    rng = Random(f"spindles {seed}")
    cluster = view.cluster
    groups = [
        msgspec.structs.replace(group, ndparams={"exclusive_storage": True})
        for group in cluster.groups.values()
        if is_everywhere or group.uuid == group_id(1)
    ]
    disks = [
        msgspec.structs.replace(disk, spindles=rng.randint(1, 3))
        for disk in cluster.disks.values()
        if disk.dev_type in ("plain", "drbd")
    ]
    cluster = msgspec.structs.replace(
        cluster,
        groups=cluster.groups.with_items({group.uuid: group for group in groups}),
        disks=cluster.disks.with_items({disk.uuid: disk for disk in disks}),
    )
    facts = {node: _with_spindles(found, rng) for node, found in view.facts.items()}
    spindles = tuple(rng.randint(1, 4) for _ in request.disks)
    request = msgspec.structs.replace(request, disk_spindles=spindles)
    return msgspec.structs.replace(view, cluster=cluster, facts=facts), request


def _with_spindles(facts: NodeInfoResult, rng: Random) -> NodeInfoResult:
    size = rng.choice((4, 8, 12))
    space = StorageSpace(
        type=SPINDLE_REPORT, name="store", storage_free=rng.randint(0, size), storage_size=size
    )
    return msgspec.structs.replace(facts, storage=(*facts.storage, space))


RULE_TAGS = (
    "htools:iextags:svc",
    "htools:nlocation:power",
    "htools:nlocation:rack",
    "htools:desiredlocation:power",
    "htools:migration:cpu",
    "htools:allowmigration:cpu:old::cpu:new",
)


def _tagged(cluster: Cluster, request: InstanceRequest, rng: Random) -> tuple[Cluster, InstanceRequest]:
    """Some of the rules, and nodes and instances to which they apply."""

    def some(*tags: str) -> tuple[str, ...]:
        return tuple(tag for tag in tags if rng.random() < 0.5)

    cluster = with_settings(cluster, tags=tuple(tag for tag in RULE_TAGS if rng.random() < 0.8))
    for node in tuple(cluster.nodes.values()):
        tags = (f"power:{rng.choice('abc')}", *some("rack:1"), *some("cpu:old", "cpu:new"))
        cluster = with_node(cluster, node.name, tags=tags)
    for instance in tuple(cluster.instances.values()):
        tags = some("svc:web", "svc:db", f"power:{rng.choice('abc')}")
        cluster = changed_instance(cluster, instance.name, tags=tags)
    return cluster, msgspec.structs.replace(request, tags=some("svc:web", f"power:{rng.choice('abc')}"))


def _machines(rng: Random, count: int) -> dict[NodeId, Machine]:
    alike = rng.random() < 0.4
    sizes = [
        Machine(
            memory=rng.choice((16384, 32768, 65536)),
            own_memory=rng.choice((512, 1024)),
            disk=rng.choice((262144, 1048576)),
            cpus=rng.choice((4, 8, 16)),
            lost_memory=rng.choice((0, 0, 700)),
        )
        for _ in range(count)
    ]
    return {node_id(number): sizes[0 if alike else number - 1] for number in range(1, count + 1)}


def _with_policies(cluster: Cluster, rng: Random) -> Cluster:
    changed = {
        group: msgspec.structs.replace(
            value,
            alloc_policy=AllocPolicy.PREFERRED if group == group_id(1) else rng.choice(list(AllocPolicy)),
        )
        for group, value in cluster.groups.items()
    }
    return msgspec.structs.replace(cluster, groups=cluster.groups.with_items(changed))


def _filled(cluster: Cluster, rng: Random, machines: Mapping[NodeId, Machine]) -> Cluster:
    """Instances of many sizes and templates, up to half of the nodes' memory."""
    free = {node: machine.memory * 0.6 for node, machine in machines.items()}
    names = [node.name for node in cluster.nodes.values()]
    for number in range(rng.choice((0, 0, 3, 10, 4 * len(names)))):
        home = cluster.node(rng.choice(names))
        others = [node.name for node in cluster.members(home.group) if node.uuid != home.uuid]
        memory = rng.choice((128, 512, 2048, 4096))
        if free[home.uuid] < memory:
            continue
        free[home.uuid] -= memory
        kinds = ("drbd", "plain", "sharedfile") if others else ("plain", "sharedfile")
        template = rng.choice(kinds)
        cluster = with_instance(
            cluster,
            f"old{number}",
            primary=home.name,
            secondary=rng.choice(others) if template == "drbd" else None,
            template=template,
            memory=memory,
            vcpus=rng.choice((1, 2, 4)),
            disk_sizes=(rng.choice((1024, 8192)),),
            hypervisor="kvm",
            admin_state=rng.choice((AdminState.UP, AdminState.UP, AdminState.UP, AdminState.DOWN)),
            tags=rng.choice(((), ("svc:web",), ("svc:db", "other"))),
        )
    return cluster
