"""Clusters for tests: three nodes in one line, twenty thousand instances in one more.

    cluster(nodes=3, instances=2)                            # node1..3, inst1..2 on DRBD
    cluster(nodes=4, instances=("web", "db"), template="plain", groups=2)
    with_instance(cluster(), "web", memory=2048, primary="node2")
    with_node(cluster(), "node2", offline=True)

Everything has a predictable identity: `node_id(1)` is `node1.example.com`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ganeti.logic.reservations import ports_of
from ganeti.model.cluster import Cluster, ClusterSettings, empty_cluster
from ganeti.model.defaults import new_cluster_settings
from ganeti.model.disk import Disk
from ganeti.model.ids import DiskId, GroupId, InstanceId, NodeId
from ganeti.model.instance import AdminState, Instance, Nic
from ganeti.model.node import Node, NodeGroup
from ganeti.model.params import ParamValue

NOW = 1_700_000_000.0
"""When everything was made."""
DOMAIN = "example.com"
ALL_TEMPLATES = ("plain", "drbd", "file", "sharedfile", "diskless", "blockdev", "rbd", "ext", "gluster")


def uuid_of(kind: int, number: int, part: int = 0) -> str:
    """A UUID that tells what it stands for."""
    return f"{kind:08x}-0000-4000-8000-{part:04x}{number:08x}"


def node_id(number: int) -> NodeId:
    """UUID of the node with this number, counted from 1."""
    return NodeId(uuid_of(1, number))


def group_id(number: int) -> GroupId:
    """UUID of the group with this number, counted from 1."""
    return GroupId(uuid_of(2, number))


def instance_id(number: int) -> InstanceId:
    """UUID of the instance with this number, counted from 1."""
    return InstanceId(uuid_of(3, number))


def settings(**changes: Any) -> ClusterSettings:
    """Settings of a cluster with the hypervisor fake, in which all templates are enabled."""
    values: dict[str, Any] = {
        "uuid": uuid_of(0, 1),
        "cluster_name": f"cluster.{DOMAIN}",
        "master_node": node_id(1),
        "master_ip": "10.9.0.1",
        "now": NOW,
        "enabled_hypervisors": ("fake", "kvm"),
        "enabled_disk_templates": ALL_TEMPLATES,
        "ipolicy": {"disk-templates": sorted(ALL_TEMPLATES)},
        "file_storage_dir": "/srv/ganeti/file-storage",
    }
    return new_cluster_settings(**{**values, **changes})


def node(number: int, **changes: Any) -> Node:
    """The node with this number; candidate by default, dual-homed."""
    high, low = divmod(number, 250)
    values: dict[str, Any] = {
        "uuid": node_id(number),
        "name": f"node{number}.{DOMAIN}",
        "primary_ip": f"10.0.{high}.{low + 1}",
        "secondary_ip": f"10.1.{high}.{low + 1}",
        "group": group_id(1),
        "master_candidate": not (changes.get("offline") or changes.get("drained")),
        "ctime": NOW,
        "mtime": NOW,
    }
    return Node(**{**values, **changes})


def cluster(
    nodes: int = 3,
    instances: int | Sequence[str] = 0,
    *,
    template: str = "drbd",
    groups: int = 1,
    disk_sizes: Sequence[int] = (1024,),
    memory: int = 128,
    vcpus: int = 1,
    hypervisor: str = "fake",
    admin_state: AdminState = AdminState.UP,
    **setting_changes: Any,
) -> Cluster:
    """A cluster in good order, with settled tables.

    Nodes are spread over the groups by turns, instances over the nodes; the secondary is the next
    node of the same group.
    """
    base = empty_cluster(settings(**setting_changes), now=NOW)
    group_names = ["default", *(f"group{number}" for number in range(2, groups + 1))]
    all_groups = {
        group_id(number): NodeGroup(uuid=group_id(number), name=name, ctime=NOW, mtime=NOW)
        for number, name in enumerate(group_names, start=1)
    }
    all_nodes = {
        node_id(number): node(
            number,
            group=group_id((number - 1) % groups + 1),
            master_candidate=number <= base.settings.candidate_pool_size,
        )
        for number in range(1, nodes + 1)
    }
    value = msgspec.structs.replace(
        base,
        groups=base.groups.with_items(all_groups).settled(),
        nodes=base.nodes.with_items(all_nodes).settled(),
    )
    names = [f"inst{n}" for n in range(1, instances + 1)] if isinstance(instances, int) else instances
    return _settled(
        _with_instances(
            value,
            names,
            template=template,
            disk_sizes=disk_sizes,
            memory=memory,
            vcpus=vcpus,
            hypervisor=hypervisor,
            admin_state=admin_state,
        )
    )


def with_instance(value: Cluster, name: str, /, **options: Any) -> Cluster:
    """The cluster with one more instance.

    Args:
        value: the cluster.
        name: completed with the domain if it has none.
        options: primary and secondary (node names), template, disk_sizes, memory, vcpus,
            hypervisor, admin_state, nics (how many), and fields of `Instance`.
    """
    return _with_instances(value, [name], **options)


def with_node(value: Cluster, name: str, /, **changes: Any) -> Cluster:
    """The cluster with another state of one node."""
    found = value.node(name)
    changed = msgspec.structs.replace(found, **changes)
    return msgspec.structs.replace(value, nodes=value.nodes.with_item(found.uuid, changed))


def changed_instance(value: Cluster, name: str, /, **changes: Any) -> Cluster:
    """The cluster with another state of one instance."""
    found = value.instance(name)
    changed = msgspec.structs.replace(found, **changes)
    return msgspec.structs.replace(value, instances=value.instances.with_item(found.uuid, changed))


def with_settings(value: Cluster, **changes: Any) -> Cluster:
    """The cluster with other settings."""
    return msgspec.structs.replace(value, settings=msgspec.structs.replace(value.settings, **changes))


def _settled(value: Cluster) -> Cluster:
    return msgspec.structs.replace(value, instances=value.instances.settled(), disks=value.disks.settled())


def _with_instances(
    value: Cluster,
    names: Iterable[str],
    *,
    primary: str | None = None,
    secondary: str | None = None,
    template: str = "drbd",
    disk_sizes: Sequence[int] = (1024,),
    memory: int = 128,
    vcpus: int = 1,
    hypervisor: str = "fake",
    admin_state: AdminState = AdminState.UP,
    nics: int = 1,
    **changes: Any,
) -> Cluster:
    minors = _minors(value)
    all_instances: dict[InstanceId, Instance] = {}
    all_disks: dict[DiskId, Disk] = {}
    members = _members(value)
    order = list(value.nodes)
    first = len(value.instances) + 1
    for number, name in enumerate(names, start=first):
        main = value.node(primary).uuid if primary else order[(number - 1) % len(order)]
        others = members[value.nodes[main].group]
        other = value.node(secondary).uuid if secondary else others[(others.index(main) + 1) % len(others)]
        used = (main, other) if template == "drbd" else (main,)
        count = len(disk_sizes) if template != "diskless" else 0
        disks = [_disk(number, index, disk_sizes[index], template, used, minors) for index in range(count)]
        beparams: dict[str, ParamValue] = {"maxmem": memory, "minmem": memory, "vcpus": vcpus}
        fields: dict[str, Any] = {
            "uuid": instance_id(number),
            "name": name if "." in name else f"{name}.{DOMAIN}",
            "primary_node": main,
            "os": "noop",
            "hypervisor": hypervisor,
            "beparams": beparams,
            "admin_state": admin_state,
            "disks_active": admin_state is AdminState.UP,
            "nics": tuple(_nic(number, index) for index in range(nics)),
            "disks": tuple(disk.uuid for disk in disks),
            "ctime": NOW,
            "mtime": NOW,
        }
        instance = Instance(**{**fields, **changes})
        all_instances[instance.uuid] = instance
        all_disks.update((disk.uuid, disk) for disk in disks)
    highest = max((port for disk in all_disks.values() for port in ports_of(disk)), default=0)
    ports = max(value.settings.highest_used_port, highest)
    return msgspec.structs.replace(
        value,
        settings=msgspec.structs.replace(value.settings, highest_used_port=ports),
        instances=value.instances.with_items(all_instances),
        disks=value.disks.with_items(all_disks),
    )


def _members(value: Cluster) -> Mapping[GroupId, list[NodeId]]:
    members: dict[GroupId, list[NodeId]] = {}
    for one in value.nodes.values():
        members.setdefault(one.group, []).append(one.uuid)
    return members


def _minors(value: Cluster) -> Counter[NodeId]:
    """How many minors each node uses; they are handed out without gaps here."""
    used: Counter[NodeId] = Counter()
    for disk in value.disks.values():
        if disk.dev_type == "drbd":
            used.update(disk.nodes)
    return used


def _nic(number: int, index: int) -> Nic:
    tail = f"{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return Nic(uuid=uuid_of(5, number, index), mac=f"aa:00:{index:02x}:{tail}")


def _disk(
    number: int, index: int, size: int, template: str, used: tuple[NodeId, ...], minors: Counter[NodeId]
) -> Disk:
    uuid = DiskId(uuid_of(4, number, index))
    fields: dict[str, Any] = {
        "uuid": uuid,
        "dev_type": template,
        "size": size,
        "iv_name": f"disk/{index}",
        "nodes": used,
        "ctime": NOW,
        "mtime": NOW,
    }
    if template != "drbd":
        return Disk(**fields, logical_id=_logical_id(template, uuid, index))
    main, other = used
    logical_id = (main, other, 11000 + number * 16 + index, minors[main], minors[other], f"{number:040x}")
    minors.update(used)
    parts = tuple(
        Disk(
            uuid=DiskId(uuid_of(6 + part, number, index)),
            dev_type="plain",
            size=part_size,
            nodes=used,
            logical_id=("xenvg", f"{uuid}.disk{index}_{suffix}"),
        )
        for part, (suffix, part_size) in enumerate((("data", size), ("meta", 128)))
    )
    return Disk(**fields, logical_id=logical_id, children=parts)


def _logical_id(template: str, uuid: str, index: int) -> tuple[str, str]:
    return {
        "plain": ("xenvg", f"{uuid}.disk{index}"),
        "blockdev": ("manual", f"/dev/disk/by-id/{uuid}"),
        "rbd": ("rbd", f"{uuid}.rbd.disk{index}"),
        "ext": ("provider", f"{uuid}.ext.disk{index}"),
    }.get(template, ("loop", f"/srv/ganeti/{template}/{uuid}/disk{index}"))
