"""OP_INSTANCE_QUERY_DATA: everything about instances, for `gnt-instance info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ganeti.model.calls.instances import AllInstancesInfo, RunningInstance, RunState
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import FilledNic, beparams_of, fill_nic, hvparams_of, osparams_of
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.locks import LockLevel, LockMode, LockPlan, LockRequest, all_of_level, shared
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param, Route
from ganeti.ops.kinds import INSTANCES


class QueryInstanceData(OpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_QUERY_DATA"):
    """Everything about instances."""

    use_locking: Annotated[bool, Param("hold locks meanwhile")] = False
    instances: Annotated[tuple[str, ...], Param("which; none: all", kind=INSTANCES)] = ()
    static: Annotated[bool, Param("do not ask the nodes", flag="static", short="s")] = False


State = Mapping[InstanceId, RunningInstance | str | None]
"""What runs: the instance, None (does not run), or why that is not known."""


class QueryInstanceDataOperation(Operation[QueryInstanceData, State, dict[str, Any]]):
    """Configuration of instances with what their nodes say now."""

    keeps_state = True
    aliases = ("OP_QUERY_INSTANCE_DATA",)
    routes = (Route(method="GET", path="/2/instances/{instance_name}/info", query=("static",)),)
    commands = (
        Command(
            tool="gnt-instance",
            name="info",
            aliases=("show",),
            positional="instances",
            arguments=Arguments.CUSTOM,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """Nothing, unless asked for."""
        if not self.op.use_locking:
            return LockPlan.NOTHING
        if not self.op.instances:
            everything = all_of_level(LockMode.SHARED)
            levels = (LockLevel.INSTANCE, LockLevel.NODEGROUP, LockLevel.NODE, LockLevel.NETWORK)
            return LockPlan(requests=dict.fromkeys(levels, everything))
        chosen = self._chosen(cluster)
        nodes = {node for instance in chosen for node in cluster.nodes_of(instance)}
        requests: dict[LockLevel, LockRequest] = {
            LockLevel.INSTANCE: shared(instance.name for instance in chosen),
            LockLevel.NODEGROUP: shared(cluster.nodes[node].group for node in nodes),
            LockLevel.NODE: shared(nodes),
        }
        return LockPlan(requests=requests)

    async def gather(self, ctx: Context) -> State:
        """What the primary nodes say, all asked at once."""
        cluster = ctx.cluster
        chosen = self._chosen(cluster)
        if self.op.static:
            return {instance.uuid: None for instance in chosen}
        nodes = {instance.primary_node: cluster.nodes[instance.primary_node] for instance in chosen}
        call = AllInstancesInfo(hypervisors=cluster.settings.enabled_hypervisors)
        outcomes = await ctx.nodes.each(list(nodes.values()), call)
        for uuid, outcome in outcomes.items():
            if isinstance(outcome, NodeFailed):
                ctx.feedback.warning(f"node {nodes[uuid].name} does not answer: {outcome.reason}")
        return {instance.uuid: _state_of(instance, outcomes[instance.primary_node]) for instance in chosen}

    async def run(self, ctx: Context, facts: State) -> dict[str, Any]:
        """The established dictionaries by instance name."""
        cluster = ctx.cluster
        return {
            instance.name: _described(cluster, instance, facts.get(instance.uuid), static=self.op.static)
            for instance in self._chosen(cluster)
        }

    def _chosen(self, cluster: Cluster) -> list[Instance]:
        if not self.op.instances:
            return sorted(cluster.instances.values(), key=lambda instance: instance.name)
        return [cluster.instance(name) for name in self.op.instances]


def _state_of(
    instance: Instance, outcome: Outcome[Mapping[str, RunningInstance]]
) -> RunningInstance | str | None:
    match outcome:
        case Answer(value):
            return value.get(instance.name)
        case NodeFailed() as failed:
            return failed.reason


def _described(
    cluster: Cluster, instance: Instance, state: RunningInstance | str | None, *, static: bool
) -> dict[str, Any]:
    settings = cluster.settings
    secondaries = cluster.secondary_nodes(instance)
    primary_group = cluster.groups[cluster.nodes[instance.primary_node].group]
    groups = [cluster.groups[cluster.nodes[node].group] for node in secondaries]
    backend = msgspec.to_builtins(beparams_of(settings, instance.beparams))
    private = dict.fromkeys(instance.osparams_private, "<redacted>")
    return {
        "name": instance.name,
        "config_state": instance.admin_state.value,
        "run_state": None if static else _run_state(instance, state),
        "pnode": cluster.nodes[instance.primary_node].name,
        "pnode_group_uuid": primary_group.uuid,
        "pnode_group_name": primary_group.name,
        "snodes": [cluster.nodes[node].name for node in secondaries],
        "snodes_group_uuids": [group.uuid for group in groups],
        "snodes_group_names": [group.name for group in groups],
        "os": instance.os,
        "nics": [_nic(fill_nic(cluster, nic)) for nic in instance.nics],
        "disk_template": cluster.disk_template(instance),
        "disks": [_disk(cluster, disk) for disk in cluster.disks_of(instance)],
        "hypervisor": instance.hypervisor,
        "network_port": instance.network_port,
        "hv_instance": dict(instance.hvparams),
        "hv_actual": hvparams_of(settings, instance.hypervisor, instance.os, instance.hvparams),
        "be_instance": dict(instance.beparams),
        "be_actual": backend,
        "os_instance": {**instance.osparams, **private},
        "os_actual": {**osparams_of(settings, instance.os, instance.osparams), **private},
        "serial_no": instance.serial_no,
        "mtime": instance.mtime,
        "ctime": instance.ctime,
        "uuid": instance.uuid,
    }


def _run_state(instance: Instance, state: RunningInstance | str | None) -> str | None:
    match state:
        case str():
            return None
        case RunningInstance(state=RunState.SHUTDOWN):
            return "user down"
        case RunningInstance():
            return "up"
    return "offline" if instance.admin_state is AdminState.OFFLINE else "down"


def _nic(nic: FilledNic) -> list[Any]:
    facts = dict(nic.network_facts) or None
    return [nic.name, nic.uuid, nic.ip, nic.mac, nic.mode, nic.link, nic.vlan or None, nic.network, facts]


def _disk(cluster: Cluster, disk: Disk) -> dict[str, Any]:
    logical_id: list[Any] = list(disk.logical_id)
    drbd_info = None
    if disk.dev_type == "drbd" and len(logical_id) == 6:
        primary, secondary, port, primary_minor, secondary_minor, _secret = logical_id
        logical_id[5] = None
        drbd_info = {
            "primary_node": _node_name(cluster, primary),
            "primary_minor": primary_minor,
            "secondary_node": _node_name(cluster, secondary),
            "secondary_minor": secondary_minor,
            "port": port,
        }
    return {
        "iv_name": disk.iv_name,
        "dev_type": disk.dev_type,
        "logical_id": logical_id,
        "drbd_info": drbd_info,
        "pstatus": None,
        "sstatus": None,
        "children": [_disk(cluster, child) for child in disk.children],
        "mode": disk.mode,
        "size": disk.size,
        "spindles": disk.spindles,
        "name": disk.name,
        "uuid": disk.uuid,
    }


def _node_name(cluster: Cluster, node: str) -> str:
    return cluster.nodes[NodeId(node)].name
