"""OP_INSTANCE_REMOVE: stop an instance and delete it with its disks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import msgspec

from ganeti.errors import GanetiError, OperationFailed
from ganeti.logic.instance_changes import drop_instance
from ganeti.model.calls.disks import DiskRemove
from ganeti.model.cluster import Cluster
from ganeti.model.filled import fill_disk
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, Param, Route
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.shutdown import stop_on_primary
from ganeti.ops.kinds import SECONDS
from ganeti.ops.steps import close_disks


class RemoveInstance(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_REMOVE"):
    """Delete an instance."""

    shutdown_timeout: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        Param("seconds to let it shut down before it is ended by force", SECONDS, "shutdown-timeout"),
    ] = 120
    ignore_failures: Annotated[
        bool, Param("delete it from the configuration although a step fails", flag="ignore-failures")
    ] = False


class RemoveInstanceOperation(InstanceOperation[RemoveInstance, None, None]):
    """Stops the instance, removes its disks and forgets it."""

    hooks = Hooks("instance-remove", HookTarget.INSTANCE)
    routes = (Route(method="DELETE", path="/2/instances/{instance_name}", query=("dry_run",)),)
    commands = (
        Command(
            tool="gnt-instance",
            name="remove",
            positional="instance_name",
            confirm="This will remove the volumes of the instance {instance_name} (including mirrors), "
            "thus removing all the data of the instance. Continue?",
        ),
    )

    def __init__(self, op: RemoveInstance) -> None:
        super().__init__(op)
        self._env: Mapping[str, str] = {}
        self._nodes: tuple[NodeId, ...] = ()
        """What hooks are told while it exists, for those that run when it is gone."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance, and its nodes with their resources."""
        instance = self.instance(cluster)
        nodes = exclusive(cluster.nodes_of(instance))
        return LockPlan(
            requests={
                LockLevel.INSTANCE: exclusive([instance.name]),
                LockLevel.NODE: nodes,
                LockLevel.NODE_RES: nodes,
            }
        )

    async def run(self, ctx: Context, facts: None) -> None:
        """Stop, remove the disks, forget."""
        instance = self.instance(ctx.cluster)
        primary = ctx.cluster.nodes[instance.primary_node]
        if primary.offline:
            ctx.feedback.warning(f"primary node {primary.name} is offline: nothing is stopped there")
        else:
            await self._stop(ctx, instance)
        if not await remove_disks(ctx, instance.uuid) and not self.op.ignore_failures:
            raise OperationFailed(
                f"not all disks of {instance.name} could be removed; "
                "repeat when the nodes are well, or give --ignore-failures"
            )
        await ctx.config.update(
            partial(drop_instance, uuid=instance.uuid), reason=f"{instance.name} is removed"
        )
        ctx.held.forget(LockLevel.INSTANCE, [instance.name])

    async def _stop(self, ctx: Context, instance: Instance) -> None:
        try:
            await stop_on_primary(ctx, instance.uuid, timeout_s=self.op.shutdown_timeout)
        except OperationFailed as error:
            if not self.op.ignore_failures:
                raise
            ctx.feedback.warning(str(error))

    def hook_values(self) -> Mapping[str, object]:
        """SHUTDOWN_TIMEOUT."""
        return {"SHUTDOWN_TIMEOUT": self.op.shutdown_timeout}

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance; when it is gone, as it was."""
        if not self._is_gone(cluster):
            self._env = super().hook_env(cluster)
        return self._env

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Before: the master. After: also the nodes it was on."""
        if not self._is_gone(cluster):
            self._nodes = super().hook_nodes(cluster).post
        return HookNodes(pre=(cluster.settings.master_node,), post=self._nodes)

    def _is_gone(self, cluster: Cluster) -> bool:
        try:
            self.instance(cluster)
        except GanetiError:
            return True
        return False


async def remove_disks(ctx: Context, uuid: InstanceId) -> bool:
    """Close and remove the data of all disks of an instance; gives whether all of it is gone.

    Failures are reported. Nodes marked offline are left out with a warning, as what is on them can
    only be removed when they return.
    """
    await close_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    clean = True
    for index, disk in enumerate(cluster.disks_of(instance)):
        for node in (cluster.nodes[found] for found in disk.nodes or (instance.primary_node,)):
            if node.offline:
                ctx.feedback.warning(
                    f"disk {index} of {instance.name} stays on offline node {node.name}",
                    hint="remove it by hand when the node is back",
                )
                continue
            try:
                await ctx.nodes.call(node, DiskRemove(disk=fill_disk(cluster, disk, node.uuid)))
            except GanetiError as error:
                clean = False
                ctx.feedback.warning(f"cannot remove disk {index} of {instance.name} on {node.name}: {error}")
    return clean
