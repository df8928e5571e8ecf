"""OP_CLUSTER_REDIST_CONF: send configuration, ssconf and common files to all nodes again."""

from __future__ import annotations

from ganeti.errors import OperationFailed
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Route

MOST_ROUNDS = 5
"""How often ssconf is sent anew because it changed meanwhile."""


class RedistConf(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_REDIST_CONF"):
    """Send configuration and common files to all nodes again."""


class RedistConfOperation(Operation[RedistConf, None, None]):
    """Lets the master's distribution send everything; where there is none, sends ssconf itself.

    Changes reach the nodes anyway, in the background. This is for nodes that missed some, and for
    operators who want to see that all have everything.
    """

    keeps_state = True
    routes = (Route(method="PUT", path="/2/redistribute-config"),)
    commands = (Command(tool="gnt-cluster", name="redist-conf", arguments=Arguments.NONE),)

    def locks(self, cluster: Cluster) -> LockPlan:
        """All nodes, shared."""
        return LockPlan(requests={LockLevel.NODE: all_of_level(LockMode.SHARED)})

    async def run(self, ctx: Context, facts: None) -> None:
        """Send; nodes that did not get it are named."""
        for node in ctx.cluster.nodes.values():
            if node.offline:
                ctx.feedback.info(f"node {node.name} is offline and gets nothing")
        failures = await ctx.distribution.redistribute()
        for name, reason in failures.items():
            ctx.feedback.warning(f"node {name} did not get everything: {reason}")
        if failures:
            raise OperationFailed(
                f"{len(failures)} node(s) did not get everything: {', '.join(sorted(failures))}; "
                "repeat when they answer, or mark them offline"
            )
