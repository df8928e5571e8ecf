"""What moving nodes or instances between groups does to instances whose data lie on several nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.node_figures import nodes_needed, traits_of
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Mirroring
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance


def homes_of(cluster: Cluster, instance: Instance) -> frozenset[GroupId]:
    """Groups of the nodes of an instance: one, unless a move to another group broke off."""
    return frozenset(cluster.nodes[node].group for node in cluster.nodes_of(instance))


def is_local(cluster: Cluster, instance: Instance) -> bool:
    """Whether the disks of an instance are on one node only, so that it can only leave by being copied."""
    return traits_of(cluster.disk_template(instance)).mirroring is Mirroring.NONE


def why_not_copied(cluster: Cluster, instance: Instance, *, allow_downtime: bool) -> str | None:
    """Why a local instance cannot be copied to another group (S2.3-033)."""
    template = cluster.disk_template(instance)
    if not traits_of(template).is_copyable:
        return f"its {template} disks are on one node only and cannot be copied"
    if not allow_downtime:
        return (
            f"its {template} disks are on one node only: it would have to be stopped and copied "
            "(--allow-downtime does that)"
        )
    primary = cluster.nodes[instance.primary_node]
    if primary.offline:
        return f"its {template} disks are on {primary.name} only, which is marked offline"
    return None


def check_hand_picked(
    cluster: Cluster, instance: Instance, nodes: Sequence[NodeId], *, allow_downtime: bool = False
) -> None:
    """Refuse nodes of another group that an instance cannot move to (S2.3-016, S2.3-021).

    Args:
        cluster: the configuration.
        instance: what is to move.
        nodes: where to, primary first.
        allow_downtime: it may be stopped and copied.

    Raises:
        PrereqError: too many or too few, in several groups, or in a group in which it is already.
    """
    template = cluster.disk_template(instance)
    if is_local(cluster, instance):
        problem = why_not_copied(cluster, instance, allow_downtime=allow_downtime)
        if problem is not None:
            raise PrereqError(f"instance {instance.name} stays: {problem}", code=ErrorCode.STATE)
    needed = nodes_needed(template)
    if len(nodes) != needed or len(set(nodes)) != needed:
        form = "a primary and another secondary node (-n PRIMARY:SECONDARY)" if needed == 2 else "one node"
        raise PrereqError(f"disks of template {template} need {form}")
    groups = {cluster.nodes[node].group for node in nodes}
    if len(groups) > 1:
        names = ", ".join(
            f"{cluster.nodes[node].name} in {cluster.groups[cluster.nodes[node].group].name}"
            for node in nodes
        )
        raise PrereqError(f"primary and secondary node must be in the same node group: {names}")
    homes = homes_of(cluster, instance)
    if len(homes) > 1:
        raise PrereqError(
            f"the nodes of {instance.name} are in different groups, as after a move that broke off; "
            f"'gnt-instance change-group --cleanup {instance.name}' brings them into one first",
            code=ErrorCode.STATE,
        )
    if groups & homes:
        (group,) = groups
        raise PrereqError(
            f"instance {instance.name} is in group {cluster.groups[group].name} already; "
            "'gnt-instance migrate' and 'replace-disks' move it inside its group"
        )


class Splits(msgspec.Struct, frozen=True, kw_only=True):
    """Instances whose nodes are in different groups, names sorted."""

    new: tuple[str, ...]
    """Because of the move."""
    old: tuple[str, ...]
    """Before and after it."""


def splits_of(cluster: Cluster, moves: Mapping[NodeId, GroupId]) -> Splits:
    """Instances that are split when nodes have moved.

    Args:
        cluster: as it is before.
        moves: the new group of each node that moves.
    """
    new: list[str] = []
    old: list[str] = []
    for instance in _spread(cluster):
        nodes = cluster.nodes_of(instance)
        before = {cluster.nodes[node].group for node in nodes}
        after = {moves.get(node, cluster.nodes[node].group) for node in nodes}
        if len(after) > 1:
            (old if len(before) > 1 else new).append(instance.name)
    return Splits(new=tuple(sorted(new)), old=tuple(sorted(old)))


def _spread(cluster: Cluster) -> list[Instance]:
    """Instances with more than one node."""
    return [instance for instance in cluster.instances.values() if cluster.secondary_nodes(instance)]
