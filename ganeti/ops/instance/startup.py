"""OP_INSTANCE_STARTUP: start an instance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import msgspec

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.logic.instance_changes import set_admin_state
from ganeti.model.calls.instances import InstanceShutdown, InstanceStart, RunningInstance, RunState
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.filled import FilledInstance, fill_instance
from ganeti.model.instance import AdminState, Instance
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.param_tables.be import BACKEND
from ganeti.model.params import ParamValue
from ganeti.ops.base import (
    Arguments,
    Command,
    Context,
    Hooks,
    HookTarget,
    Param,
    Route,
)
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import require_memory, require_not_offline
from ganeti.ops.kinds import KEY_VALUES
from ganeti.ops.steps import attempt, capacity_of, close_disks, missing_bridges, open_disks, running_on


class StartInstance(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_STARTUP"):
    """Start an instance."""

    force: Annotated[bool, Param("start although a secondary's disks fail", flag="force", short="f")] = False
    ignore_offline_nodes: Annotated[
        bool, Param("only record the state if the primary node is offline", flag="ignore-offline")
    ] = False
    hvparams: Annotated[
        Mapping[str, ParamValue],
        Param("hypervisor parameters for this start only", KEY_VALUES, "hypervisor-parameters", "H"),
    ] = {}
    beparams: Annotated[
        Mapping[str, ParamValue],
        Param("backend parameters for this start only", KEY_VALUES, "backend-parameters", "B"),
    ] = {}
    no_remember: Annotated[bool, Param("do not record the new state", flag="no-remember")] = False
    startup_paused: Annotated[bool, Param("start with the processors stopped", flag="paused")] = False
    shutdown_timeout: Annotated[int, Param("seconds to end what runs before")] = 120


class StartFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a start."""

    running: RunningInstance | None = None
    capacity: NodeCapacity | None = None
    bridge_problem: str | None = None


class StartInstanceOperation(InstanceOperation[StartInstance, StartFacts, None]):
    """Opens the disks and starts the instance on its primary node; what runs already stays as it is."""

    hooks = Hooks("instance-start", HookTarget.INSTANCE)
    routes = (
        Route(
            method="PUT",
            path="/2/instances/{instance_name}/startup",
            query=("force", "no_remember", "dry_run"),
        ),
    )
    commands = (
        Command(
            tool="gnt-instance",
            name="startup",
            aliases=("start",),
            positional="instance_name",
            arguments=Arguments.MANY,
            hidden=("shutdown_timeout",),
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance, and the resources of its primary node."""
        instance = self.instance(cluster)
        return LockPlan(
            requests={
                LockLevel.INSTANCE: exclusive([instance.name]),
                LockLevel.NODE_RES: exclusive([instance.primary_node]),
            }
        )

    async def gather(self, ctx: Context) -> StartFacts:
        """Whether it runs, and what its primary node has free."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        self._check_params(ctx, instance)
        primary = cluster.nodes[instance.primary_node]
        if primary.offline:
            return StartFacts()
        return StartFacts(
            running=await running_on(ctx.nodes, cluster, instance),
            capacity=await capacity_of(ctx.nodes, primary, instance.hypervisor),
            bridge_problem=await missing_bridges(ctx.nodes, cluster, instance, primary),
        )

    def check(self, cluster: Cluster, facts: StartFacts) -> None:
        """Not offline, with room and bridges on the primary node."""
        instance = self.instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        require_not_offline(instance, "started")
        if primary.offline:
            if self.op.ignore_offline_nodes:
                return
            raise PrereqError(
                f"primary node {primary.name} of {instance.name} is marked offline; fail the instance over, "
                "or give --ignore-offline to record the state only",
                code=ErrorCode.STATE,
            )
        if facts.bridge_problem is not None:
            raise PrereqError(
                f"{instance.name} cannot start on {primary.name}: {facts.bridge_problem}",
                code=ErrorCode.ENVIRONMENT,
            )
        if facts.running is None and facts.capacity is not None:
            wanted = self._filled(cluster).beparams.minmem
            require_memory(primary, facts.capacity, wanted, f"starting {instance.name}")

    async def run(self, ctx: Context, facts: StartFacts) -> None:
        """Record, open the disks, start."""
        instance = self.instance(ctx.cluster)
        if not self.op.no_remember:
            await ctx.config.update(
                partial(set_admin_state, uuid=instance.uuid, state=AdminState.UP),
                reason=f"{instance.name} is to run",
            )
        primary = ctx.cluster.nodes[instance.primary_node]
        if primary.offline:
            ctx.feedback.warning(f"primary node {primary.name} is offline: only the state was recorded")
            return
        if facts.running is not None and facts.running.state is RunState.SHUTDOWN:
            await self._end_remains(ctx, instance)
        await start_on_primary(
            ctx, self._filled(ctx.cluster), ignore_secondaries=self.op.force, paused=self.op.startup_paused
        )

    def hook_values(self) -> Mapping[str, object]:
        """FORCE."""
        return {"FORCE": self.op.force}

    def _filled(self, cluster: Cluster) -> FilledInstance:
        instance = self.instance(cluster)
        return fill_instance(cluster, instance, hvparams=self.op.hvparams, beparams=self.op.beparams)

    def _check_params(self, ctx: Context, instance: Instance) -> None:
        hypervisor: Any = ctx.plugins.hypervisors[instance.hypervisor]
        try:
            hypervisor.params.check(self.op.hvparams)
            hypervisor.check_params(self._filled(ctx.cluster).hvparams)
            BACKEND.check(self.op.beparams)
        except GanetiError as error:
            raise PrereqError(str(error)) from error

    async def _end_remains(self, ctx: Context, instance: Instance) -> None:
        primary = ctx.cluster.nodes[instance.primary_node]
        call = InstanceShutdown(
            instance=self._filled(ctx.cluster), timeout_s=self.op.shutdown_timeout, reason=self.op.reason
        )
        await attempt(ctx.nodes.call(primary, call), f"cannot clear away what is left of {instance.name}")
        await close_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)


async def start_on_primary(
    ctx: Context, filled: FilledInstance, *, ignore_secondaries: bool = False, paused: bool = False
) -> None:
    """Open the disks of an instance and start it; on failure the disks are closed again.

    Raises:
        OperationFailed: it does not run.
    """
    await open_disks(ctx.config, ctx.nodes, ctx.feedback, filled.uuid, ignore_secondaries=ignore_secondaries)
    primary = ctx.cluster.nodes[ctx.cluster.instances[filled.uuid].primary_node]
    try:
        await ctx.nodes.call(primary, InstanceStart(instance=filled, paused=paused))
    except GanetiError as error:
        await close_disks(ctx.config, ctx.nodes, ctx.feedback, filled.uuid)
        raise OperationFailed(
            f"could not start {filled.name} on {primary.name}: {error}", detail=error.detail
        ) from error
