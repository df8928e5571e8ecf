"""OP_INSTANCE_MIGRATE: move a running instance to another node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

import msgspec

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.logic.instance_changes import set_primary
from ganeti.model.calls.instances import (
    FinalizeMigrationSource,
    FinalizeMigrationTarget,
    MigrationCancel,
    RunningInstance,
    RunState,
)
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.filled import beparams_of, fill_instance
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param, Route
from ganeti.ops.instance.common import (
    hook_nodes,
    instance_of,
    require_memory,
    require_not_offline,
    require_online,
    require_target,
)
from ganeti.ops.instance.failover import fail_over
from ganeti.ops.instance.live_migration import Migration, close_on_node
from ganeti.ops.instance.target import (
    Journey,
    TargetWish,
    choose_target,
    journey_of,
    move_env,
    move_locks,
    policy_problems,
)
from ganeti.ops.kinds import INSTANCE, NODE
from ganeti.ops.steps import capacity_of, missing_bridges, running_on, where_running


class MigrateInstance(OpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_MIGRATE"):
    """Move a running instance."""

    summary_field: ClassVar[str | None] = "instance_name"

    instance_name: Annotated[str, Param("instance to move", kind=INSTANCE)]
    instance_uuid: Annotated[str | None, Param("the same by UUID")] = None
    mode: Annotated[
        Literal["live", "non-live"] | None,
        Param("live keeps it running meanwhile", flag="migration-mode"),
    ] = None
    live: Annotated[bool | None, Param("older form of mode", flag="non-live")] = None
    target_node: Annotated[
        str | None, Param("where to; only for shared storage", NODE, "target-node", "n")
    ] = None
    target_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    allow_runtime_changes: Annotated[
        bool, Param("do not take memory from the instance to make it fit", flag="no-runtime-changes")
    ] = True
    ignore_ipolicy: Annotated[
        bool, Param("go on although it violates the policy there", flag="ignore-ipolicy")
    ] = False
    cleanup: Annotated[
        bool, Param("find out where it runs after a failed migration, and clean up", flag="cleanup")
    ] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses the target", flag="iallocator", short="I")
    ] = None
    allow_failover: Annotated[bool, Param("fail over if it cannot be migrated", flag="allow-failover")] = (
        False
    )
    ignore_hvversions: Annotated[
        bool, Param("go on although the hypervisor versions differ", flag="ignore-hvversions")
    ] = False


class MigrateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a migration."""

    target: NodeId | None = None
    """None for a clean-up."""
    running: RunningInstance | None = None
    source_capacity: NodeCapacity | None = None
    target_capacity: NodeCapacity | None = None
    bridge_problem: str | None = None
    default_mode: str = "live"


