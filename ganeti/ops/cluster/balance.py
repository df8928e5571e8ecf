"""OP_CLUSTER_BALANCE: move instances so that the nodes of each group are used evenly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from ganeti.logic.balance import Balancing, Limits, Move, Plan
from ganeti.logic.balance_board import Restrictions
from ganeti.logic.balance_jobs import MoveJob, move_jobs
from ganeti.logic.node_figures import traits_of
from ganeti.model.allocation import ClusterView
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Mirroring
from ganeti.model.ids import GroupId, InstanceId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, shared
from ganeti.model.node import NodeGroup
from ganeti.ops.allocator_jobs import moving_jobs
from ganeti.ops.base import Arguments, Command, Context, Jobs, OpCode, Operation, Param
from ganeti.ops.kinds import GROUP, INSTANCES


class BalanceCluster(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_BALANCE"):
    """Move instances so that the nodes of each group are used evenly; a job for each move."""

    summary_field: ClassVar[str | None] = "node_group"

    node_group: Annotated[
        str | None, Param("only this group; each group for itself if absent", GROUP, "node-group")
    ] = None
    max_moves: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        Param("no more moves than this, all groups together", flag="max-moves"),
    ] = None
    min_gain: Annotated[
        float,
        Param("what each move has to take off the score, once that is low", flag="min-gain"),
        msgspec.Meta(ge=0),
    ] = Limits().min_gain
    min_gain_limit: Annotated[
        float, Param("the score that counts as low", flag="min-gain-limit"), msgspec.Meta(ge=0)
    ] = Limits().min_gain_limit
    min_score: Annotated[
        float,
        Param("stop when the score is this close to the best conceivable", flag="min-score"),
        msgspec.Meta(ge=0),
    ] = Limits().min_score
    disk_moves: Annotated[bool, Param("copy no disks: only migrate", flag="no-disk-moves")] = True
    instance_moves: Annotated[
        bool, Param("migrate nothing: only replace secondaries", flag="no-instance-moves")
    ] = True
    evacuate_only: Annotated[
        bool, Param("only move what has an offline or drained node", flag="evac-mode")
    ] = False
    select_instances: Annotated[
        tuple[str, ...] | None, Param("move only these", INSTANCES, "select-instances")
    ] = None
    exclude_instances: Annotated[
        tuple[str, ...], Param("do not move these", INSTANCES, "exclude-instances")
    ] = ()


Plans = tuple[Plan, ...]


class BalanceClusterOperation(Operation[BalanceCluster, Plans, Jobs]):
    """Plans on what the nodes tell, and asks for the jobs; each of them checks for itself."""

    commands = (Command(tool="gnt-cluster", name="balance", arguments=Arguments.NONE),)
    keeps_state = True

    def locks(self, cluster: Cluster) -> LockPlan:
        """The groups with their nodes and instances, shared, so that no move is under way meanwhile."""
        groups = {group.uuid for group in self._groups(cluster)}
        nodes = {node.uuid for node in cluster.nodes.values() if node.group in groups}
        instances = (one.name for one in cluster.instances.values() if one.primary_node in nodes)
        for name in (*(self.op.select_instances or ()), *self.op.exclude_instances):
            cluster.instance(name)
        return LockPlan(
            requests={
                LockLevel.INSTANCE: shared(instances),
                LockLevel.NODEGROUP: shared(groups),
                LockLevel.NODE: shared(nodes),
            }
        )

    async def gather(self, ctx: Context) -> Plans:
        """The plans, in the order of the groups' names."""
        groups = [group.uuid for group in self._groups(ctx.cluster)]
        view = await ctx.allocation.view(ctx.cluster, groups=groups)
        self._warn(ctx, view)
        left = self.op.max_moves
        plans = []
        for group in self._groups(ctx.cluster):
            plan = await self._plan(ctx, view, group.uuid, left)
            left = None if left is None else left - len(plan.moves)
            plans.append(plan)
        return tuple(plans)

    def _warn(self, ctx: Context, view: ClusterView) -> None:
        """Say what no plan can be about."""
        cluster = view.cluster
        for group in self._groups(cluster):
            for node in cluster.members(group.uuid):
                if node.vm_capable and not node.offline and node.uuid not in view.facts:
                    ctx.feedback.warning(
                        f"node {node.name} does not answer; nothing is moved from it or to it",
                        hint="if it is down, mark it by 'gnt-node modify --offline=yes' and plan anew",
                    )
        for name in self.op.select_instances or ():
            instance = cluster.instance(name)
            template = cluster.disk_template(instance)
            if traits_of(template).mirroring is Mirroring.NONE:
                ctx.feedback.warning(
                    f"instance {instance.name} cannot be moved: its {template} disks are on one node only"
                )

    async def run(self, ctx: Context, facts: Plans) -> Jobs:
        """The jobs of all plans; as groups share no nodes, they do not wait for each other."""
        moves = _moves(facts)
        jobs = move_jobs(ctx.cluster, moves)
        if not jobs:
            ctx.feedback.info("nothing is to be gained by moving instances")
        return Jobs(jobs=moving_jobs(jobs), extra=_described(ctx.cluster, facts, jobs))

    def dry_run_result(self, cluster: Cluster, facts: Plans) -> Jobs:
        """The same without the jobs."""
        return Jobs(jobs=(), extra=_described(cluster, facts, move_jobs(cluster, _moves(facts))))

    async def _plan(self, ctx: Context, view: ClusterView, group: GroupId, left: int | None) -> Plan:
        """The plan for one group: computed in a thread, and step by step, so that others get their turn."""
        op = self.op
        limits = Limits(
            max_moves=left,
            min_gain=op.min_gain,
            min_gain_limit=op.min_gain_limit,
            min_score=op.min_score,
        )
        only = None if op.select_instances is None else self._named(ctx.cluster, op.select_instances)
        restrictions = Restrictions(
            disk_moves=op.disk_moves,
            instance_moves=op.instance_moves,
            evacuate_only=op.evacuate_only,
            only=only,
            without=self._named(ctx.cluster, op.exclude_instances),
        )
        balancing = await ctx.in_thread(lambda: Balancing(view, group, limits, restrictions))
        while await ctx.in_thread(balancing.next_move) is not None:
            pass
        return balancing.plan

    def _named(self, cluster: Cluster, names: Sequence[str]) -> frozenset[InstanceId]:
        return frozenset(cluster.instance(name).uuid for name in names)

    def _groups(self, cluster: Cluster) -> list[NodeGroup]:
        if self.op.node_group is not None:
            return [cluster.group(self.op.node_group)]
        return sorted(cluster.groups.values(), key=lambda group: group.name)


def _moves(plans: Plans) -> list[Move]:
    return [move for plan in plans for move in plan.moves]


def _described(cluster: Cluster, plans: Plans, jobs: Sequence[MoveJob]) -> Mapping[str, Any]:
    """The plans as JSON, with names."""
    turns = iter(jobs)
    return {
        "plans": [
            {
                "group": cluster.groups[plan.group].name,
                "score_before": plan.score_before,
                "score_after": plan.score_after,
                "moves": [_move(cluster, move, next(turns)) for move in plan.moves],
            }
            for plan in plans
        ]
    }


def _move(cluster: Cluster, move: Move, job: MoveJob) -> Mapping[str, Any]:
    instance: Instance = cluster.instances[move.instance]
    return {
        "instance": instance.name,
        "kind": move.kind.value,
        "before": [cluster.nodes[node].name for node in move.before],
        "after": [cluster.nodes[node].name for node in move.after],
        "score": move.score,
        "gain": move.gain,
        "turn": job.turn,
    }
