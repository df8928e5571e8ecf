"""Instances as nodes, hooks and OS scripts see them: every inherited parameter filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ganeti.model.cluster import Cluster, ClusterSettings
from ganeti.model.disk import TRAITS, Disk, Mirroring
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import AdminState, Instance, Nic
from ganeti.model.node import Node
from ganeti.model.params import ParamValue, ParamValues

GLOBAL_HVPARAMS = frozenset({"migration_port", "migration_bandwidth", "migration_mode"})
"""Hypervisor parameters that only the cluster has; instances do not see them."""


class BackendParams(msgspec.Struct, frozen=True, kw_only=True):
    """Memory (MiB) and processors of an instance."""

    maxmem: int
    minmem: int
    vcpus: int
    auto_balance: bool
    always_failover: bool
    spindle_use: int


class MirrorEnds(msgspec.Struct, frozen=True, kw_only=True, rename=lambda name: name.replace("_", "-")):
    """What one end of a mirrored disk has to know of both; part of the filled `params` of the disk."""

    local_node: NodeId
    remote_node: NodeId
    local_ip: str
    remote_ip: str


class FilledNic(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface with its parameters and what is known of its network."""

    uuid: str
    mac: str
    ip: str | None = None
    name: str | None = None
    mode: str
    link: str
    vlan: str = ""
    network: str | None = None
    """UUID of the network"""
    network_facts: Mapping[str, Any] = {}
    """name, uuid, tags, subnet, gateway, subnet6, gateway6, mac_prefix, where known"""

    @property
    def bridge(self) -> str | None:
        """The bridge, for modes that have one."""
        return self.link if self.mode in ("bridged", "openvswitch") else None


