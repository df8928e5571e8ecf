"""Query fields of instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ganeti.logic.fields.base import (
    NO_DATA,
    OFFLINE,
    UNAVAILABLE,
    Absent,
    Field,
    FieldKind,
    common_fields,
    plain,
    present,
    table,
)
from ganeti.logic.fields.instance_devices import device_fields
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.cluster import Cluster
from ganeti.model.filled import GLOBAL_HVPARAMS, beparams_of, hvparams_of, osparams_of
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminSource, AdminState, Instance
from ganeti.model.param_tables.be import BACKEND
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamType

DRBD_META_MIB = 128


class InstanceWorld(msgspec.Struct, kw_only=True):
    """What fields of instances look at."""

    cluster: Cluster
    running: Mapping[NodeId, Mapping[str, RunningInstance]] = {}
    """What each node that answered runs."""
    consoles: Mapping[str, Mapping[str, Any]] = {}
    """Console dictionaries by instance name."""
    found_on: Mapping[str, tuple[NodeId, ...]] = {}
    """Nodes on which each instance runs, by its name."""

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        running: Mapping[NodeId, Mapping[str, RunningInstance]],
        consoles: Mapping[str, Mapping[str, Any]],
    ) -> InstanceWorld:
        """With an index of what runs where."""
        found: dict[str, tuple[NodeId, ...]] = {}
        for node, instances in running.items():
            for name, state in instances.items():
                if state.state not in (RunState.MIGRATING_IN, RunState.MIGRATED_AWAY):
                    found[name] = (*found.get(name, ()), node)
        return cls(cluster=cluster, running=running, consoles=consoles, found_on=found)


Row = Field[Instance, InstanceWorld]
Get = Callable[[Instance, InstanceWorld], Any]


def live(instance: Instance, world: InstanceWorld) -> RunningInstance | Absent | None:
    """What its primary node says: running, not running (None), or why that is not known."""
    if world.cluster.nodes[instance.primary_node].offline:
        return OFFLINE
    answers = world.running.get(instance.primary_node)
    if answers is None:
        return NO_DATA
    return answers.get(instance.name)


def status(instance: Instance, world: InstanceWorld) -> str:
    """The established word for wanted and real state together (operations.md section 4)."""
    settings = world.cluster.settings
    state = live(instance, world)
    if state is OFFLINE:
        return "ERROR_nodeoffline"
    if state is NO_DATA:
        return "ERROR_nodedown"
    elsewhere = [node for node in world.found_on.get(instance.name, ()) if node != instance.primary_node]
    if state is None and elsewhere:
        return "ERROR_wrongnode"
    if state is None or isinstance(state, Absent):
        return _status_down(instance, user_shutdown=settings.enabled_user_shutdown)
    if state.state is RunState.SHUTDOWN:
        return _status_shut_down(instance, world)
    return "running" if instance.admin_state is AdminState.UP else "ERROR_up"


def _status_down(instance: Instance, *, user_shutdown: bool) -> str:
    match instance.admin_state:
        case AdminState.UP:
            return "ERROR_down"
        case AdminState.OFFLINE:
            return "ADMIN_offline"
    if instance.admin_state_source is AdminSource.USER and user_shutdown:
        return "USER_down"
    return "ADMIN_down"


def _status_shut_down(instance: Instance, world: InstanceWorld) -> str:
    if instance.admin_state is not AdminState.UP:
        return "ADMIN_down"
    settings = world.cluster.settings
    allowed = settings.enabled_user_shutdown
    if instance.hypervisor == "kvm":
        params = hvparams_of(settings, "kvm", instance.os, instance.hvparams)
        allowed = allowed and bool(params.get("user_shutdown"))
    return "USER_down" if allowed else "ERROR_down"


def _oper_state(instance: Instance, world: InstanceWorld) -> Any:
    state = live(instance, world)
    if isinstance(state, Absent):
        return NO_DATA
    return state is not None and state.state is not RunState.SHUTDOWN


def _oper(name: str) -> Get:
    def get(instance: Instance, world: InstanceWorld) -> Any:
        state = live(instance, world)
        if isinstance(state, Absent):
            return state
        return UNAVAILABLE if state is None else getattr(state, name)

    return get


def _node_names(instance: Instance, world: InstanceWorld) -> list[str]:
    return [world.cluster.nodes[node].name for node in world.cluster.secondary_nodes(instance)]


def _group(instance: Instance, world: InstanceWorld) -> Any:
    cluster = world.cluster
    return cluster.groups[cluster.nodes[instance.primary_node].group]


def _secondary_groups(instance: Instance, world: InstanceWorld) -> list[Any]:
    cluster = world.cluster
    return [cluster.groups[cluster.nodes[node].group] for node in cluster.secondary_nodes(instance)]


def _hvparams(instance: Instance, world: InstanceWorld) -> dict[str, Any]:
    return hvparams_of(world.cluster.settings, instance.hypervisor, instance.os, instance.hvparams)


def _beparams(instance: Instance, world: InstanceWorld) -> dict[str, Any]:
    return dict(msgspec.to_builtins(beparams_of(world.cluster.settings, instance.beparams)))


def _disk_usage(instance: Instance, world: InstanceWorld) -> int:
    total = 0
    for disk in world.cluster.disks_of(instance):
        if disk.dev_type == "drbd":
            total += disk.size + DRBD_META_MIB
        elif disk.dev_type != "blockdev":
            total += disk.size
    return total


def _row(
    name: str,
    title: str,
    kind: FieldKind,
    doc: str,
    get: Get,
    *,
    is_live: bool = False,
    is_host_name: bool = False,
) -> Row:
    return Field(
        name=name, title=title, kind=kind, doc=doc, get=get, is_live=is_live, is_host_name=is_host_name
    )


_TEXT, _BOOL, _NUMBER, _UNIT, _OTHER = (
    FieldKind.TEXT,
    FieldKind.BOOL,
    FieldKind.NUMBER,
    FieldKind.UNIT,
    FieldKind.OTHER,
)

_HV_TITLES = {
    "acpi": "ACPI",
    "boot_order": "Boot_order",
    "cdrom_image_path": "CDROM_image_path",
    "cpu_type": "cpu_type",
    "disk_type": "Disk_type",
    "initrd_path": "Initrd_path",
    "kernel_path": "Kernel_path",
    "nic_type": "NIC_type",
    "pae": "PAE",
    "pci_pass": "pci_pass",
    "vnc_bind_address": "VNC_bind_address",
}
_BE_ROWS = {
    "auto_balance": ("Auto_balance", _BOOL),
    "always_failover": ("be/always_failover", _BOOL),
    "maxmem": ("ConfigMaxMem", _UNIT),
    "minmem": ("ConfigMinMem", _UNIT),
    "spindle_use": ("be/spindle_use", _NUMBER),
    "vcpus": ("ConfigVCPUs", _NUMBER),
}
_KINDS = {ParamType.BOOL: _BOOL, ParamType.INT: _NUMBER}


def _parameter_rows() -> list[Row]:
    rows = []
    for name in BACKEND.rows:
        title, kind = _BE_ROWS[name]
        rows.append(_row(f"be/{name}", title, kind, f"Backend parameter {name}", _be(name)))
    rows.append(_row("be/memory", "ConfigMaxMem", _UNIT, "Backend parameter maxmem", _be("maxmem")))
    rows.append(_row("vcpus", "ConfigVCPUs", _NUMBER, "Backend parameter vcpus", _be("vcpus")))
    specs = {name: spec for params in HYPERVISORS.values() for name, spec in params.rows.items()}
    for name in sorted(set(specs) - GLOBAL_HVPARAMS):
        kind = _KINDS.get(specs[name].type, _OTHER)
        title = _HV_TITLES.get(name, f"hv/{name}")
        rows.append(_row(f"hv/{name}", title, kind, f"Hypervisor parameter {name}", _hv(name)))
    return rows


def _be(name: str) -> Get:
    return lambda instance, world: getattr(beparams_of(world.cluster.settings, instance.beparams), name)


def _hv(name: str) -> Get:
    return lambda instance, world: _hvparams(instance, world).get(name, UNAVAILABLE)


FIELDS = table(
    [
        _row("name", "Instance", _TEXT, "Instance name", lambda i, w: i.name, is_host_name=True),
        _row(
            "admin_state",
            "InstanceState",
            _TEXT,
            "Desired state of instance",
            lambda i, w: i.admin_state.value,
        ),
        _row(
            "admin_state_source",
            "InstanceStateSource",
            _TEXT,
            "Who last changed the desired state",
            lambda i, w: i.admin_state_source.value,
        ),
        _row(
            "admin_up",
            "Autostart",
            _BOOL,
            "Desired state of instance is up",
            lambda i, w: i.admin_state is AdminState.UP,
        ),
        _row("beparams", "BackendParameters", _OTHER, "Backend parameters (merged)", _beparams),
        _row(
            "console",
            "Console",
            _OTHER,
            "Console information",
            lambda i, w: w.consoles.get(i.name, UNAVAILABLE),
            is_live=True,
        ),
        _row(
            "custom_beparams",
            "CustomBackendParameters",
            _OTHER,
            "Custom backend parameters",
            lambda i, w: dict(i.beparams),
        ),
        _row(
            "custom_hvparams",
            "CustomHypervisorParameters",
            _OTHER,
            "Custom hypervisor parameters",
            lambda i, w: dict(i.hvparams),
        ),
        _row(
            "custom_nicparams",
            "CustomNicParameters",
            _OTHER,
            "Custom network interface parameters",
            lambda i, w: [dict(nic.nicparams) for nic in i.nics],
        ),
        _row(
            "custom_osparams",
            "CustomOpSysParameters",
            _OTHER,
            "Custom operating system parameters",
            lambda i, w: dict(i.osparams),
        ),
        _row(
            "disk_template", "Disk_template", _TEXT, "Disk template", lambda i, w: w.cluster.disk_template(i)
        ),
        _row(
            "disk_usage",
            "DiskUsage",
            _UNIT,
            "Total disk space used by instance on each of its nodes",
            _disk_usage,
        ),
        plain("disks_active", "DisksActive", _BOOL, "Desired state of the instance disks"),
        plain("forthcoming", "Forthcoming", _BOOL, "The instance is only reserved"),
        _row("hvparams", "HypervisorParameters", _OTHER, "Hypervisor parameters (merged)", _hvparams),
        plain("hypervisor", "Hypervisor", _TEXT, "Hypervisor name"),
        _row(
            "network_port",
            "Network_port",
            _OTHER,
            "Network port of the console",
            lambda i, w: present(i.network_port),
        ),
        _row(
            "oper_ram",
            "Memory",
            _UNIT,
            "Actual memory usage as seen by the hypervisor",
            _oper("memory"),
            is_live=True,
        ),
        _row("oper_state", "Running", _BOOL, "Actual state of instance", _oper_state, is_live=True),
        _row(
            "oper_vcpus",
            "VCPUs",
            _NUMBER,
            "Actual number of VCPUs as seen by the hypervisor",
            _oper("vcpus"),
            is_live=True,
        ),
        plain("os", "OS", _TEXT, "Operating system"),
        _row(
            "osparams",
            "OpSysParameters",
            _OTHER,
            "Operating system parameters (merged)",
            lambda i, w: osparams_of(w.cluster.settings, i.os, i.osparams),
        ),
        _row(
            "pnode",
            "Primary_node",
            _TEXT,
            "Primary node",
            lambda i, w: w.cluster.nodes[i.primary_node].name,
            is_host_name=True,
        ),
        _row(
            "pnode.group", "PrimaryNodeGroup", _TEXT, "Primary node's group", lambda i, w: _group(i, w).name
        ),
        _row(
            "pnode.group.uuid",
            "PrimaryNodeGroupUUID",
            _TEXT,
            "UUID of the primary node's group",
            lambda i, w: _group(i, w).uuid,
        ),
        _row(
            "snodes",
            "Secondary_Nodes",
            _OTHER,
            "Secondary nodes; usually this will just be one node",
            _node_names,
        ),
        _row(
            "snodes.group",
            "SecondaryNodesGroups",
            _OTHER,
            "Node groups of secondary nodes",
            lambda i, w: [group.name for group in _secondary_groups(i, w)],
        ),
        _row(
            "snodes.group.uuid",
            "SecondaryNodesGroupsUUID",
            _OTHER,
            "UUIDs of the groups of secondary nodes",
            lambda i, w: [group.uuid for group in _secondary_groups(i, w)],
        ),
        _row(
            "status", "Status", _TEXT, "Instance status, wanted and real state together", status, is_live=True
        ),
        *common_fields("Instance"),
        *device_fields(),
        *_parameter_rows(),
    ]
)
"""All fields of instances by name."""
