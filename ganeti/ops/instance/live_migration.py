"""The steps of a migration, each of which can be undone until the guest runs on the target."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from ganeti.errors import GanetiError, OperationFailed
from ganeti.logic.instance_changes import set_primary
from ganeti.model.calls.disks import DiskAssemble, DiskShutdown
from ganeti.model.calls.instances import (
    AcceptInstance,
    FinalizeMigrationSource,
    FinalizeMigrationTarget,
    InstanceMigratable,
    InstanceMigrate,
    InstanceMigrationStatus,
    MigrationCancel,
    MigrationInfo,
    MigrationProgress,
)
from ganeti.model.cluster import Cluster
from ganeti.model.filled import FilledInstance, fill_disk, fill_instance
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.node import Node
from ganeti.ops.base import Context
from ganeti.ops.mirrors import connect_mirrors, is_mirrored, require_in_step, step_back
from ganeti.ops.steps import attempt

POLL_S = 1.0
REPORT_EVERY_S = 10.0
LOST_CONTACT_AFTER = 10
"""So many polls without an answer end the wait."""


class Migration:
    """One migration from the primary node to a target.

    Args:
        ctx: of the operation.
        uuid: the instance.
        target: where it goes.
        live: keep it running while its memory is copied.
    """

    def __init__(self, ctx: Context, uuid: InstanceId, target: NodeId, *, live: bool) -> None:
        cluster = ctx.cluster
        self.ctx = ctx
        self.instance: Instance = cluster.instances[uuid]
        self.filled: FilledInstance = fill_instance(cluster, self.instance)
        self.source: Node = cluster.nodes[self.instance.primary_node]
        self.target: Node = cluster.nodes[target]
        self.live = live

    async def run(self) -> None:
        """Move the instance.

        Raises:
            OperationFailed: it runs where it was, and nothing is left on the target - or the message
                says that the state is unknown and `--cleanup` is to be used.
        """
        name = self.instance.name
        self.ctx.feedback.info(f"Migrating instance {name}")
        await attempt(
            self.ctx.nodes.call(self.source, InstanceMigratable(instance=self.filled)),
            f"instance {name} cannot be migrated from {self.source.name}",
        )
        info = await attempt(
            self.ctx.nodes.call(self.source, MigrationInfo(instance=self.filled)),
            f"cannot find out how {name} was started on {self.source.name}",
        )
        if self._is_mirrored:
            await require_in_step(self.ctx, self.instance.uuid, self.target.uuid)
        try:
            await self._prepare_and_send(info)
            await self._follow()
        except GanetiError as error:
            await self._abort(info)
            raise OperationFailed(
                f"could not migrate {name} to {self.target.name}: {error}; it goes on running on "
                f"{self.source.name}",
                detail=error.detail,
            ) from error
        await self._finish(info)

    async def _prepare_and_send(self, info: str) -> None:
        feedback = self.ctx.feedback
        await self._open_on_target()
        feedback.info(f"* preparing {self.target.name} to accept the instance")
        endpoint = await self.ctx.nodes.call(
            self.target,
            AcceptInstance(instance=self.filled, info=info, target_ip=self.target.secondary_ip),
        )
        feedback.info(f"* migrating instance to {self.target.name}")
        await self.ctx.nodes.call(
            self.source,
            InstanceMigrate(
                cluster_name=self.ctx.cluster.name,
                instance=self.filled,
                target_ip=self.target.secondary_ip,
                endpoint=endpoint,
                live=self.live,
            ),
        )

    async def _open_on_target(self) -> None:
        cluster = self.ctx.cluster
        if self._is_mirrored:
            self.ctx.feedback.info("* changing disks into dual-master mode")
            await connect_mirrors(self.ctx, self.instance.uuid, two_primaries=True)
        for index, disk in enumerate(cluster.disks_of(self.instance)):
            await attempt(
                self.ctx.nodes.call(
                    self.target,
                    DiskAssemble(
                        disk=fill_disk(cluster, disk, self.target.uuid),
                        instance=self.instance.name,
                        on_primary=True,
                        index=index,
                    ),
                ),
                f"cannot open disk {index} on {self.target.name}",
            )

    async def _follow(self) -> None:
        """Wait for the end of the transfer."""
        last_report = self.ctx.clock.seconds()
        lost = 0
        while True:
            try:
                progress = await self.ctx.nodes.call(
                    self.source, InstanceMigrationStatus(instance=self.filled), timeout_s=30.0
                )
                lost = 0
            except GanetiError:
                lost += 1
                if lost >= LOST_CONTACT_AFTER:
                    raise
                await self.ctx.sleep(POLL_S)
                continue
            if progress.is_over:
                if progress.status != "completed":
                    raise OperationFailed(f"{progress.status}: {progress.error or 'no reason given'}")
                return
            now = self.ctx.clock.seconds()
            if now - last_report >= REPORT_EVERY_S:
                self.ctx.feedback.info(_described(progress))
                last_report = now
            await self.ctx.sleep(POLL_S)

    async def _abort(self, info: str) -> None:
        """Undo as well as possible; whatever fails is only reported."""
        undo = (
            (self.source, MigrationCancel(instance=self.filled)),
            (self.target, FinalizeMigrationTarget(instance=self.filled, info=info, success=False)),
            (
                self.source,
                FinalizeMigrationSource(instance=self.filled, success=False, live=self.live),
            ),
        )
        for node, call in undo:
            try:
                await self.ctx.nodes.call(node, call)
            except GanetiError as error:
                self.ctx.feedback.warning(f"cannot undo the migration on {node.name}: {error}")
        await leave_node(self.ctx, self.instance.uuid, self.target.uuid)

    async def _finish(self, info: str) -> None:
        """Let it run on the target, record that, and clear the source away."""
        name = self.instance.name
        try:
            await self.ctx.nodes.call(
                self.source,
                FinalizeMigrationSource(instance=self.filled, success=True, live=self.live),
            )
            await self.ctx.nodes.call(
                self.target, FinalizeMigrationTarget(instance=self.filled, info=info, success=True)
            )
        except GanetiError as error:
            raise OperationFailed(
                f"{name} was sent to {self.target.name}, but the end failed: {error}; find out with "
                f"'gnt-instance migrate --cleanup {name}' where it runs"
            ) from error
        await self.ctx.config.update(
            partial(set_primary, uuid=self.instance.uuid, node=self.target.uuid),
            reason=f"{name} was migrated to {self.target.name}",
        )
        await leave_node(self.ctx, self.instance.uuid, self.source.uuid)
        self.ctx.feedback.info("* done")

    @property
    def _is_mirrored(self) -> bool:
        return is_mirrored(self.ctx.cluster, self.instance)


async def leave_node(ctx: Context, uuid: InstanceId, node: NodeId) -> None:
    """End the use of the disks on a node on which the instance does not run (any more).

    A mirrored disk stays open there, as secondary. Failures are reported.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    if not is_mirrored(cluster, instance):
        await close_on_node(ctx, uuid, node)
        return
    if cluster.nodes[node].offline:
        return
    ctx.feedback.info("* changing disks into single-master mode")
    try:
        await step_back(ctx, uuid)
    except GanetiError as error:
        ctx.feedback.warning(
            str(error), hint=f"'gnt-instance activate-disks {instance.name}' brings the mirror in order"
        )


async def close_on_node(ctx: Context, uuid: InstanceId, node: NodeId) -> None:
    """Close the disks of an instance on a node that is not its primary; failures are reported."""

    cluster: Cluster = ctx.cluster
    instance = cluster.instances[uuid]
    if cluster.nodes[node].offline:
        return
    for index, disk in enumerate(cluster.disks_of(instance)):
        filled = replace(fill_disk(cluster, disk, node), nodes=(node,))
        try:
            await ctx.nodes.call(
                cluster.nodes[node], DiskShutdown(disk=filled, instance=instance.name, index=index)
            )
        except GanetiError as error:
            ctx.feedback.warning(
                f"cannot close disk {index} of {instance.name} on {cluster.nodes[node].name}: {error}"
            )


def _described(progress: MigrationProgress) -> str:
    if not progress.total_ram or progress.transferred_ram is None:
        return "* memory transfer under way"
    percent = 100 * progress.transferred_ram / progress.total_ram
    return f"* memory transfer progress: {percent:.2f} %"
