"""OP_CLUSTER_DESTROY: check that nothing is left, before the tools erase the cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.errors import PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation


class DestroyCluster(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_DESTROY"):
    """Erase an empty cluster."""


class DestroyClusterOperation(Operation[DestroyCluster, None, str]):
    """Only checks; what is on disk goes after the master daemon has stopped."""

    hooks = Hooks("cluster-destroy", HookTarget.CLUSTER)
    commands = (Command(tool="gnt-cluster", name="destroy", arguments=Arguments.CUSTOM),)

    def locks(self, cluster: Cluster) -> LockPlan:
        """Everything."""
        return LockPlan(exclusive_cluster=True)

    def check(self, cluster: Cluster, facts: None) -> None:
        """No instances and no other nodes."""
        if cluster.instances:
            names = ", ".join(sorted(instance.name for instance in cluster.instances.values())[:5])
            raise PrereqError(
                f"{len(cluster.instances)} instance(s) are left, such as {names}; remove them first"
            )
        others = [node.name for node in cluster.nodes.values() if node.uuid != cluster.settings.master_node]
        if others:
            raise PrereqError(
                f"the cluster still has other nodes: {', '.join(sorted(others)[:5])}; remove them first"
            )

    async def run(self, ctx: Context, facts: None) -> str:
        """UUID of the master."""
        return ctx.cluster.settings.master_node

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The cluster's name."""
        return {"OP_TARGET": cluster.name}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Only afterwards, on the master."""
        return HookNodes(pre=(), post=(cluster.settings.master_node,))
