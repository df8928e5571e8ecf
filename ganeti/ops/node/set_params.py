"""OP_NODE_SET_PARAMS: change the role, the flags and the parameters of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec.structs import replace

from ganeti.errors import ErrorCode, GanetiError, PrereqError
from ganeti.logic.node_flags import FlagChange, FlagRequest, nodes_to_promote, plan_flags
from ganeti.model.calls.system import Version
from ganeti.model.cluster import Cluster
from ganeti.model.filled import ndparams_of
from ganeti.model.ids import NodeId
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, exclusive
from ganeti.model.node import Node
from ganeti.model.param_tables.nd import NODE
from ganeti.model.params import ParamValue
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param, Route
from ganeti.ops.kinds import KEY_VALUES, YES_NO
from ganeti.ops.kinds import NODE as NODE_KIND
from ganeti.ops.node.common import clear_candidate, promote, put_node

Changes = tuple[tuple[str, str], ...]


class SetNodeParams(OpCode, frozen=True, kw_only=True, tag="OP_NODE_SET_PARAMS"):
    """Change a node; what is absent stays as it is."""

    summary_field: ClassVar[str | None] = "node_name"

    node_name: Annotated[str, Param("node to change", kind=NODE_KIND)]
    node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    force: Annotated[bool, Param("go on in spite of doubts", flag="force", short="f")] = False
    master_candidate: Annotated[
        bool | None, Param("is a master candidate", YES_NO, "master-candidate", "C")
    ] = None
    offline: Annotated[bool | None, Param("is not contacted at all", YES_NO, "offline", "O")] = None
    drained: Annotated[bool | None, Param("gets no new instances", YES_NO, "drained", "D")] = None
    auto_promote: Annotated[
        bool, Param("promote another node where the candidates become too few", flag="auto-promote")
    ] = False
    master_capable: Annotated[bool | None, Param("may be master or candidate", YES_NO, "master-capable")] = (
        None
    )
    vm_capable: Annotated[bool | None, Param("may host instances", YES_NO, "vm-capable")] = None
    secondary_ip: Annotated[
        str | None, Param("address for disk and migration traffic", flag="secondary-ip", short="s")
    ] = None
    ndparams: Annotated[
        Mapping[str, ParamValue] | None, Param("node parameters", KEY_VALUES, "node-parameters")
    ] = None
    hv_state: Annotated[Mapping[str, Any] | None, Param("static state of hypervisors")] = None
    disk_state: Annotated[Mapping[str, Any] | None, Param("static state of storage")] = None
    powered: Annotated[bool | None, Param("is recorded as powered", YES_NO, "node-powered")] = None


class SetNodeParamsOperation(Operation[SetNodeParams, None, Changes]):
    """Plans the new flags, records them, and keeps the pool of candidates as it should be."""

    hooks = Hooks("node-modify", HookTarget.NODE)
    routes = (Route(method="POST", path="/2/nodes/{node_name}/modify"),)
    commands = (Command(tool="gnt-node", name="modify", positional="node_name"),)

    def locks(self, cluster: Cluster) -> LockPlan:
        """The node; all nodes where others may be promoted."""
        if self.op.auto_promote and self._may_demote:
            nodes = all_of_level(LockMode.EXCLUSIVE)
        else:
            nodes = exclusive([self._node(cluster).uuid])
        return LockPlan(requests={LockLevel.NODE: nodes, LockLevel.NODE_RES: nodes})

    async def gather(self, ctx: Context) -> None:
        """A node that is to come online has to answer."""
        node = self._node(ctx.cluster)
        self._check_something(node)
        if not self._plan(ctx.cluster, node).comes_online:
            return
        try:
            await ctx.nodes.call(node, Version(), timeout_s=30.0)
        except GanetiError as error:
            raise PrereqError(
                f"node {node.name} does not answer and cannot come online: {error}",
                code=ErrorCode.ENVIRONMENT,
            ) from error

    def check(self, cluster: Cluster, facts: None) -> None:
        """The flags allow it."""
        node = self._node(cluster)
        self._plan(cluster, node)
        self._new_params(node)
        if self.op.powered is not None:
            raise_without_oob(cluster, node)
        if self.op.secondary_ip is not None:
            self._check_secondary(cluster, node, self.op.secondary_ip)

    async def run(self, ctx: Context, facts: None) -> Changes:
        """Record it; gives what changed as (name, new value)."""
        before = self._node(ctx.cluster)
        plan = self._plan(ctx.cluster, before)
        for note in plan.notes:
            ctx.feedback.info(note)
        if plan.comes_online:
            ctx.feedback.warning(
                f"node {before.name} comes back as it was",
                hint=f"'gnt-node add --readd {before.name}' is safer: it checks and cleans the node",
            )
        cluster = await ctx.config.update(self._changed, reason=f"node {before.name} changes")
        node = cluster.nodes[before.uuid]
        if plan.was_demoted and not node.offline:
            await clear_candidate(ctx, node)
        await self._fill_pool(ctx, cluster, before.uuid)
        return _report(before, node)

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The flags as the opcode has them."""
        op = self.op
        return {
            "OP_TARGET": op.node_name,
            "MASTER_CANDIDATE": str(op.master_candidate),
            "OFFLINE": str(op.offline),
            "DRAINED": str(op.drained),
            "MASTER_CAPABLE": str(op.master_capable),
            "VM_CAPABLE": str(op.vm_capable),
        }

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master and the node."""
        nodes = tuple(dict.fromkeys((cluster.settings.master_node, self._node(cluster).uuid)))
        return HookNodes(pre=nodes, post=nodes)

    @property
    def _may_demote(self) -> bool:
        op = self.op
        return (
            op.offline is True
            or op.drained is True
            or op.master_candidate is False
            or op.master_capable is False
        )

    def _request(self) -> FlagRequest:
        return FlagRequest(
            master_candidate=self.op.master_candidate,
            drained=self.op.drained,
            offline=self.op.offline,
            master_capable=self.op.master_capable,
            vm_capable=self.op.vm_capable,
            powered=self.op.powered,
            auto_promote=self.op.auto_promote,
        )

    def _plan(self, cluster: Cluster, node: Node) -> FlagChange:
        return plan_flags(cluster, node, self._request())

    def _changed(self, cluster: Cluster) -> Cluster:
        node = self._node(cluster)
        planned = self._plan(cluster, node).node
        return put_node(
            cluster,
            replace(
                planned,
                ndparams=self._new_params(node),
                secondary_ip=self.op.secondary_ip or planned.secondary_ip,
                hv_state_static=planned.hv_state_static if self.op.hv_state is None else self.op.hv_state,
                disk_state_static=(
                    planned.disk_state_static if self.op.disk_state is None else self.op.disk_state
                ),
            ),
        )

    def _new_params(self, node: Node) -> Mapping[str, ParamValue]:
        if self.op.ndparams is None:
            return node.ndparams
        if "exclusive_storage" in self.op.ndparams:
            raise PrereqError("exclusive_storage can be set on the cluster or a group, not on a single node")
        try:
            return NODE.merge(node.ndparams, self.op.ndparams)
        except GanetiError as error:
            raise PrereqError(str(error)) from error

    def _check_something(self, node: Node) -> None:
        op = self.op
        asked = (
            op.master_candidate,
            op.offline,
            op.drained,
            op.master_capable,
            op.vm_capable,
            op.secondary_ip,
            op.ndparams,
            op.hv_state,
            op.disk_state,
            op.powered,
        )
        if all(value is None for value in asked):
            raise PrereqError(f"no changes submitted for node {node.name}; give at least one option")

    def _check_secondary(self, cluster: Cluster, node: Node, address: str) -> None:
        for other in cluster.nodes.values():
            if other.uuid != node.uuid and address in (other.primary_ip, other.secondary_ip):
                raise PrereqError(
                    f"address {address} belongs to node {other.name}", code=ErrorCode.NOT_UNIQUE
                )
        in_use = [
            instance.name for instance in cluster.instances_on(node.uuid) if instance.admin_state == "up"
        ]
        if in_use:
            raise PrereqError(
                f"instance {in_use[0]} on node {node.name} is to run; stop it before the address changes",
                code=ErrorCode.STATE,
            )

    async def _fill_pool(self, ctx: Context, cluster: Cluster, changed: NodeId) -> None:
        """Promote others; the node itself is what somebody has just decided it to be."""
        if not self.op.auto_promote:
            return
        promoted = nodes_to_promote(cluster, ctx.rng, exclude=(changed,))
        if not promoted:
            return
        await ctx.config.update(
            lambda newest: promote(newest, promoted), reason="the candidate pool is filled"
        )
        for uuid in promoted:
            ctx.feedback.info(f"promoted node {cluster.nodes[uuid].name} to master candidate")

    def _node(self, cluster: Cluster) -> Node:
        return cluster.node(self.op.node_uuid or self.op.node_name)


def raise_without_oob(cluster: Cluster, node: Node) -> None:
    """Refuse where no out-of-band program can tell the power state."""
    if not ndparams_of(cluster, node)["oob_program"]:
        raise PrereqError(
            f"node {node.name} has no out-of-band program, so its power state is not recorded",
            code=ErrorCode.STATE,
        )


def _report(before: Node, after: Node) -> Changes:
    names = ("master_capable", "vm_capable", "secondary_ip", "master_candidate", "drained", "offline")
    return tuple(
        (name, str(getattr(after, name))) for name in names if getattr(before, name) != getattr(after, name)
    )
