"""OP_GROUP_EVACUATE: move all instances of a node group to other groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from ganeti.model.allocation import ChangeGroup, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, shared
from ganeti.ops.allocator_jobs import allocator_jobs
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, Jobs, Param
from ganeti.ops.group.base import GroupOpCode, GroupOperation, target_groups
from ganeti.ops.instance.common import require_allocator


class EvacuateGroup(GroupOpCode, frozen=True, kw_only=True, tag="OP_GROUP_EVACUATE"):
    """Move all instances of a node group to other groups; a job for each."""

    early_release: Annotated[
        bool, Param("give old disks up before new ones are in step", flag="early-release")
    ] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses groups and nodes", flag="iallocator", short="I")
    ] = None
    target_groups: Annotated[tuple[str, ...] | None, Param("groups they may go to; all others if absent")] = (
        None
    )
    sequential: Annotated[bool, Param("one instance after the other", flag="sequential")] = False
    force_failover: Annotated[bool, Param("stop and start instead of migrating", flag="force-failover")] = (
        False
    )


class EvacuateGroupOperation(GroupOperation[EvacuateGroup, Solution, Jobs]):
    """Asks the allocator where the instances go; if one cannot go, none does (S2.3-012)."""

    keeps_state = True
    hooks = Hooks("group-evacuate", HookTarget.GROUP)
    commands = (
        Command(
            tool="gnt-group",
            name="evacuate",
            aliases=("drain",),
            positional="group_name",
            arguments=Arguments.CUSTOM,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """Its instances, and all nodes and groups, shared: jobs do the rest."""
        everywhere = all_of_level(LockMode.SHARED)
        return LockPlan(
            requests={
                LockLevel.INSTANCE: shared(self._instances(cluster)),
                LockLevel.NODEGROUP: everywhere,
                LockLevel.NODE: everywhere,
            }
        )

    async def gather(self, ctx: Context) -> Solution:
        """Where they go."""
        cluster = ctx.cluster
        home = self.group(cluster).uuid
        targets = target_groups(cluster, self.op.target_groups, {home})
        names = self._instances(cluster)
        if not names:
            return Solution()
        request = ChangeGroup(instances=names, target_groups=targets)
        name = require_allocator(cluster, self.op.iallocator)
        return await ctx.allocation.solve(name, request, cluster=cluster)

    async def run(self, ctx: Context, facts: Solution) -> Jobs:
        """The jobs."""
        op = self.op
        return allocator_jobs(
            facts,
            ctx.feedback,
            early_release=op.early_release,
            force_failover=op.force_failover,
            sequential=op.sequential,
            between_groups=True,
        )

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The group, and those that were asked for."""
        groups = (cluster.group(name).uuid for name in self.op.target_groups or ())
        return {**super().hook_env(cluster), "TARGET_GROUPS": " ".join(groups)}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master and the nodes of the group."""
        members = (node.uuid for node in cluster.members(self.group(cluster).uuid))
        nodes = tuple(dict.fromkeys((cluster.settings.master_node, *members)))
        return HookNodes(pre=nodes, post=nodes)

    def _instances(self, cluster: Cluster) -> tuple[str, ...]:
        """Names of the instances with a node in the group."""
        home = self.group(cluster).uuid
        return tuple(
            sorted(
                instance.name
                for instance in cluster.instances.values()
                if any(cluster.nodes[node].group == home for node in cluster.nodes_of(instance))
            )
        )
