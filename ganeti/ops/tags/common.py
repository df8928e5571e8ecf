"""What operations on tags have in common: locks, routes and commands."""

from __future__ import annotations

from typing import Literal

from ganeti.logic.tags import TagKind, uuid_of
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, LockRequest
from ganeti.ops.base import Arguments, Command, Route

_LEVELS = {
    TagKind.NODE: LockLevel.NODE,
    TagKind.INSTANCE: LockLevel.INSTANCE,
    TagKind.NODEGROUP: LockLevel.NODEGROUP,
    TagKind.NETWORK: LockLevel.NETWORK,
}
_COLLECTIONS = {
    TagKind.INSTANCE: "instances",
    TagKind.NODE: "nodes",
    TagKind.NODEGROUP: "groups",
    TagKind.NETWORK: "networks",
}
_TOOLS = {
    TagKind.CLUSTER: "gnt-cluster",
    TagKind.NODE: "gnt-node",
    TagKind.INSTANCE: "gnt-instance",
    TagKind.NODEGROUP: "gnt-group",
}


def tag_locks(cluster: Cluster, kind: TagKind, name: str | None, mode: LockMode) -> LockPlan:
    """The object whose tags are meant; nothing for the cluster."""
    uuid = uuid_of(cluster, kind, name)
    if uuid is None:
        return LockPlan.NOTHING
    member = cluster.instance(uuid).name if kind is TagKind.INSTANCE else uuid
    return LockPlan(requests={_LEVELS[kind]: LockRequest(names=frozenset([member]), mode=mode)})


def tag_routes(method: Literal["PUT", "DELETE"]) -> tuple[Route, ...]:
    """A resource for the cluster, and one for each kind of object."""
    query = ("tag", "dry_run")
    cluster = Route(method=method, path="/2/tags", query=query, fixed={"kind": TagKind.CLUSTER.value})
    objects = (
        Route(method=method, path=f"/2/{plural}/{{name}}/tags", query=query, fixed={"kind": kind.value})
        for kind, plural in _COLLECTIONS.items()
    )
    return (cluster, *objects)


def tag_commands(name: str, *, positional: str) -> tuple[Command, ...]:
    """The sub-command of this name in each tool."""
    return tuple(
        Command(
            tool=tool,
            name=name,
            positional=positional,
            arguments=Arguments.CUSTOM,
            fixed={"kind": kind.value},
        )
        for kind, tool in _TOOLS.items()
    )
