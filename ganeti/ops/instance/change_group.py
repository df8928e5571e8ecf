"""OP_INSTANCE_CHANGE_GROUP: move an instance to another node group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from ganeti.model.allocation import ChangeGroup, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, shared
from ganeti.ops.allocator_jobs import allocator_jobs
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, Jobs, Param, Route
from ganeti.ops.group.base import target_groups
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import require_allocator


class ChangeInstanceGroup(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_CHANGE_GROUP"):
    """Move an instance to another node group; its jobs may take a while."""

    early_release: Annotated[
        bool, Param("give the old disks up before the new ones are in step", flag="early-release")
    ] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses group and nodes", flag="iallocator", short="I")
    ] = None
    target_groups: Annotated[tuple[str, ...] | None, Param("groups it may go to; all others if absent")] = (
        None
    )


class ChangeInstanceGroupOperation(InstanceOperation[ChangeInstanceGroup, Solution, Jobs]):
    """Asks the allocator for group and nodes, and for the jobs that bring the instance there."""

    keeps_state = True
    hooks = Hooks("instance-change-group", HookTarget.INSTANCE)
    routes = (Route(method="PUT", path="/2/instances/{instance_name}/change-group", query=("dry_run",)),)
    commands = (
        Command(
            tool="gnt-instance",
            name="change-group",
            positional="instance_name",
            arguments=Arguments.CUSTOM,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance, and all nodes and groups that count, shared: jobs do the rest."""
        everywhere = all_of_level(LockMode.SHARED)
        return LockPlan(
            requests={
                LockLevel.INSTANCE: shared([self.instance(cluster).name]),
                LockLevel.NODEGROUP: everywhere,
                LockLevel.NODE: everywhere,
            }
        )

    async def gather(self, ctx: Context) -> Solution:
        """Where it goes."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        homes = {cluster.nodes[node].group for node in cluster.nodes_of(instance)}
        request = ChangeGroup(
            instances=(instance.name,),
            target_groups=target_groups(cluster, self.op.target_groups, homes),
        )
        name = require_allocator(cluster, self.op.iallocator)
        return await ctx.allocation.solve(name, request, cluster=cluster)

    async def run(self, ctx: Context, facts: Solution) -> Jobs:
        """The jobs."""
        return allocator_jobs(facts, ctx.feedback, early_release=self.op.early_release, between_groups=True)

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and the groups that were asked for."""
        groups = (cluster.group(name).uuid for name in self.op.target_groups or ())
        return {"TARGET_GROUPS": " ".join(groups), **super().hook_env(cluster)}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """The master."""
        master = (cluster.settings.master_node,)
        return HookNodes(pre=master, post=master)
