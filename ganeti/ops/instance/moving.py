"""What migration and failover have in common: the target, and whether it can take the instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockPlan
from ganeti.model.node import Node
from ganeti.ops.base import Context, HookNodes, Param
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import hook_env, hook_nodes, require_target
from ganeti.ops.instance.target import (
    Journey,
    TargetWish,
    choose_target,
    journey_of,
    move_locks,
    policy_problems,
)
from ganeti.ops.kinds import NODE


class MoveOpCode(InstanceOpCode, frozen=True, kw_only=True):
    """Brings an instance to another node that can reach its data."""

    target_node: Annotated[
        str | None, Param("where to; only for shared storage", NODE, "target-node", "n")
    ] = None
    target_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    ignore_ipolicy: Annotated[
        bool, Param("go on although it violates the policy there", flag="ignore-ipolicy")
    ] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses the target", flag="iallocator", short="I")
    ] = None


O = TypeVar("O", bound=MoveOpCode)  # noqa: E741
F = TypeVar("F")


class MoveOperation(InstanceOperation[O, F, None]):
    """Locks the instance and the nodes it may move between; hooks learn from where to where it goes.

    `gather` has to call `find_target`.
    """

    def __init__(self, op: O) -> None:
        super().__init__(op)
        self._journey: Journey | None = None
        """Kept, as hooks are also told when the instance is at its target already."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance and the nodes it may move between."""
        return move_locks(cluster, self.instance(cluster), self._wish())

    async def find_target(self, ctx: Context, what: str) -> Node:
        """The node to which the instance goes.

        Args:
            what: what is done with it, for messages: `migrate web1`.

        Raises:
            PrereqError: contradicting wishes, nothing fits, or that node may get no instance.
        """
        instance = self.instance(ctx.cluster)
        target = ctx.cluster.nodes[await choose_target(ctx, instance, self._wish())]
        self._journey = journey_of(ctx.cluster, instance, target.uuid)
        require_target(ctx.cluster, target, what)
        return target

    def check_target(self, cluster: Cluster, target: Node, bridge_problem: str | None) -> None:
        """Refuse a target without the bridges, or whose group has a policy against the instance."""
        instance = self.instance(cluster)
        if bridge_problem is not None:
            raise PrereqError(
                f"{instance.name} cannot run on {target.name}: {bridge_problem}",
                code=ErrorCode.ENVIRONMENT,
            )
        problems = () if self.op.ignore_ipolicy else policy_problems(cluster, instance, target.uuid)
        if problems:
            raise PrereqError(
                f"{instance.name} violates the policy of the group of {target.name}: "
                f"{'; '.join(problems)} (--ignore-ipolicy goes on all the same)",
                code=ErrorCode.STATE,
            )

    def way(self, cluster: Cluster) -> Journey:
        """From where to where; without the target if that is not known when it is asked for first."""
        if self._journey is None:
            self._journey = journey_of(cluster, self.instance(cluster), None)
        return self._journey

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and from where to where it goes."""
        way = self.way(cluster)
        return hook_env(cluster, self.instance(cluster), **way.env(cluster), **self.hook_values())

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master, the instance's nodes, where it was and where it goes."""
        return hook_nodes(cluster, self.instance(cluster), *self.way(cluster).nodes)

    def _wish(self) -> TargetWish:
        return TargetWish(node=self.op.target_node_uuid or self.op.target_node, iallocator=self.op.iallocator)
