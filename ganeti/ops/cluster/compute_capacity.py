"""OP_COMPUTE_CAPACITY: how many more instances fit, by group and in total (S2.3-080 to S2.3-093)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import msgspec

from ganeti.errors import PrereqError
from ganeti.logic.capacity import capacities, merged, number_fitting
from ganeti.logic.capacity_params import check_template, filled_params, given_params, merged_settings
from ganeti.logic.what_if import NewNode, with_nodes, without_nodes
from ganeti.model.allocation import BUILTIN, Capacity, ClusterView
from ganeti.model.capacity import NOT_SET, CapacityParams, GroupCapacity, InstanceSpec
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId
from ganeti.model.locks import LockPlan
from ganeti.model.node import NodeGroup
from ganeti.model.units import parse_size_mib
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param, Route
from ganeti.ops.kinds import GROUP, INSTANCE_SIZE, NODES, TEMPLATE, Kind

_NODE_SIZE = re.compile(r"[^,]+,[^,]+,\d+")


class ComputeCapacity(OpCode, frozen=True, kw_only=True, tag="OP_COMPUTE_CAPACITY"):
    """Count how many more instances fit, in tiers of decreasing size."""

    iallocator: Annotated[
        str | None, Param("who counts; the cluster's default if absent", flag="iallocator", short="I")
    ] = None
    cached: Annotated[
        bool, Param("count anew, and ask all nodes, although the numbers are known", flag="no-cache")
    ] = True
    node_group: Annotated[str | None, Param("only this group", GROUP, "node-group", "g")] = None
    max_inst_spec: Annotated[
        tuple[int, int, int] | None,
        Param("largest instance, for all groups, this time", INSTANCE_SIZE, "max-inst-spec"),
    ] = None
    default_template: Annotated[
        str | None, Param("disk template, for all groups, this time", TEMPLATE, "default-template")
    ] = None
    max_cpu_ratio: Annotated[
        float | None,
        Param("virtual processors for each physical one, for all groups, this time", flag="max-cpu-ratio"),
    ] = None
    max_disk_usage: Annotated[
        float | None,
        Param("part of the disk space that may be used, for all groups, this time", flag="max-disk-usage"),
    ] = None
    add_nodes: Annotated[
        tuple[str, ...],
        Param(
            "what if there were a further node: one like this node, or MEMORY,DISK,CPUS",
            Kind(syntax="new_nodes", placeholder="NODE|MEMORY,DISK,CPUS"),
            "add-node",
        ),
    ] = ()
    lose_nodes: Annotated[tuple[str, ...], Param("what if these nodes broke down", NODES, "lose-node")] = ()
    spec: Annotated[
        tuple[int, int, int] | None,
        Param("how many of exactly this size fit, in place of the tiers", INSTANCE_SIZE, "spec"),
    ] = None


Found = dict[GroupId, GroupCapacity]


class ComputeCapacityOperation(Operation[ComputeCapacity, None, dict[str, Any]]):
    """Takes what is known, counts the rest in a thread, and keeps what it counted; holds no locks."""

    keeps_state = True
    routes = (Route(method="POST", path="/2/capacity"),)
    commands = (Command(tool="gnt-cluster", name="capacity", arguments=Arguments.NONE),)

    def locks(self, cluster: Cluster) -> LockPlan:
        """None: it is about a value of the configuration and what nodes said."""
        return LockPlan()

    async def run(self, ctx: Context, facts: None) -> dict[str, Any]:
        """The document's answer; for `spec` the number in place of tiers."""
        cluster = ctx.cluster
        params = self._params(cluster)
        if self.op.spec is not None:
            return await self._of_one_size(ctx, cluster, params, self.op.spec)
        if self.op.add_nodes or self.op.lose_nodes:
            view = await self._what_if(ctx, cluster, params)
            request = Capacity(params=params)
            found = await ctx.in_thread(lambda: capacities(request, view))
            return _answer(found, ctx.clock.seconds())
        found = await self._known_or_counted(ctx, cluster, params)
        return _answer(found, min((one.ctime for one in found.values()), default=ctx.clock.seconds()))

    def _params(self, cluster: Cluster) -> dict[GroupId, CapacityParams]:
        """Of each group, those of the opcode first.

        Raises:
            PrereqError: a group or a node that does not exist, or a parameter that cannot be.
        """
        asked = merged_settings(NOT_SET, given_params(self.op))
        check_template(cluster, self.op.default_template)
        return {group.uuid: filled_params(cluster, group, asked) for group in self._groups(cluster)}

    def _groups(self, cluster: Cluster) -> list[NodeGroup]:
        if self.op.node_group is not None:
            return [cluster.group(self.op.node_group)]
        return sorted(cluster.groups.values(), key=lambda group: group.name)

    def _allocator(self, cluster: Cluster) -> str:
        wanted = self.op.iallocator
        return (cluster.settings.default_iallocator or BUILTIN) if wanted in (None, "", ".") else wanted

    async def _known_or_counted(
        self, ctx: Context, cluster: Cluster, params: Mapping[GroupId, CapacityParams]
    ) -> Found:
        name = self._allocator(cluster)
        ticket = ctx.state.ticket()
        found: Found = {}
        for group, wanted in params.items():
            known = ctx.state.capacity(group, wanted) if self.op.cached else None
            if known is not None and known.allocator == name:
                found[group] = known
        missing = {group: wanted for group, wanted in params.items() if group not in found}
        if missing:
            request = Capacity(params=missing)
            solution = await ctx.allocation.solve(name, request, cluster=cluster, cached=self.op.cached)
            now = ctx.clock.seconds()
            for group, counted in solution.capacity.items():
                found[group] = msgspec.structs.replace(counted, allocator=name, ctime=now)
                ctx.state.computed(group, found[group], ticket)
        return {group: found[group] for group in params}

    # --- what if -----------------------------------------------------------------------------

    async def _of_one_size(
        self, ctx: Context, cluster: Cluster, params: Mapping[GroupId, CapacityParams], spec: InstanceSpec
    ) -> dict[str, Any]:
        view = await self._what_if(ctx, cluster, params)
        groups = {}
        for group, wanted in params.items():
            count = await ctx.in_thread(partial(number_fitting, view, group, wanted, spec))
            groups[group] = {**_params_of(wanted), "tspecs": [[*spec, count]] if count else []}
        total = merged(one["tspecs"] for one in groups.values())
        return {
            "cluster": [list(tier) for tier in total],
            "node_groups": groups,
            "ctime": ctx.clock.seconds(),
        }

    async def _what_if(
        self, ctx: Context, cluster: Cluster, params: Mapping[GroupId, CapacityParams]
    ) -> ClusterView:
        """The cluster as it would be; nothing of this is kept."""
        if self.op.iallocator not in (None, "", ".", BUILTIN):
            raise PrereqError(
                "what would be is answered by the built-in allocator only; leave --iallocator out"
            )
        lost = [cluster.node(name).uuid for name in self.op.lose_nodes]
        added = [self._new_node(cluster, text) for text in self.op.add_nodes]
        view = await ctx.allocation.view(cluster, groups=None, cached=self.op.cached)
        return await ctx.in_thread(lambda: with_nodes(without_nodes(view, lost), added))

    def _new_node(self, cluster: Cluster, text: str) -> NewNode:
        if _NODE_SIZE.fullmatch(text):
            memory, disk, cpus = text.split(",")
            groups = self._groups(cluster)
            if len(groups) > 1:
                raise PrereqError(f"say into which group the node {text} would go: --node-group")
            try:
                size = (parse_size_mib(memory), parse_size_mib(disk), int(cpus))
            except ValueError as error:
                raise PrereqError(f"{text!r} is not a size of a node: {error}") from error
            return NewNode(group=groups[0].uuid, size=size)
        model = cluster.node(text)
        group = model.group if self.op.node_group is None else cluster.group(self.op.node_group).uuid
        return NewNode(group=group, like=model.uuid)


def _answer(found: Mapping[GroupId, GroupCapacity], ctime: float) -> dict[str, Any]:
    return {
        "cluster": [list(tier) for tier in merged(one.tspecs for one in found.values())],
        "node_groups": {group: _described(one) for group, one in found.items()},
        "ctime": ctime,
    }


def _described(capacity: GroupCapacity) -> dict[str, Any]:
    tspecs: Sequence[Sequence[int]] = [list(tier) for tier in capacity.tspecs]
    return {
        **_params_of(capacity.params),
        "tspecs": tspecs,
        "failure_reason": capacity.failure_reason,
        "ctime": capacity.ctime,
    }


def _params_of(params: CapacityParams) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(params)
    return values
