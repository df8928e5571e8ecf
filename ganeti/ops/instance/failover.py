"""OP_INSTANCE_FAILOVER: stop an instance where it is and start it on another node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import msgspec

from ganeti.errors import GanetiError, OperationFailed
from ganeti.logic.instance_changes import set_primary
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.filled import beparams_of, fill_instance
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import AdminState
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, Param, Route
from ganeti.ops.instance.common import require_memory
from ganeti.ops.instance.live_migration import close_on_node
from ganeti.ops.instance.moving import MoveOpCode, MoveOperation
from ganeti.ops.instance.shutdown import stop_on_primary
from ganeti.ops.instance.startup import start_on_primary
from ganeti.ops.kinds import SECONDS
from ganeti.ops.mirrors import is_mirrored, require_in_step
from ganeti.ops.steps import capacity_of, missing_bridges


class FailoverInstance(MoveOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_FAILOVER"):
    """Start an instance on another node."""

    shutdown_timeout: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        Param("seconds to let it shut down before it is ended by force", SECONDS, "shutdown-timeout"),
    ] = 120
    ignore_consistency: Annotated[
        bool,
        Param("go on although its disks look degraded or it cannot be stopped", flag="ignore-consistency"),
    ] = False
    cleanup: Annotated[bool, Param("recover from a failed failover", flag="cleanup")] = False


class FailoverFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a failover."""

    target: NodeId
    capacity: NodeCapacity
    bridge_problem: str | None


class FailoverInstanceOperation(MoveOperation[FailoverInstance, FailoverFacts]):
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

    async def gather(self, ctx: Context) -> FailoverFacts:
        """The target and what it has free."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        target = await self.find_target(ctx, f"fail {instance.name} over")
        return FailoverFacts(
            target=target.uuid,
            capacity=await capacity_of(ctx.nodes, target, instance.hypervisor),
            bridge_problem=await missing_bridges(ctx.nodes, cluster, instance, target),
        )

    def check(self, cluster: Cluster, facts: FailoverFacts) -> None:
        """The target can take it."""
        instance = self.instance(cluster)
        target = cluster.nodes[facts.target]
        self.check_target(cluster, target, facts.bridge_problem)
        if instance.admin_state is AdminState.UP:
            wanted = beparams_of(cluster.settings, instance.beparams).minmem
            require_memory(target, facts.capacity, wanted, f"instance {instance.name}")

    async def run(self, ctx: Context, facts: FailoverFacts) -> None:
        """Stop, change the primary node, start."""
        await fail_over(
            ctx,
            self.instance(ctx.cluster).uuid,
            facts.target,
            shutdown_timeout_s=self.op.shutdown_timeout,
            ignore_consistency=self.op.ignore_consistency,
        )

    def hook_values(self) -> Mapping[str, object]:
        """How careful it is."""
        return {
            "IGNORE_CONSISTENCY": self.op.ignore_consistency,
            "SHUTDOWN_TIMEOUT": self.op.shutdown_timeout,
            "FAILOVER_CLEANUP": self.op.cleanup,
        }

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Before: master, secondaries and target; after: also the node where it was."""
        everywhere = super().hook_nodes(cluster).post
        source, master = self.way(cluster).source, cluster.settings.master_node
        pre = tuple(node for node in everywhere if node != source or node == master)
        return HookNodes(pre=pre, post=everywhere)


async def _check_consistency(ctx: Context, uuid: InstanceId, target: NodeId) -> None:
    """Mirrored data must be the newest where the instance is to start."""
    if not is_mirrored(ctx.cluster, ctx.cluster.instances[uuid]):
        return
    ctx.feedback.info("* checking disk consistency between source and target")
    await require_in_step(ctx, uuid, target)


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
    if instance.disks_active and not (source.offline or ignore_consistency):
        await _check_consistency(ctx, uuid, target)
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
