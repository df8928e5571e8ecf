"""Which end of a mirrored instance gets new data, and whether that may be done. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.node_figures import disk_space
from ganeti.model.calls.disks import LocalData, SyncStatus
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be replaced."""

    node: NodeId
    """Where new data is made."""
    leaving: NodeId | None = None
    """The secondary node that it takes the place of; None: new data on a node that has some."""
    disks: tuple[int, ...]

    @property
    def is_new_node(self) -> bool:
        """Whether the mirror moves to a node that had nothing of it."""
        return self.leaving is not None


def chosen_disks(instance: Instance, wanted: Sequence[int]) -> tuple[int, ...]:
    """Indices of the disks that were asked for, sorted; none means all.

    Raises:
        PrereqError: the instance has no such disk.
    """
    for index in wanted:
        if index >= len(instance.disks):
            raise PrereqError(
                f"instance {instance.name} has no disk {index}; its disks are 0 to {len(instance.disks) - 1}"
            )
    return tuple(sorted(set(wanted))) or tuple(range(len(instance.disks)))


def faulty_disks(
    instance: Instance,
    primary: NodeId,
    secondary: NodeId,
    states: tuple[Sequence[SyncStatus | None], Sequence[SyncStatus | None]],
) -> Replacement | None:
    """The disks that lost their data on one of the nodes; None: all is well.

    Args:
        instance: for messages.
        primary: its node.
        secondary: the other one.
        states: of all disks, on the primary and on the secondary.

    Raises:
        PrereqError: both nodes have lost data, so that it cannot be said from where to copy.
    """
    lost = [
        tuple(
            index
            for index, state in enumerate(found)
            if state is not None and state.ldisk_status is LocalData.FAULTY
        )
        for found in states
    ]
    if all(lost):
        raise PrereqError(
            f"instance {instance.name} has lost data on both nodes (disks {_listed(lost[0])} on the primary, "
            f"{_listed(lost[1])} on the secondary); restore it from a backup",
            code=ErrorCode.STATE,
        )
    for node, disks in zip((primary, secondary), lost):
        if disks:
            return Replacement(node=node, disks=disks)
    return None


def check_new_secondary(
    cluster: Cluster, instance: Instance, node: NodeId, *, between_groups: bool = False
) -> None:
    """Refuse a node that cannot be the new secondary.

    Args:
        cluster: the configuration.
        instance: who gets it.
        node: the node.
        between_groups: it is a step of a move to another group; only then it may be in one.

    Raises:
        PrereqError: it has a part of the instance already, or is in another group.
    """
    name = cluster.nodes[node].name
    if node == instance.primary_node:
        raise PrereqError(f"node {name} is the primary node of {instance.name}; name another one")
    if node in cluster.secondary_nodes(instance):
        raise PrereqError(
            f"node {name} is the secondary node of {instance.name} already; "
            "-s makes new data there, -n with another node moves it"
        )
    home, other = (cluster.groups[cluster.nodes[one].group] for one in (instance.primary_node, node))
    if home.uuid != other.uuid and not between_groups:
        raise PrereqError(
            f"node {name} is in group {other.name}, the primary node of {instance.name} in {home.name}; both "
            f"have to be in one group ('gnt-instance change-group {instance.name}' moves it to another)"
        )


def check_space(cluster: Cluster, instance: Instance, plan: Replacement, free_mib: int | None) -> None:
    """Refuse if the node lacks space for the new data.

    Raises:
        PrereqError: insufficient_resources.
    """
    disks = tuple(cluster.disks_of(instance))
    needed = disk_space(cluster.disk_template(instance), tuple(disks[index].size for index in plan.disks))
    if free_mib is not None and needed > free_mib:
        raise PrereqError(
            f"node {cluster.nodes[plan.node].name} has {free_mib} MiB of free space, new disks of "
            f"{instance.name} need {needed} MiB",
            code=ErrorCode.NO_RESOURCES,
        )


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices))
