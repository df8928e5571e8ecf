"""OP_INSTANCE_FAILOVER: stop an instance where it is and start it on another node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar

import msgspec

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.logic.instance_changes import set_primary
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.filled import beparams_of, fill_instance
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param, Route
from ganeti.ops.instance.common import hook_nodes, instance_of, require_memory, require_target
from ganeti.ops.instance.live_migration import close_on_node
from ganeti.ops.instance.shutdown import stop_on_primary
from ganeti.ops.instance.startup import start_on_primary
from ganeti.ops.instance.target import (
    Journey,
    TargetWish,
    choose_target,
    journey_of,
    move_env,
    move_locks,
    policy_problems,
)
from ganeti.ops.kinds import INSTANCE, NODE, SECONDS
from ganeti.ops.steps import capacity_of, missing_bridges


class FailoverInstance(OpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_FAILOVER"):
    """Start an instance on another node."""

    summary_field: ClassVar[str | None] = "instance_name"

    instance_name: Annotated[str, Param("instance to move", kind=INSTANCE)]
    instance_uuid: Annotated[str | None, Param("the same by UUID")] = None
    shutdown_timeout: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        Param("seconds to let it shut down before it is ended by force", SECONDS, "shutdown-timeout"),
    ] = 120
    ignore_consistency: Annotated[
        bool,
        Param("go on although its disks look degraded or it cannot be stopped", flag="ignore-consistency"),
    ] = False
    target_node: Annotated[
        str | None, Param("where to; only for shared storage", NODE, "target-node", "n")
    ] = None
    target_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    ignore_ipolicy: Annotated[
        bool, Param("go on although it violates the policy there", flag="ignore-ipolicy")
    ] = False
    cleanup: Annotated[bool, Param("recover from a failed failover", flag="cleanup")] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses the target", flag="iallocator", short="I")
    ] = None


class FailoverFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a failover."""

    target: NodeId
    capacity: NodeCapacity
    bridge_problem: str | None


class FailoverInstanceOperation(Operation[FailoverInstance, FailoverFacts, None]):
    """Stops the instance if its node still answers, and starts it on the target if it is to run."""

    hooks = Hooks("instance-failover", HookTarget.INSTANCE)
    routes = (Route(method="PUT", path="/2/instances/{instance_name}/failover"),)
    commands = (
        Command(
            tool="gnt-instance",
            name="failover",
            positional="instance_name",
            confirm="Failover will happen to image {instance_name}. This requires a shutdown of the "
            "instance. Continue?",
        ),
    )

    def __init__(self, op: FailoverInstance) -> None:
        super().__init__(op)
        self._journey: Journey | None = None
        """Known once `gather` found the target."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance and the nodes it may move between."""
        return move_locks(cluster, self._instance(cluster), self._wish())

    async def gather(self, ctx: Context) -> FailoverFacts:
        """The target and what it has free."""
        cluster = ctx.cluster
        instance = self._instance(cluster)
        target = cluster.nodes[await choose_target(ctx, instance, self._wish())]
        self._journey = journey_of(cluster, instance, target.uuid)
        require_target(cluster, target, f"fail {instance.name} over")
        return FailoverFacts(
            target=target.uuid,
            capacity=await capacity_of(ctx.nodes, target, instance.hypervisor),
            bridge_problem=await missing_bridges(ctx.nodes, cluster, instance, target),
        )

    def check(self, cluster: Cluster, facts: FailoverFacts) -> None:
        """The target can take it."""
        instance = self._instance(cluster)
        target = cluster.nodes[facts.target]
        if facts.bridge_problem is not None:
            raise PrereqError(
                f"{instance.name} cannot run on {target.name}: {facts.bridge_problem}",
                code=ErrorCode.ENVIRONMENT,
            )
        problems = () if self.op.ignore_ipolicy else policy_problems(cluster, instance, target.uuid)
        if problems:
            raise PrereqError(
                f"{instance.name} violates the policy of the group of {target.name}: "
                f"{'; '.join(problems)} (--ignore-ipolicy goes on all the same)",
                code=ErrorCode.STATE,
            )
        if instance.admin_state is AdminState.UP:
            wanted = beparams_of(cluster.settings, instance.beparams).minmem
            require_memory(target, facts.capacity, wanted, f"instance {instance.name}")

    async def run(self, ctx: Context, facts: FailoverFacts) -> None:
        """Stop, change the primary node, start."""
        await fail_over(
            ctx,
            self._instance(ctx.cluster).uuid,
            facts.target,
            shutdown_timeout_s=self.op.shutdown_timeout,
            ignore_consistency=self.op.ignore_consistency,
        )

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and from where to where it goes."""
        instance = self._instance(cluster)
        return move_env(
            cluster,
            instance,
            self._way(cluster, instance),
            IGNORE_CONSISTENCY=self.op.ignore_consistency,
            SHUTDOWN_TIMEOUT=self.op.shutdown_timeout,
            FAILOVER_CLEANUP=self.op.cleanup,
        )

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Before: master, secondaries and target; after: also the node where it was."""
        instance = self._instance(cluster)
        way = self._way(cluster, instance)
        everywhere = hook_nodes(cluster, instance, *way.nodes).post
        master = cluster.settings.master_node
        pre = tuple(node for node in everywhere if node != way.source or node == master)
        return HookNodes(pre=pre, post=everywhere)

    def _way(self, cluster: Cluster, instance: Instance) -> Journey:
        return self._journey or journey_of(cluster, instance, None)

    def _wish(self) -> TargetWish:
        return TargetWish(node=self.op.target_node_uuid or self.op.target_node, iallocator=self.op.iallocator)

    def _instance(self, cluster: Cluster) -> Instance:
        return instance_of(cluster, self.op.instance_name, self.op.instance_uuid)


async def fail_over(
    ctx: Context,
    uuid: InstanceId,
    target: NodeId,
    *,
    shutdown_timeout_s: int,
    ignore_consistency: bool = False,
) -> None:
    """Bring an instance to another node by stopping and starting it.

    Raises:
        OperationFailed: it could not be stopped on a node that is not marked offline, or it does
            not start on the target; the configuration then names the target already.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    source, destination = cluster.nodes[instance.primary_node], cluster.nodes[target]
    if source.offline:
        ctx.feedback.info(f"* node {source.name} is marked offline: nothing is stopped there")
    else:
        ctx.feedback.info("* shutting down instance on source node")
        try:
            await stop_on_primary(ctx, uuid, timeout_s=shutdown_timeout_s)
        except OperationFailed as error:
            if not ignore_consistency:
                raise OperationFailed(
                    f"{error}; if {source.name} is dead, mark it offline "
                    f"('gnt-node modify --offline=yes {source.name}') and repeat"
                ) from error
            ctx.feedback.warning(f"{error}; going on, please make sure that {source.name} is down")
    await ctx.config.update(
        partial(set_primary, uuid=uuid, node=target),
        reason=f"{instance.name} fails over to {destination.name}",
    )
    await close_on_node(ctx, uuid, source.uuid)
    if instance.admin_state is not AdminState.UP:
        ctx.feedback.info(f"* {instance.name} is not to run: it stays stopped on {destination.name}")
        return
    ctx.feedback.info(f"* starting the instance on the target node {destination.name}")
    try:
        await start_on_primary(
            ctx, fill_instance(ctx.cluster, ctx.cluster.instances[uuid]), ignore_secondaries=True
        )
    except GanetiError as error:
        raise OperationFailed(
            f"{instance.name} is on {destination.name} now, but does not start: {error}"
        ) from error
