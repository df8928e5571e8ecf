"""OP_INSTANCE_MOVE: stop an instance and copy it, with its disks, to another node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.interfaces import ICopyable, Plugins
from ganeti.logic.group_needs import unconnected_networks
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.calls.transfers import COPY_LEVELS, UNCOMPRESSED
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Mirroring
from ganeti.model.filled import beparams_of
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.node import Node
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, Param
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import hook_nodes, require_memory, require_online, require_target
from ganeti.ops.instance.move_steps import Move, move_instance
from ganeti.ops.instance.target import policy_problems
from ganeti.ops.kinds import NODE, SECONDS
from ganeti.ops.steps import capacity_of, missing_bridges


class MoveInstance(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_MOVE"):
    """Stop an instance, copy its disks to another node, and start it there if it is to run."""

    target_node: Annotated[Annotated[str, msgspec.Meta(min_length=1)], Param("where to", NODE, "node", "n")]
    target_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    shutdown_timeout: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        Param("seconds to let it shut down before it is ended by force", SECONDS, "shutdown-timeout"),
    ] = 120
    ignore_ipolicy: Annotated[
        bool, Param("go on although it violates the policy there", flag="ignore-ipolicy")
    ] = False
    compress: Annotated[
        str, Param("how the copy is compressed on its way: none, gzip, gzip-fast, gzip-slow", flag="compress")
    ] = UNCOMPRESSED
    ignore_consistency: Annotated[
        bool, Param("go on although it cannot be stopped", flag="ignore-consistency")
    ] = False


class MoveFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a move."""

    capacity: NodeCapacity
    bridge_problem: str | None
    uncopyable: str | None
    """Why its disks cannot be copied."""


class MoveInstanceOperation(InstanceOperation[MoveInstance, MoveFacts, None]):
    """Checks the target, and leaves the rest to `move_steps`: until the very end it stays where it was."""

    hooks = Hooks("instance-move", HookTarget.INSTANCE)
    commands = (
        Command(
            tool="gnt-instance",
            name="move",
            positional="instance_name",
            confirm="Instance {instance_name} will be moved. This requires a shutdown of the instance. "
            "Continue?",
        ),
    )

    def __init__(self, op: MoveInstance) -> None:
        super().__init__(op)
        self._source: NodeId | None = None
        """Kept, as hooks are also told when the instance is at its target already."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance, and both nodes with their resources."""
        instance = self.instance(cluster)
        nodes = exclusive([instance.primary_node, self._target(cluster).uuid])
        return LockPlan(
            requests={
                LockLevel.INSTANCE: exclusive([instance.name]),
                LockLevel.NODE: nodes,
                LockLevel.NODE_RES: nodes,
            }
        )

    async def gather(self, ctx: Context) -> MoveFacts:
        """What the target has, and whether the disks can be copied."""
        cluster = ctx.cluster
        instance, target = self.instance(cluster), self._target(cluster)
        self._source = instance.primary_node
        if target.uuid == instance.primary_node:
            raise PrereqError(f"instance {instance.name} is on {target.name} already", code=ErrorCode.STATE)
        require_online(cluster.nodes[instance.primary_node], f"copying {instance.name}")
        require_target(cluster, target, f"move {instance.name}")
        return MoveFacts(
            capacity=await capacity_of(ctx.nodes, target, instance.hypervisor),
            bridge_problem=await missing_bridges(ctx.nodes, cluster, instance, target),
            uncopyable=_uncopyable(cluster, instance, ctx.plugins),
        )

    def check(self, cluster: Cluster, facts: MoveFacts) -> None:
        """The disks can be copied, and the target can take the instance."""
        instance, target = self.instance(cluster), self._target(cluster)
        self._check_compression(cluster)
        if facts.uncopyable is not None:
            raise PrereqError(facts.uncopyable, code=ErrorCode.STATE)
        if facts.bridge_problem is not None:
            raise PrereqError(
                f"{instance.name} cannot run on {target.name}: {facts.bridge_problem}",
                code=ErrorCode.ENVIRONMENT,
            )
        networks = unconnected_networks(cluster, instance, target.group)
        if networks:
            raise PrereqError(
                f"{instance.name} cannot run on {target.name}: its group "
                f"{cluster.groups[target.group].name} is not connected to network {', '.join(networks)}",
                code=ErrorCode.STATE,
            )
        problems = () if self.op.ignore_ipolicy else policy_problems(cluster, instance, target.uuid)
        if problems:
            raise PrereqError(
                f"{instance.name} violates the policy of the group of {target.name}: "
                f"{'; '.join(problems)} (--ignore-ipolicy goes on all the same)",
                code=ErrorCode.STATE,
            )
        if instance.admin_state is AdminState.UP:
            wanted = beparams_of(cluster.settings, instance.beparams).maxmem
            require_memory(target, facts.capacity, wanted, f"instance {instance.name}")

    async def run(self, ctx: Context, facts: MoveFacts) -> None:
        """Stop, copy, change the configuration, start, remove what is left at the source."""
        move = Move(
            instance=self.instance(ctx.cluster).uuid,
            target=self._target(ctx.cluster).uuid,
            shutdown_timeout_s=self.op.shutdown_timeout,
            compress=self.op.compress,
            ignore_consistency=self.op.ignore_consistency,
        )
        await move_instance(ctx, move)

    def hook_values(self) -> Mapping[str, object]:
        """How long it may take to shut down."""
        return {"SHUTDOWN_TIMEOUT": self.op.shutdown_timeout}

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and where it goes."""
        return {"TARGET_NODE": self._target(cluster).name, **super().hook_env(cluster)}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master, source and target."""
        instance = self.instance(cluster)
        source = self._source or instance.primary_node
        return hook_nodes(cluster, instance, source, self._target(cluster).uuid)

    def _target(self, cluster: Cluster) -> Node:
        return cluster.node(self.op.target_node_uuid or self.op.target_node)

    def _check_compression(self, cluster: Cluster) -> None:
        allowed = (
            UNCOMPRESSED,
            *(name for name in cluster.settings.compression_tools if name in COPY_LEVELS),
        )
        if self.op.compress not in allowed:
            raise PrereqError(
                f"a move cannot be compressed by {self.op.compress!r}; possible: {', '.join(allowed)}"
            )


def _uncopyable(cluster: Cluster, instance: Instance, plugins: Plugins) -> str | None:
    """Why the disks of an instance cannot be copied to another node."""
    if not instance.disks:
        return f"instance {instance.name} has no disks to copy; 'gnt-instance failover' brings it elsewhere"
    for disk in cluster.disks_of(instance):
        plugin: Any = plugins.storage.get(disk.dev_type)
        if plugin is None or not plugin.traits.is_copyable or not ICopyable.providedBy(plugin):
            reachable = plugin is not None and plugin.traits.mirroring is not Mirroring.NONE
            remedy = "; 'gnt-instance migrate' and 'failover' bring it elsewhere" if reachable else ""
            return f"instance {instance.name} has {disk.dev_type} disks, which are not copied{remedy}"
    return None
