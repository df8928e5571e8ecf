"""Answers of allocators: read from the established JSON, and checked before anybody acts on them.

Every mistake of an allocator becomes an `AllocatorError` that names what is wrong, so that the job
ends before anything was reserved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ganeti.errors import AllocatorError
from ganeti.logic.node_figures import nodes_needed
from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    Capacity,
    ChangeGroup,
    ClusterView,
    Evacuate,
    InstanceRequest,
    MultiAllocate,
    Placement,
    Relocate,
    Solution,
)
from ganeti.model.capacity import GroupCapacity, Tier
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import AllocPolicy

EVACUATION_OPCODES = frozenset({"OP_INSTANCE_FAILOVER", "OP_INSTANCE_MIGRATE", "OP_INSTANCE_REPLACE_DISKS"})
"""What an allocator may ask to be done in answer to an evacuation."""

EXCERPT = 200
"""Characters of an answer that are quoted in messages."""

T = TypeVar("T")

_Failed = str | tuple[str, str | None]


class _Several(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Result of multi-allocate."""

    placed: tuple[tuple[str, tuple[str, ...]], ...]
    failed: tuple[_Failed, ...]


class _Evacuation(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Result of node-evacuate and change-group."""

    moved: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Instance, target group, nodes."""
    failed: tuple[_Failed, ...]
    jobs: tuple[tuple[Mapping[str, Any], ...], ...]


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer as it comes; old allocators write `nodes` in place of `result`."""

    success: bool
    info: str
    result: Any = None
    nodes: Any = None

    @property
    def content(self) -> Any:
        return self.nodes if self.result is None else self.result


def decode(request: AllocationRequest, view: ClusterView, answer: str) -> Solution:
    """The answer of an external allocator, checked.

    A well-formed refusal becomes a solution in which every instance failed.

    Raises:
        AllocatorError: anything else; says what is wrong.
    """
    try:
        reply = msgspec.json.decode(answer, type=_Reply)
    except msgspec.MsgspecError as error:
        quoted = answer.strip()[:EXCERPT] or "nothing"
        raise AllocatorError(f"its answer is not understood ({error}); it wrote: {quoted}") from error
    if not reply.success and isinstance(request, Capacity):
        raise AllocatorError(f"it cannot tell the capacity: {reply.info}")
    if not reply.success:
        failed = tuple((name, reply.info) for name in _asked_for(request))
        return Solution(failed=failed, info=reply.info)
    solution = msgspec.structs.replace(_solution(request, view, reply.content), info=reply.info)
    check_solution(request, view, solution)
    return solution


def _solution(request: AllocationRequest, view: ClusterView, content: Any) -> Solution:
    match request:
        case Allocate(instance=InstanceRequest(name=name)) | Relocate(instance=name):
            nodes = _convert(content, tuple[str, ...])
            return Solution(placements=(_placement(view, name, nodes),))
        case AllocateSecondary(instance=name):
            node = _convert(content, str)
            return Solution(placements=(_placement(view, name, (node,)),))
        case MultiAllocate():
            several = _convert(content, _Several)
            return Solution(
                placements=tuple(_placement(view, name, nodes) for name, nodes in several.placed),
                failed=tuple(_failure(one) for one in several.failed),
            )
        case ChangeGroup() | Evacuate():
            return _moves(view, content)
        case Capacity():
            return Solution(capacity=_capacities(request, content))
    raise AllocatorError("it was asked for something that it cannot answer")


class _GroupReply(msgspec.Struct, frozen=True, kw_only=True):
    """The capacity of a group; further keys repeat the parameters."""

    tspecs: tuple[Tier, ...]
    failure_reason: str | None = None


class _CapacityReply(msgspec.Struct, frozen=True, kw_only=True):
    """Result of capacity; the list for the cluster is made anew of those of the groups."""

    node_groups: Mapping[GroupId, _GroupReply]


def _capacities(request: Capacity, content: Any) -> dict[GroupId, GroupCapacity]:
    reply = _convert(content, _CapacityReply)
    return {
        group: GroupCapacity(
            params=request.params[group] if group in request.params else next(iter(request.params.values())),
            tspecs=found.tspecs,
            failure_reason=found.failure_reason or "",
        )
        for group, found in reply.node_groups.items()
    }


def _check_capacity(request: Capacity, view: ClusterView, solution: Solution) -> None:
    """Exactly the groups that were asked for, and sizes and counts that can be."""
    for group in solution.capacity:
        if group not in request.params:
            known = view.cluster.groups.get(group)
            name = group if known is None else known.name
            raise AllocatorError(f"it told the capacity of group {name}, which was not asked for")
    for group in request.params:
        name = view.cluster.groups[group].name
        if group not in solution.capacity:
            raise AllocatorError(f"it did not tell the capacity of group {name}")
        tiers = solution.capacity[group].tspecs
        wrong = next((tier for tier in tiers if min(tier[:3]) < 0 or tier[3] < 1), None)
        if wrong is not None:
            raise AllocatorError(f"for group {name} it counted {list(wrong)}, which cannot be")
        sizes = [tier[:3] for tier in tiers]
        if sizes != sorted(sizes, reverse=True):
            raise AllocatorError(f"for group {name} its sizes do not decrease")


def _moves(view: ClusterView, content: Any) -> Solution:
    evacuation = _convert(content, _Evacuation)
    for opcode in (opcode for job in evacuation.jobs for opcode in job):
        if opcode.get("OP_ID") not in EVACUATION_OPCODES:
            raise AllocatorError(f"it asks for the operation {opcode.get('OP_ID')!r}, which it may not")
    return Solution(
        placements=tuple(_placement(view, name, nodes) for name, _, nodes in evacuation.moved),
        failed=tuple(_failure(one) for one in evacuation.failed),
        jobs=evacuation.jobs,
    )


def _convert(content: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        quoted = msgspec.json.encode(content).decode()[:EXCERPT]
        raise AllocatorError(f"its result has the wrong form ({error}): {quoted}") from error


def _failure(one: _Failed) -> tuple[str, str]:
    return (one, "") if isinstance(one, str) else (one[0], one[1] or "")


def _placement(view: ClusterView, instance: str, names: Sequence[str]) -> Placement:
    nodes: list[NodeId] = []
    for name in names:
        node = view.cluster.nodes.by_key(name)
        if node is None:
            raise AllocatorError(f"it put instance {instance} on {name!r}, which is no node of this cluster")
        nodes.append(node.uuid)
    return Placement(instance=instance, nodes=tuple(nodes))


def check_solution(request: AllocationRequest, view: ClusterView, solution: Solution) -> None:
    """Refuse an answer that breaks what was asked for or what nodes are for.

    Raises:
        AllocatorError: with the first mistake found.
    """
    if isinstance(request, Capacity):
        _check_capacity(request, view, solution)
        return
    asked = set(_asked_for(request))
    told = [placement.instance for placement in solution.placements] + [name for name, _ in solution.failed]
    for name in told:
        if name not in asked:
            raise AllocatorError(f"it answered about instance {name}, which was not asked for")
    if len(set(told)) != len(told):
        raise AllocatorError("it answered more than once about the same instance")
    missing = sorted(asked.difference(told))
    if missing:
        raise AllocatorError(f"it did not answer about {', '.join(missing)}")
    for placement in solution.placements:
        problem = next(_mistakes(request, view, placement), None)
        if problem is not None:
            raise AllocatorError(f"it put instance {placement.instance} {problem}")


def _asked_for(request: AllocationRequest) -> Iterator[str]:
    match request:
        case Allocate():
            yield request.instance.name
        case MultiAllocate():
            yield from (instance.name for instance in request.instances)
        case Relocate() | AllocateSecondary():
            yield request.instance
        case ChangeGroup() | Evacuate():
            yield from request.instances


def _mistakes(request: AllocationRequest, view: ClusterView, placement: Placement) -> Iterator[str]:
    cluster = view.cluster
    names = [cluster.nodes[node].name for node in placement.nodes]
    match request:
        case Allocate(instance=InstanceRequest() as wanted):
            yield from _count_mistakes(names, nodes_needed(wanted.disk_template))
            yield from _group_mistakes(view, placement, wanted)
        case MultiAllocate():
            wanted = next(one for one in request.instances if one.name == placement.instance)
            yield from _count_mistakes(names, nodes_needed(wanted.disk_template))
            yield from _group_mistakes(view, placement, wanted)
        case Relocate():
            yield from _count_mistakes(names, 1)
            yield from _relocation_mistakes(request, view, placement)
        case AllocateSecondary():
            yield from _count_mistakes(names, 1)
            yield from _partner_mistakes(request.instance, view, placement)
        case Evacuate() | ChangeGroup() | Capacity():
            # They name nodes that an instance keeps, whatever the state of these.
            return
    yield from _node_mistakes(view, placement)


def _count_mistakes(names: Sequence[str], wanted: int) -> Iterator[str]:
    if len(names) != wanted:
        yield f"on {len(names)} nodes ({', '.join(names) or 'none'}) where {wanted} are needed"
    if len(set(names)) != len(names):
        yield f"twice on the same node {names[0]}"


def _node_mistakes(view: ClusterView, placement: Placement) -> Iterator[str]:
    for node in (view.cluster.nodes[node] for node in placement.nodes):
        if node.offline:
            yield f"on {node.name}, which is offline"
        if node.drained:
            yield f"on {node.name}, which is drained"
        if not node.vm_capable:
            yield f"on {node.name}, which is not for instances (vm_capable is no)"
        if node.uuid not in view.facts:
            yield f"on {node.name}, which does not answer"
        if view.candidates is not None and node.uuid not in view.candidates:
            yield f"on {node.name}, which it was not allowed to use"


def _group_mistakes(view: ClusterView, placement: Placement, wanted: InstanceRequest) -> Iterator[str]:
    nodes = [view.cluster.nodes[node] for node in placement.nodes]
    for node in nodes:
        group = view.cluster.groups[node.group]
        if not wanted.may_enter(group.uuid):
            asked = " or ".join(sorted(view.cluster.groups[uuid].name for uuid in wanted.groups))
            yield f"on {node.name} of group {group.name}, but group {asked} was asked for"
        if group.alloc_policy is AllocPolicy.UNALLOCABLE:
            yield f"on {node.name}, whose group {group.name} is unallocable"
    if len({node.group for node in nodes}) > 1:
        yield f"on nodes of different groups ({', '.join(node.name for node in nodes)})"


def _relocation_mistakes(request: Relocate, view: ClusterView, placement: Placement) -> Iterator[str]:
    for node in placement.nodes:
        if node in request.relocate_from:
            yield f"back on {view.cluster.nodes[node].name}, which it was to leave"
    yield from _partner_mistakes(request.instance, view, placement)


def _partner_mistakes(name: str, view: ClusterView, placement: Placement) -> Iterator[str]:
    """What is wrong with another node for an existing instance."""
    cluster = view.cluster
    instance = cluster.instance(name)
    group = cluster.nodes[instance.primary_node].group
    for node in (cluster.nodes[node] for node in placement.nodes):
        if node.uuid == instance.primary_node:
            yield f"on {node.name}, which is its primary node"
        if node.group != group:
            yield f"on {node.name}, which is not in its group {cluster.groups[group].name}"
