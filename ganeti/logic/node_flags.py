"""Roles of nodes: which changes of flags are allowed, and who belongs to the candidate pool. Pure.

Rules of operations.md section 2.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node, NodeRole

if TYPE_CHECKING:
    from random import Random

_ROLE_FLAGS = ("master_candidate", "drained", "offline")
_FLAGS = (*_ROLE_FLAGS, "master_capable", "vm_capable", "powered")


class FlagRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Flags as somebody wants them; None: leave it."""

    master_candidate: bool | None = None
    drained: bool | None = None
    offline: bool | None = None
    master_capable: bool | None = None
    vm_capable: bool | None = None
    powered: bool | None = None
    auto_promote: bool = False
    """Other nodes may be promoted to keep the pool full."""


class FlagChange(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of a request."""

    node: Node
    """As it will be."""
    old_role: NodeRole
    new_role: NodeRole
    notes: tuple[str, ...] = ()
    """What the operator should know: flags ignored, the node promoted."""

    @property
    def was_demoted(self) -> bool:
        """Whether it leaves the candidates."""
        return self.old_role is NodeRole.CANDIDATE and self.new_role is not NodeRole.CANDIDATE

    @property
    def was_promoted(self) -> bool:
        """Whether it becomes a candidate."""
        return self.new_role is NodeRole.CANDIDATE and self.old_role is not NodeRole.CANDIDATE

    @property
    def comes_online(self) -> bool:
        """Whether it was offline and will not be: it has to answer first."""
        return self.old_role is NodeRole.OFFLINE and self.new_role is not NodeRole.OFFLINE


def eligible(cluster: Cluster, exclude: Collection[NodeId] = ()) -> list[Node]:
    """Nodes that are or could be candidates; the master is one of them."""
    return [node for node in cluster.nodes.values() if node.may_be_candidate and node.uuid not in exclude]


def candidates(cluster: Cluster, exclude: Collection[NodeId] = ()) -> list[Node]:
    """Master candidates, the master among them."""
    return [node for node in cluster.nodes.values() if node.master_candidate and node.uuid not in exclude]


def pool_size_wanted(cluster: Cluster, exclude: Collection[NodeId] = ()) -> int:
    """How many candidates there should be: as many as possible, at most the pool's size."""
    return min(len(eligible(cluster, exclude)), cluster.settings.candidate_pool_size)


def nodes_to_promote(cluster: Cluster, rng: Random, exclude: Collection[NodeId] = ()) -> tuple[NodeId, ...]:
    """Nodes, chosen at random, whose promotion fills the pool."""
    missing = pool_size_wanted(cluster, exclude) - len(candidates(cluster, exclude))
    if missing <= 0:
        return ()
    possible = sorted(node.uuid for node in eligible(cluster, exclude) if not node.master_candidate)
    return tuple(rng.sample(possible, min(missing, len(possible))))


def demotion_allowed(cluster: Cluster, node: Node) -> bool:
    """Whether the pool is still full without this node."""
    without = (node.uuid,)
    return len(candidates(cluster, without)) >= pool_size_wanted(cluster, without)


def should_promote_itself(cluster: Cluster, node: NodeId) -> bool:
    """Whether a node that just came back, or is new, belongs into the pool."""
    if not cluster.nodes[node].master_capable:
        return False
    without = (node,)
    wanted = min(pool_size_wanted(cluster, without) + 1, cluster.settings.candidate_pool_size)
    return len(candidates(cluster, without)) < wanted


def flag_problem(node: Node) -> str | None:
    """What is wrong with the flags a node has, or None."""
    true = [name for name in _ROLE_FLAGS if getattr(node, name)]
    if len(true) > 1:
        return f"only one of {', '.join(true)} can be set"
    if node.master_candidate and not node.master_capable:
        return "it is a master candidate but not master capable"
    return None


def plan_flags(cluster: Cluster, node: Node, request: FlagRequest) -> FlagChange:
    """The node after a request.

    Raises:
        PrereqError: the request contradicts itself, the node's duties, or the pool.
    """
    _check_request(cluster, node, request)
    notes = [
        f"ignoring request to unset flag {name}, already unset"
        for name in _ROLE_FLAGS
        if getattr(request, name) is False and getattr(node, name) is False
    ]
    request = _without_unneeded(node, request)
    if _returns(node, request) and _promotes_itself(cluster, node, request):
        request = replace(request, master_candidate=True)
        notes.append(f"promoting node {node.name} to master candidate, as the pool is not full")
    role = _new_role(cluster, node, request)
    changed = replace(
        node,
        master_candidate=role in (NodeRole.CANDIDATE, NodeRole.MASTER),
        drained=role is NodeRole.DRAINED,
        offline=role is NodeRole.OFFLINE,
        master_capable=_or(request.master_capable, node.master_capable),
        vm_capable=_or(request.vm_capable, node.vm_capable),
        powered=_or(request.powered, node.powered),
    )
    return FlagChange(node=changed, old_role=cluster.role(node), new_role=role, notes=tuple(notes))


def _check_request(cluster: Cluster, node: Node, request: FlagRequest) -> None:
    true = [name for name in _FLAGS[:-1] if getattr(request, name) is True]
    if len(true) > 1:
        raise PrereqError(f"node {node.name} cannot be made {' and '.join(true)} at the same time")
    if node.uuid == cluster.settings.master_node:
        _check_master(node, request)
    capable = _or(request.master_capable, node.master_capable)
    if request.master_candidate and not capable:
        raise PrereqError(
            f"node {node.name} is not master capable and cannot become a master candidate",
            code=ErrorCode.STATE,
        )
    if request.vm_capable is False:
        _refuse_instances(node, (instance.name for instance in cluster.instances_on(node.uuid)))
    if node.master_candidate and _demotes(request) and not request.auto_promote:
        _check_pool(cluster, node)


def _check_master(node: Node, request: FlagRequest) -> None:
    if any(getattr(request, name) is not None for name in _ROLE_FLAGS):
        raise PrereqError(
            f"node {node.name} is the master; its role changes only with a master failover",
            code=ErrorCode.INPUT,
        )
    if request.master_capable is False:
        raise PrereqError(
            f"node {node.name} is the master and must remain master capable; fail the master over first",
            code=ErrorCode.INPUT,
        )


def _refuse_instances(node: Node, names: Iterable[str]) -> None:
    found = sorted(names)
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise PrereqError(
            f"node {node.name} has instances ({shown}), so vm_capable cannot be off; move them first",
            code=ErrorCode.STATE,
        )


def _check_pool(cluster: Cluster, node: Node) -> None:
    if not demotion_allowed(cluster, node):
        remaining = len(candidates(cluster, (node.uuid,)))
        wanted = pool_size_wanted(cluster, (node.uuid,))
        raise PrereqError(
            f"without node {node.name} only {remaining} of {wanted} master candidates remain; use "
            "--auto-promote to have another node promoted",
            code=ErrorCode.STATE,
        )


def _demotes(request: FlagRequest) -> bool:
    return (
        request.master_candidate is False
        or request.offline is True
        or request.drained is True
        or request.master_capable is False
    )


def _without_unneeded(node: Node, request: FlagRequest) -> FlagRequest:
    """The request without flags that are to be unset and are."""
    unneeded = {
        name: None for name in _ROLE_FLAGS if getattr(request, name) is False and getattr(node, name) is False
    }
    if request.master_capable is False and node.master_candidate:
        unneeded.pop("master_candidate", None)
        return replace(request, **{**unneeded, "master_candidate": False})
    return replace(request, **unneeded)


def _returns(node: Node, request: FlagRequest) -> bool:
    return (
        request.drained is False
        or request.offline is False
        or (request.master_capable is True and not node.master_capable)
    )


def _promotes_itself(cluster: Cluster, node: Node, request: FlagRequest) -> bool:
    capable = replace(node, master_capable=_or(request.master_capable, node.master_capable))
    stays_away = (node.offline and request.offline is not False) or (
        node.drained and request.drained is not False
    )
    if stays_away or request.offline or request.drained or node.master_candidate:
        return False
    seen = replace(cluster, nodes=cluster.nodes.with_item(node.uuid, capable))
    return should_promote_itself(seen, node.uuid)


def _new_role(cluster: Cluster, node: Node, request: FlagRequest) -> NodeRole:
    if request.master_candidate:
        return NodeRole.CANDIDATE
    if request.drained:
        return NodeRole.DRAINED
    if request.offline:
        return NodeRole.OFFLINE
    if False in (request.master_candidate, request.drained, request.offline):
        return NodeRole.REGULAR
    return cluster.role(node)


def _or(wanted: bool | None, present: bool) -> bool:
    return present if wanted is None else wanted
