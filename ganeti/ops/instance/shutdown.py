"""OP_INSTANCE_SHUTDOWN: stop an instance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.instance_changes import set_admin_state
from ganeti.model.calls.instances import InstanceShutdown
from ganeti.model.cluster import Cluster
from ganeti.model.filled import fill_instance
from ganeti.model.ids import InstanceId
from ganeti.model.instance import AdminSource, AdminState
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
from ganeti.ops.instance.common import require_not_offline
from ganeti.ops.kinds import SECONDS
from ganeti.ops.steps import attempt, close_disks


class ShutdownInstance(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_SHUTDOWN"):
    """Stop an instance."""

    force: Annotated[bool, Param("also an instance that is marked offline", flag="force", short="f")] = False
    ignore_offline_nodes: Annotated[
        bool, Param("only record the state if the primary node is offline", flag="ignore-offline")
    ] = False
    timeout: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        Param("seconds to let it shut down before it is ended by force; 0: at once", SECONDS, "timeout"),
    ] = 120
    no_remember: Annotated[bool, Param("do not record the new state", flag="no-remember")] = False
    admin_state_source: Annotated[AdminSource | None, Param("who asked for it: admin or user")] = None


class ShutdownInstanceOperation(InstanceOperation[ShutdownInstance, None, None]):
    """Asks the guest to shut down, ends it by force after the timeout, and closes its disks."""

    hooks = Hooks("instance-stop", HookTarget.INSTANCE)
    routes = (
        Route(
            method="PUT",
            path="/2/instances/{instance_name}/shutdown",
            query=("no_remember", "timeout", "force", "dry_run"),
        ),
    )
    commands = (
        Command(
            tool="gnt-instance",
            name="shutdown",
            aliases=("stop",),
            positional="instance_name",
            arguments=Arguments.MANY,
        ),
    )

    def check(self, cluster: Cluster, facts: None) -> None:
        """On an online node, and not marked offline unless by force."""
        instance = self.instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        if not self.op.force:
            require_not_offline(instance, "stopped")
        if primary.offline and not self.op.ignore_offline_nodes:
            raise PrereqError(
                f"primary node {primary.name} of {instance.name} is marked offline; "
                "give --ignore-offline to record the state only",
                code=ErrorCode.STATE,
            )

    async def run(self, ctx: Context, facts: None) -> None:
        """Record, stop, close the disks."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        if not self.op.no_remember and instance.admin_state is not AdminState.OFFLINE:
            source = self.op.admin_state_source or AdminSource.ADMIN
            await ctx.config.update(
                partial(set_admin_state, uuid=instance.uuid, state=AdminState.DOWN, source=source),
                reason=f"{instance.name} is to stop",
            )
        if primary.offline:
            ctx.feedback.warning(f"primary node {primary.name} is offline: only the state was recorded")
            return
        await stop_on_primary(ctx, instance.uuid, timeout_s=self.op.timeout)
        await close_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)

    def hook_values(self) -> Mapping[str, object]:
        """TIMEOUT."""
        return {"TIMEOUT": self.op.timeout}


async def stop_on_primary(ctx: Context, uuid: InstanceId, *, timeout_s: int) -> None:
    """Stop an instance on its primary node; the disks stay open.

    Raises:
        OperationFailed: it still runs, or the node does not answer.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    primary = cluster.nodes[instance.primary_node]
    call = InstanceShutdown(instance=fill_instance(cluster, instance), timeout_s=timeout_s)
    await attempt(
        ctx.nodes.call(primary, call, timeout_s=timeout_s + 120.0),
        f"could not stop {instance.name} on {primary.name}",
    )
