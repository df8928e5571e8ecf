"""Variables that hook scripts get about an object (plugins.md section 3.2); names without GANETI_."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk, DiskTemplate
from ganeti.model.filled import FilledInstance, FilledNic, fill_instance
from ganeti.model.instance import Instance


def text(value: object) -> str:
    """A value as scripts expect it: `True`, `None`, lists separated by spaces."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return " ".join(map(str, value))
    return str(value)


def instance_env(cluster: Cluster, instance: Instance) -> dict[str, str]:
    """All that hooks are told about an instance, OP_TARGET included."""
    filled = fill_instance(cluster, instance)
    env: dict[str, object] = {
        "OP_TARGET": filled.name,
        "INSTANCE_NAME": filled.name,
        "INSTANCE_PRIMARY": filled.primary_node,
        "INSTANCE_SECONDARIES": filled.secondary_nodes,
        "INSTANCE_OS_TYPE": filled.os,
        "INSTANCE_STATUS": instance.admin_state.value,
        "INSTANCE_MINMEM": filled.beparams.minmem,
        "INSTANCE_MAXMEM": filled.beparams.maxmem,
        "INSTANCE_MEMORY": filled.beparams.maxmem,
        "INSTANCE_VCPUS": filled.beparams.vcpus,
        "INSTANCE_DISK_TEMPLATE": filled.disk_template,
        "INSTANCE_HYPERVISOR": filled.hypervisor,
        "INSTANCE_TAGS": filled.tags,
        "INSTANCE_NIC_COUNT": len(filled.nics),
        "INSTANCE_DISK_COUNT": len(filled.disks),
    }
    for index, nic in enumerate(filled.nics):
        env.update(_nic_env(index, nic))
    for index, disk in enumerate(filled.disks):
        env.update(_disk_env(cluster, index, disk))
    env.update(_param_env(filled))
    return {name: text(value) for name, value in env.items()}


def _nic_env(index: int, nic: FilledNic) -> Mapping[str, object]:
    prefix = f"INSTANCE_NIC{index}"
    env: dict[str, object] = {
        f"{prefix}_UUID": nic.uuid,
        f"{prefix}_IP": nic.ip or "",
        f"{prefix}_MAC": nic.mac,
        f"{prefix}_MODE": nic.mode,
        f"{prefix}_LINK": nic.link,
        f"{prefix}_VLAN": nic.vlan,
    }
    if nic.name:
        env[f"{prefix}_NAME"] = nic.name
    if nic.bridge is not None:
        env[f"{prefix}_BRIDGE"] = nic.bridge
    for key, value in nic.network_facts.items():
        if value is not None:
            env[f"{prefix}_NETWORK_{key.upper()}"] = value
    return env


def _disk_env(cluster: Cluster, index: int, disk: Disk) -> Mapping[str, object]:
    prefix = f"INSTANCE_DISK{index}"
    env: dict[str, object] = {
        f"{prefix}_UUID": disk.uuid,
        f"{prefix}_SIZE": disk.size,
        f"{prefix}_MODE": disk.mode,
        f"{prefix}_DEV_TYPE": disk.dev_type,
    }
    if disk.name:
        env[f"{prefix}_NAME"] = disk.name
    names = _IDENTITY.get(disk.dev_type)
    if names is not None:
        env.update((f"{prefix}_{name}", part) for name, part in zip(names, disk.logical_id))
    elif disk.dev_type == DiskTemplate.DRBD and len(disk.logical_id) == 6:
        # Nodes that only pretend to have DRBD identify its disks in another way.
        env.update(_drbd_env(cluster, prefix, disk))
    return env


_IDENTITY: dict[str, tuple[str, str]] = {
    DiskTemplate.PLAIN: ("VG", "ID"),
    DiskTemplate.EXT: ("PROVIDER", "ID"),
    **dict.fromkeys(
        (
            DiskTemplate.FILE,
            DiskTemplate.SHAREDFILE,
            DiskTemplate.BLOCKDEV,
            DiskTemplate.RBD,
            DiskTemplate.GLUSTER,
        ),
        ("DRIVER", "ID"),
    ),
}


def _drbd_env(cluster: Cluster, prefix: str, disk: Disk) -> Mapping[str, object]:
    primary, secondary, port, primary_minor, secondary_minor, _secret = disk.logical_id
    env: dict[str, object] = {
        f"{prefix}_PNODE": cluster.nodes[primary].name,
        f"{prefix}_SNODE": cluster.nodes[secondary].name,
        f"{prefix}_PORT": port,
        f"{prefix}_PMINOR": primary_minor,
        f"{prefix}_SMINOR": secondary_minor,
    }
    for part, child in zip(("DATA", "META"), disk.children):
        env[f"{prefix}_{part}_VG"], env[f"{prefix}_{part}_ID"] = child.logical_id
    return env


def _param_env(filled: FilledInstance) -> Mapping[str, object]:
    env: dict[str, object] = {f"INSTANCE_HV_{name}": value for name, value in filled.hvparams.items()}
    backend = filled.beparams
    env.update((f"INSTANCE_BE_{name}", getattr(backend, name)) for name in backend.__struct_fields__)
    return env