class FilledInstance(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node needs to run an instance; independent of the configuration."""

    uuid: InstanceId
    name: str
    hypervisor: str
    os: str
    hvparams: ParamValues
    hvglobals: ParamValues = {}
    """The cluster's migration_port, migration_bandwidth and migration_mode."""
    beparams: BackendParams
    osparams: ParamValues = {}
    osparams_private: ParamValues = {}
    nics: tuple[FilledNic, ...] = ()
    disks: tuple[Disk, ...] = ()
    """With filled `params`."""
    disk_template: str = "diskless"
    primary_node: str
    """Name"""
    secondary_nodes: tuple[str, ...] = ()
    """Names"""
    admin_state: AdminState = AdminState.DOWN
    network_port: int | None = None
    tags: tuple[str, ...] = ()
    ctime: float = 0.0
    mtime: float = 0.0


def hvparams_of(
    settings: ClusterSettings, hypervisor: str, os: str, own: ParamValues
) -> dict[str, ParamValue]:
    """Hypervisor parameters that count for an instance, without the global ones.

    Order of inheritance: cluster, OS, OS with variant, instance.
    """
    values: dict[str, ParamValue] = dict(settings.hvparams.get(hypervisor, {}))
    for name in _os_names(os):
        values.update(settings.os_hvp.get(name, {}).get(hypervisor, {}))
    values.update(own)
    return {name: value for name, value in values.items() if name not in GLOBAL_HVPARAMS}


def beparams_of(settings: ClusterSettings, own: ParamValues) -> BackendParams:
    """Backend parameters that count for an instance."""
    from ganeti.model.param_tables.be import BACKEND

    return msgspec.convert(BACKEND.fill(settings.beparams.get("default", {}), own), BackendParams)


def nicparams_of(settings: ClusterSettings, own: ParamValues) -> dict[str, ParamValue]:
    """Parameters mode, link and vlan that count for a network interface."""
    from ganeti.model.param_tables.nic import NIC

    return NIC.fill(settings.nicparams.get("default", {}), own)


def ndparams_of(cluster: Cluster, node: Node) -> dict[str, ParamValue]:
    """Node parameters that count for a node: cluster, group, node."""
    from ganeti.model.param_tables.nd import NODE

    return NODE.fill(cluster.settings.ndparams, cluster.groups[node.group].ndparams, node.ndparams)


def osparams_of(settings: ClusterSettings, os: str, own: ParamValues) -> dict[str, ParamValue]:
    """OS parameters that count: OS, OS with variant, instance (S2.2-104)."""
    values: dict[str, ParamValue] = {}
    for name in _os_names(os):
        values.update(settings.osparams.get(name, {}))
    values.update(own)
    return values


def diskparams_of(cluster: Cluster, node: NodeId, template: str) -> dict[str, ParamValue]:
    """Disk parameters that count on a node for a template: cluster, group."""
    group = cluster.groups[cluster.nodes[node].group]
    return {
        **cluster.settings.diskparams.get(template, {}),
        **group.diskparams.get(template, {}),
    }


def fill_nic(cluster: Cluster, nic: Nic) -> FilledNic:
    """A network interface with everything inherited."""
    params = nicparams_of(cluster.settings, nic.nicparams)
    network = cluster.networks.get(nic.network) if nic.network is not None else None
    facts: dict[str, Any] = {}
    if network is not None:
        facts = {
            "name": network.name,
            "uuid": network.uuid,
            "tags": list(network.tags),
            "subnet": network.network,
            "gateway": network.gateway,
            "subnet6": network.network6,
            "gateway6": network.gateway6,
            "mac_prefix": network.mac_prefix,
        }
    return FilledNic(
        uuid=nic.uuid,
        mac=nic.mac,
        ip=nic.ip,
        name=nic.name,
        mode=str(params["mode"]),
        link=str(params["link"]),
        vlan=str(params["vlan"] or ""),
        network=nic.network,
        network_facts=facts,
    )


def fill_disk(cluster: Cluster, disk: Disk, node: NodeId) -> Disk:
    """A disk with its parameters, own ones over inherited ones, also in its parts.

    Of a mirrored disk they also say which end this node is (`MirrorEnds`).
    """
    return msgspec.structs.replace(
        disk,
        params={
            **diskparams_of(cluster, node, disk.dev_type),
            **(disk.params or {}),
            **_mirror_ends(cluster, disk, node),
        },
        children=tuple(fill_disk(cluster, child, node) for child in disk.children),
    )


def _mirror_ends(cluster: Cluster, disk: Disk, node: NodeId) -> Mapping[str, ParamValue]:
    traits = TRAITS.get(disk.dev_type)
    if traits is None or traits.mirroring is not Mirroring.INTERNAL:
        return {}
    local = cluster.nodes[node]
    others = [cluster.nodes[other] for other in disk.nodes if other != node and other in cluster.nodes]
    return mirror_ends(local, others[0]) if others else {}


def mirror_ends(local: Node, remote: Node) -> Mapping[str, ParamValue]:
    """Parameters that tell a mirrored disk which end it is and how it reaches the other one."""
    ends = MirrorEnds(
        local_node=local.uuid,
        remote_node=remote.uuid,
        local_ip=local.secondary_ip,
        remote_ip=remote.secondary_ip,
    )
    values: Mapping[str, ParamValue] = msgspec.to_builtins(ends)
    return values


def fill_instance(
    cluster: Cluster,
    instance: Instance,
    *,
    hvparams: ParamValues | None = None,
    beparams: ParamValues | None = None,
) -> FilledInstance:
    """An instance with everything inherited.

    Args:
        cluster: the configuration.
        instance: an instance; need not be in the configuration yet, but its disks must be.
        hvparams: overrides for this once.
        beparams: overrides for this once.
    """
    settings = cluster.settings
    return FilledInstance(
        uuid=instance.uuid,
        name=instance.name,
        hypervisor=instance.hypervisor,
        os=instance.os,
        hvparams=hvparams_of(
            settings, instance.hypervisor, instance.os, {**instance.hvparams, **(hvparams or {})}
        ),
        hvglobals={
            name: value
            for name, value in settings.hvparams.get(instance.hypervisor, {}).items()
            if name in GLOBAL_HVPARAMS
        },
        beparams=beparams_of(settings, {**instance.beparams, **(beparams or {})}),
        osparams=osparams_of(settings, instance.os, instance.osparams),
        osparams_private=instance.osparams_private,
        nics=tuple(fill_nic(cluster, nic) for nic in instance.nics),
        disks=tuple(fill_disk(cluster, disk, instance.primary_node) for disk in cluster.disks_of(instance)),
        disk_template=cluster.disk_template(instance),
        primary_node=cluster.nodes[instance.primary_node].name,
        secondary_nodes=tuple(cluster.nodes[node].name for node in cluster.secondary_nodes(instance)),
        admin_state=instance.admin_state,
        network_port=instance.network_port,
        tags=instance.tags,
        ctime=instance.ctime,
        mtime=instance.mtime,
    )


def _os_names(os: str) -> tuple[str, ...]:
    name = os.partition("+")[0]
    return (name,) if name == os else (name, os)
