"""The cluster: one immutable value that holds the whole configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.capacity import NOT_SET, CapacitySettings
from ganeti.model.disk import Disk
from ganeti.model.filters import FilterRule
from ganeti.model.ids import DiskId, GroupId, InstanceId, NetworkId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.ipolicy import DEFAULT_POLICY, InstancePolicy, merge_policy
from ganeti.model.network import Network
from ganeti.model.node import Node, NodeGroup, NodeRole
from ganeti.model.params import ParamValues
from ganeti.model.table import Table
from ganeti.version import CONFIG_VERSION


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is set for the cluster as a whole: the key `cluster` of config.data (objects.md 2)."""

    uuid: str
    cluster_name: str
    master_node: NodeId
    master_ip: str
    master_netdev: str = "xen-br0"
    master_netmask: int = 32
    use_external_mip_script: bool = False
    primary_ip_family: int = 2
    rsahostkeypub: str = ""
    dsahostkeypub: str | None = None
    ssh_key_type: str = "rsa"
    ssh_key_bits: int = 2048
    modify_ssh_setup: bool = True
    modify_etc_hosts: bool = True
    highest_used_port: int = 10999
    tcpudp_port_pool: tuple[int, ...] = ()
    mac_prefix: str = "aa:00:00"
    volume_group_name: str | None = None
    reserved_lvs: tuple[str, ...] = ()
    drbd_usermode_helper: str | None = None
    file_storage_dir: str = "/srv/ganeti/file-storage"
    shared_file_storage_dir: str = "/srv/ganeti/shared-file-storage"
    gluster_storage_dir: str = "/var/run/ganeti/gluster"
    enabled_hypervisors: tuple[str, ...] = ("xen-pvm",)
    enabled_disk_templates: tuple[str, ...] = ("drbd", "plain")
    hvparams: Mapping[str, ParamValues] = {}
    os_hvp: Mapping[str, Mapping[str, ParamValues]] = {}
    beparams: Mapping[str, ParamValues] = {}
    osparams: Mapping[str, ParamValues] = {}
    osparams_private_cluster: Mapping[str, ParamValues] = {}
    nicparams: Mapping[str, ParamValues] = {}
    ndparams: ParamValues = {}
    diskparams: Mapping[str, ParamValues] = {}
    ipolicy: InstancePolicy = DEFAULT_POLICY
    capacity_params: CapacitySettings = NOT_SET
    enforce_max_inst_spec: bool = False
    """Instances larger than `max_inst_spec` are not created."""
    candidate_pool_size: int = 10
    max_running_jobs: int = 20
    max_tracked_jobs: int = 25
    diffusion_min_nodes: int = 0
    """Groups with at least so many nodes spread their ssconf files themselves; 0: none does."""
    maintain_node_health: bool = False
    prealloc_wipe_disks: bool = False
    uid_pool: tuple[tuple[int, int], ...] = ()
    default_iallocator: str = ""
    default_iallocator_params: Mapping[str, Any] = {}
    hidden_os: tuple[str, ...] = ()
    blacklisted_os: tuple[str, ...] = ()
    candidate_certs: Mapping[NodeId, str] = {}
    hv_state_static: Mapping[str, Any] = {}
    disk_state_static: Mapping[str, Any] = {}
    install_image: str = ""
    zeroing_image: str = ""
    instance_communication_network: str = ""
    compression_tools: tuple[str, ...] = ("gzip", "gzip-fast", "gzip-slow")
    enabled_user_shutdown: bool = False
    data_collectors: Mapping[str, Mapping[str, Any]] = {}
    tags: tuple[str, ...] = ()
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0


T = TypeVar("T", Node, Instance, NodeGroup, Network)


def _primary_of(instance: Instance) -> tuple[str]:
    return (instance.primary_node,)


def _disks_of(instance: Instance) -> tuple[str, ...]:
    return instance.disks


def _nodes_of(disk: Disk) -> list[str]:
    return [node for part in disk.walk() for node in part.nodes]


def other_nodes(disks: Sequence[Disk], primary: NodeId) -> tuple[NodeId, ...]:
    """Nodes other than the primary that hold data of disks, each once."""
    found: dict[NodeId, None] = {}
    for disk in disks:
        nodes = disk.nodes
        for node in nodes:
            found[node] = None
        for child in disk.children:
            if child.nodes != nodes or child.children:
                found.update((node, None) for part in child.walk() for node in part.nodes)
    found.pop(primary, None)
    return tuple(found)


