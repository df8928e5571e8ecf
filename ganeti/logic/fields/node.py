"""Query fields of nodes."""

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
from ganeti.logic.node_figures import space_for
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.model.cluster import Cluster
from ganeti.model.filled import ndparams_of
from ganeti.model.ids import NodeId
from ganeti.model.node import Node, NodeRole
from ganeti.model.param_tables.nd import NODE
from ganeti.model.params import ParamType


class NodeWorld(msgspec.Struct, kw_only=True):
    """What fields of nodes look at."""

    cluster: Cluster
    facts: Mapping[NodeId, NodeInfoResult] = {}
    """Of nodes that answered."""
    primaries: Mapping[NodeId, list[str]] = {}
    secondaries: Mapping[NodeId, list[str]] = {}

    @classmethod
    def of(cls, cluster: Cluster, facts: Mapping[NodeId, NodeInfoResult]) -> NodeWorld:
        """With an index of which instances are where."""
        primaries: dict[NodeId, list[str]] = {}
        secondaries: dict[NodeId, list[str]] = {}
        for instance in cluster.instances.values():
            primaries.setdefault(instance.primary_node, []).append(instance.name)
            for node in cluster.secondary_nodes(instance):
                secondaries.setdefault(node, []).append(instance.name)
        return cls(cluster=cluster, facts=facts, primaries=primaries, secondaries=secondaries)


Get = Callable[[Node, NodeWorld], Any]
_TEXT, _BOOL, _NUMBER, _UNIT, _OTHER = (
    FieldKind.TEXT,
    FieldKind.BOOL,
    FieldKind.NUMBER,
    FieldKind.UNIT,
    FieldKind.OTHER,
)


def _facts(node: Node, world: NodeWorld) -> NodeInfoResult | Absent:
    if node.offline:
        return OFFLINE
    return world.facts.get(node.uuid, NO_DATA)


def _capacity(name: str) -> Get:
    def get(node: Node, world: NodeWorld) -> Any:
        facts = _facts(node, world)
        if isinstance(facts, Absent):
            return facts
        if not node.vm_capable:
            return UNAVAILABLE
        # Of the hypervisor and the storage that new instances get, whatever else a node told.
        enabled = world.cluster.settings.enabled_hypervisors
        found: NodeCapacity | None = facts.hypervisors.get(enabled[0]) if enabled else None
        return NO_DATA if found is None else getattr(found, name)

    return get


def _space(name: str) -> Get:
    def get(node: Node, world: NodeWorld) -> Any:
        facts = _facts(node, world)
        if isinstance(facts, Absent):
            return facts
        if not node.vm_capable:
            return UNAVAILABLE
        templates = world.cluster.settings.enabled_disk_templates
        found = space_for(facts, templates[0]) if templates else None
        return UNAVAILABLE if found is None else present(getattr(found, name))

    return get


def _boot_id(node: Node, world: NodeWorld) -> Any:
    facts = _facts(node, world)
    return facts if isinstance(facts, Absent) else facts.boot_id


def _spindles(node: Node, world: NodeWorld) -> Any:
    facts = _facts(node, world)
    return facts if isinstance(facts, Absent) else NO_DATA


def _powered(node: Node, world: NodeWorld) -> Any:
    return node.powered if ndparams_of(world.cluster, node)["oob_program"] else UNAVAILABLE


def _row(
    name: str,
    title: str,
    kind: FieldKind,
    doc: str,
    get: Get,
    *,
    is_live: bool = False,
    is_host_name: bool = False,
) -> Field[Node, NodeWorld]:
    return Field(
        name=name, title=title, kind=kind, doc=doc, get=get, is_live=is_live, is_host_name=is_host_name
    )


_ND_TITLES = {
    "exclusive_storage": "ExclusiveStorage",
    "oob_program": "OutOfBandProgram",
    "ovs": "OpenvSwitch",
    "ovs_link": "OpenvSwitchLink",
    "ovs_name": "OpenvSwitchName",
    "spindle_count": "SpindleCount",
}
_ND_KINDS = {ParamType.BOOL: _BOOL, ParamType.INT: _NUMBER, ParamType.FLOAT: FieldKind.FLOAT}


def ndparam_kind(name: str) -> FieldKind:
    """Kind of the field of a node parameter."""
    return _ND_KINDS.get(NODE.rows[name].type, _OTHER)


def ndparam_title(name: str) -> str:
    """Title of the field of a node parameter."""
    return _ND_TITLES.get(name, f"ndp/{name}")


def _ndparam(name: str) -> Get:
    return lambda node, world: present(ndparams_of(world.cluster, node)[name])


