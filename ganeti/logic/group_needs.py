"""What an instance needs of a group that it is to go to: networks, bridges, storage (S2.3-022). Pure."""

from __future__ import annotations

import msgspec

from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, DiskTemplate, Mirroring
from ganeti.model.filled import fill_nic
from ganeti.model.ids import GroupId
from ganeti.model.instance import Instance


class InstanceNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be on every node of an instance."""

    bridges: frozenset[str] = frozenset()
    storage: frozenset[tuple[str, str]] = frozenset()
    """Type and name of storage units: `lvm-vg` and a volume group, `file` and a directory."""
    reaches_disks: bool = False
    """Its disks are not copied: what is there has to be reached from its new node."""


def needs_of(cluster: Cluster, instance: Instance) -> InstanceNeeds:
    """What an instance needs of its nodes."""
    nics = (fill_nic(cluster, nic) for nic in instance.nics)
    kinds = {
        TRAITS[disk.dev_type].mirroring for disk in cluster.disks_of(instance) if disk.dev_type in TRAITS
    }
    return InstanceNeeds(
        bridges=frozenset(nic.link for nic in nics if nic.mode == "bridged"),
        storage=frozenset(_units(cluster, instance)),
        reaches_disks=Mirroring.EXTERNAL in kinds,
    )


def unconnected_networks(cluster: Cluster, instance: Instance, group: GroupId) -> tuple[str, ...]:
    """Names of networks of an instance that a group is not connected to, sorted."""
    connected = cluster.groups[group].networks
    wanted = {nic.network for nic in instance.nics if nic.network is not None}
    return tuple(
        sorted(
            cluster.networks[uuid].name if uuid in cluster.networks else uuid
            for uuid in wanted
            if uuid not in connected
        )
    )


def _units(cluster: Cluster, instance: Instance) -> set[tuple[str, str]]:
    settings = cluster.settings
    directories = {
        DiskTemplate.FILE.value: settings.file_storage_dir,
        DiskTemplate.SHAREDFILE.value: settings.shared_file_storage_dir,
        DiskTemplate.GLUSTER.value: settings.gluster_storage_dir,
    }
    found: set[tuple[str, str]] = set()
    for disk in cluster.disks_of(instance):
        for part in disk.walk():
            match part.logical_id:
                case (str() as group, str()) if part.dev_type == DiskTemplate.PLAIN:
                    found.add(("lvm-vg", group))
            directory = directories.get(part.dev_type)
            if directory:
                found.add((part.dev_type, directory))
    return found
