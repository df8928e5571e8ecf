"""Locks of operations that act on the disks of one instance where they are."""

from __future__ import annotations

from ganeti.model.cluster import Cluster
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, exclusive


def instance_and_nodes(cluster: Cluster, instance: Instance) -> LockPlan:
    """The instance and all its nodes."""
    return LockPlan(
        requests={
            LockLevel.INSTANCE: exclusive([instance.name]),
            LockLevel.NODE: exclusive(cluster.nodes_of(instance)),
        }
    )