FIELDS = table(
    [
        _row("name", "Node", _TEXT, "Node name", lambda n, w: n.name, is_host_name=True),
        _row("bootid", "BootID", _TEXT, "Random UUID renewed for each system reboot", _boot_id, is_live=True),
        _row(
            "cnodes",
            "CNodes",
            _NUMBER,
            "Number of NUMA domains on node",
            _capacity("cpu_nodes"),
            is_live=True,
        ),
        _row(
            "cnos",
            "CNOs",
            _NUMBER,
            "Number of CPUs used by the node itself",
            _capacity("cpu_dom0"),
            is_live=True,
        ),
        _row(
            "csockets",
            "CSockets",
            _NUMBER,
            "Number of physical CPU sockets",
            _capacity("cpu_sockets"),
            is_live=True,
        ),
        _row(
            "ctotal", "CTotal", _NUMBER, "Number of logical processors", _capacity("cpu_total"), is_live=True
        ),
        _row(
            "custom_ndparams",
            "CustomNodeParameters",
            _OTHER,
            "Custom node parameters",
            lambda n, w: dict(n.ndparams),
        ),
        _row(
            "dfree",
            "DFree",
            _UNIT,
            "Available storage space on storage unit",
            _space("storage_free"),
            is_live=True,
        ),
        _row(
            "dtotal",
            "DTotal",
            _UNIT,
            "Total storage space on storage unit",
            _space("storage_size"),
            is_live=True,
        ),
        _row("disk_state", "DiskState", _OTHER, "Disk state", lambda n, w: UNAVAILABLE),
        plain("drained", "Drained", _BOOL, "Whether node is drained"),
        _row("group", "Group", _TEXT, "Node group", lambda n, w: w.cluster.groups[n.group].name),
        _row("group.uuid", "GroupUUID", _TEXT, "UUID of node group", lambda n, w: n.group),
        _row("hv_state", "HypervisorState", _OTHER, "Hypervisor state", lambda n, w: UNAVAILABLE),
        _row(
            "master",
            "IsMaster",
            _BOOL,
            "Whether node is master",
            lambda n, w: w.cluster.role(n) is NodeRole.MASTER,
        ),
        plain("master_candidate", "MasterC", _BOOL, "Whether node is a master candidate"),
        plain("master_capable", "MasterCapable", _BOOL, "Whether node can become a master candidate"),
        _row(
            "mfree",
            "MFree",
            _UNIT,
            "Memory available for instance allocations",
            _capacity("memory_free"),
            is_live=True,
        ),
        _row(
            "mnode",
            "MNode",
            _UNIT,
            "Amount of memory used by the node itself",
            _capacity("memory_dom0"),
            is_live=True,
        ),
        _row(
            "mtotal",
            "MTotal",
            _UNIT,
            "Total amount of memory of physical machine",
            _capacity("memory_total"),
            is_live=True,
        ),
        _row(
            "ndparams",
            "NodeParameters",
            _OTHER,
            "Merged node parameters",
            lambda n, w: ndparams_of(w.cluster, n),
        ),
        plain("offline", "Offline", _BOOL, "Whether node is marked offline"),
        _row(
            "pinst_cnt",
            "Pinst",
            _NUMBER,
            "Number of instances with this node as primary",
            lambda n, w: len(w.primaries.get(n.uuid, ())),
        ),
        _row(
            "pinst_list",
            "PriInstances",
            _OTHER,
            "List of instances with this node as primary",
            lambda n, w: sorted(w.primaries.get(n.uuid, ())),
        ),
        _row("pip", "PrimaryIP", _TEXT, "Primary IP address", lambda n, w: n.primary_ip),
        _row("powered", "Powered", _BOOL, "Whether node is thought to be powered on", _powered),
        _row(
            "role",
            "Role",
            _TEXT,
            "Node role: M master, C candidate, R regular, D drained, O offline",
            lambda n, w: w.cluster.role(n).value,
        ),
        _row(
            "sinst_cnt",
            "Sinst",
            _NUMBER,
            "Number of instances with this node as secondary",
            lambda n, w: len(w.secondaries.get(n.uuid, ())),
        ),
        _row(
            "sinst_list",
            "SecInstances",
            _OTHER,
            "List of instances with this node as secondary",
            lambda n, w: sorted(w.secondaries.get(n.uuid, ())),
        ),
        _row("sip", "SecondaryIP", _TEXT, "Secondary IP address", lambda n, w: n.secondary_ip),
        _row(
            "spfree",
            "SpFree",
            _NUMBER,
            "Available spindles in volume group (exclusive storage)",
            _spindles,
            is_live=True,
        ),
        _row(
            "sptotal",
            "SpTotal",
            _NUMBER,
            "Total spindles in volume group (exclusive storage)",
            _spindles,
            is_live=True,
        ),
        plain("vm_capable", "VMCapable", _BOOL, "Whether node can host instances"),
        *(
            _row(
                f"ndp/{name}",
                ndparam_title(name),
                ndparam_kind(name),
                f"Node parameter {name}",
                _ndparam(name),
            )
            for name in NODE.rows
        ),
        *common_fields("Node"),
    ]
)
"""All fields of nodes by name."""
