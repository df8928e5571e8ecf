"""What operations on nodes have in common."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from ganeti.errors import GanetiError
from ganeti.model.calls.system import NodeDemote, QueuePurge
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.ops.base import Context


def node_env(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Variables of a node for hooks."""
    return {
        "OP_TARGET": node.name,
        "NODE_NAME": node.name,
        "NODE_PIP": node.primary_ip,
        "NODE_SIP": node.secondary_ip,
        "MASTER_CAPABLE": str(node.master_capable),
        "VM_CAPABLE": str(node.vm_capable),
    }


def put_node(cluster: Cluster, node: Node) -> Cluster:
    """The cluster with a node put in or replaced."""
    return replace(cluster, nodes=cluster.nodes.with_item(node.uuid, node))


def promote(cluster: Cluster, nodes: tuple[NodeId, ...]) -> Cluster:
    """The cluster with nodes made master candidates."""
    promoted = {node: replace(cluster.nodes[node], master_candidate=True) for node in nodes}
    return replace(cluster, nodes=cluster.nodes.with_items(promoted))


async def clear_candidate(ctx: Context, node: Node) -> None:
    """Remove configuration and queue from a node that is no candidate any more; failures are reported."""
    if node.offline:
        return
    for call in (NodeDemote(), QueuePurge()):
        try:
            await ctx.nodes.call(node, call)
        except GanetiError as error:
            ctx.feedback.warning(
                f"node {node.name} could not be told that it is no candidate any more: {error}",
                hint="'gnt-cluster redist-conf' repeats it when the node is well",
            )
