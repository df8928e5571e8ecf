"""OP_GROUP_EVACUATE: move all instances of a node group to other groups."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import msgspec

from ganeti.errors import OperationFailed
from ganeti.logic.move_plan import PlannedMove, planned_moves
from ganeti.logic.verify_disks import instances_of_group
from ganeti.model.allocation import ChangeGroup, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, shared
from ganeti.ops.allocator_jobs import allocator_jobs
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, Jobs, Param
from ganeti.ops.group.base import GroupOpCode, GroupOperation, target_groups
from ganeti.ops.group_change import solve_change
from ganeti.ops.instance.common import require_allocator
from ganeti.ops.target_checks import what_targets_lack


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
    allow_downtime: Annotated[
        bool, Param("stop and copy instances whose disks are on one node only", flag="allow-downtime")
    ] = False
    partial: Annotated[bool, Param("move those that can go although others have to stay", flag="partial")] = (
        False
    )


class EvacuateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before."""

    solution: Solution = Solution()
    """Without what cannot go, if that does not keep the others."""
    moves: tuple[PlannedMove, ...] = ()
    stuck: tuple[tuple[str, str], ...] = ()
    """Names of instances that cannot go, and why."""


class EvacuateGroupOperation(GroupOperation[EvacuateGroup, EvacuateFacts, Jobs]):
    """Asks the allocator where the instances go; if one cannot go, none does, unless that was asked for.

    Jobs that share a node wait for each other, the others run side by side (S2.3-012).
    """

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

    async def gather(self, ctx: Context) -> EvacuateFacts:
        """Where they go, and what their new nodes lack (S2.3-022)."""
        cluster = ctx.cluster
        home = self.group(cluster).uuid
        targets = target_groups(cluster, self.op.target_groups, {home})
        names = self._instances(cluster)
        if not names:
            return EvacuateFacts()
        request = ChangeGroup(instances=names, target_groups=targets, allow_downtime=self.op.allow_downtime)
        solution = await solve_change(ctx, require_allocator(cluster, self.op.iallocator), request)
        moves = await ctx.in_thread(partial(planned_moves, cluster, solution.jobs))
        lacking = await what_targets_lack(ctx, moves)
        kept = [index for index, move in enumerate(moves) if move.instance not in lacking]
        return EvacuateFacts(
            solution=msgspec.structs.replace(
                solution, jobs=tuple(solution.jobs[index] for index in kept), failed=()
            ),
            moves=tuple(moves[index] for index in kept),
            stuck=tuple(sorted({**dict(solution.failed), **lacking}.items())),
        )

    async def run(self, ctx: Context, facts: EvacuateFacts) -> Jobs:
        """The jobs."""
        op = self.op
        if facts.stuck and not op.partial:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in facts.stuck)
            raise OperationFailed(
                "not all instances can leave, so none is moved (--partial moves the others): " + reasons
            )
        jobs = allocator_jobs(
            facts.solution,
            ctx.feedback,
            early_release=op.early_release,
            force_failover=op.force_failover,
            sequential=op.sequential,
            between_groups=True,
            moves=facts.moves,
        )
        return msgspec.structs.replace(jobs, extra=self._plan(ctx.cluster, facts))

    def dry_run_result(self, cluster: Cluster, facts: EvacuateFacts) -> Any:
        """Every move, and what would stay."""
        return {"jobs": [], **self._plan(cluster, facts)}

    def _plan(self, cluster: Cluster, facts: EvacuateFacts) -> dict[str, Any]:
        rows = [move.as_row(cluster) for move in facts.moves]
        if self.op.force_failover:
            rows = [{**row, "how": str(row["how"]).replace("migrate", "failover")} for row in rows]
        return {"moves": rows, "stuck": [list(row) for row in facts.stuck]}

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
        found = instances_of_group(cluster, self.group(cluster).uuid)
        return tuple(instance.name for instance in found)
