"""OP_INSTANCE_CHANGE_GROUP: move an instance to another node group, or end a move that broke off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.evacuate import journey
from ganeti.logic.group_moves import check_hand_picked, homes_of
from ganeti.logic.move_plan import PlannedMove, planned_moves
from ganeti.model.allocation import ChangeGroup, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, exclusive, shared
from ganeti.ops.allocator_jobs import allocator_jobs
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, Jobs, Param, Route
from ganeti.ops.group.base import target_groups
from ganeti.ops.group_change import solve_change
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import require_allocator, require_target
from ganeti.ops.instance.group_cleanup import cleanup_jobs
from ganeti.ops.instance.target import policy_problems
from ganeti.ops.target_checks import what_targets_lack


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
    target_nodes: Annotated[
        tuple[str, ...] | None, Param("nodes it goes to, primary first, in place of an allocator")
    ] = None
    cleanup: Annotated[
        bool,
        Param(
            "bring an instance whose move broke off into one group: the one in which it runs",
            flag="cleanup",
        ),
    ] = False
    allow_downtime: Annotated[
        bool,
        Param("stop and copy an instance whose disks are on one node only", flag="allow-downtime"),
    ] = False


class ChangeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before."""

    solution: Solution = Solution()
    moves: tuple[PlannedMove, ...] = ()
    lacking: str | None = None
    """What the new nodes lack."""
    cleanup: Jobs | None = None


class ChangeInstanceGroupOperation(InstanceOperation[ChangeInstanceGroup, ChangeFacts, Jobs]):
    """Finds group and nodes, and asks for the job that brings the instance there.

    By an allocator among all other groups or those that were named, or to nodes that were named
    (S2.3-021). What is on one node only is stopped and copied, if that is allowed (S2.3-033). A move that
    broke off leaves a mirrored instance with its nodes in two groups; the clean-up makes a new mirror in
    the group in which the instance runs (S2.3-018).
    """

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
        """The instance, and all nodes and groups that count, shared: jobs do the rest.

        For a clean-up the instance and its nodes, as nobody else may move it meanwhile.
        """
        instance = self.instance(cluster)
        if self.op.cleanup:
            return LockPlan(
                requests={
                    LockLevel.INSTANCE: exclusive([instance.name]),
                    LockLevel.NODEGROUP: shared(homes_of(cluster, instance)),
                    LockLevel.NODE: exclusive(cluster.nodes_of(instance)),
                }
            )
        if self.op.target_nodes:
            nodes = {*cluster.nodes_of(instance), *self._picked(cluster)}
            return LockPlan(
                requests={
                    LockLevel.INSTANCE: shared([instance.name]),
                    LockLevel.NODEGROUP: shared({cluster.nodes[node].group for node in nodes}),
                    LockLevel.NODE: shared(nodes),
                }
            )
        everywhere = all_of_level(LockMode.SHARED)
        return LockPlan(
            requests={
                LockLevel.INSTANCE: shared([instance.name]),
                LockLevel.NODEGROUP: everywhere,
                LockLevel.NODE: everywhere,
            }
        )

    async def gather(self, ctx: Context) -> ChangeFacts:
        """Where it goes, and whether it can be there."""
        self._check_arguments()
        cluster = ctx.cluster
        instance = self.instance(cluster)
        if self.op.cleanup:
            return ChangeFacts(
                cleanup=await cleanup_jobs(
                    ctx,
                    instance,
                    iallocator=self.op.iallocator,
                    secondary=next(iter(self._picked(cluster)), None),
                    early_release=self.op.early_release,
                )
            )
        solution = await self._solution(ctx, instance)
        moves = planned_moves(cluster, solution.jobs)
        lacking = await what_targets_lack(ctx, moves)
        return ChangeFacts(solution=solution, moves=moves, lacking=lacking.get(instance.name))

    def check(self, cluster: Cluster, facts: ChangeFacts) -> None:
        """The new nodes have what it needs (S2.3-022)."""
        if facts.lacking is not None:
            raise PrereqError(
                f"instance {self.instance(cluster).name} cannot change its group: {facts.lacking}",
                code=ErrorCode.ENVIRONMENT,
            )

    async def run(self, ctx: Context, facts: ChangeFacts) -> Jobs:
        """The job."""
        if facts.cleanup is not None:
            return facts.cleanup
        jobs = allocator_jobs(
            facts.solution,
            ctx.feedback,
            early_release=self.op.early_release,
            between_groups=True,
            moves=facts.moves,
        )
        return msgspec.structs.replace(jobs, extra=self._rows(ctx.cluster, facts))

    def dry_run_result(self, cluster: Cluster, facts: ChangeFacts) -> Any:
        """Where it would go, and by which steps."""
        if facts.cleanup is not None:
            return {"jobs": [], **facts.cleanup.extra}
        return {
            "jobs": [],
            **self._rows(cluster, facts),
            "stuck": [list(row) for row in facts.solution.failed],
        }

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and the groups that were asked for."""
        groups = (cluster.group(name).uuid for name in self.op.target_groups or ())
        return {"TARGET_GROUPS": " ".join(groups), **super().hook_env(cluster)}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """The master."""
        master = (cluster.settings.master_node,)
        return HookNodes(pre=master, post=master)

    def _rows(self, cluster: Cluster, facts: ChangeFacts) -> dict[str, Any]:
        return {"moves": [move.as_row(cluster) for move in facts.moves]}

    def _check_arguments(self) -> None:
        op = self.op
        if op.target_nodes and op.target_groups:
            raise PrereqError("give either groups (--to) or nodes (-n), not both")
        if op.target_nodes and op.iallocator:
            raise PrereqError("give either nodes (-n) or an allocator (-I), not both")
        if op.cleanup and op.target_groups:
            raise PrereqError("a clean-up goes to the group in which the instance runs; name no other")
        if op.cleanup and len(op.target_nodes or ()) > 1:
            raise PrereqError("a clean-up makes one new mirror; name one node")

    def _picked(self, cluster: Cluster) -> tuple[NodeId, ...]:
        return tuple(cluster.node(name).uuid for name in self.op.target_nodes or ())

    async def _solution(self, ctx: Context, instance: Instance) -> Solution:
        cluster = ctx.cluster
        if self.op.target_nodes:
            nodes = self._picked(cluster)
            self._check_picked(cluster, instance, nodes)
            return Solution(jobs=(journey(cluster, instance, nodes),))
        request = ChangeGroup(
            instances=(instance.name,),
            target_groups=target_groups(cluster, self.op.target_groups, homes_of(cluster, instance)),
            allow_downtime=self.op.allow_downtime,
        )
        return await solve_change(ctx, require_allocator(cluster, self.op.iallocator), request)

    def _check_picked(self, cluster: Cluster, instance: Instance, nodes: tuple[NodeId, ...]) -> None:
        check_hand_picked(cluster, instance, nodes, allow_downtime=self.op.allow_downtime)
        for node in nodes:
            require_target(cluster, cluster.nodes[node], f"move {instance.name}")
        problems = policy_problems(cluster, instance, nodes[0])
        if problems:
            raise PrereqError(
                f"{instance.name} violates the policy of the group of {cluster.nodes[nodes[0]].name}: "
                f"{'; '.join(problems)}",
                code=ErrorCode.STATE,
            )
