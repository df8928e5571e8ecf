"""OP_CLUSTER_VERIFY_DISKS: have the disks of every node group looked at by jobs."""

from __future__ import annotations

from typing import Annotated

from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, shared
from ganeti.ops.base import Arguments, Command, Context, Jobs, OpCode, Operation, Param
from ganeti.ops.group.verify_disks import VerifyGroupDisks
from ganeti.ops.kinds import GROUP


class VerifyClusterDisks(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_VERIFY_DISKS"):
    """Open disks that ought to be open, and list those that are missing."""

    group_name: Annotated[str | None, Param("only this node group", GROUP, "node-group", "g")] = None
    is_strict: Annotated[
        bool, Param("leave out what others work on, in place of waiting for it", flag="no-strict")
    ] = True


class VerifyClusterDisksOperation(Operation[VerifyClusterDisks, None, Jobs]):
    """Asks for one job for each group."""

    keeps_state = True
    commands = (Command(tool="gnt-cluster", name="verify-disks", arguments=Arguments.CUSTOM),)

    def locks(self, cluster: Cluster) -> LockPlan:
        """The groups, shared."""
        groups = (
            all_of_level(LockMode.SHARED)
            if self.op.group_name is None
            else shared([cluster.group(self.op.group_name).uuid])
        )
        return LockPlan(requests={LockLevel.NODEGROUP: groups})

    async def run(self, ctx: Context, facts: None) -> Jobs:
        """The jobs, by name of the group."""
        cluster = ctx.cluster
        if self.op.group_name is not None:
            names = [cluster.group(self.op.group_name).name]
        else:
            names = sorted(group.name for group in cluster.groups.values())
        return Jobs(
            jobs=tuple((VerifyGroupDisks(group_name=name, is_strict=self.op.is_strict),) for name in names)
        )
