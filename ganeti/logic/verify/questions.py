"""What each node of a group is asked when the group is verified. Pure.

Only master candidates try to reach other nodes, so that the number of connections does not grow with
the square of the nodes; nodes that may not host instances are asked nothing about instances
(S2.3-105).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from ganeti.logic.verify.files import paths_to_check
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk, DiskTemplate
from ganeti.model.filled import fill_disk, fill_nic, hvparams_of, ndparams_of
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.node import Node
from ganeti.model.params import ParamValues
from ganeti.model.paths import Paths

MASTER_IP_SCRIPT = f"{Paths().conf_dir}/scripts/master-ip-setup"
"""The administrator's own, where the cluster uses it."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are asked the same."""

    nodes: tuple[Node, ...]
    checks: Mapping[str, Any]
    """Name to argument (rpc.md section 3)."""


class HvParams(msgspec.Struct, frozen=True, kw_only=True):
    """Filled hypervisor parameters and where they come from."""

    source: str
    hypervisor: str
    values: ParamValues


def batches(cluster: Cluster, group: GroupId) -> tuple[Batch, ...]:
    """The checks that the online nodes of a group are to make, nodes with the same ones together."""
    online = [node for node in cluster.members(group) if not node.offline]
    alike: dict[tuple[bool, bool], list[Node]] = {}
    for node in online:
        alike.setdefault((node.master_candidate, node.vm_capable), []).append(node)
    everywhere = _everywhere()
    on_hosts = _on_hosts(cluster, group)
    on_candidates = _on_candidates(cluster, online)
    return tuple(
        Batch(
            nodes=tuple(nodes),
            checks={
                **everywhere,
                **(on_candidates if is_candidate else {}),
                **(on_hosts if is_host else {}),
            },
        )
        for (is_candidate, is_host), nodes in alike.items()
    )


def group_instances(cluster: Cluster, group: GroupId) -> tuple[Instance, ...]:
    """Real instances whose primary node is in a group."""
    members = {node.uuid for node in cluster.members(group)}
    return tuple(
        instance
        for instance in cluster.instances.values()
        if instance.primary_node in members and not instance.forthcoming
    )


def disks_to_find(cluster: Cluster, instances: Collection[Instance]) -> Mapping[NodeId, tuple[Disk, ...]]:
    """Disks that each node should have data of; only nodes that can be asked."""
    found: dict[NodeId, list[Disk]] = {}
    for instance in instances:
        for disk in cluster.disks_of(instance):
            for uuid in disk.nodes or (instance.primary_node,):
                node = cluster.nodes.get(uuid)
                if node is not None and node.vm_capable and not node.offline:
                    found.setdefault(uuid, []).append(fill_disk(cluster, disk, uuid))
    return {node: tuple(disks) for node, disks in found.items()}


def hvparam_sets(cluster: Cluster, instances: Collection[Instance]) -> Iterator[HvParams]:
    """Parameters of the cluster, of each OS that has own ones, and of instances that have."""
    settings = cluster.settings
    enabled = settings.enabled_hypervisors
    for name in enabled:
        yield HvParams(source="cluster", hypervisor=name, values=hvparams_of(settings, name, "", {}))
    for os, by_hypervisor in settings.os_hvp.items():
        for name in by_hypervisor:
            if name in enabled:
                yield HvParams(source=f"os {os}", hypervisor=name, values=hvparams_of(settings, name, os, {}))
    for instance in instances:
        if instance.hvparams:
            values = hvparams_of(settings, instance.hypervisor, instance.os, instance.hvparams)
            yield HvParams(source=f"instance {instance.name}", hypervisor=instance.hypervisor, values=values)


def _everywhere() -> dict[str, Any]:
    return {
        "version": None,
        "time": None,
        "nodesetup": None,
        "filelist": list(paths_to_check()),
        "client-cert": None,
        "allowed-file-storage-paths": None,
    }


def _on_hosts(cluster: Cluster, group: GroupId) -> dict[str, Any]:
    settings = cluster.settings
    instances = group_instances(cluster, group)
    checks: dict[str, Any] = {
        "hypervisor": list(settings.enabled_hypervisors),
        "hvparms": [
            [one.source, one.hypervisor, dict(one.values)] for one in hvparam_sets(cluster, instances)
        ],
        "hvinfo": settings.enabled_hypervisors[0],
        "oslist": None,
    }
    bridges = _bridges(cluster, instances)
    if bridges:
        checks["bridges"] = bridges
    for template, check, directory in (
        (DiskTemplate.FILE, "file-storage-path", settings.file_storage_dir),
        (DiskTemplate.SHAREDFILE, "shared-file-storage-path", settings.shared_file_storage_dir),
        (DiskTemplate.GLUSTER, "gluster-storage-path", settings.gluster_storage_dir),
    ):
        if template in settings.enabled_disk_templates:
            checks[check] = directory
    return checks


def _bridges(cluster: Cluster, instances: Collection[Instance]) -> list[str]:
    nics = (fill_nic(cluster, nic) for instance in instances for nic in instance.nics)
    return sorted({nic.link for nic in nics if nic.mode == "bridged"})


def _on_candidates(cluster: Cluster, online: Collection[Node]) -> dict[str, Any]:
    settings = cluster.settings
    candidates = [node.name for node in online if node.master_candidate]
    checks: dict[str, Any] = {
        "node-net-test": [[[node.name, node.primary_ip, node.secondary_ip] for node in online], candidates],
        "master-ip": [cluster.master.name, settings.master_ip, candidates],
    }
    if settings.use_external_mip_script:
        checks["user-scripts"] = [MASTER_IP_SCRIPT]
    programs = sorted({str(ndparams_of(cluster, node)["oob_program"] or "") for node in online} - {""})
    if programs:
        checks["oob-paths"] = programs
    return checks
