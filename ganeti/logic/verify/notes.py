"""What is not wrong, but worth a line at the end of a verification. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ganeti.logic.fields.instance import InstanceWorld, status
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS
from ganeti.model.filled import beparams_of
from ganeti.model.instance import AdminState, Instance
from ganeti.model.node import Node


def notes(
    cluster: Cluster, nodes: Collection[Node], instances: Collection[Instance], world: InstanceWorld
) -> Iterator[str]:
    """Counts of what is unusual, each as a text; nothing is said of what there is none."""
    counts = (
        (sum(not _is_redundant(cluster, one) for one in instances), "non-redundant instance(s)"),
        (
            sum(not beparams_of(cluster.settings, one.beparams).auto_balance for one in instances),
            "non-auto-balanced instance(s)",
        ),
        (sum(one.admin_state is AdminState.OFFLINE for one in instances), "offline instance(s)"),
        (
            sum(status(one, world) == "ERROR_up" for one in instances),
            "instance(s) that run although they should not",
        ),
        (sum(one.forthcoming for one in _of_nodes(cluster, nodes)), "forthcoming instance(s)"),
        (sum(node.offline for node in nodes), "offline node(s)"),
        (sum(node.drained for node in nodes), "drained node(s)"),
    )
    return (f"{count} {what} found." for count, what in counts if count)


def _is_redundant(cluster: Cluster, instance: Instance) -> bool:
    traits = [TRAITS.get(disk.dev_type) for disk in cluster.disks_of(instance)]
    return all(one is None or one.is_mirrored for one in traits)


def _of_nodes(cluster: Cluster, nodes: Collection[Node]) -> Iterator[Instance]:
    uuids = {node.uuid for node in nodes}
    return (instance for instance in cluster.instances.values() if instance.primary_node in uuids)
