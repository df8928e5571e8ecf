"""What moving nodes between groups does to instances whose data lie on several nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance


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
