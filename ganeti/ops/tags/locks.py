"""Locks of operations on tags."""

from __future__ import annotations

from ganeti.logic.tags import TagKind, uuid_of
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, LockRequest

_LEVELS = {
    TagKind.NODE: LockLevel.NODE,
    TagKind.INSTANCE: LockLevel.INSTANCE,
    TagKind.NODEGROUP: LockLevel.NODEGROUP,
    TagKind.NETWORK: LockLevel.NETWORK,
}


def tag_locks(cluster: Cluster, kind: TagKind, name: str | None, mode: LockMode) -> LockPlan:
    """The object whose tags are meant; nothing for the cluster."""
    uuid = uuid_of(cluster, kind, name)
    if uuid is None:
        return LockPlan.NOTHING
    member = cluster.instance(uuid).name if kind is TagKind.INSTANCE else uuid
    return LockPlan(requests={_LEVELS[kind]: LockRequest(names=frozenset([member]), mode=mode)})
