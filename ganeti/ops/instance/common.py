"""What most operations on one instance have in common."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.hooks_env import instance_env
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.node import Node
from ganeti.ops.base import HookNodes


def hook_nodes(cluster: Cluster, instance: Instance, *others: NodeId) -> HookNodes:
    """Master, primary, secondaries and others, each once, in both phases."""
    found = dict.fromkeys((cluster.settings.master_node, *cluster.nodes_of(instance), *others))
    return HookNodes(pre=tuple(found), post=tuple(found))


def hook_env(cluster: Cluster, instance: Instance, **more: object) -> Mapping[str, str]:
    """Variables of the instance and those of the operation."""
    return {**{name: str(value) for name, value in more.items()}, **instance_env(cluster, instance)}


def require_online(node: Node, what: str) -> None:
    """Refuse if a node is marked offline."""
    if node.offline:
        raise PrereqError(f"{what} needs node {node.name}, which is marked offline", code=ErrorCode.STATE)


def require_not_offline(instance: Instance, what: str) -> None:
    """Refuse if an instance is administratively offline."""
    if instance.admin_state is AdminState.OFFLINE:
        raise PrereqError(
            f"instance {instance.name} is marked offline and cannot be {what}; "
            f"'gnt-instance modify --online {instance.name}' brings it back",
            code=ErrorCode.STATE,
        )


def require_memory(node: Node, capacity: NodeCapacity, wanted_mib: int, what: str) -> None:
    """Refuse if a node has less free memory than needed."""
    if capacity.memory_free < wanted_mib:
        raise PrereqError(
            f"node {node.name} has {capacity.memory_free} MiB of free memory, {what} needs {wanted_mib} MiB",
            code=ErrorCode.NO_RESOURCES,
        )


def require_target(cluster: Cluster, node: Node, what: str) -> None:
    """Refuse nodes that may not get an instance."""
    reason = None
    if node.offline:
        reason = "is marked offline"
    elif not node.vm_capable:
        reason = "may not host instances (vm_capable is off)"
    elif node.drained:
        reason = "is drained"
    if reason is not None:
        raise PrereqError(f"cannot {what} to node {node.name}: it {reason}", code=ErrorCode.STATE)


def require_allocator(cluster: Cluster, name: str | None) -> str:
    """The allocator that was named, or else the cluster's; refuse if there is none."""
    found = name or cluster.settings.default_iallocator
    if not found:
        raise PrereqError("name an allocator (-I); the cluster has no default one")
    return found
