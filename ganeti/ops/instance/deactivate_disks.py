"""OP_INSTANCE_DEACTIVATE_DISKS: close the disks of an instance."""

from __future__ import annotations

from typing import Annotated

from ganeti.errors import ErrorCode, OperationFailed, PrereqError
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Arguments, Command, Context, Param, Route
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.disk_locks import instance_and_nodes
from ganeti.ops.steps import close_disks, running_on


class DeactivateDisks(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_DEACTIVATE_DISKS"):
    """Close the disks of an instance."""

    force: Annotated[
        bool, Param("do not ask whether the instance runs; go on with other disks", flag="force", short="f")
    ] = False


class DeactivateDisksOperation(InstanceOperation[DeactivateDisks, RunningInstance | None, None]):
    """Closes them on all nodes, unless the instance runs."""

    routes = (
        Route(method="PUT", path="/2/instances/{instance_name}/deactivate-disks", query=("force", "dry_run")),
    )
    commands = (
        Command(
            tool="gnt-instance",
            name="deactivate-disks",
            positional="instance_name",
            arguments=Arguments.ONE,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance and its nodes."""
        return instance_and_nodes(cluster, self.instance(cluster))

    async def gather(self, ctx: Context) -> RunningInstance | None:
        """Whether it runs."""
        if self.op.force:
            return None
        return await running_on(ctx.nodes, ctx.cluster, self.instance(ctx.cluster))

    def check(self, cluster: Cluster, facts: RunningInstance | None) -> None:
        """It must not run."""
        name = self.instance(cluster).name
        if facts is not None and facts.state is not RunState.SHUTDOWN:
            raise PrereqError(
                f"instance {name} is running; 'gnt-instance shutdown {name}' stops it and closes its disks",
                code=ErrorCode.STATE,
            )

    async def run(self, ctx: Context, facts: RunningInstance | None) -> None:
        """Close them."""
        instance = self.instance(ctx.cluster)
        clean = await close_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)
        if not clean:
            raise OperationFailed(f"not all disks of {instance.name} could be closed; see the warnings above")