class MigrateInstanceOperation(Operation[MigrateInstance, MigrateFacts, None]):
    """Copies memory and state to another node while the instance runs, or cleans up after a failure."""

    hooks = Hooks("instance-migrate", HookTarget.INSTANCE)
    routes = (Route(method="PUT", path="/2/instances/{instance_name}/migrate"),)
    commands = (
        Command(
            tool="gnt-instance",
            name="migrate",
            positional="instance_name",
            confirm="Instance {instance_name} will be migrated. Note that migration might impact the "
            "instance if anything goes wrong (e.g. due to bugs in the hypervisor). Continue?",
        ),
    )

    def __init__(self, op: MigrateInstance) -> None:
        super().__init__(op)
        self._journey: Journey | None = None
        """Known once `gather` found the target."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance and the nodes it may move between."""
        return move_locks(cluster, self._instance(cluster), self._wish())

    async def gather(self, ctx: Context) -> MigrateFacts:
        """The target and what it has free; whether the instance runs."""
        cluster = ctx.cluster
        instance = self._instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        self._journey = journey_of(cluster, instance, None)
        if self.op.cleanup:
            return MigrateFacts()
        require_online(primary, f"migrating {instance.name}")
        target = cluster.nodes[await choose_target(ctx, instance, self._wish())]
        self._journey = journey_of(cluster, instance, target.uuid)
        require_target(cluster, target, f"migrate {instance.name}")
        try:
            running = await running_on(ctx.nodes, cluster, instance)
        except GanetiError as error:
            raise PrereqError(
                f"cannot ask node {primary.name} whether {instance.name} runs: {error}",
                code=ErrorCode.ENVIRONMENT,
            ) from error
        return MigrateFacts(
            target=target.uuid,
            running=running,
            source_capacity=await capacity_of(ctx.nodes, primary, instance.hypervisor),
            target_capacity=await capacity_of(ctx.nodes, target, instance.hypervisor),
            bridge_problem=await missing_bridges(ctx.nodes, cluster, instance, target),
            default_mode=str(fill_instance(cluster, instance).hvglobals.get("migration_mode", "live")),
        )

    def check(self, cluster: Cluster, facts: MigrateFacts) -> None:
        """It runs, and the target can take it."""
        instance = self._instance(cluster)
        require_not_offline(instance, "migrated")
        if self.op.mode is not None and self.op.live is not None:
            raise PrereqError("give either 'mode' or 'live', not both")
        if self.op.cleanup:
            return
        assert facts.target is not None
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
        if not self._runs(facts) and not self._falls_back(cluster, facts):
            raise PrereqError(
                f"instance {instance.name} does not run on {cluster.nodes[instance.primary_node].name}; "
                "only running instances can be migrated (failover moves the others)",
                code=ErrorCode.STATE,
            )
        if facts.target_capacity is not None and facts.running is not None:
            require_memory(target, facts.target_capacity, facts.running.memory, f"instance {instance.name}")
        self._check_versions(cluster, facts)

    async def run(self, ctx: Context, facts: MigrateFacts) -> None:
        """Migrate, fail over instead, or clean up."""
        instance = self._instance(ctx.cluster)
        if self.op.cleanup:
            await clean_up(ctx, instance)
            return
        assert facts.target is not None
        if self._falls_back(ctx.cluster, facts):
            ctx.feedback.info(f"{instance.name} cannot be migrated: failing over instead")
            await fail_over(ctx, instance.uuid, facts.target, shutdown_timeout_s=120)
            return
        await Migration(ctx, instance.uuid, facts.target, live=self._is_live(facts)).run()

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and from where to where it goes."""
        instance = self._instance(cluster)
        return move_env(
            cluster,
            instance,
            self._way(cluster, instance),
            MIGRATE_LIVE=self.op.mode != "non-live" and self.op.live is not False,
            MIGRATE_CLEANUP=self.op.cleanup,
            ALLOW_RUNTIME_CHANGES=self.op.allow_runtime_changes,
        )

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master, the instance's nodes, where it was and where it goes."""
        instance = self._instance(cluster)
        return hook_nodes(cluster, instance, *self._way(cluster, instance).nodes)

    def _way(self, cluster: Cluster, instance: Instance) -> Journey:
        return self._journey or journey_of(cluster, instance, None)

    def _runs(self, facts: MigrateFacts) -> bool:
        # A guest that switched itself off has no state that could be sent.
        return facts.running is not None and facts.running.state is not RunState.SHUTDOWN

    def _falls_back(self, cluster: Cluster, facts: MigrateFacts) -> bool:
        instance = self._instance(cluster)
        if beparams_of(cluster.settings, instance.beparams).always_failover:
            return True
        return self.op.allow_failover and (not self._runs(facts) or instance.admin_state is not AdminState.UP)

    def _check_versions(self, cluster: Cluster, facts: MigrateFacts) -> None:
        here, there = facts.source_capacity, facts.target_capacity
        if self.op.ignore_hvversions or here is None or there is None:
            return
        if here.hv_version and there.hv_version and here.hv_version != there.hv_version:
            raise PrereqError(
                f"the hypervisor versions differ: {here.hv_version} here, {there.hv_version} on the "
                "target (--ignore-hvversions goes on all the same)",
                code=ErrorCode.STATE,
            )

    def _is_live(self, facts: MigrateFacts) -> bool:
        if self.op.live is not None:
            return self.op.live
        return (self.op.mode or facts.default_mode) == "live"

    def _wish(self) -> TargetWish:
        return TargetWish(node=self.op.target_node_uuid or self.op.target_node, iallocator=self.op.iallocator)

    def _instance(self, cluster: Cluster) -> Instance:
        return instance_of(cluster, self.op.instance_name, self.op.instance_uuid)


async def clean_up(ctx: Context, instance: Instance) -> None:
    """Bring configuration and nodes together again after a migration that failed midway.

    Raises:
        OperationFailed: the instance runs nowhere, or on several nodes.
    """
    cluster = ctx.cluster
    feedback = ctx.feedback
    feedback.info(f"* checking where instance {instance.name} runs")
    found, silent = await where_running(ctx.nodes, cluster, instance)
    if silent:
        names = ", ".join(f"{cluster.nodes[node].name} ({why})" for node, why in silent.items())
        raise OperationFailed(f"cannot clean up while nodes do not answer: {names}")
    leftovers = (RunState.MIGRATING_IN, RunState.MIGRATED_AWAY)
    owners = [node for node, seen in found.items() if seen.state not in leftovers]
    if len(owners) > 1:
        names = ", ".join(cluster.nodes[node].name for node in owners)
        raise OperationFailed(
            f"instance {instance.name} runs on several nodes: {names}; stop it on all but one by hand"
        )
    if not owners:
        raise OperationFailed(
            f"instance {instance.name} runs nowhere; "
            f"'gnt-instance shutdown {instance.name}', then start it again"
        )
    await _settle_on(ctx, instance, owners[0], [node for node in found if node != owners[0]])


async def _settle_on(ctx: Context, instance: Instance, owner: NodeId, waiting: list[NodeId]) -> None:
    filled = fill_instance(ctx.cluster, instance)
    await ctx.nodes.call(ctx.cluster.nodes[owner], MigrationCancel(instance=filled))
    await ctx.nodes.call(
        ctx.cluster.nodes[owner], FinalizeMigrationSource(instance=filled, success=False, live=True)
    )
    for node in waiting:
        await ctx.nodes.call(
            ctx.cluster.nodes[node], FinalizeMigrationTarget(instance=filled, info="", success=False)
        )
        await close_on_node(ctx, instance.uuid, node)
    name = ctx.cluster.nodes[owner].name
    if owner == instance.primary_node:
        ctx.feedback.info(f"* instance confirmed to be running on its primary node {name}")
        return
    ctx.feedback.info(f"* instance runs on {name}: updating the configuration")
    await ctx.config.update(
        partial(set_primary, uuid=instance.uuid, node=owner),
        reason=f"{instance.name} was found on {name}",
    )
    await close_on_node(ctx, instance.uuid, instance.primary_node)
