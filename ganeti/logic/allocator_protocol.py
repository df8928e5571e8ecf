"""Requests to external allocators as the established JSON document, version 2 (iallocator.md).

A node that should answer but did not is shown as offline: the protocol has no other word for it, and
allocators refuse documents in which an online node lacks figures. Answers are read by
`allocator_answers`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ganeti.logic.capacity_params import filled_params
from ganeti.logic.node_figures import (
    NodeFigures,
    backend_reader,
    disk_space,
    node_figures,
    nodes_needed,
    question_of,
)
from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    Capacity,
    ChangeGroup,
    ClusterView,
    Evacuate,
    InstanceRequest,
    MultiAllocate,
    Relocate,
)
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import BackendParams, FilledNic, fill_nic, ndparams_of, nicparams_of
from ganeti.model.instance import Instance
from ganeti.model.ipolicy import InstancePolicy
from ganeti.model.node import Node, NodeGroup
from ganeti.model.spec import NicSpec

VERSION = 2

Document = dict[str, Any]
"""A JSON object about to be written."""


def encode(request: AllocationRequest, view: ClusterView) -> str:
    """The request and the whole cluster as text; objects are in the order of their names."""
    return msgspec.json.encode(document(request, view)).decode()


def document(request: AllocationRequest, view: ClusterView) -> Document:
    """The same as JSON values."""
    cluster = view.cluster
    settings = cluster.settings
    figures = node_figures(view, question_of(request, cluster))
    backend = backend_reader(settings)
    nodes = sorted(cluster.nodes.values(), key=lambda node: node.name)
    instances = sorted(cluster.instances.values(), key=lambda instance: instance.name)
    groups = sorted(cluster.groups.values(), key=lambda group: group.name)
    document = {
        "version": VERSION,
        "cluster_name": settings.cluster_name,
        "cluster_tags": list(settings.tags),
        "enabled_hypervisors": list(settings.enabled_hypervisors),
        "ipolicy": _policy(settings.ipolicy),
        "nodegroups": {group.uuid: _group(cluster, group) for group in groups},
        "nodes": {node.name: _node(cluster, node, figures.get(node.uuid)) for node in nodes},
        "instances": {one.name: _instance(cluster, one, backend(one)) for one in instances},
        "request": _request(request, view),
    }
    if view.ctime is not None:
        document["cache_ctime"] = view.ctime
    return document


def _policy(policy: InstancePolicy) -> Any:
    return msgspec.to_builtins(policy)


def _group(cluster: Cluster, group: NodeGroup) -> Document:
    return {
        "name": group.name,
        "alloc_policy": group.alloc_policy.value,
        "networks": list(group.networks),
        "ipolicy": _policy(cluster.policy_of(group.uuid)),
        "tags": list(group.tags),
        "capacity_params": msgspec.to_builtins(filled_params(cluster, group)),
    }


def _node(cluster: Cluster, node: Node, figures: NodeFigures | None) -> Document:
    static = {
        "tags": list(node.tags),
        "primary_ip": node.primary_ip,
        "secondary_ip": node.secondary_ip,
        "offline": node.offline or (node.vm_capable and figures is None),
        "drained": node.drained,
        "master_candidate": node.master_candidate,
        "master_capable": node.master_capable,
        "vm_capable": node.vm_capable,
        "group": node.group,
        "ndparams": ndparams_of(cluster, node),
    }
    if figures is None:
        return static
    return static | {
        "total_memory": figures.total_memory,
        "reserved_memory": figures.reserved_memory,
        "free_memory": figures.free_memory,
        "total_disk": figures.total_disk or 0,
        "free_disk": figures.free_disk or 0,
        "total_spindles": figures.total_spindles,
        "free_spindles": figures.free_spindles,
        "total_cpus": figures.total_cpus,
        "reserved_cpus": figures.reserved_cpus,
        "i_pri_memory": figures.primary_memory,
        "i_pri_up_memory": figures.primary_up_memory,
    }


def _instance(cluster: Cluster, instance: Instance, backend: BackendParams) -> Document:
    disks = cluster.disks_of(instance)
    template = cluster.disk_template(instance)
    return {
        "tags": list(instance.tags),
        "admin_state": instance.admin_state.value,
        "vcpus": backend.vcpus,
        "memory": backend.maxmem,
        "spindle_use": backend.spindle_use,
        "os": instance.os,
        "nodes": [cluster.nodes[node].name for node in cluster.nodes_of(instance)],
        "nics": [_nic(fill_nic(cluster, nic)) for nic in instance.nics],
        "disks": [_disk(disk) for disk in disks],
        "disk_template": template,
        "disks_active": instance.disks_active,
        "hypervisor": instance.hypervisor,
        "disk_space_total": disk_space(template, tuple(disk.size for disk in disks)),
        **({"forthcoming": True} if instance.forthcoming else {}),
    }


def _disk(disk: Disk) -> Document:
    return {"type": disk.dev_type, "size": disk.size, "mode": disk.mode, "spindles": disk.spindles}


def _nic(nic: FilledNic) -> Document:
    bridge = {"bridge": nic.link} if nic.mode == "bridged" else {}
    return {"mac": nic.mac, "ip": nic.ip, "mode": nic.mode, "link": nic.link, **bridge}


def _request(request: AllocationRequest, view: ClusterView) -> Document:
    match request:
        case Allocate():
            return {"type": "allocate", **_new_instance(request.instance, view)}
        case MultiAllocate():
            entries = [_new_instance(instance, view) for instance in request.instances]
            return {"type": "multi-allocate", "instances": entries}
        case Relocate():
            return {"type": "relocate", **_relocation(request, view.cluster)}
        case AllocateSecondary():
            return {"type": "allocate-secondary", "name": request.instance}
        case Evacuate():
            return {
                "type": "node-evacuate",
                "instances": list(request.instances),
                "evac_mode": request.mode.value,
            }
        case ChangeGroup():
            return {
                "type": "change-group",
                "instances": list(request.instances),
                "target_groups": list(request.target_groups),
            }
        case Capacity():
            return {
                "type": "capacity",
                "groups": list(request.params),
                "params": {group: msgspec.to_builtins(params) for group, params in request.params.items()},
                "independent_groups": request.independent_groups,
            }


def _relocation(request: Relocate, cluster: Cluster) -> Document:
    instance = cluster.instance(request.instance)
    sizes = tuple(disk.size for disk in cluster.disks_of(instance))
    return {
        "name": instance.name,
        "disk_space_total": disk_space(cluster.disk_template(instance), sizes),
        "required_nodes": 1,
        "relocate_from": [cluster.nodes[node].name for node in request.relocate_from],
    }


def _new_instance(instance: InstanceRequest, view: ClusterView) -> Document:
    cluster, template = view.cluster, instance.disk_template
    entry: Document = {
        "name": instance.name,
        "disk_template": template,
        "group_name": None if instance.group is None else cluster.groups[instance.group].name,
        "tags": list(instance.tags),
        "os": instance.os,
        "vcpus": instance.vcpus,
        "memory": instance.memory,
        "spindle_use": instance.spindle_use,
        "disks": [_new_disk(instance, index) for index in range(len(instance.disks))],
        "disk_space_total": disk_space(template, instance.disks),
        "nics": [_new_nic(cluster, nic) for nic in instance.nics],
        "required_nodes": nodes_needed(template),
        "hypervisor": instance.hypervisor,
    }
    if instance.target_groups:
        entry["target_groups"] = list(instance.target_groups)
    if view.candidates is not None or instance.target_groups:
        # Allocators that do not know `target_groups` keep to the nodes.
        names = (
            node.name
            for node in cluster.nodes.values()
            if (view.candidates is None or node.uuid in view.candidates) and instance.may_enter(node.group)
        )
        entry["restrict-to-nodes"] = sorted(names)
    return entry


def _new_disk(instance: InstanceRequest, index: int) -> Document:
    disk = {"size": instance.disks[index], "mode": "rw", "type": instance.disk_template}
    spindles = instance.disk_spindles[index] if instance.disk_spindles else None
    return disk if spindles is None else {**disk, "spindles": spindles}


def _new_nic(cluster: Cluster, nic: NicSpec) -> Document:
    own = {"mode": nic.mode, "link": nic.link, "vlan": nic.vlan}
    params = nicparams_of(cluster.settings, {name: value for name, value in own.items() if value is not None})
    is_connected = nic.network is not None and nic.network != "none"
    return {
        "mac": nic.mac or "auto",
        "ip": nic.ip,
        "mode": params["mode"],
        "link": params["link"],
        "bridge": params["link"] if params["mode"] == "bridged" else None,
        "vlan": params["vlan"],
        "network": cluster.network(nic.network or "").uuid if is_connected else None,
        "name": nic.name,
    }
