"""OP_INSTANCE_MIGRATE: move a running instance to another node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

import msgspec

from ganeti.errors import ErrorCode, OperationFailed, PrereqError
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
from ganeti.ops.base import Command, Context, Hooks, HookTarget, Param, Route
from ganeti.ops.instance.common import (
    require_memory,
    require_not_offline,
    require_online,
)
from ganeti.ops.instance.failover import fail_over
from ganeti.ops.instance.live_migration import Migration, leave_node
from ganeti.ops.instance.moving import MoveOpCode, MoveOperation
from ganeti.ops.mirrors import is_mirrored
from ganeti.ops.steps import capacity_of, missing_bridges, running_on, where_running


class MigrateInstance(MoveOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_MIGRATE"):
    """Move a running instance."""

    mode: Annotated[
        Literal["live", "non-live"] | None,
        Param("live keeps it running meanwhile", flag="migration-mode"),
    ] = None
    live: Annotated[bool | None, Param("older form of mode", flag="non-live")] = None
    allow_runtime_changes: Annotated[
        bool, Param("do not take memory from the instance to make it fit", flag="no-runtime-changes")
    ] = True
    cleanup: Annotated[
        bool, Param("find out where it runs after a failed migration, and clean up", flag="cleanup")
    ] = False
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


class MigrateInstanceOperation(MoveOperation[MigrateInstance, MigrateFacts]):
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

    async def gather(self, ctx: Context) -> MigrateFacts:
        """The target and what it has free; whether the instance runs."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        if self.op.cleanup:
            return MigrateFacts()
        require_online(primary, f"migrating {instance.name}")
        target = await self.find_target(ctx, f"migrate {instance.name}")
        return MigrateFacts(
            target=target.uuid,
            running=await running_on(ctx.nodes, cluster, instance),
            source_capacity=await capacity_of(ctx.nodes, primary, instance.hypervisor),
            target_capacity=await capacity_of(ctx.nodes, target, instance.hypervisor),
            bridge_problem=await missing_bridges(ctx.nodes, cluster, instance, target),
            default_mode=str(fill_instance(cluster, instance).hvglobals.get("migration_mode", "live")),
        )

    def check(self, cluster: Cluster, facts: MigrateFacts) -> None:
        """It runs, and the target can take it."""
        instance = self.instance(cluster)
        require_not_offline(instance, "migrated")
        if self.op.mode is not None and self.op.live is not None:
            raise PrereqError("give either 'mode' or 'live', not both")
        if self.op.cleanup:
            return
        assert facts.target is not None
        target = cluster.nodes[facts.target]
        self.check_target(cluster, target, facts.bridge_problem)
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
        instance = self.instance(ctx.cluster)
        if self.op.cleanup:
            await clean_up(ctx, instance)
            return
        assert facts.target is not None
        if self._falls_back(ctx.cluster, facts):
            ctx.feedback.info(f"{instance.name} cannot be migrated: failing over instead")
            await fail_over(ctx, instance.uuid, facts.target, shutdown_timeout_s=120)
            return
        await Migration(ctx, instance.uuid, facts.target, live=self._is_live(facts)).run()

    def hook_values(self) -> Mapping[str, object]:
        """How it is migrated."""
        return {
            "MIGRATE_LIVE": self.op.mode != "non-live" and self.op.live is not False,
            "MIGRATE_CLEANUP": self.op.cleanup,
            "ALLOW_RUNTIME_CHANGES": self.op.allow_runtime_changes,
        }

    def _runs(self, facts: MigrateFacts) -> bool:
        # A guest that switched itself off has no state that could be sent.
        return facts.running is not None and facts.running.state is not RunState.SHUTDOWN

    def _falls_back(self, cluster: Cluster, facts: MigrateFacts) -> bool:
        instance = self.instance(cluster)
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
    # The ends of a mirror can only be told their roles when it is recorded where the instance runs.
    is_pair = is_mirrored(ctx.cluster, instance)
    for node in waiting:
        await ctx.nodes.call(
            ctx.cluster.nodes[node], FinalizeMigrationTarget(instance=filled, info="", success=False)
        )
        if not is_pair:
            await leave_node(ctx, instance.uuid, node)
    name = ctx.cluster.nodes[owner].name
    if owner == instance.primary_node:
        ctx.feedback.info(f"* instance confirmed to be running on its primary node {name}")
        if is_pair:
            await leave_node(ctx, instance.uuid, owner)
        return
    ctx.feedback.info(f"* instance runs on {name}: updating the configuration")
    await ctx.config.update(
        partial(set_primary, uuid=instance.uuid, node=owner),
        reason=f"{instance.name} was found on {name}",
    )
    await leave_node(ctx, instance.uuid, instance.primary_node)
