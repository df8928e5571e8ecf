"""OP_NODE_POWERCYCLE: reboot a node at once."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.calls.system import NodePowercycle
from ganeti.model.cluster import Cluster
from ganeti.model.node import Node
from ganeti.ops.base import Command, Context, OpCode, Operation, Param, Route
from ganeti.ops.kinds import NODE
from ganeti.ops.steps import attempt


class PowercycleNode(OpCode, frozen=True, kw_only=True, tag="OP_NODE_POWERCYCLE"):
    """Reboot a node."""

    summary_field: ClassVar[str | None] = "node_name"

    node_name: Annotated[str, Param("node to reboot", kind=NODE)]
    node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    force: Annotated[bool, Param("also the master", flag="force", short="f")] = False


class PowercycleNodeOperation(Operation[PowercycleNode, None, str]):
    """Asks the node to reboot; it answers first. Takes no locks, as a sick node may hold them up."""

    routes = (Route(method="POST", path="/2/nodes/{node_name}/powercycle", query=("force", "dry_run")),)
    commands = (
        Command(
            tool="gnt-node",
            name="powercycle",
            positional="node_name",
            confirm="Are you sure you want to hard powercycle node {node_name}?",
        ),
    )

    def check(self, cluster: Cluster, facts: None) -> None:
        """Not the master, unless by force."""
        node = self._node(cluster)
        if node.uuid == cluster.settings.master_node and not self.op.force:
            raise PrereqError(
                f"node {node.name} is the master; give --force to reboot it all the same",
                code=ErrorCode.INPUT,
            )

    async def run(self, ctx: Context, facts: None) -> str:
        """What the node says."""
        cluster = ctx.cluster
        node = self._node(cluster)
        call = NodePowercycle(hypervisor=cluster.settings.enabled_hypervisors[0])
        return await attempt(ctx.nodes.call(node, call), f"could not reboot node {node.name}")

    def _node(self, cluster: Cluster) -> Node:
        return cluster.node(self.op.node_uuid or self.op.node_name)