def common_template(disks: Sequence[Disk]) -> str:
    """Template of all these disks, `diskless`, or `mixed`."""
    if not disks:
        return "diskless"
    first = disks[0].dev_type
    return first if all(disk.dev_type == first for disk in disks) else "mixed"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration. Change means `msgspec.structs.replace` and the tables' `with_item`.

    Serial numbers and times of change are set by whoever stores the value, not by whoever
    changes it.
    """

    settings: ClusterSettings
    nodes: Table[NodeId, Node]
    groups: Table[GroupId, NodeGroup]
    instances: Table[InstanceId, Instance]
    disks: Table[DiskId, Disk]
    networks: Table[NetworkId, Network]
    filters: Table[str, FilterRule]
    version: int = CONFIG_VERSION
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return self.settings.cluster_name

    @property
    def master(self) -> Node:
        """The master node."""
        return self.nodes[self.settings.master_node]

    def node(self, wanted: str) -> Node:
        """The node with this name (a unique short one will do) or UUID.

        Raises:
            PrereqError: unknown_entity, or wrong_input where a short name means several.
        """
        return _find(self.nodes, wanted, "node")

    def instance(self, wanted: str) -> Instance:
        """The instance with this name (a unique short one will do) or UUID; raises as `node`."""
        return _find(self.instances, wanted, "instance")

    def group(self, wanted: str) -> NodeGroup:
        """The node group with this name or UUID; raises as `node`."""
        return _find(self.groups, wanted, "node group")

    def network(self, wanted: str) -> Network:
        """The network with this name or UUID; raises as `node`."""
        return _find(self.networks, wanted, "network")

    def disks_of(self, instance: Instance) -> tuple[Disk, ...]:
        """Disks of an instance, in their order."""
        disks = self.disks
        return tuple([disks[disk] for disk in instance.disks])

    def secondary_nodes(self, instance: Instance) -> tuple[NodeId, ...]:
        """Nodes other than the primary that hold data of an instance's disks, each once."""
        return other_nodes(self.disks_of(instance), instance.primary_node)

    def nodes_of(self, instance: Instance) -> tuple[NodeId, ...]:
        """Every node of an instance, primary first."""
        return (instance.primary_node, *self.secondary_nodes(instance))

    def disk_template(self, instance: Instance) -> str:
        """Common template of an instance's disks, `diskless`, or `mixed`."""
        return common_template(self.disks_of(instance))

    def primary_instances(self, node: NodeId) -> Iterator[Instance]:
        """Instances whose primary this node is."""
        return self.instances.having(_primary_of, node)

    def instances_on(self, node: NodeId) -> Iterator[Instance]:
        """Instances with this node as primary or secondary."""
        yield from self.primary_instances(node)
        others = {
            instance.uuid: instance
            for disk in self.disks.having(_nodes_of, node)
            for instance in self.instances.having(_disks_of, disk.uuid)
            if instance.primary_node != node
        }
        yield from others.values()

    def members(self, group: GroupId) -> Iterator[Node]:
        """Nodes of a group."""
        return (node for node in self.nodes.values() if node.group == group)

    def role(self, node: Node) -> NodeRole:
        """Role of a node as lists show it."""
        if node.uuid == self.settings.master_node:
            return NodeRole.MASTER
        if node.offline:
            return NodeRole.OFFLINE
        if node.drained:
            return NodeRole.DRAINED
        return NodeRole.CANDIDATE if node.master_candidate else NodeRole.REGULAR

    def policy_of(self, group: GroupId) -> InstancePolicy:
        """The complete instance policy that counts in a group."""
        return merge_policy(self.settings.ipolicy, self.groups[group].ipolicy)


def empty_cluster(settings: ClusterSettings, *, now: float) -> Cluster:
    """A cluster without any objects."""
    return Cluster(
        settings=settings,
        nodes=Table(key=lambda node: node.name),
        groups=Table(key=lambda group: group.name),
        instances=Table(key=lambda instance: instance.name),
        disks=Table(key=lambda disk: disk.uuid),
        networks=Table(key=lambda network: network.name),
        filters=Table(key=lambda rule: rule.uuid),
        ctime=now,
        mtime=now,
    )


def _find(table: Table[Any, T], wanted: str, what: str) -> T:
    found = table.by_key(wanted) or table.by_key(wanted.lower()) or table.get(wanted)
    if found is not None:
        return found
    prefix = wanted.lower() + "."
    close = [value for value in table.values() if value.name.startswith(prefix)] if wanted else []
    if len(close) == 1 and what in ("node", "instance"):
        return close[0]
    if len(close) > 1:
        names = ", ".join(sorted(value.name for value in close))
        raise PrereqError(f"{what} name {wanted!r} means several: {names}; write the full name")
    raise PrereqError(f"{what} {wanted!r} is not known in this cluster", code=ErrorCode.UNKNOWN)
