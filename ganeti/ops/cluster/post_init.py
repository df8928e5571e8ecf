"""OP_CLUSTER_POST_INIT: run the hooks of a new cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Context, HookNodes, Hooks, HookTarget, OpCode, Operation


class PostInit(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_POST_INIT"):
    """Run the hooks of a new cluster."""


class PostInitOperation(Operation[PostInit, None, bool]):
    """Does nothing itself; the post hooks cluster-init run on the master."""

    keeps_state = True
    hooks = Hooks("cluster-init", HookTarget.CLUSTER)

    def locks(self, cluster: Cluster) -> LockPlan:
        """Everything."""
        return LockPlan(exclusive_cluster=True)

    async def run(self, ctx: Context, facts: None) -> bool:
        """True."""
        return True

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The cluster's name."""
        return {"OP_TARGET": cluster.name}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Only afterwards, on the master."""
        return HookNodes(pre=(), post=(cluster.settings.master_node,))
