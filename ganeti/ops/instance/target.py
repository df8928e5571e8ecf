"""Where an instance is to go when it leaves its primary node: for migration and failover."""

from __future__ import annotations

import msgspec

from ganeti.errors import ErrorCode, OperationFailed, PrereqError
from ganeti.model.allocation import Relocate
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, Mirroring
from ganeti.model.filled import beparams_of
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance
from ganeti.model.ipolicy import violations
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, exclusive
from ganeti.ops.base import Context

USE_DEFAULT = "."
"""Name that means the cluster's default allocator."""


class TargetWish(msgspec.Struct, frozen=True, kw_only=True):
    """What an opcode says of the target."""

    node: str | None
    """Name or UUID"""
    iallocator: str | None


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """From where to where an instance goes; hooks are told before and after, when it is there already."""

    source: NodeId
    target: NodeId | None
    """None: not known, as in a clean-up."""
    is_between_mirrors: bool

    def env(self, cluster: Cluster) -> dict[str, str]:
        """Variables for hooks."""
        source = cluster.nodes[self.source].name
        target = cluster.nodes[self.target].name if self.target is not None else ""
        return {
            "OLD_PRIMARY": source,
            "OLD_SECONDARY": target if self.is_between_mirrors else "",
            "NEW_PRIMARY": target,
            "NEW_SECONDARY": source if self.is_between_mirrors else "",
        }

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Both ends, as far as they are known."""
        return (self.source,) if self.target is None else (self.source, self.target)


def journey_of(cluster: Cluster, instance: Instance, target: NodeId | None) -> Journey:
    """The journey of an instance that is still at its primary node."""
    is_pair = mirroring_of(cluster, instance) is Mirroring.INTERNAL
    return Journey(source=instance.primary_node, target=target, is_between_mirrors=is_pair)


def mirroring_of(cluster: Cluster, instance: Instance) -> Mirroring:
    """How the data of all disks of an instance can be reached from another node.

    Raises:
        PrereqError: wrong_state: disks of different kinds, or of a kind that cannot.
    """
    kinds = {
        TRAITS[disk.dev_type].mirroring if disk.dev_type in TRAITS else Mirroring.EXTERNAL
        for disk in cluster.disks_of(instance)
    } or {Mirroring.EXTERNAL}
    if len(kinds) > 1 or Mirroring.NONE in kinds:
        template = cluster.disk_template(instance)
        raise PrereqError(
            f"instance {instance.name} has disks of template {template}, which no other node can reach; "
            "it cannot be migrated or failed over; 'gnt-instance move' stops it and copies them",
            code=ErrorCode.STATE,
        )
    return kinds.pop()


def move_locks(cluster: Cluster, instance: Instance, wish: TargetWish) -> LockPlan:
    """The instance and the nodes between which it may move (locking.md section 6)."""
    if mirroring_of(cluster, instance) is Mirroring.INTERNAL:
        nodes = exclusive(cluster.nodes_of(instance))
    elif wish.node is not None:
        nodes = exclusive([instance.primary_node, cluster.node(wish.node).uuid])
    else:
        nodes = all_of_level(LockMode.EXCLUSIVE)
    return LockPlan(
        requests={
            LockLevel.INSTANCE: exclusive([instance.name]),
            LockLevel.NODE: nodes,
            LockLevel.NODE_RES: nodes,
        }
    )


async def choose_target(ctx: Context, instance: Instance, wish: TargetWish) -> NodeId:
    """The node to which an instance goes; asks the allocator where none is given.

    Raises:
        PrereqError: contradicting wishes, or nothing fits.
    """
    cluster = ctx.cluster
    if mirroring_of(cluster, instance) is Mirroring.INTERNAL:
        return _mirror_target(cluster, instance, wish)
    if wish.node is not None and wish.iallocator is not None:
        raise PrereqError("give either a target node or an allocator, not both")
    if wish.node is not None:
        target = cluster.node(wish.node).uuid
        if target == instance.primary_node:
            raise PrereqError(
                f"instance {instance.name} is on {cluster.nodes[target].name} already", code=ErrorCode.STATE
            )
        return target
    return await _ask_allocator(ctx, instance, wish.iallocator)


def _mirror_target(cluster: Cluster, instance: Instance, wish: TargetWish) -> NodeId:
    (secondary,) = cluster.secondary_nodes(instance)
    if wish.iallocator is not None or (wish.node is not None and cluster.node(wish.node).uuid != secondary):
        raise PrereqError(
            f"the data of {instance.name} is mirrored to {cluster.nodes[secondary].name}; "
            "it can go nowhere else: leave the target away"
        )
    return secondary


async def _ask_allocator(ctx: Context, instance: Instance, name: str | None) -> NodeId:
    cluster = ctx.cluster
    allocator = cluster.settings.default_iallocator if name in (None, USE_DEFAULT) else name
    if not allocator:
        raise PrereqError(
            f"say where {instance.name} is to go: give a target node or an allocator "
            "(the cluster has no default allocator)"
        )
    solution = await ctx.allocation.solve(
        allocator,
        Relocate(instance=instance.name, relocate_from=(instance.primary_node,)),
        cluster=cluster,
        candidates=[NodeId(node) for node in ctx.held.names(LockLevel.NODE)],
    )
    if not solution.placements or not solution.placements[0].nodes:
        raise OperationFailed(f"allocator {allocator} found no node for {instance.name}: {solution.info}")
    target = solution.placements[0].nodes[0]
    ctx.feedback.info(
        f"Selected node for instance {instance.name} via iallocator {allocator}: {cluster.nodes[target].name}"
    )
    return target


def policy_problems(cluster: Cluster, instance: Instance, target: NodeId) -> tuple[str, ...]:
    """What the policy of the target's group says against an instance."""
    backend = beparams_of(cluster.settings, instance.beparams)
    disks = cluster.disks_of(instance)
    return violations(
        cluster.policy_of(cluster.nodes[target].group),
        memory=backend.maxmem,
        vcpus=backend.vcpus,
        disk_sizes=tuple(disk.size for disk in disks),
        nic_count=len(instance.nics),
        spindle_use=backend.spindle_use,
        template=cluster.disk_template(instance),
    )
