"""OP_NODE_REMOVE: take a node without instances out of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec.structs import replace

from ganeti.errors import ErrorCode, GanetiError, PrereqError
from ganeti.logic.node_flags import nodes_to_promote
from ganeti.model.calls.system import NodeLeaveCluster
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan
from ganeti.model.node import Node
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param
from ganeti.ops.kinds import NODE
from ganeti.ops.node.common import promote


class RemoveNode(OpCode, frozen=True, kw_only=True, tag="OP_NODE_REMOVE"):
    """Take a node out of the cluster."""

    summary_field: ClassVar[str | None] = "node_name"

    node_name: Annotated[str, Param("node to remove", kind=NODE)]
    node_uuid: Annotated[str | None, Param("the same by UUID")] = None


class RemoveNodeOperation(Operation[RemoveNode, None, None]):
    """Forgets the node, keeps the candidate pool full, and tells the node to forget the cluster."""

    hooks = Hooks("node-remove", HookTarget.NODE)
    commands = (Command(tool="gnt-node", name="remove", positional="node_name"),)

    def __init__(self, op: RemoveNode) -> None:
        super().__init__(op)
        self._found: Node | None = None

    def locks(self, cluster: Cluster) -> LockPlan:
        """Everything."""
        return LockPlan(exclusive_cluster=True)

    def check(self, cluster: Cluster, facts: None) -> None:
        """Not the master, and without instances."""
        node = self._node(cluster)
        if node.uuid == cluster.settings.master_node:
            raise PrereqError(
                f"node {node.name} is the master; fail the master over to another node first",
                code=ErrorCode.INPUT,
            )
        for instance in cluster.instances_on(node.uuid):
            raise PrereqError(
                f"node {node.name} still has instance {instance.name}; move or remove its instances first",
                code=ErrorCode.INPUT,
            )

    async def run(self, ctx: Context, facts: None) -> None:
        """Forget it."""
        node = self._node(ctx.cluster)
        promoted = nodes_to_promote(ctx.cluster, ctx.rng, exclude=frozenset([node.uuid]))

        def without(cluster: Cluster) -> Cluster:
            certs = {
                owner: cert for owner, cert in cluster.settings.candidate_certs.items() if owner != node.uuid
            }
            smaller = replace(
                cluster,
                nodes=cluster.nodes.without(node.uuid),
                settings=replace(cluster.settings, candidate_certs=certs),
            )
            return promote(smaller, promoted)

        if not node.offline:
            await self._leave(ctx, node)
        await ctx.config.update(without, reason=f"node {node.name} is removed")
        ctx.held.forget(LockLevel.NODE, [node.uuid])
        for uuid in promoted:
            ctx.feedback.info(f"promoted node {ctx.cluster.nodes[uuid].name} to master candidate")

    async def _leave(self, ctx: Context, node: Node) -> None:
        try:
            await ctx.nodes.call(node, NodeLeaveCluster(modify_ssh_setup=False))
        except GanetiError as error:
            ctx.feedback.warning(
                f"node {node.name} could not be told to leave: {error}",
                hint="its credentials stay on it; remove its data directory by hand",
            )

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The full name; also when the node is gone."""
        name = self._removed(cluster).name
        return {"OP_TARGET": name, "NODE_NAME": name}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """All nodes but the removed one."""
        gone = self._removed(cluster).uuid
        rest = tuple(uuid for uuid in cluster.nodes if uuid != gone)
        return HookNodes(pre=rest, post=rest)

    def _removed(self, cluster: Cluster) -> Node:
        """The node, looked up once: afterwards its name may mean another one."""
        if self._found is None:
            self._found = self._node(cluster)
        return self._found

    def _node(self, cluster: Cluster) -> Node:
        return cluster.node(self.op.node_uuid or self.op.node_name)
