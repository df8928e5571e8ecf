"""OP_INSTANCE_ACTIVATE_DISKS: open the disks of an instance, or bring them in order if they are open."""

from __future__ import annotations

from typing import Annotated

from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Arguments, Command, Context, Param, Route
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import require_online
from ganeti.ops.instance.disk_locks import instance_and_nodes
from ganeti.ops.mirrors import wait_for_sync
from ganeti.ops.steps import open_disks


class ActivateDisks(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_ACTIVATE_DISKS"):
    """Open the disks of an instance."""

    ignore_size: Annotated[
        bool, Param("go on although a disk has another size than is recorded", flag="ignore-size")
    ] = False
    wait_for_sync: Annotated[bool, Param("wait until mirrored disks are in step", flag="wait-for-sync")] = (
        False
    )


class ActivateDisksOperation(InstanceOperation[ActivateDisks, None, list[tuple[str, str, str | None]]]):
    """Opens what is closed and connects what stands alone; nothing happens to what is in order."""

    routes = (
        Route(
            method="PUT", path="/2/instances/{instance_name}/activate-disks", query=("ignore_size", "dry_run")
        ),
    )
    commands = (
        Command(
            tool="gnt-instance",
            name="activate-disks",
            positional="instance_name",
            arguments=Arguments.ONE,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance and its nodes."""
        return instance_and_nodes(cluster, self.instance(cluster))

    def check(self, cluster: Cluster, facts: None) -> None:
        """On an online node."""
        instance = self.instance(cluster)
        require_online(cluster.nodes[instance.primary_node], f"opening the disks of {instance.name}")

    async def run(self, ctx: Context, facts: None) -> list[tuple[str, str, str | None]]:
        """Open them; gives node, name and path of each."""
        instance = self.instance(ctx.cluster)
        opened = await open_disks(
            ctx.config, ctx.nodes, ctx.feedback, instance.uuid, keep_on_failure=instance.disks_active
        )
        if self.op.wait_for_sync:
            await wait_for_sync(ctx, instance.uuid)
        return [(disk.node, disk.iv_name, disk.opened.path) for disk in opened]
