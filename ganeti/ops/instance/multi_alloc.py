"""OP_INSTANCE_MULTI_ALLOC: place several new instances at once, and have each made by a job of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from ganeti.errors import PrereqError
from ganeti.model.allocation import MultiAllocate, Placement
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.locks import LockLevel, LockMode, LockPlan, shared
from ganeti.ops.base import Arguments, Command, Context, Jobs, OpCode, Operation, Param, Route
from ganeti.ops.instance.common import require_allocator
from ganeti.ops.instance.create import CreateInstance, check_arguments, given_nodes, wish_of
from ganeti.ops.instance.create_checks import CreateWish, normalised_name, wanted_groups
from ganeti.ops.instance.create_place import choice_locks
from ganeti.ops.instance.target import USE_DEFAULT


class AllocateInstances(OpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_MULTI_ALLOC"):
    """Create several instances."""

    opportunistic_locking: Annotated[
        bool, Param("choose among nodes that are free at once", flag="opportunistic-locking")
    ] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses the nodes of all", flag="iallocator", short="I")
    ] = None
    instances: Annotated[tuple[CreateInstance, ...], Param("parameters of OP_INSTANCE_CREATE of each")] = ()

    def summary(self) -> str:
        """With the number of instances."""
        return f"INSTANCE_MULTI_ALLOC({len(self.instances)})"


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where instances go."""

    chosen: tuple[Placement, ...]
    failed: tuple[tuple[str, str], ...]
    """Name and reason of each that goes nowhere."""


class AllocateInstancesOperation(Operation[AllocateInstances, Places, Jobs]):
    """Asks the allocator once for all, then submits a creation for each that has a place.

    The nodes are held only while they are chosen. Every creation looks again whether there is room.
    """

    routes = (Route(method="POST", path="/2/instances-multi-alloc", query=("dry_run",)),)
    commands = (
        Command(
            tool="gnt-instance",
            name="batch-create",
            positional="instances",
            arguments=Arguments.CUSTOM,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The nodes that are given, or those of which some are chosen, shared."""
        given = [node for op in self.op.instances for node in given_nodes(op, cluster)]
        if given:
            nodes = shared(given)
        else:
            nodes, _ = choice_locks(
                cluster,
                self._groups(cluster),
                is_opportunistic=self.op.opportunistic_locking,
                mode=LockMode.SHARED,
            )
        return LockPlan(requests={LockLevel.NODE: nodes, LockLevel.NODE_RES: nodes})

    async def gather(self, ctx: Context) -> Places:
        """A place for each instance."""
        cluster = ctx.cluster
        self._check_list(cluster)
        wishes = [self._wish(op, ctx) for op in self.op.instances]
        if given_nodes(self.op.instances[0], cluster):
            pairs = zip(wishes, self.op.instances, strict=True)
            chosen = (Placement(instance=wish.name, nodes=given_nodes(op, cluster)) for wish, op in pairs)
            return Places(chosen=tuple(chosen), failed=())
        requests = (
            wish.request(wanted_groups(cluster, op.group_name, op.target_groups))
            for wish, op in zip(wishes, self.op.instances, strict=True)
        )
        name = None if self.op.iallocator == USE_DEFAULT else self.op.iallocator
        solution = await ctx.allocation.solve(
            require_allocator(cluster, name),
            MultiAllocate(instances=tuple(requests)),
            cluster=cluster,
            candidates=[NodeId(node) for node in ctx.held.names(LockLevel.NODE)],
        )
        return Places(chosen=solution.placements, failed=solution.failed)

    async def run(self, ctx: Context, facts: Places) -> Jobs:
        """A job for each instance that has a place."""
        cluster = ctx.cluster
        for name, reason in facts.failed:
            ctx.feedback.warning(f"no place for instance {name}", hint=reason or None)
        ops = {normalised_name(op.instance_name): op for op in self.op.instances}
        return Jobs(
            jobs=tuple((_placed(cluster, ops[one.instance], one.nodes),) for one in facts.chosen),
            extra=_outcome(facts),
        )

    def dry_run_result(self, cluster: Cluster, facts: Places) -> Any:
        """What would have a place."""
        return {**_outcome(facts), "jobs": []}

    def _groups(self, cluster: Cluster) -> tuple[GroupId, ...]:
        """All groups that come into question; none: any."""
        lists = [wanted_groups(cluster, op.group_name, op.target_groups) for op in self.op.instances]
        return tuple(dict.fromkeys(group for one in lists for group in one)) if all(lists) else ()

    def _check_list(self, cluster: Cluster) -> None:
        ops = self.op.instances
        if not ops:
            raise PrereqError("no instances were given; the list has the parameters of one creation each")
        names = Counter(normalised_name(op.instance_name) for op in ops)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise PrereqError(f"instance {twice[0]} is in the list more than once")
        with_allocator = [op.instance_name for op in ops if op.iallocator is not None]
        if with_allocator:
            raise PrereqError(
                f"instance {with_allocator[0]} names an allocator; it can only be given for all (-I)"
            )
        _check_nodes(cluster, ops, self.op.iallocator)

    def _wish(self, op: CreateInstance, ctx: Context) -> CreateWish:
        try:
            check_arguments(op)
            return wish_of(op, ctx.cluster, ctx.plugins)
        except PrereqError as error:
            raise PrereqError(f"instance {op.instance_name}: {error}", code=error.code) from error


def _check_nodes(cluster: Cluster, ops: Sequence[CreateInstance], allocator: str | None) -> None:
    """All have nodes, or none has."""
    with_nodes = [op.instance_name for op in ops if given_nodes(op, cluster)]
    without = [op.instance_name for op in ops if not given_nodes(op, cluster)]
    if with_nodes and without:
        raise PrereqError(
            f"nodes are given for instance {with_nodes[0]} and not for {without[0]}; give them for all "
            "instances, or for none and let an allocator choose"
        )
    if with_nodes and allocator is not None:
        raise PrereqError("give either nodes for the instances or an allocator, not both")


def _placed(cluster: Cluster, op: CreateInstance, nodes: Sequence[NodeId]) -> CreateInstance:
    """The creation on these nodes."""
    primary, *others = (cluster.nodes[node].name for node in nodes)
    secondary = others[0] if others else None
    return replace(op, pnode=primary, pnode_uuid=None, snode=secondary, snode_uuid=None)


def _outcome(facts: Places) -> Mapping[str, list[str]]:
    return {
        "allocatable": [one.instance for one in facts.chosen],
        "failed": [name for name, _ in facts.failed],
    }
